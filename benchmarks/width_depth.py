"""Shallow and wide or deep and narrow? Five shapes of one GPT with equally many parameters, three seeds each.

    OMP_NUM_THREADS=1 python -m benchmarks.width_depth      # about five minutes on one core; writes the committed table

Every shape sees the same windows of text in the same order for a seed. Each may choose among two learning rates, by
its loss on the validation works with seed 0; what the chapter reports is the loss on the test works. The table is
`fmcourse/results/width_depth.json`; the chapter `mathematics/mlp_and_residual_stream` shows it.
"""

import json
import statistics
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.common import environment
from fmcourse.config import TransformerConfig
from fmcourse.data.text import LanguageModelData
from fmcourse.recipes import Recipe, gpt
from fmcourse.training import evaluate, fit, summed_loss
from fmcourse.transformer import GPT, count_parameters

# Layers, width, heads: 12 * layers * width**2 stays within 2 % and a head is about 32 wide.
SHAPES = ((1, 256, 8), (2, 180, 6), (4, 128, 4), (8, 90, 3), (16, 64, 2))
RATES = (0.01, 0.02)
SEEDS = (0, 1, 2)
STEPS, BATCH = 120, 16
ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "fmcourse" / "results" / "width_depth.json"
PARTIAL = ROOT / "runs" / "width_depth.json"


def recipe_of(n_layers: int, d_model: int, n_heads: int, rate: float) -> Recipe:
    """The course's recipe, shortened, in another shape."""
    full = gpt("cpu")
    model = replace(full.model, n_layers=n_layers, d_model=d_model, n_heads=n_heads)
    train = replace(full.train, steps=STEPS, batch_size=BATCH, matrix_lr=rate, precision="fp32", eval_every=STEPS)
    return replace(full, model=model, train=replace(train, eval_examples=64))


@cache
def texts() -> tuple[TransformerConfig, LanguageModelData]:
    """The encoded texts, which do not depend on the model."""
    return gpt("cpu").load()[:2]


def load(recipe: Recipe, seed: int) -> tuple[TransformerConfig, LanguageModelData]:
    """The model's configuration, and windows drawn by this seed."""
    config, known = texts()
    ids = known.train_ids, known.validation_ids
    data = LanguageModelData(*ids, test=known.test_ids, tokenizer=None, context=config.context, seed=seed)
    return replace(recipe.model, vocab_size=config.vocab_size), data


def run(recipe: Recipe, seed: int) -> dict[str, float]:
    """Train and measure on the works held out."""
    config, data = load(recipe, seed)
    torch.manual_seed(seed)
    model = GPT(config)
    fit(model, data, replace(recipe.train, seed=seed), device="cpu", progress=False)
    held_out = {"validation": data.validation(64, 384), "test": data.test(64, 384)}
    return {name: round(evaluate(model, batches), 4) for name, batches in held_out.items()}


def milliseconds(recipe: Recipe, repeats: int = 15) -> float:
    """Median processor time of forward and backward on one batch: the shape's own cost, without the optimiser."""
    config, data = load(recipe, 0)
    model, batch, times = GPT(config), data.batch(0, BATCH), []
    for _ in range(repeats + 3):
        started = time.process_time()
        summed_loss(model, batch).backward()
        times.append(1000 * (time.process_time() - started))
    return round(statistics.median(times[3:]), 1)


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    done: dict[str, dict[str, float]] = json.loads(PARTIAL.read_text(encoding="utf-8")) if PARTIAL.exists() else {}
    PARTIAL.parent.mkdir(parents=True, exist_ok=True)

    def measured(shape: tuple[int, int, int], rate: float, seed: int) -> dict[str, float]:
        key = f"{shape}, {rate:g}, {seed}, {STEPS}, {BATCH}"
        if key not in done:
            done[key] = run(recipe_of(*shape, rate), seed)
            PARTIAL.write_text(json.dumps(done), encoding="utf-8")
        return done[key]

    rows: list[dict[str, Any]] = []
    for shape in tqdm(SHAPES, unit="shape"):
        rate = min(RATES, key=lambda r: measured(shape, r, 0)["validation"])
        runs = [measured(shape, rate, seed) for seed in SEEDS]
        recipe = recipe_of(*shape, rate)
        row = dict(zip(("n_layers", "d_model", "n_heads"), shape, strict=True), rate=rate)
        row["parameters"] = count_parameters(GPT(load(recipe, 0)[0]))
        row["milliseconds"] = milliseconds(recipe)
        rows.append({**row, **{part: [one[part] for one in runs] for part in ("validation", "test")}})
    about = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.width_depth",
        "steps": STEPS,
        "batch_size": BATCH,
        "seeds": list(SEEDS),
        "rates": list(RATES),
        "environment": environment(),
    }
    OUT.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {OUT.name}")


if __name__ == "__main__":
    main()

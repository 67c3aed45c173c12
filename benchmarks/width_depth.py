"""Shallow and wide or deep and narrow? Five shapes of one GPT with equally many parameters, three seeds each.

    OMP_NUM_THREADS=1 python -m benchmarks.width_depth      # about five minutes on one core; writes the committed table

Every shape sees the same windows of text in the same order for a seed. Each may choose among two learning rates, by
its loss on the validation works with seed 0; what the chapter reports is the loss on the test works. The table is
`fmcourse/results/width_depth.json`; the chapter `mathematics/mlp_and_residual_stream` shows it.
"""

import statistics
import time
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.sweep import Sweep, load, losses, write_table
from fmcourse.recipes import Recipe, gpt
from fmcourse.training import fit, summed_loss
from fmcourse.transformer import GPT, count_parameters

# Layers, width, heads: 12 * layers * width**2 stays within 2 % and a head is about 32 wide.
SHAPES = ((1, 256, 8), (2, 180, 6), (4, 128, 4), (8, 90, 3), (16, 64, 2))
RATES = (0.01, 0.02)
SEEDS = (0, 1, 2)
STEPS, BATCH = 120, 16


def recipe_of(n_layers: int, d_model: int, n_heads: int, rate: float) -> Recipe:
    """The course's recipe, shortened, in another shape."""
    full = gpt("cpu")
    model = replace(full.model, n_layers=n_layers, d_model=d_model, n_heads=n_heads)
    train = replace(full.train, steps=STEPS, batch_size=BATCH, matrix_lr=rate, precision="fp32", eval_every=STEPS)
    return replace(full, model=model, train=replace(train, eval_examples=64))


def run(recipe: Recipe, seed: int) -> dict[str, float]:
    """Train and measure on the works held out."""
    config, data = load(recipe, seed)
    torch.manual_seed(seed)
    model = GPT(config)
    fit(model, data, replace(recipe.train, seed=seed), device="cpu", progress=False)
    return losses(model, data, 384)


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
    sweep = Sweep("width_depth")

    def measured(shape: tuple[int, int, int], rate: float, seed: int) -> dict[str, float]:
        recipe = recipe_of(*shape, rate)
        return sweep(f"{recipe}, {seed}", lambda: run(recipe, seed))

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
    write_table("width_depth", {**about, "rows": rows})


if __name__ == "__main__":
    main()

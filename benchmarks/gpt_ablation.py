"""What is each ingredient of the course's GPT recipe worth? Take it away, train again, several seeds.

    python -m benchmarks.gpt_ablation            # about an hour on one core; writes the committed table

Every variant sees the same windows of text in the same order for a seed. Both optimisers may choose among four learning
rates, by their loss on the validation works; what the chapter reports is the loss on the test works. The table is
`fmcourse/results/gpt_ablation.json`; the chapter `practice/train_gpt` shows it.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.common import environment
from fmcourse.recipes import Recipe, gpt, nanogpt_cpu
from fmcourse.training import evaluate, fit
from fmcourse.transformer import GPT

STEPS = 200
SEEDS = (0, 1, 2)
ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "fmcourse" / "results" / "gpt_ablation.json"
PARTIAL = ROOT / "runs" / "gpt_ablation.json"


def variants() -> dict[str, Recipe]:
    """The full recipe, and the recipe without each of its ingredients (or with what it replaced)."""
    full = gpt("cpu")
    full = replace(full, train=replace(full.train, steps=STEPS, eval_every=STEPS))

    def model(**changes: Any) -> Recipe:
        return replace(full, model=replace(full.model, **changes))

    def training(**changes: Any) -> Recipe:
        return replace(full, train=replace(full.train, **changes))

    return {
        "full recipe": full,
        # Four rates for each of the two, the recipe's own among Muon's.
        **{f"Muon, rate {lr:g}": training(matrix_lr=lr) for lr in (5e-3, 2e-2, 4e-2)},
        **{f"AdamW, rate {lr:g}": training(optimizer="adamw", lr=lr) for lr in (1e-3, 2e-3, 4e-3, 8e-3)},
        "learned positions instead of rotary": model(position="learned"),
        "no normalisation of queries and keys": model(qk_norm=False),
        "GELU instead of squared ReLU": model(activation="gelu"),
        "usual start instead of zero projections": model(init="normal"),
        "one matrix for reading and writing": model(tie_embeddings=True),
        "cosine instead of trapezoid": training(schedule="cosine", floor=0.1),
        "float32 instead of bfloat16": training(precision="fp32"),
    }


def losses(recipe: Recipe, seed: int) -> dict[str, float]:
    """Train and measure on every window of the works held out."""
    torch.manual_seed(seed)
    config, data, _ = recipe.load(seed)
    model = GPT(config)
    fit(model, data, replace(recipe.train, seed=seed), device="cpu", progress=False)
    held_out = {"validation": data.validation(64), "test": data.test(64)}
    return {name: round(evaluate(model, batches), 4) for name, batches in held_out.items()}


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    runs = {"nanoGPT's CPU recipe, 2000 steps": nanogpt_cpu(), **variants()}
    done: dict[str, dict[str, float]] = json.loads(PARTIAL.read_text(encoding="utf-8")) if PARTIAL.exists() else {}
    PARTIAL.parent.mkdir(parents=True, exist_ok=True)
    for seed, (name, recipe) in tqdm(list(product(SEEDS, runs.items())), unit="run"):
        key = f"{name}, seed {seed}, {recipe}"  # another recipe is another run
        if key not in done:
            done[key] = losses(recipe, seed)
            PARTIAL.write_text(json.dumps(done), encoding="utf-8")
    rows = [
        {
            "name": name,
            "steps": recipe.train.steps,
            "validation": [done[f"{name}, seed {seed}, {recipe}"]["validation"] for seed in SEEDS],
            "test": [done[f"{name}, seed {seed}, {recipe}"]["test"] for seed in SEEDS],
        }
        for name, recipe in runs.items()
    ]
    about = {"command": "python -m benchmarks.gpt_ablation", "seeds": list(SEEDS), "environment": environment()}
    OUT.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {OUT.name}")


if __name__ == "__main__":
    main()

"""What is each ingredient of the course's GPT recipe worth? Take it away, train again, several seeds.

    python -m benchmarks.gpt_ablation            # about an hour on one core; writes the committed table

Every variant sees the same windows of text in the same order for a seed. Both optimisers may choose among four learning
rates, by their loss on the validation works; what the chapter reports is the loss on the test works. The table is
`fmcourse/results/gpt_ablation.json`; the chapter `practice/train_gpt` shows it.
"""

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.sweep import Sweep, losses, write_table
from fmcourse.recipes import Recipe, gpt, nanogpt_cpu
from fmcourse.training import fit
from fmcourse.transformer import GPT

STEPS = 200
SEEDS = (0, 1, 2)


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


def run(recipe: Recipe, seed: int) -> dict[str, float]:
    """Train and measure on every window of the works held out."""
    torch.manual_seed(seed)
    config, data, _ = recipe.load(seed)
    model = GPT(config)
    fit(model, data, replace(recipe.train, seed=seed), device="cpu", progress=False)
    return losses(model, data)


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    runs = {"nanoGPT's CPU recipe, 2000 steps": nanogpt_cpu(), **variants()}
    sweep = Sweep("gpt_ablation")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for seed, (name, recipe) in tqdm(list(product(SEEDS, runs.items())), unit="run"):
        found[name].append(sweep(f"{recipe}, seed {seed}", partial(run, recipe, seed)))
    rows = [
        {
            "name": name,
            "steps": recipe.train.steps,
            **{part: [one[part] for one in found[name]] for part in ("validation", "test")},
        }
        for name, recipe in runs.items()
    ]
    about = {"command": "python -m benchmarks.gpt_ablation", "seeds": list(SEEDS), "environment": environment()}
    write_table("gpt_ablation", {**about, "rows": rows})


if __name__ == "__main__":
    main()

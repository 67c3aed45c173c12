"""What is each ingredient of the course's GPT recipe worth? Take it away, train again, several seeds.

    python -m benchmarks.gpt_ablation            # about forty minutes on one core; writes the committed table

Every variant sees the same windows of text in the same order for a seed. The table is
`fmcourse/results/gpt_ablation.json`; the chapter `practice/train_gpt` shows it.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.time_to_loss import train
from fmcourse.recipes import Recipe, gpt, nanogpt_cpu

STEPS = 200
SEEDS = (0, 1)
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
        # Muon's rate was tuned; so AdamW may choose among four, and the chapter takes its best.
        **{
            f"AdamW instead of Muon, rate {lr:g}": training(optimizer="adamw", lr=lr) for lr in (1e-3, 2e-3, 4e-3, 8e-3)
        },
        "learned positions instead of rotary": model(position="learned"),
        "no normalisation of queries and keys": model(qk_norm=False),
        "GELU instead of squared ReLU": model(activation="gelu"),
        "usual start instead of zero projections": model(init="normal"),
        "one matrix for reading and writing": model(tie_embeddings=True),
        "cosine instead of trapezoid": training(schedule="cosine", floor=0.1),
        "float32 instead of bfloat16": training(precision="fp32"),
    }


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    runs = {"nanoGPT's CPU recipe, 2000 steps": nanogpt_cpu(), **variants()}
    done: dict[str, float] = json.loads(PARTIAL.read_text(encoding="utf-8")) if PARTIAL.exists() else {}
    PARTIAL.parent.mkdir(parents=True, exist_ok=True)
    for seed, (name, recipe) in tqdm(list(product(SEEDS, runs.items())), unit="run"):
        key = f"{name}, seed {seed}, {recipe}"  # another recipe is another run
        if key not in done:
            done[key] = round(train(recipe, seed).column("val_loss")[-1], 4)
            PARTIAL.write_text(json.dumps(done), encoding="utf-8")
    rows = [
        {
            "name": name,
            "steps": recipe.train.steps,
            "val_loss": [done[f"{name}, seed {seed}, {recipe}"] for seed in SEEDS],
        }
        for name, recipe in runs.items()
    ]
    about = {"command": "python -m benchmarks.gpt_ablation", "seeds": list(SEEDS), "environment": environment()}
    OUT.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {OUT.name}")


if __name__ == "__main__":
    main()

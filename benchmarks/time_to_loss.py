"""How long does our recipe take to reach the validation loss that nanoGPT's CPU recipe reaches after 2000 steps?

Both run in our trainer, on the same text, split, windows and machine, one after the other, each in the number format
that its recipe names (nanoGPT's CPU recipe trains in float32).
"""

from dataclasses import replace

import torch

from benchmarks.common import Row
from fmcourse.history import History
from fmcourse.recipes import Recipe, gpt, nanogpt_cpu
from fmcourse.training import fit
from fmcourse.transformer import GPT


def train(recipe: Recipe, seed: int = 0) -> History:
    """Run the recipe on the CPU."""
    torch.manual_seed(seed)
    config, data, _ = recipe.load(seed)
    return fit(GPT(config), data, replace(recipe.train, seed=seed), device="cpu", progress=False)


SHORT_STEPS = 200


def measure() -> list[Row]:
    """Train nanoGPT's recipe, then ours with a schedule of `SHORT_STEPS` steps."""
    baseline = train(nanogpt_cpu())
    short = gpt("cpu")
    ours = train(replace(short, train=replace(short.train, steps=SHORT_STEPS, eval_every=SHORT_STEPS // 4)))
    goal, last = baseline.column("val_loss")[-1], ours.rows[-1]
    if last["val_loss"] > goal:
        raise RuntimeError(f"our {SHORT_STEPS} steps reached {last['val_loss']:.3f}, not the goal of {goal:.3f}")
    theirs = baseline.rows[-1]
    return [
        Row(
            f"seconds to nanoGPT's loss after 2000 steps ({goal:.3f}); ours reached {last['val_loss']:.3f}",
            f"{last['seconds']:.1f} s",
            f"{theirs['seconds']:.1f} s",
            last["seconds"] / theirs["seconds"],
            "<= 0.25",
        )
    ]

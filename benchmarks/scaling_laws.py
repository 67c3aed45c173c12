"""How does the loss of a small GPT fall with its size and with the text it reads? A grid, and one larger run held out.

    OMP_NUM_THREADS=1 python -m benchmarks.scaling_laws     # about half an hour on one core; writes the committed table

Five widths of the course's GPT, two blocks deep, times four budgets of text, each with a complete schedule of its own;
the three smallest read twice as much once more. A step reads 1,024 characters. The learning rates fall with the square
root of the number of steps, Muon's also with that of the width; the pilots compare them with half and double these
rates, on the validation works. What the chapter fits and predicts is the loss on the test works. The larger run comes
last: the chapter predicts it from the grid alone. It is trained again with half and with double its rates, to look for
the cause of what the prediction missed. Two more runs read a part of the text several times. The table is
`fmcourse/results/scaling_laws.json`; the chapter `practice/scaling_laws` shows it.
"""

import math
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import torch

from benchmarks.common import environment
from benchmarks.sweep import Sweep, load, losses, write_table
from fmcourse.data.text import LanguageModelData
from fmcourse.recipes import Recipe, gpt
from fmcourse.training import evaluate, fit
from fmcourse.transformer import GPT, count_parameters

WIDTHS = (24, 48, 72, 96, 144)
LARGER = 240
BLOCKS, HEAD = 2, 24
STEPS = (256, 512, 1024, 2048)
LONGER = 4096
BATCH = 16
FACTORS = (0.5, 1.0, 2.0)
PILOTS = ((24, 256), (72, 256), (144, 256), (72, 1024))  # width, steps
AGAIN = ((24, 512), (72, 512), (144, 256))
PIECE = 4096  # characters; a part of the text is made of pieces from all of it
WINDOWS = 2048  # of each held-out text, 64 characters each


def recipe_of(width: int, steps: int, factor: float = 1.0) -> Recipe:
    """The course's recipe at another size and length, its rates chosen by the pilots (times a factor)."""
    full = gpt("cpu")
    model = replace(full.model, d_model=width, n_layers=BLOCKS, n_heads=width // HEAD)
    factor *= math.sqrt(512 / steps)
    train = replace(full.train, lr=factor * 0.018, matrix_lr=factor * 0.02 * math.sqrt(24 / width))
    train = replace(train, steps=steps, batch_size=BATCH, eval_every=128, eval_examples=1)
    return replace(full, model=model, train=train)


def flops_per_token(recipe: Recipe, vocab_size: int) -> int:
    """Floating-point operations of one character in training: matrix products and attention, forward and backward."""
    d, context = recipe.model.d_model, recipe.model.context
    forward = recipe.model.n_layers * (2 * 12 * d**2 + 2 * 2 * context * d) + 2 * d * vocab_size
    return 3 * forward


def run(recipe: Recipe, seed: int, every: int = 1) -> dict[str, Any]:
    """Train on the text, or on every so-manieth piece of it; losses at the end and, of long runs, on the way."""
    config, data = load(recipe, seed)
    if every > 1:
        ids = torch.as_tensor(data.train_ids)
        ids = ids[: len(ids) // PIECE * PIECE].view(-1, PIECE)[::every].flatten()
        data = LanguageModelData(
            ids, data.validation_ids, test=data.test_ids, tokenizer=None, context=config.context, seed=seed
        )
    torch.manual_seed(seed)
    model = GPT(config)
    stops = {s for s in STEPS if s < recipe.train.steps} if recipe.train.steps == max(STEPS) else set()
    on_the_way = {}

    def look(row: dict[str, float]) -> None:
        if row["step"] in stops:
            on_the_way[int(row["step"])] = round(evaluate(model, data.test(64, WINDOWS)), 4)

    started = time.process_time()
    history = fit(model, data, replace(recipe.train, seed=seed), device="cpu", progress=False, on_evaluation=look)
    seconds = round(time.process_time() - started, 1)
    found = {**losses(model, data, WINDOWS), "train": round(history.column("train_loss")[-1], 4)}
    return {**found, "seconds": seconds, "on_the_way": on_the_way}


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    sweep = Sweep("scaling_laws")
    vocab_size = load(recipe_of(WIDTHS[0], STEPS[0]), 0)[0].vocab_size

    def row(width: int, steps: int, seed: int = 0, factor: float = 1.0, every: int = 1) -> dict[str, Any]:
        recipe = recipe_of(width, steps, factor)
        text = "1.0" if every == 1 else f"one piece of {PIECE} in {every}"
        found = sweep(f"{recipe}, {seed}, {text}, {WINDOWS}", lambda: run(recipe, seed, every))
        what: dict[str, Any] = {
            "d_model": width,
            "n_layers": BLOCKS,
            "n_heads": width // HEAD,
            "steps": steps,
            "seed": seed,
        }
        config = replace(recipe.model, vocab_size=vocab_size)
        with torch.device("meta"):
            what["parameters"] = count_parameters(GPT(config))
        what["in_blocks"] = 12 * width**2 * BLOCKS
        what["tokens"] = steps * BATCH * config.context
        what["flops"] = what["tokens"] * flops_per_token(recipe, vocab_size)
        print(what, found, file=sys.stderr, flush=True)
        return {**what, **found}

    about: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.scaling_laws",
        "batch_size": BATCH,
        "context": gpt("cpu").model.context,
        "vocab_size": vocab_size,
        "train_characters": len(load(recipe_of(WIDTHS[0], STEPS[0]), 0)[1].train_ids),
        "test_characters": WINDOWS * gpt("cpu").model.context,
        "train": asdict(recipe_of(WIDTHS[0], STEPS[0]).train)
        | {
            "steps": None,
            "lr": "0.018 * sqrt(512 / steps)",
            "matrix_lr": "0.02 * sqrt(24 / d_model) * sqrt(512 / steps)",
        },
        "environment": environment(),
    }
    pilots = [row(width, steps, factor=f) | {"factor": f} for width, steps in PILOTS for f in FACTORS]
    grid = [row(width, steps) for width in WIDTHS for steps in STEPS]
    grid += [row(width, LONGER) for width in WIDTHS[:3]]
    seeds = [row(width, steps, seed) for width, steps in AGAIN for seed in (1, 2)]
    table = {**about, "pilots": pilots, "grid": grid, "seeds": seeds}
    table["repeated"] = [row(72, max(STEPS), every=every) | {"part": 1 / every} for every in (8, 32)]
    table["held_out"] = row(LARGER, LONGER)
    table["held_out_rates"] = [row(LARGER, LONGER, factor=f) | {"factor": f} for f in FACTORS if f != 1.0]
    write_table("scaling_laws", table)


if __name__ == "__main__":
    main()

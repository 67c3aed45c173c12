"""What is a text worth to a language model? Less of it, the same again, and four kinds of dirt, at equal length.

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.data_quality   # some minutes on one core; writes the table

A small GPT of the course's kind reads Shakespeare in windows of 64 characters. *Fresh* runs differ in how many tokens
they read. All others read as many as the middle fresh run, but of another text: a small part of it again and again, or
the whole of it with wrong characters, with one page repeated, mixed with film reviews, or out of order. Every model is
judged by its loss on the clean works held out; the learning rate was chosen on the validation works with fresh text.
The table is `fmcourse/results/data_quality.json`, and the chapter `algorithm/strengths_and_limits` shows it.
"""

import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.sweep import Sweep, losses, write_table
from fmcourse.data.sentiment import rotten_tomatoes
from fmcourse.data.text import LanguageModelData, shakespeare
from fmcourse.recipes import Recipe, gpt
from fmcourse.tokenizers import CharacterTokenizer
from fmcourse.training import fit
from fmcourse.transformer import GPT, count_parameters

SEEDS = (0, 1, 2)
RATES = (0.01, 0.02)
SIZE = {"n_layers": 2, "d_model": 64, "n_heads": 2}
STEPS, BATCH = 100, 32
FRESH = (12, 25, 50, 100, 200)  # optimiser steps
PASSES = (2, 4, 16, 64)
PIECE = 1000  # characters of a piece, where the part that is read again is gathered from all over the text
WRONG = (0.05, 0.2)
SHARES = (0.5,)
PAGE = 2000  # characters of the page that is repeated


def recipe(rate: float, steps: int = STEPS) -> Recipe:
    """The course's recipe, smaller and shorter."""
    full = gpt("cpu")
    train = replace(full.train, steps=steps, batch_size=BATCH, matrix_lr=rate, precision="fp32", eval_every=steps)
    return replace(full, model=replace(full.model, **SIZE), train=replace(train, eval_examples=64))


@cache
def texts() -> tuple[CharacterTokenizer, str, Tensor, Tensor, Tensor]:
    """The tokenizer, the training text, and the three parts as ids."""
    splits = shakespeare()
    tokenizer = CharacterTokenizer(splits.train + splits.validation + splits.test, byte_fallback=False)
    parts = (torch.tensor(tokenizer.encode(part)) for part in (splits.train, splits.validation, splits.test))
    return (tokenizer, splits.train, *parts)


def fresh(draw: random.Random) -> Tensor:
    """The whole training text."""
    return texts()[2]


def again(passes: int) -> Callable[[random.Random], Tensor]:
    """A part of the text so small that it is read so many times."""

    def make(draw: random.Random) -> Tensor:
        ids = texts()[2]
        length = STEPS * BATCH * gpt("cpu").model.context // passes
        start = draw.randrange(len(ids) - length)
        return ids[start : start + length]

    return make


def scattered(passes: int) -> Callable[[random.Random], Tensor]:
    """As much text as `again` reads, but in pieces from everywhere."""

    def make(draw: random.Random) -> Tensor:
        ids = texts()[2]
        pieces = STEPS * BATCH * gpt("cpu").model.context // passes // PIECE
        return torch.cat([ids[at : at + PIECE] for at in draw.sample(range(0, len(ids) - PIECE, PIECE), pieces)])

    return make


def wrong(rate: float) -> Callable[[random.Random], Tensor]:
    """Each character replaced, at this rate, by one drawn from the alphabet."""

    def make(draw: random.Random) -> Tensor:
        ids = texts()[2]
        generator = torch.Generator().manual_seed(draw.randrange(2**31))
        hit = torch.rand(len(ids), generator=generator) < rate
        return torch.where(hit, torch.randint(texts()[0].vocab_size, ids.shape, generator=generator), ids)

    return make


def mixed(share: float, other: Callable[[random.Random], Tensor]) -> Callable[[random.Random], Tensor]:
    """Windows of another text, this share of them, among those of the clean one."""

    def make(draw: random.Random) -> Tensor:
        ids, strange = texts()[2], other(draw)
        total = len(ids)
        copies = -(-round(share * total) // len(strange))
        return torch.cat([ids[: round((1 - share) * total)], strange.repeat(copies)[: round(share * total)]])

    return make


def page(draw: random.Random) -> Tensor:
    """One page of the text."""
    start = draw.randrange(len(texts()[2]) - PAGE)
    return texts()[2][start : start + PAGE]


@cache
def reviews() -> Tensor:
    """Film reviews, without the characters that Shakespeare's alphabet lacks."""
    tokenizer, text, *_ = texts()
    alphabet = set(text)
    prose = "\n".join(rotten_tomatoes().train.texts)
    return torch.tensor(tokenizer.encode("".join(c for c in prose if c in alphabet)))


def reordered(kind: str) -> Callable[[random.Random], Tensor]:
    """The same text with its lines, the words of each line, or the letters of each word in random order."""

    def shuffled(items: list[str], draw: random.Random) -> list[str]:
        return draw.sample(items, len(items))

    def make(draw: random.Random) -> Tensor:
        tokenizer, text, *_ = texts()
        lines = text.split("\n")
        if kind == "lines":
            lines = shuffled(lines, draw)
        elif kind == "words":
            lines = [" ".join(shuffled(line.split(" "), draw)) for line in lines]
        else:
            lines = [re.sub(r"[A-Za-z]+", lambda m: "".join(shuffled([*m[0]], draw)), line) for line in lines]
        return torch.tensor(tokenizer.encode("\n".join(lines)))

    return make


CONDITIONS: dict[str, list[tuple[float, Callable[[random.Random], Tensor]]]] = {
    "again": [(passes, again(passes)) for passes in PASSES],
    "scattered": [(passes, scattered(passes)) for passes in PASSES],
    "wrong": [(rate, wrong(rate)) for rate in WRONG],
    "page": [(share, mixed(share, page)) for share in SHARES],
    "reviews": [(share, mixed(share, lambda draw: reviews())) for share in (*SHARES, 1.0)],
    "lines": [(1.0, reordered("lines"))],
    "words": [(1.0, reordered("words"))],
    "letters": [(1.0, reordered("letters"))],
}


def run(how: Recipe, seed: int, make: Callable[[random.Random], Tensor]) -> dict[str, float]:
    """Train on the text that `make` gives; the loss on the clean works held out."""
    tokenizer, _, _, validation, test = texts()
    ids = make(random.Random(seed))
    data = LanguageModelData(ids, validation, test=test, tokenizer=None, context=how.model.context, seed=seed)
    torch.manual_seed(seed)
    model = GPT(replace(how.model, vocab_size=tokenizer.vocab_size))
    fit(model, data, replace(how.train, seed=seed), device="cpu", progress=False)
    return losses(model, data, 512)


def main() -> None:
    """Run what was not run yet and write the table; an interrupted sweep goes on with the next run."""
    torch.set_num_threads(1)
    sweep = Sweep("data_quality")

    def measured(kind: str, level: float, how: Recipe, make: Any, seed: int) -> dict[str, float]:
        return sweep(f"{kind} {level}, seed {seed}, {how}", lambda: run(how, seed, make))

    tried = {rate: measured("fresh", STEPS, recipe(rate), fresh, 0)["validation"] for rate in RATES}
    rate = min(tried, key=tried.__getitem__)
    runs = [("fresh", steps, recipe(rate, steps), fresh) for steps in FRESH]
    runs += [(kind, level, recipe(rate), make) for kind, levels in CONDITIONS.items() for level, make in levels]
    tokens = BATCH * gpt("cpu").model.context
    rows = []
    for kind, level, how, make in tqdm(runs, unit="condition"):
        found = [measured(kind, level, how, make, seed)["test"] for seed in SEEDS]
        rows.append({"kind": kind, "level": level, "tokens": how.train.steps * tokens, "test": found})
    about = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.data_quality",
        "seeds": list(SEEDS),
        "rate": rate,
        "tried": {str(key): value for key, value in tried.items()},
        "steps": STEPS,
        "batch": BATCH,
        "page": PAGE,
        "piece": PIECE,
        "characters": len(texts()[2]),
        "reviews": len(reviews()),
        "parameters": count_parameters(GPT(replace(recipe(rate).model, vocab_size=texts()[0].vocab_size))),
        "environment": environment(),
    }
    write_table("data_quality", {**about, "rows": rows})


if __name__ == "__main__":
    main()

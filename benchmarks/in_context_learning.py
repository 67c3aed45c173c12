"""Who learns from the prompt, and who from the world? A small learner, trained in worlds of different kinds.

    OMP_NUM_THREADS=1 python -m benchmarks.in_context_learning   # some minutes on one core; writes the committed table

Task, model and measures are those of the chapter `practice/in_context_learning`, read from its notebook. Three rows of
runs: the chapter's learner with two layers and with one, over several seeds, with every head switched off in turn;
worlds with more and fewer words; worlds with a few fixed sets of rules, from which each episode takes one. The table is
`fmcourse/results/in_context_learning.json`.
"""

from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.from_chapter import definitions
from benchmarks.sweep import Sweep, write_table
from fmcourse.attention import scaled_dot_product_attention
from fmcourse.config import TransformerConfig
from fmcourse.data.batch import Batch
from fmcourse.initialise import initialise
from fmcourse.masks import causal_mask
from fmcourse.training import TrainConfig, fit
from fmcourse.transformer import Stack

SEEDS, FEW_SEEDS = (0, 1, 2, 3, 4), (0, 1, 2)
WORDS = (64, 256, 1024, 4096)
LONGER = 1200
WORLDS = (1, 2, 4, 16)
CHAPTER = definitions(
    "practice/in_context_learning",
    """N_WORDS N_COLOURS N_RULES N_EXAMPLES NOISE SHOTS WATCHED Episode colour_of draw Nothing Learner Episodes train
    by_shots watching without head_scores""",
    {"torch": torch, "nn": nn, "np": np, "Tensor": Tensor, "NamedTuple": NamedTuple, "rearrange": rearrange}
    | {"repeat": repeat, "partial": partial, "contextmanager": contextmanager, "Batch": Batch, "Stack": Stack}
    | {"TransformerConfig": TransformerConfig, "TrainConfig": TrainConfig, "fit": fit, "initialise": initialise}
    | {"causal_mask": causal_mask, "scaled_dot_product_attention": scaled_dot_product_attention},
)
FOUR = CHAPTER["SHOTS"].index(4)
Heads = list[tuple[int, int]]


def shares(model: nn.Module, **options: Any) -> list[float]:
    """Accuracy after each number of shots."""
    return [round(float(share), 4) for share in CHAPTER["by_shots"](model, size=256, **options)[0]]


def ablated(model: nn.Module, heads: Heads) -> dict[str, float]:
    """Accuracy at four shots without these heads, on combinations never seen and on everyday ones."""
    with CHAPTER["without"](model, heads):
        return {name: shares(model, new=name == "new")[FOUR] for name in ("new", "everyday")}


def anatomy(model: nn.Module) -> dict[str, Any]:
    """Both scores of every head, and what each head and each group of heads is worth."""
    previous, induction = CHAPTER["head_scores"](model)
    n_layers, n_heads = previous.shape
    every = [(layer, head) for layer in range(n_layers) for head in range(n_heads)]
    chosen = {
        "previous": [(0, head) for head in range(n_heads) if previous[0, head] > 0.2],
        "induction": [(1, head) for head in range(n_heads) if n_layers > 1 and induction[1, head] > 0.5],
    }
    chosen["others"] = [head for head in every if head not in chosen["previous"] + chosen["induction"]]
    groups = {name: {"heads": heads, **ablated(model, heads)} for name, heads in chosen.items() if heads}
    single = [ablated(model, [head]) for head in every]
    scores = {"previous": previous, "induction": induction}
    rounded = {name: [[round(float(x), 4) for x in row] for row in score] for name, score in scores.items()}
    return {"scores": rounded, "groups": groups, "single": single}


def learner(seed: int, n_layers: int) -> dict[str, Any]:
    """The chapter's learner."""
    model = CHAPTER["train"](n_layers, seed=seed)[0]
    found = {"new": shares(model), "everyday": shares(model, new=False)}
    return {**found, **(anatomy(model) if n_layers > 1 else {})}


def in_world_of(n_words: int, seed: int, steps: int = 400) -> dict[str, Any]:
    """The learner in a world of so many words."""
    model = CHAPTER["train"](seed=seed, steps=steps, n_words=n_words)[0]
    return {"new": shares(model, n_words=n_words), "everyday": shares(model, new=False, n_words=n_words)}


def with_fixed_rules(n_worlds: int, seed: int) -> dict[str, Any]:
    """Each episode takes its rules from one of a few fixed worlds; tested at home and with rules drawn anew."""
    generator = torch.Generator().manual_seed(3 + seed)
    kinds = torch.randint(2, 8, (CHAPTER["N_WORDS"], n_worlds), generator=generator)
    model = CHAPTER["train"](seed=seed, kinds=kinds)[0]
    return {"home": shares(model, new=False, kinds=kinds), "away": shares(model, new=False)}


def main() -> None:
    """Run what was not run yet, and write the table."""
    torch.set_num_threads(1)
    sweep = Sweep("in_context_learning")

    def runs(name: str, run: Any, seeds: tuple[int, ...], *options: Any) -> list[Any]:
        """The runs over these seeds; the options say which runs they are."""
        return [sweep(f"{name} {options}, seed {seed}", lambda seed=seed: run(seed)) for seed in seeds]

    table = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.in_context_learning",
        "shots": CHAPTER["SHOTS"],
        "seeds": list(SEEDS),
        "few_seeds": list(FEW_SEEDS),
        "two_layers": runs("layers", lambda seed: learner(seed, 2), SEEDS, 2),
        "one_layer": runs("layers", lambda seed: learner(seed, 1), FEW_SEEDS, 1),
        "words": {
            n: runs("words", lambda seed, n=n: in_world_of(n, seed), FEW_SEEDS, n) for n in tqdm(WORDS, desc="words")
        },
        "longer": runs("words", lambda seed: in_world_of(WORDS[-1], seed, LONGER), FEW_SEEDS, WORDS[-1], LONGER),
        "longer_steps": LONGER,
        "worlds": {
            n: runs("worlds", lambda seed, n=n: with_fixed_rules(n, seed), FEW_SEEDS, n)
            for n in tqdm(WORLDS, desc="worlds")
        },
        "environment": environment(),
    }
    write_table("in_context_learning", table, indent=None)


if __name__ == "__main__":
    main()

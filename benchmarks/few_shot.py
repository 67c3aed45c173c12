"""Does a small published language model learn from examples in its prompt? Film reviews, and random words twice.

    OMP_NUM_THREADS=1 python -m benchmarks.few_shot   # some minutes on one core; writes the committed table

*Reviews*: SmolLM2-135M-Instruct is shown some labelled reviews and then asked about another one. In each of ten draws
there are other shots and 64 other test reviews, half of each verdict; all conditions of a draw share them. Shots carry
their true verdicts, verdicts drawn at random (Min et al. 2022), or the opposite ones; the words are "positive" and
"negative", or "foo" and "bar", whose meaning changes with the draw. Calibrated: the threshold is what the same prompt
says about three reviews without content (Zhao et al. 2021). Template and words were chosen among three each, by eye, on
40 validation reviews of two draws. The model reads reviews in bfloat16. Baselines learn from the same shots. *Heads*:
which heads look for what followed an earlier copy, in random tokens written twice, and what is lost without them. The
table is `fmcourse/results/few_shot.json`; the chapter is `practice/in_context_learning`.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from tqdm import tqdm

from benchmarks.common import environment
from benchmarks.from_chapter import definitions
from benchmarks.sweep import Sweep, write_table
from fmcourse.attention import scaled_dot_product_attention
from fmcourse.cache import KVCache
from fmcourse.data.sentiment import LabelledTexts, SentimentSplits, rotten_tomatoes
from fmcourse.masks import causal_mask
from fmcourse.pretrained import ChatModel, load_minilm, load_smollm2

DRAWS, TESTED, WORDS = 10, 64, (5, 30)
SHOTS = (0, 1, 2, 4, 8, 16)
ASK, TELL = "Review: {}\nSentiment:", "{}\n\n"
NAMES = {"real": (" negative", " positive"), "made up": (" foo", " bar")}
EMPTY = ("N/A", "", "[MASK]")
CONDITIONS = {
    ("real", "true"): SHOTS,
    ("real", "random"): (4, 16),
    ("real", "opposite"): (4, 16),
    ("made up", "true"): SHOTS[1:],
}
TWICE, COPIES, PUZZLES, OFF, RANDOM_SETS = 50, 8, 48, (1, 2, 4, 8, 16, 32), 5
CHAPTER = definitions(
    "practice/in_context_learning",
    "SYLLABLES COLOURS N_COLOURS Puzzle puzzle solved watching without twice looks_back copy_losses",
    {"torch": torch, "np": np, "F": F, "rearrange": rearrange, "repeat": repeat, "partial": partial}
    | {"causal_mask": causal_mask, "contextmanager": contextmanager, "NamedTuple": NamedTuple}
    | {"scaled_dot_product_attention": scaled_dot_product_attention},
)
Review = tuple[str, int]
Head = tuple[int, int]


@cache
def chat() -> ChatModel:
    """SmolLM2, loaded once, and only if something is left to run."""
    return load_smollm2()


@cache
def splits() -> SentimentSplits:
    """The reviews, read once."""
    return rotten_tomatoes()


def balanced(part: LabelledTexts, size: int, seed: int) -> list[Review]:
    """Reviews drawn from a part, not too long, the verdicts in turn."""
    order = np.random.default_rng(seed).permutation(len(part))
    fits = [i for i in order if WORDS[0] <= len(part.texts[i].split()) <= WORDS[1]]
    sides = [[i for i in fits if part.labels[i] == label][: size // 2] for label in (0, 1)]
    return [(part.texts[i], part.labels[i]) for pair in zip(*sides, strict=True) for i in pair]


def draw(seed: int) -> tuple[list[Review], list[Review]]:
    """Shots in random order (any two in a row show both verdicts), and the reviews to judge."""
    shots, judged = balanced(splits().train, max(SHOTS), seed), balanced(splits().test, TESTED, seed)
    turn = np.random.default_rng(seed).random(len(shots) // 2) < 0.5
    pairs = [shots[2 * i : 2 * i + 2][:: -1 if turn[i] else 1] for i in range(len(turn))]
    return [review for pair in pairs for review in pair], judged


@torch.inference_mode()
def margins(prefix: str, questions: Sequence[str], words: Sequence[str]) -> Tensor:
    """How much more likely the second word is than the first, after each question; the prefix is read once."""
    model, tokenizer = chat().model, chat().tokenizer
    ids = [tokenizer.encode(word).ids for word in words]
    assert all(len(word) == 1 for word in ids), "a label should be one token"
    start, n_layers = tokenizer.encode(prefix).ids, model.config.n_layers
    known = KVCache(n_layers, max(len(start), 1))
    if start:
        with torch.autocast("cpu", torch.bfloat16):
            model.decoder(torch.tensor([start]), cache=known)
    rows = [tokenizer.encode(question).ids for question in questions]
    order, found = sorted(range(len(rows)), key=lambda i: len(rows[i])), torch.zeros(len(rows))
    for first in range(0, len(rows), 16):
        chosen = order[first : first + 16]
        width = max(len(rows[i]) for i in chosen)
        tokens = torch.tensor([rows[i] + [0] * (width - len(rows[i])) for i in chosen])
        memory = KVCache(n_layers, len(start) + width)
        for (layer, _), (old, _) in zip(memory.layers, known.layers, strict=True):
            if start:
                layer.append(*(side.expand(len(chosen), -1, -1, -1) for side in old.stored()))
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.decoder(tokens, cache=memory)
        last = hidden[torch.arange(len(chosen)), [len(rows[i]) - 1 for i in chosen]]
        logits = model.head(last.float())
        found[chosen] = logits[:, ids[1][0]] - logits[:, ids[0][0]]
    return found


def few_shot(words: str, labels: str, n_shots: int, seed: int) -> dict[str, float]:
    """Accuracy on that draw's reviews, with the threshold at zero and calibrated."""
    shots, judged = draw(seed)
    names = NAMES[words][:: -1 if words == "made up" and seed % 2 else 1]
    random = np.random.default_rng(1_000 + seed).integers(2, size=len(shots))
    told = {"true": lambda i: shots[i][1], "random": lambda i: random[i], "opposite": lambda i: 1 - shots[i][1]}[labels]
    prefix = "".join(ASK.format(shots[i][0]) + TELL.format(names[told(i)]) for i in range(n_shots))
    found = margins(prefix, [ASK.format(text) for text in [*(text for text, _ in judged), *EMPTY]], names)
    truth = torch.tensor([label for _, label in judged]).bool()
    scores, empty = found[: len(judged)], found[len(judged) :].mean()
    cuts = {"accuracy": 0.0, "calibrated": float(empty)}
    shares = {name: float(((scores > cut) == truth).float().mean()) for name, cut in cuts.items()}
    return {**shares, "says_positive": float((scores > 0).float().mean())}


def reviews(sweep: Sweep) -> list[dict[str, Any]]:
    """Each condition: one number for each draw."""
    found = []
    for (words, labels), shots in CONDITIONS.items():
        for k in tqdm(shots, desc=f"{words}, {labels}"):
            runs = [
                sweep(
                    f"{words}, {labels}, {k} shots, draw {s}", lambda s=s, k=k, w=words, t=labels: few_shot(w, t, k, s)
                )
                for s in range(DRAWS)
            ]
            row = {name: [round(run[name], 4) for run in runs] for name in runs[0]}
            found.append({"words": words, "labels": labels, "shots": k, **row})
    return found


def baselines() -> list[dict[str, Any]]:
    """A linear head on TF-IDF (frequencies from all training reviews) and on MiniLM's vectors, from the same shots."""
    counts, encoder = TfidfVectorizer(sublinear_tf=True).fit(splits().train.texts), load_minilm()
    vectors: dict[str, tuple[Callable[[Sequence[str]], Any], float]] = {
        "TF-IDF": (counts.transform, 10.0),
        "MiniLM": (lambda texts: encoder.embed(texts).numpy(), 10.0),
    }
    found = []
    for name, (describe, strength) in vectors.items():
        for k in SHOTS[2:]:  # one shot shows one verdict only
            scores = []
            for seed in range(DRAWS):
                shots, judged = draw(seed)
                (x, y), (x_test, y_test) = (
                    (describe([text for text, _ in part]), [label for _, label in part]) for part in (shots[:k], judged)
                )
                scores.append(round(LogisticRegression(C=strength).fit(x, y).score(x_test, y_test), 4))
            found.append({"method": name, "shots": k, "accuracy": scores})
    return found


def ranked(places: int) -> tuple[list[list[float]], list[Head]]:
    """How much every head looks so many places back, and the heads from the highest score down."""
    scores = CHAPTER["looks_back"](chat().model, CHAPTER["twice"](chat().model, TWICE, COPIES, seed=0), places)
    order = scores.flatten().argsort(descending=True).tolist()
    heads = [(place // scores.shape[1], place % scores.shape[1]) for place in order]
    return [[round(float(x), 4) for x in row] for row in scores], heads


def off(heads: list[Head], size: int, draw: int | None) -> list[Head]:
    """The best heads, or as many drawn from those that are not among the best 32."""
    if draw is None:
        return heads[:size]
    rest = heads[max(OFF) :]
    return [rest[i] for i in np.random.default_rng(draw).permutation(len(rest))[:size]]


def heads(sweep: Sweep) -> dict[str, Any]:
    """Scores of the heads; losses on both copies, and puzzles solved, with some switched off."""
    scores, order = sweep("scores of heads", lambda: ranked(TWICE - 1))
    order = [tuple(head) for head in order]

    def losses(chosen: list[Head]) -> dict[str, float]:
        tokens, rng = CHAPTER["twice"](chat().model, TWICE, COPIES, seed=1), np.random.default_rng(1)
        puzzles = [CHAPTER["puzzle"](rng) for _ in range(PUZZLES)]
        with CHAPTER["without"](chat().model, chosen):
            first, second = CHAPTER["copy_losses"](chat().model, tokens)
            return {
                "first": round(first, 4),
                "second": round(second, 4),
                "solved": round(float(CHAPTER["solved"](chat(), puzzles)), 4),
            }

    previous, (writer, *_) = sweep("scores of previous-token heads", lambda: ranked(1))
    found: dict[str, Any] = {"scores": scores, "previous": previous, "whole": sweep("the whole", lambda: losses([]))}
    found["without_previous"] = {
        "head": writer,
        **sweep("without the best previous-token head", lambda: losses([tuple(writer)])),
    }
    found["off"] = []
    for size in tqdm(OFF, desc="heads"):
        best = sweep(f"without best {size}", lambda m=size: losses(off(order, m, None)))
        others = [
            {
                **sweep(f"without random {size}, {s}", lambda m=size, s=s: losses(off(order, m, s))),
                "holds_previous": tuple(writer) in off(order, size, s),
            }
            for s in range(RANDOM_SETS)
        ]
        found["off"].append({"heads": size, "best": best, "random": others})
    return found


def main() -> None:
    """Run what was not run yet, and write the table."""
    torch.set_num_threads(1)
    sweep = Sweep("few_shot")
    table = {
        "command": "OMP_NUM_THREADS=1 python -m benchmarks.few_shot",
        "model": "SmolLM2-135M-Instruct",
        "draws": DRAWS,
        "tested": TESTED,
        "template": ASK + TELL,
        "reviews": reviews(sweep),
        "baselines": baselines(),
        "twice": {"tokens": TWICE, "sequences": COPIES, "puzzles": PUZZLES},
        **heads(Sweep("few_shot_heads")),
        "environment": environment(),
    }
    write_table("few_shot", table, indent=None)


if __name__ == "__main__":
    main()

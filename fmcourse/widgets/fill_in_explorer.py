"""Hide a word of a sentence and compare what several readers take it for."""

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget

Guess = tuple[str, float]


class FillInExplorer(Widget):
    """A sentence whose words can be hidden one at a time, and the likeliest words by each reader.

    Args:
        readers: names of the readers, such as "left side (GPT)".
        sentences: the words (or pieces) of each sentence.
        guesses: for each sentence, by place (as text), for each reader: the likeliest words with their probabilities.
            Only the places that are here can be hidden.
        truths: the same without the list of words: the probability of the true word, and its rank (1 is best).

    Raises ValueError when the sizes do not fit. Taught in `practice/train_bert`.
    """

    _module = "fill_in_explorer"

    label = traitlets.Unicode("Fill-in explorer: a hidden word, guessed by several readers").tag(sync=True)
    labels = traitlets.Dict(
        {
            "sentence": "Sentence",
            "hide": "Hide the word",
            "words": "Words of the sentence: choose which one to hide",
            "hidden": "hidden word",
            "truth": "probability of the true word",
            "rank": "rank",
            "reader": "reader",
            "word": "word",
            "probability": "probability",
            "table": "All guesses as a table",
            "right": "right",
        }
    ).tag(sync=True)
    readers = traitlets.List(traitlets.Unicode()).tag(sync=True)
    sentences = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    guesses = traitlets.List(traitlets.Dict()).tag(sync=True)
    truths = traitlets.List(traitlets.Dict()).tag(sync=True)
    sentence = traitlets.Int(0).tag(sync=True)
    place = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        *,
        readers: Sequence[str],
        sentences: Sequence[Sequence[str]],
        guesses: Sequence[Mapping[int, Sequence[Sequence[Guess]]]],
        truths: Sequence[Mapping[int, Sequence[tuple[float, int]]]],
        **kwargs: Any,
    ) -> None:
        if not len(sentences) == len(guesses) == len(truths):
            raise ValueError("sentences, guesses and truths must be equally many")
        for words, by_place, true in zip(sentences, guesses, truths, strict=True):
            if not by_place or by_place.keys() != true.keys() or not all(0 <= i < len(words) for i in by_place):
                raise ValueError("guesses and truths must be for the same places, each a word of its sentence")
            if any(len(rows) != len(readers) for rows in [*by_place.values(), *true.values()]):
                raise ValueError(f"every place needs one entry for each of the {len(readers)} readers")
        kwargs.setdefault("place", min(guesses[kwargs.get("sentence", 0)]))
        super().__init__(
            readers=list(readers),
            sentences=[list(words) for words in sentences],
            guesses=[{str(i): [[list(g) for g in row] for row in rows] for i, rows in one.items()} for one in guesses],
            truths=[{str(i): [list(pair) for pair in rows] for i, rows in one.items()} for one in truths],
            **kwargs,
        )

"""A text of the reader's own, cut into tokens by byte-pair encoding, merge after merge."""

from collections.abc import Mapping, Sequence
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget


class TokenizerExplorer(Widget):
    """Tokens of any text under one of several byte-level vocabularies, with as many of its merges as the reader wants.

    The page encodes for itself, exactly as `BPETokenizer(merges[:n]).encode` does.

    Args:
        vocabularies: name of each vocabulary, with its merges in the order in which they were learned.
        examples: texts to start from, the first of which is shown.

    Raises ValueError when there is no vocabulary or no example, or a merge is not a pair of byte symbols. Taught in
    `algorithm/data_preprocessing`.
    """

    _module = "tokenizer_explorer"

    label = traitlets.Unicode("Tokenizer explorer: your text in tokens").tag(sync=True)
    labels = traitlets.Dict(
        {
            "example": "Start from",
            "text": "Text (type your own)",
            "vocabulary": "Merges learned from",
            "n_merges": "Merges applied",
            "tokens": "The tokens",
            "characters": "characters",
            "bytes": "bytes",
            "count": "tokens",
            "per_character": "tokens per character",
            "partial": "part of a character, as bytes",
            "table": "The tokens as a table",
            "token": "token",
            "id": "id",
            "none": "no text, no tokens",
        }
    ).tag(sync=True)
    names = traitlets.List(traitlets.Unicode()).tag(sync=True)
    merges = traitlets.List(traitlets.List(traitlets.Unicode()), help="Each merge as `left right`.").tag(sync=True)
    examples = traitlets.List(traitlets.Unicode()).tag(sync=True)
    example = traitlets.Int(0).tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    vocabulary = traitlets.Int(0).tag(sync=True)
    n_merges = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, *, vocabularies: Mapping[str, Sequence[tuple[str, str]]], examples: Sequence[str], **kwargs: Any
    ) -> None:
        if not vocabularies or not examples:
            raise ValueError("vocabularies and examples need at least one entry each")
        lists = [[" ".join(merge) for merge in merges] for merges in vocabularies.values()]
        for name, merges in zip(vocabularies, lists, strict=True):
            for i, merge in enumerate(merges):
                if len(merge.split()) != 2:
                    raise ValueError(f"merge {i} of {name!r} is {merge!r}; it must be two byte symbols without spaces")
        start = {"text": examples[0], "n_merges": max(map(len, lists))}
        super().__init__(names=list(vocabularies), merges=lists, examples=list(examples), **{**start, **kwargs})

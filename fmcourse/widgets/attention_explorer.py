"""The attention explorer: real scores of a real encoder, under a temperature and a mask that the reader sets."""

from typing import Any

import traitlets

from fmcourse.widgets.base import Widget

MASKS = ("none", "causal", "special")


class AttentionExplorer(Widget):
    """Attention weights of a few heads on a few sentences, recomputed from their scores in the page.

    Args:
        texts: the tokens of each sentence.
        heads: a name for each head.
        scores: scaled scores before the softmax, indexed [head][sentence][query][key].
        special: tokens that the mask "special" hides from every query.
        sentence, head, query: which of each is shown first, counted from 0.
        mask: "none", "causal" (a query sees itself and earlier tokens) or "special".
        temperature: what the scores are divided by before the softmax; 1 is the model itself.

    Taught in `mathematics/attention`.
    """

    _module = "attention_explorer"
    significant_digits = 4

    label = traitlets.Unicode("Attention explorer").tag(sync=True)
    labels = traitlets.Dict(
        {
            "sentence": "Sentence",
            "head": "Head",
            "mask": "Mask",
            "temperature": "Temperature",
            "none": "none: every token sees all",
            "causal": "causal: nobody sees the future",
            "special": "hide [CLS] and [SEP]",
            "grid": "Attention weights in percent: a row per query, a column per key",
            "corner": "query ↓ key →",
            "show": "show the row of",
            "looks": "Where this token looks:",
            "hidden": "masked",
            "top": "most weight",
            "entropy": "entropy",
            "at_most": "of at most",
            "nats": "nats",
            "spread": "as spread out as",
            "tokens": "equal tokens",
        }
    ).tag(sync=True)
    texts = traitlets.List(traitlets.List(traitlets.Unicode())).tag(sync=True)
    heads = traitlets.List(traitlets.Unicode()).tag(sync=True)
    scores: "traitlets.List[Any]" = traitlets.List().tag(sync=True)
    special = traitlets.List(traitlets.Unicode(), default_value=["[CLS]", "[SEP]"]).tag(sync=True)
    sentence = traitlets.Int(0).tag(sync=True)
    head = traitlets.Int(0).tag(sync=True)
    query = traitlets.Int(0).tag(sync=True)
    mask = traitlets.Enum(MASKS, default_value="none").tag(sync=True)
    temperature = traitlets.Float(1.0, min=0.01).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not self.texts or not self.heads or len(self.scores) != len(self.heads):
            raise ValueError(
                "AttentionExplorer needs texts, heads and one entry of scores per head; "
                f"got {len(self.texts)} texts, {len(self.heads)} heads and {len(self.scores)} entries"
            )
        for name, of_head in zip(self.heads, self.scores, strict=True):
            if len(of_head) != len(self.texts):
                raise ValueError(f"head {name!r} has scores for {len(of_head)} of {len(self.texts)} texts")
            for tokens, rows in zip(self.texts, of_head, strict=True):
                if len(rows) != len(tokens) or any(len(row) != len(tokens) for row in rows):
                    shape = f"{len(rows)} x {len(rows[0]) if rows else 0}"
                    raise ValueError(f"head {name!r}: scores are {shape} for a text of {len(tokens)} tokens")
        for trait, size in (
            ("sentence", len(self.texts)),
            ("head", len(self.heads)),
            ("query", min(map(len, self.texts))),
        ):
            if not 0 <= getattr(self, trait) < size:
                raise ValueError(f"{trait}={getattr(self, trait)} is out of range; 0 to {size - 1} are allowed")
        if all(token in self.special for tokens in self.texts for token in tokens):
            raise ValueError("special covers every token of the texts: a query would have no key left")

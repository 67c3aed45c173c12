"""Where every number goes when a vector per token is cut into heads."""

from typing import Any

import torch
import traitlets
from einops import rearrange

from fmcourse.checks import check_choice, check_positive
from fmcourse.widgets.base import Widget

OPERATIONS = ("heads", "interleaved", "reshape", "reshape_transpose")


def cut(x: torch.Tensor, operation: str, n_heads: int) -> torch.Tensor:
    """A (t m) matrix cut into (h t d) in one of four ways, of which one mixes up the tokens.

    Raises ValueError for an unknown operation. Taught in `algorithm/building_the_model`.
    """
    check_choice("operation", operation, OPERATIONS)
    t = x.shape[0]
    if operation == "heads":
        return rearrange(x, "t (h d) -> h t d", h=n_heads)
    if operation == "interleaved":
        return rearrange(x, "t (d h) -> h t d", h=n_heads)
    if operation == "reshape":
        return x.reshape(n_heads, t, -1)
    return x.reshape(t, n_heads, -1).transpose(0, 1)


class Rearrangement(Widget):
    """A small matrix, a row for each token, and what four ways of cutting it into heads make of it.

    Args:
        tokens: the words of the rows, two to six.
        n_heads, d_head: how many parts, and how wide each is.
        operation: the way of cutting that is shown first, one of `OPERATIONS`.

    Raises ValueError when a size is not positive, TraitError for an unknown operation. Taught in
    `algorithm/building_the_model`.
    """

    _module = "rearrangement"

    label = traitlets.Unicode("Where does every number go? Cutting vectors into heads").tag(sync=True)
    labels = traitlets.Dict(
        {
            "operation": "Operation",
            "n_tokens": "Tokens t",
            "n_heads": "Heads h",
            "d_head": "Width of a head d",
            "before": "Before: a row for each token",
            "head": "Head",
            "after": "After",
            "shape": "shape",
            "row": "row",
            "rows": "rows that hold numbers of more than one token",
            "wrong": "rows that hold numbers of another token than theirs",
            "of": "of",
            "heads": 'rearrange(x, "t (h d) -> h t d")',
            "interleaved": 'rearrange(x, "t (d h) -> h t d")',
            "reshape": "x.reshape(h, t, d)",
            "reshape_transpose": "x.reshape(t, h, d).transpose(0, 1)",
        }
    ).tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    n_tokens = traitlets.Int(3).tag(sync=True)
    n_heads = traitlets.Int(2).tag(sync=True)
    d_head = traitlets.Int(2).tag(sync=True)
    operation = traitlets.Enum(OPERATIONS, default_value="reshape").tag(sync=True)

    def __init__(self, tokens: tuple[str, ...] = ("dog", "bites", "man", "and", "runs", "off"), **kwargs: Any) -> None:
        super().__init__(tokens=list(tokens), **kwargs)
        for name in ("n_tokens", "n_heads", "d_head"):
            check_positive(name, getattr(self, name))
        if self.n_tokens > len(self.tokens):
            raise ValueError(f"n_tokens={self.n_tokens} is more than the {len(self.tokens)} tokens that have a name")

    def result(self) -> torch.Tensor:
        """What the page shows: the numbers 0, 1, 2, ... of a (t m) matrix, cut into (h t d)."""
        size = self.n_heads * self.d_head
        return cut(torch.arange(self.n_tokens * size).reshape(self.n_tokens, size), self.operation, self.n_heads)

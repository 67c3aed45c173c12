"""The mask laboratory: which key each query may attend to, and what a stack of such layers lets reach it."""

import traitlets

from fmcourse.widgets.base import Widget

MASKS = ("full", "causal", "padded", "prefix", "window")


class MaskLaboratory(Widget):
    """A mask as a grid; each cell tells after how many layers the query of its row can depend on the key of its column.

    Args:
        mask: "full", "causal", "padded" (causal, with padding on the left), "prefix" (causal, but the first `prefix`
            positions see each other) or "window" (itself and the `width` - 1 positions before).
        n: length of the sequence.
        layers: how many layers lie on each other, all with this mask and with residual connections.
        padding, prefix, width: the number that the mask of that kind takes.

    Taught in `mathematics/multi_head_and_masks`.
    """

    _module = "mask_laboratory"

    label = traitlets.Unicode("Mask laboratory").tag(sync=True)
    labels = traitlets.Dict(
        {
            "mask": "Mask",
            "full": "full: every token sees all",
            "causal": "causal: nobody sees the future",
            "padded": "causal, with padding on the left",
            "prefix": "prefix: the first tokens see each other",
            "window": "sliding window",
            "n": "Tokens",
            "layers": "Layers",
            "padding": "Padding tokens",
            "prefix_length": "Length of the prefix",
            "width": "Width of the window",
            "grid": "Layers that each query (row) needs until it can depend on each key (column)",
            "corner": "query ↓ key →",
            "direct": "the mask allows it: one layer",
            "reached": "reached through other tokens",
            "later": "needs more layers than there are",
            "never": "never",
            "allowed": "Pairs the mask allows",
            "of": "of",
            "cost": "share of the full cost",
            "reach": "Pairs that depend after all layers",
            "last": "Layers until the last token depends on the first",
        }
    ).tag(sync=True)
    mask = traitlets.Enum(MASKS, default_value="causal").tag(sync=True)
    n = traitlets.Int(8, min=3, max=12).tag(sync=True)
    layers = traitlets.Int(1, min=1, max=12).tag(sync=True)
    padding = traitlets.Int(2, min=0, max=6).tag(sync=True)
    prefix = traitlets.Int(3, min=1, max=12).tag(sync=True)
    width = traitlets.Int(3, min=1, max=12).tag(sync=True)

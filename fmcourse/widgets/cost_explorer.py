"""What one more token costs: the operations of a GPT in its matrices and in attention, by length of the text."""

from typing import Any

import traitlets

from fmcourse.widgets.base import Widget

LENGTHS = tuple(2**power for power in range(7, 21))


def operations(n: int, *, n_layers: int, d_model: int, vocab_size: int, cached: bool = False) -> dict[str, int]:
    """Floating-point operations of a GPT (feed-forward width 4 d_model), an addition and a multiplication counting 2.

    Without a cache the model reads all n tokens, as it does for the first new one; with a cache it reads one token that
    attends to n. Masked pairs are counted like others, as kernels and counters do.
    Taught in `algorithm/strengths_and_limits`.
    """
    read = 1 if cached else n
    return {
        "matrices": n_layers * 24 * read * d_model**2,
        "attention": n_layers * 4 * read * n * d_model,
        "head": 2 * read * d_model * vocab_size,
    }


def crossover(*, n_layers: int, d_model: int, vocab_size: int) -> float:
    """The length at which attention takes as many operations as all matrices.

    Taught in `algorithm/strengths_and_limits`.
    """
    return 6 * d_model + vocab_size / (2 * n_layers)


def _sizes(n_layers: int, d_model: int, vocab_size: int) -> dict[str, int]:
    return {"n_layers": n_layers, "d_model": d_model, "vocab_size": vocab_size}


# Our own, then Radford et al. 2019 (with the correction in their repository) and Brown et al. 2020, table 2.1.
PRESETS: dict[str, dict[str, int]] = {
    "this book": _sizes(4, 128, 84),
    "GPT-2 small": _sizes(12, 768, 50_257),
    "GPT-2 XL": _sizes(48, 1600, 50_257),
    "GPT-3": _sizes(96, 12_288, 50_257),
}


class CostExplorer(Widget):
    """Operations for the next token against the length of the text, with and without a cache, for sizes to choose.

    Args:
        preset: a model to start from; its sizes can be changed by the reader.

    Raises TraitError for an unknown preset. Taught in `algorithm/strengths_and_limits`.
    """

    _module = "cost_explorer"

    label = traitlets.Unicode("Cost explorer: what one more token costs, in matrices and in attention").tag(sync=True)
    labels = traitlets.Dict(
        {
            "preset": "Model",
            "custom": "sizes of your own",
            "n_layers": "Blocks",
            "d_model": "Width d_model",
            "length": "Tokens so far",
            "cached": "Keep keys and values (cache)",
            "total": "Operations for the next token",
            "attention": "attention",
            "matrices": "matrices",
            "share": "share of attention",
            "exponent": "if the text grew a little, they would grow as its length to the power",
            "crossing": "Attention takes half of them at",
            "tokens": "tokens",
            "memory": "cache, 16 bits a number",
            "axis": "operations",
            "table": "The curves as a table",
        }
    ).tag(sync=True)
    presets = traitlets.List([{"name": name, **sizes} for name, sizes in PRESETS.items()]).tag(sync=True)
    lengths = traitlets.List(list(LENGTHS)).tag(sync=True)
    preset = traitlets.Unicode("GPT-2 small", help="Empty for sizes of one's own.").tag(sync=True)
    n_layers = traitlets.Int(12).tag(sync=True)
    d_model = traitlets.Int(768).tag(sync=True)
    vocab_size = traitlets.Int(50_257).tag(sync=True)
    length = traitlets.Int(1024).tag(sync=True)
    cached = traitlets.Bool(False).tag(sync=True)

    def __init__(self, preset: str = "GPT-2 small", **kwargs: Any) -> None:
        if preset and preset not in PRESETS:
            raise traitlets.TraitError(f"preset={preset!r} is not among {', '.join(PRESETS)}")
        sizes = PRESETS.get(preset, {})
        own = any(kwargs.get(name, size) != size for name, size in sizes.items())
        super().__init__(preset="" if own else preset, **{**sizes, **kwargs})

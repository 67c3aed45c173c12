"""How many parameters a Transformer of given sizes has, part by part, for the four families."""

from collections.abc import Mapping
from typing import Any

import traitlets

from fmcourse.checks import check_choice
from fmcourse.widgets.base import Widget

FAMILIES = ("encoder", "decoder", "encoder-decoder", "vision")


def count_parts(
    family: str,
    *,
    n_layers: int,
    d_model: int,
    n_heads: int,
    d_ff: int,
    vocab_size: int = 0,
    context: int = 0,
    image: int = 224,
    patch: int = 16,
    n_classes: int = 1000,
    bias: bool | None = None,
) -> dict[str, int]:
    """Parameters of each part of a BERT, GPT-2, T5 or ViT (family by family) of these sizes.

    T5 has no biases, the others have them; `bias` says otherwise. Taught in `concepts/architectures`.
    """
    check_choice("family", family, FAMILIES)
    d, both = d_model, family == "encoder-decoder"
    bias = not both if bias is None else bias
    stacks, attentions = (2, 3) if both else (1, 1)
    embeddings, head = {
        # Places and two segments beside the words; BERT's pooler.
        "encoder": ((vocab_size + context + 2) * d, linear(d, d, bias)),
        # Heads of decoders are the word table, used again.
        "decoder": ((vocab_size + context) * d, 0),
        # In both stacks, for each head, a number for each of 32 distances.
        "encoder-decoder": (vocab_size * d + 2 * 32 * n_heads, 0),
        # A class vector and its place beside the patches' places.
        "vision": (
            linear(3 * patch**2, d, bias) + (2 + (image // patch) ** 2) * d,
            linear(d, n_classes, bias),
        ),
    }[family]
    feed_forward = linear(d, d_ff, bias) + linear(d_ff, d, bias)
    return {
        "embeddings": embeddings,
        "attention": attentions * n_layers * 4 * linear(d, d, bias),
        "feed_forward": stacks * n_layers * feed_forward,
        "norms": ((stacks + attentions) * n_layers + stacks) * (1 + bias) * d,
        "head": head,
    }


def linear(n_in: int, n_out: int, bias: bool = True) -> int:
    """Parameters of a linear layer. Taught in `concepts/architectures`."""
    return n_in * n_out + bias * n_out


def _text(family: str, published: float, *sizes: int) -> dict[str, Any]:
    names = ("n_layers", "d_model", "n_heads", "vocab_size", "context")
    return {"family": family, "published": round(published), **dict(zip(names, sizes, strict=True))}


def _vision(published: float, *sizes: int) -> dict[str, Any]:
    names = ("n_layers", "d_model", "n_heads", "image", "patch")
    return {"family": "vision", "published": round(published), **dict(zip(names, sizes, strict=True))}


# Sizes and rounded counts as published: Devlin et al. 2019, section 3; Wang et al. 2020; Radford et al. 2019 with the
# correction in their repository; Brown et al. 2020, table 2.1; Raffel et al. 2020, sections 3.1.1 and 3.7; Dosovitskiy
# et al. 2021, table 1. In all of them d_ff is 4 * d_model.
PRESETS: dict[str, dict[str, Any]] = {
    "BERT-base": _text("encoder", 110e6, 12, 768, 12, 30_522, 512),
    "BERT-large": _text("encoder", 340e6, 24, 1024, 16, 30_522, 512),
    "all-MiniLM-L6": _text("encoder", 22.7e6, 6, 384, 12, 30_522, 512),
    "GPT-2 small": _text("decoder", 124e6, 12, 768, 12, 50_257, 1024),
    "GPT-2 XL": _text("decoder", 1558e6, 48, 1600, 25, 50_257, 1024),
    "GPT-3": _text("decoder", 175e9, 96, 12_288, 96, 50_257, 2048),
    "T5-small": _text("encoder-decoder", 60e6, 6, 512, 8, 32_128, 512),
    "T5-base": _text("encoder-decoder", 220e6, 12, 768, 12, 32_128, 512),
    "T5-large": _text("encoder-decoder", 770e6, 24, 1024, 16, 32_128, 512),
    "ViT-B/16": _vision(86e6, 12, 768, 12, 224, 16),
    "ViT-L/16": _vision(307e6, 24, 1024, 16, 224, 16),
    "ViT-H/14": _vision(632e6, 32, 1280, 16, 224, 14),
}
_SIZES = ("family", "n_layers", "d_model", "n_heads", "ff_ratio", "vocab_size", "context", "image", "patch")


class ArchitectureCalculator(Widget):
    """Sizes to set, or those of a published model, and how many parameters each part then has (`count_parts`).

    Args:
        preset: a published model to start from; its sizes can be overridden by name.

    Raises TraitError for an unknown preset. Taught in `concepts/architectures`.
    """

    _module = "architecture_calculator"

    label = traitlets.Unicode("Architecture calculator: where the parameters of a Transformer are").tag(sync=True)
    labels = traitlets.Dict(
        {
            "preset": "Published model",
            "custom": "sizes of your own",
            "family": "Family",
            "encoder": "encoder (BERT)",
            "decoder": "decoder (GPT-2)",
            "encoder-decoder": "encoder-decoder (T5)",
            "vision": "vision (ViT, 1,000 classes)",
            "n_layers": "Blocks in each stack",
            "d_model": "Width d_model",
            "n_heads": "Attention heads",
            "ff_ratio": "Feed-forward width / d_model",
            "vocab_size": "Vocabulary",
            "context": "Positions",
            "image": "Image side (pixels)",
            "patch": "Patch side (pixels)",
            "total": "Parameters in all",
            "published": "published as",
            "part": "part",
            "parameters": "parameters",
            "share": "share",
            "embeddings": "embeddings",
            "attention": "attention",
            "feed_forward": "feed-forward",
            "norms": "normalisation",
            "head": "head",
            "head_width": "width of one head",
            "must_divide": "the number of heads must divide d_model: no such model can be built",
            "positions": "positions of a picture, with the class token",
        }
    ).tag(sync=True)
    presets = traitlets.List([{"name": name, **sizes} for name, sizes in PRESETS.items()]).tag(sync=True)
    preset = traitlets.Unicode("GPT-2 small", help="Empty for sizes of one's own.").tag(sync=True)
    family = traitlets.Enum(FAMILIES, "decoder").tag(sync=True)
    n_layers = traitlets.Int(12).tag(sync=True)
    d_model = traitlets.Int(768).tag(sync=True)
    n_heads = traitlets.Int(12).tag(sync=True)
    ff_ratio = traitlets.Int(4).tag(sync=True)
    vocab_size = traitlets.Int(50_257).tag(sync=True)
    context = traitlets.Int(1024).tag(sync=True)
    image = traitlets.Int(224).tag(sync=True)
    patch = traitlets.Int(16).tag(sync=True)

    def __init__(self, preset: str = "GPT-2 small", **kwargs: Any) -> None:
        if preset and preset not in PRESETS:
            raise traitlets.TraitError(f"preset={preset!r} is not among {', '.join(PRESETS)}")
        sizes = {name: size for name, size in PRESETS.get(preset, {}).items() if name in _SIZES}
        own = any(kwargs.get(name, size) != size for name, size in {"ff_ratio": 4, **sizes}.items())
        super().__init__(preset="" if own else preset, **{**sizes, **kwargs})

    def parts(self) -> dict[str, int]:
        """What the figure shows now."""
        return parts_of({name: getattr(self, name) for name in _SIZES})


def parts_of(sizes: Mapping[str, Any]) -> dict[str, int]:
    """`count_parts` of a preset's sizes, or of the figure's. Taught in `concepts/architectures`."""
    given = {name: size for name, size in sizes.items() if name in _SIZES and name not in ("family", "ff_ratio")}
    return count_parts(sizes["family"], d_ff=sizes.get("ff_ratio", 4) * sizes["d_model"], **given)

"""What one more token for a batch of texts takes: arithmetic, weights and cache, on a machine of two numbers."""

from typing import Any

import traitlets

from fmcourse.widgets.base import Widget

BATCHES = tuple(2**power for power in range(13))
LENGTHS = tuple(2**power for power in range(7, 18))
BITS = (32, 16, 8, 4)


def matrix_weights(
    *, n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, d_ff: int, gated: bool, vocab_size: int
) -> int:
    """Weights in the matrices of a GPT, the output matrix among them: all that each new token is multiplied with.

    `gated` feed-forward layers (SwiGLU) have three matrices, others two. Taught in `practice/inference`.
    """
    attention = 2 * d_model**2 + 2 * d_model * (d_model // n_heads * n_kv_heads)
    return n_layers * (attention + (3 if gated else 2) * d_model * d_ff) + d_model * vocab_size


def cache_bytes(
    length: int, *, n_layers: int, d_model: int, n_heads: int, n_kv_heads: int, bytes_each: float = 2
) -> float:
    """Memory of the keys and values of one text: two vectors in each block for each position.

    Taught in `practice/inference`.
    """
    return 2 * n_layers * (d_model // n_heads * n_kv_heads) * length * bytes_each


def step_seconds(
    *,
    batch: int,
    length: int,
    sizes: dict[str, Any],
    weight_bits: int,
    cache_bits: int,
    operations_per_second: float,
    bytes_per_second: float,
) -> dict[str, float]:
    """The roofline of one step, in which each of `batch` texts that hold `length` tokens gets one more.

    Returns the seconds for `arithmetic` (a multiplication and an addition count 2), for reading the `weights` (once for
    the whole batch) and the `cache` (of every text), and `step`, the larger of arithmetic and reading.
    Taught in `practice/inference`. Source: Williams et al. 2009; Pope et al. 2023, section 2.
    """
    weights = matrix_weights(**sizes)
    operations = batch * (2 * weights + 4 * sizes["n_layers"] * length * sizes["d_model"])
    heads = {name: sizes[name] for name in ("n_layers", "d_model", "n_heads", "n_kv_heads")}
    parts = {
        "arithmetic": operations / operations_per_second,
        "weights": weights * weight_bits / 8 / bytes_per_second,
        "cache": batch * cache_bytes(length, **heads, bytes_each=cache_bits / 8) / bytes_per_second,
    }
    return {**parts, "step": max(parts["arithmetic"], parts["weights"] + parts["cache"])}


def price_per_million(tokens_per_second: float, price_per_hour: float) -> float:
    """Price of a million tokens, in the currency of the machine's price per hour. Taught in `practice/inference`."""
    return price_per_hour / 3600 / tokens_per_second * 1e6


def _sizes(
    n_layers: int, d_model: int, heads: tuple[int, int], d_ff: int, gated: bool, vocab_size: int
) -> dict[str, Any]:
    names = ("n_layers", "d_model", "n_heads", "n_kv_heads", "d_ff", "gated", "vocab_size")
    return dict(zip(names, (n_layers, d_model, *heads, d_ff, gated, vocab_size), strict=True))


# SmolLM2 from its file; Radford et al. 2019 with the correction in their repository; Grattafiori et al. 2024, table 3;
# Brown et al. 2020, table 2.1.
MODELS: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": _sizes(30, 576, (9, 3), 1536, True, 49_152),
    "GPT-2 XL": _sizes(48, 1600, (25, 25), 6400, False, 50_257),
    "Llama 3 8B": _sizes(32, 4096, (32, 8), 14_336, True, 128_000),
    "Llama 3 70B": _sizes(80, 8192, (64, 8), 28_672, True, 128_000),
    "GPT-3": _sizes(96, 12_288, (96, 96), 49_152, False, 50_257),
}
# From the makers' data sheets: 16-bit matrix products without sparsity, memory bandwidth, memory.
MACHINES: dict[str, dict[str, float]] = {
    "NVIDIA T4": {"operations": 65e12, "bandwidth": 320e9, "memory": 16e9},
    "NVIDIA A100 80 GB": {"operations": 312e12, "bandwidth": 2039e9, "memory": 80e9},
    "NVIDIA H100 SXM": {"operations": 989e12, "bandwidth": 3350e9, "memory": 80e9},
}


class ServingCalculator(Widget):
    """Batch, length, model, number format and machine to choose; what bounds a step, and what a million tokens cost.

    Args:
        machines: more machines by name, each with `operations` and `bytes` per second (`bandwidth`) and `memory`.

    Raises TraitError for an unknown model or machine. Taught in `practice/inference`.
    """

    _module = "serving_calculator"

    label = traitlets.Unicode("Serving calculator: what bounds the next token, and what it costs").tag(sync=True)
    labels = traitlets.Dict(
        {
            "model": "Model",
            "machine": "Machine",
            "bits": "Bits of a weight",
            "batch": "Texts in the batch",
            "length": "Tokens in each text",
            "price": "Price of the machine per hour",
            "arithmetic": "arithmetic",
            "weights": "reading the weights",
            "cache": "reading the cache",
            "part": "part of a step",
            "time": "time",
            "bound": "A step waits most for",
            "step": "A step takes",
            "each": "which is what a reader of one text waits for a token;",
            "throughput": "all texts together get",
            "per_second": "tokens per second",
            "million": "A million tokens cost",
            "of_price": "in the currency of the hour",
            "memory": "Memory:",
            "weights_memory": "for weights,",
            "cache_memory": "for the cache",
            "too_much": "more than one such machine has",
            "axis": "tokens per second, all texts together",
            "batches": "texts in the batch",
            "line": "tokens per second",
            "reading_limit": "limit set by reading",
            "arithmetic_limit": "limit set by arithmetic",
            "table": "The curve as a table",
        }
    ).tag(sync=True)
    models = traitlets.List([{"name": name, **sizes} for name, sizes in MODELS.items()]).tag(sync=True)
    machines = traitlets.List([{"name": name, **sizes} for name, sizes in MACHINES.items()]).tag(sync=True)
    batches = traitlets.List(list(BATCHES)).tag(sync=True)
    lengths = traitlets.List(list(LENGTHS)).tag(sync=True)
    model = traitlets.Unicode("Llama 3 8B").tag(sync=True)
    machine = traitlets.Unicode("NVIDIA A100 80 GB").tag(sync=True)
    bits = traitlets.Int(16).tag(sync=True)
    batch = traitlets.Int(1).tag(sync=True)
    length = traitlets.Int(1024).tag(sync=True)
    price = traitlets.Float(1.0).tag(sync=True)

    def __init__(self, machines: dict[str, dict[str, float]] | None = None, **kwargs: Any) -> None:
        known = [{"name": name, **numbers} for name, numbers in {**MACHINES, **(machines or {})}.items()]
        super().__init__(machines=known, **kwargs)
        for name, choices in (("model", self.models), ("machine", self.machines)):
            if getattr(self, name) not in (found := [str(choice["name"]) for choice in choices]):
                raise traitlets.TraitError(f"{name}={getattr(self, name)!r} is not among {', '.join(found)}")

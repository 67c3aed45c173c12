"""A roofline explorer: how long one operation takes at best on a given machine, and which limit holds it back."""

from typing import Any, NamedTuple

import traitlets

from fmcourse.widgets.base import Widget

# Peak of matrix products without sparsity (FLOP/s), memory bandwidth (B/s), memory (B), as the maker publishes them
# (decimal units): NVIDIA 2018 (Turing white paper), 2021 (A100 data sheet, SXM), 2023 (H100 data sheet, SXM). The
# 32-bit peaks are those of ordinary float32, not of tf32. H100's 989 is half of the 1,979 printed "with sparsity".
HARDWARE: dict[str, dict[str, float]] = {
    "NVIDIA T4": {"peak16": 65e12, "peak32": 8.1e12, "bandwidth": 320e9, "memory": 16e9},
    "NVIDIA A100 40 GB": {"peak16": 312e12, "peak32": 19.5e12, "bandwidth": 1_555e9, "memory": 40e9},
    "NVIDIA A100 80 GB": {"peak16": 312e12, "peak32": 19.5e12, "bandwidth": 2_039e9, "memory": 80e9},
    "NVIDIA H100": {"peak16": 989e12, "peak32": 67e12, "bandwidth": 3_350e9, "memory": 80e9},
}

# Ours; Radford et al. 2019; Touvron et al. 2023a, table 2 (6.7 billion parameters, 32 layers of width 4,096).
MODELS: dict[str, dict[str, int]] = {
    "this book's GPT": {"parameters": 787_840, "n_layers": 4, "d_model": 128},
    "GPT-2 small": {"parameters": 124_439_808, "n_layers": 12, "d_model": 768},
    "LLaMA 7B": {"parameters": 6_700_000_000, "n_layers": 32, "d_model": 4096},
}
OPERATIONS = ("product", "addition", "attention", "attention_stored", "decoding")


def work(operation: str, size: int, **sizes: int) -> tuple[float, float]:
    """Floating-point operations, and bytes if every tensor is read or written once, numbers having `size` bytes.

    Args:
        operation: "product" of a (tokens, d_in) and a (d_in, d_out) matrix; "addition" of two (tokens, d_in) ones;
            "attention" of `heads` heads over `length` tokens with vectors of d_head, fused, or with the scores and the
            weights stored and read again ("attention_stored"); "decoding": the next token of `batch` texts of `length`
            tokens, by a GPT of n_layers, d_model and `parameters`, with a cache of keys and values.

    Raises ValueError for an unknown operation. Taught in `practice/environment`.
    """
    s = sizes
    if operation == "product":
        m, k, n = s["tokens"], s["d_in"], s["d_out"]
        return 2.0 * m * k * n, float(size) * (m * k + k * n + m * n)
    if operation == "addition":
        return 1.0 * s["tokens"] * s["d_in"], 3.0 * size * s["tokens"] * s["d_in"]
    if operation in ("attention", "attention_stored"):
        h, t, d = s["heads"], s["length"], s["d_head"]
        stored = 4 * h * t * t if operation == "attention_stored" else 0
        return 4.0 * h * t * t * d, float(size) * (4 * h * t * d + stored)
    if operation == "decoding":
        b, cache = s["batch"], 2 * s["n_layers"] * s["length"] * s["d_model"]
        return 2.0 * b * (s["parameters"] + cache), float(size) * (s["parameters"] + b * cache)
    raise ValueError(f"operation={operation!r} is not known; choose one of {', '.join(OPERATIONS)}")


class Roof(NamedTuple):
    """What the roofline model says of one operation.

    Args:
        intensity: operations per byte.
        ridge: the intensity from which on arithmetic is the limit.
        seconds: at best.
        bound: "compute" or "memory".
        share: of the machine's peak.

    Taught in `practice/environment`.
    """

    intensity: float
    ridge: float
    seconds: float
    bound: str
    share: float


def roofline(operations: float, moved: float, peak: float, bandwidth: float) -> Roof:
    """The shortest time in which a machine can do `operations` (FLOP) and move `moved` bytes, both at once.

    Taught in `practice/environment`. Source: Williams, Waterman & Patterson 2009.
    """
    arithmetic, memory = operations / peak, moved / bandwidth
    seconds = max(arithmetic, memory)
    bound = "compute" if arithmetic >= memory else "memory"
    return Roof(operations / moved, peak / bandwidth, seconds, bound, arithmetic / seconds)


class RooflineExplorer(Widget):
    """One operation on the roofline of a machine: choose or type the machine, choose the operation and its sizes.

    Args:
        hardware: machines to choose from, as `HARDWARE` (a list of dicts with a "name", peaks in FLOP/s).
        machine: the one to begin with.

    Taught in `practice/environment`.
    """

    _module = "roofline_explorer"

    label = traitlets.Unicode("Roofline explorer: what one operation takes at best, and what holds it back").tag(
        sync=True
    )
    labels = traitlets.Dict(
        {
            "machine": "Machine",
            "own": "numbers of your own",
            "bits": "Numbers of",
            "bits32": "32 bits",
            "bits16": "16 bits",
            "peak": "Peak, TFLOP/s",
            "bandwidth": "Bandwidth, GB/s",
            "operation": "Operation",
            "product": "matrix product (linear layer)",
            "addition": "addition of two matrices",
            "attention": "attention, fused",
            "attention_stored": "attention, scores stored",
            "decoding": "next token of a GPT",
            "tokens": "Tokens (rows)",
            "d_in": "Width in",
            "d_out": "Width out",
            "heads": "Heads × texts",
            "length": "Tokens of a text",
            "d_head": "Width of a head",
            "model": "Model",
            "batch": "Texts at once",
            "done": "operations",
            "moved": "moved",
            "intensity": "intensity",
            "unit": "FLOP/B",
            "ridge": "the roof bends at",
            "at_best": "At best",
            "share": "of the peak",
            "compute": "limited by arithmetic",
            "memory": "limited by memory",
            "reached": "reaches at most",
            "axis": "operations per byte (FLOP/B)",
            "speed": "FLOP/s",
            "table": "The same operation on every machine",
        }
    ).tag(sync=True)
    hardware = traitlets.List([{"name": name, **facts} for name, facts in HARDWARE.items()]).tag(sync=True)
    models = traitlets.List([{"name": name, **sizes} for name, sizes in MODELS.items()]).tag(sync=True)
    machine = traitlets.Unicode("NVIDIA A100 40 GB", help="Empty for numbers of one's own.").tag(sync=True)
    bits = traitlets.Int(16).tag(sync=True)
    peak = traitlets.Float(312.0, help="TFLOP/s").tag(sync=True)
    bandwidth = traitlets.Float(1555.0, help="GB/s").tag(sync=True)
    operation = traitlets.Enum(OPERATIONS, "product").tag(sync=True)
    tokens = traitlets.Int(64).tag(sync=True)
    d_in = traitlets.Int(768).tag(sync=True)
    d_out = traitlets.Int(3072).tag(sync=True)
    heads = traitlets.Int(256).tag(sync=True)
    length = traitlets.Int(1024).tag(sync=True)
    d_head = traitlets.Int(64).tag(sync=True)
    model = traitlets.Unicode("GPT-2 small").tag(sync=True)
    batch = traitlets.Int(1).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        machines: dict[str, Any] = {str(one["name"]): one for one in self.hardware}
        facts = machines.get(self.machine)
        if self.machine and facts is None:
            known = ", ".join(machines)
            raise traitlets.TraitError(f"machine={self.machine!r} is not among {known}")
        if facts is not None:
            self.peak = facts[f"peak{self.bits}"] / 1e12
            self.bandwidth = facts["bandwidth"] / 1e9

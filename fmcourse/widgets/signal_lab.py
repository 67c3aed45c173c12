"""A laboratory of signal propagation: how large activations and gradients are, layer by layer, before training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from fmcourse.widgets.base import Widget

Array = NDArray[np.float64]
WIDTH, INPUTS = 128, 4
ACTIVATIONS = ("linear", "tanh", "relu", "gelu")
NORMS = ("none", "before", "after")


def noise(seed: int, count: int) -> Array:
    """`count` uniform numbers with mean 0 and variance 1, the same in Python and in a browser.

    The generator is mulberry32, which needs 32-bit integers only. Used in `mathematics/mlp_and_residual_stream`.
    """
    with np.errstate(over="ignore"):
        a = np.uint32(seed) + np.arange(1, count + 1, dtype=np.uint32) * np.uint32(0x6D2B79F5)
        t = (a ^ (a >> np.uint32(15))) * (a | np.uint32(1))
        t ^= t + (t ^ (t >> np.uint32(7))) * (t | np.uint32(61))
    return (((t ^ (t >> np.uint32(14))) / 2**32) * 2 - 1) * np.sqrt(3.0)


def activation(name: str, x: Array) -> tuple[Array, Array]:
    """The activation (GELU by its tanh formula) and its slope. Used in `mathematics/mlp_and_residual_stream`."""
    if name == "linear":
        return x, np.ones_like(x)
    if name == "relu":
        return np.maximum(x, 0), (x > 0).astype(float)
    if name == "tanh":
        return np.tanh(x), 1 - np.tanh(x) ** 2
    c = np.sqrt(2 / np.pi)
    t = np.tanh(c * (x + 0.044715 * x**3))
    return 0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)


def propagate(
    *, depth: int, scale: float, name: str = "relu", residual: bool = False, norm: str = "none", seed: int = 1
) -> tuple[Array, Array]:
    """Root mean square of the activations and of the gradient at layer 0 (the input) to `depth` (the output).

    One layer is x -> W f(x), or x + W f(x) with `residual`; the entries of W have mean 0 and standard deviation
    scale / sqrt(width). `norm` divides by the root mean square what the layer reads ("before") or what it hands on
    ("after"). At the output the gradient is random with size 1. The figure computes the same in the browser.
    Used in `mathematics/mlp_and_residual_stream`.
    """
    shape, step = (INPUTS, WIDTH), WIDTH * WIDTH
    numbers = noise(seed, 2 * INPUTS * WIDTH + depth * step)
    x, gradient = numbers[: INPUTS * WIDTH].reshape(shape), numbers[INPUTS * WIDTH : 2 * INPUTS * WIDTH].reshape(shape)
    matrices = numbers[2 * INPUTS * WIDTH :].reshape(depth, WIDTH, WIDTH) * (scale / np.sqrt(WIDTH))

    def normalised(x: Array) -> tuple[Array, Array]:
        size = np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-5)
        return x / size, size

    def through_norm(g: Array, n: Array, size: Array) -> Array:
        return np.asarray((g - n * (g * n).mean(axis=1, keepdims=True)) / size)

    sizes, memory = [float(np.sqrt((x * x).mean()))], []
    for w in matrices:
        read, read_size = normalised(x) if norm == "before" else (x, x)
        value, slope = activation(name, read)
        total = value @ w.T + (x if residual else 0)
        x, out_size = normalised(total) if norm == "after" else (total, total)
        memory.append((w, read, read_size, slope, x, out_size))
        sizes.append(float(np.sqrt((x * x).mean())))
    gradients = [float(np.sqrt((gradient * gradient).mean()))]
    for w, read, read_size, slope, out, out_size in reversed(memory):
        g = through_norm(gradient, out, out_size) if norm == "after" else gradient
        inner = (g @ w) * slope
        gradient = (through_norm(inner, read, read_size) if norm == "before" else inner) + (g if residual else 0)
        gradients.append(float(np.sqrt((gradient * gradient).mean())))
    return np.array(sizes), np.array(gradients[::-1])


class SignalLab(Widget):
    """Activations and gradients of a random network by layer, under the reader's choice of layer and scale.

    Raises TraitError for an unknown activation or norm. Taught in `mathematics/mlp_and_residual_stream`.
    """

    _module = "signal_lab"

    label = traitlets.Unicode("Signal laboratory: activations and gradients of an untrained network, by layer").tag(
        sync=True
    )
    labels = traitlets.Dict(
        {
            "activation": "Activation",
            "linear": "none (linear)",
            "tanh": "tanh",
            "relu": "ReLU",
            "gelu": "GELU",
            "norm": "Normalisation",
            "none": "none",
            "before": "before each layer",
            "after": "after each layer",
            "residual": "Residual connection",
            "depth": "Layers",
            "scale": "Scale of the weights",
            "signal": "activations",
            "gradient": "gradient",
            "layer": "layer",
            "size": "size (root mean square)",
            "end": "activations, last layer / input",
            "back": "gradient, input / last layer",
            "per_layer": "activations change per layer by a factor of",
            "table": "The curves as a table",
        }
    ).tag(sync=True)
    width = traitlets.Int(WIDTH).tag(sync=True)
    inputs = traitlets.Int(INPUTS).tag(sync=True)
    seed = traitlets.Int(1).tag(sync=True)
    activation = traitlets.Unicode("relu").tag(sync=True)
    norm = traitlets.Unicode("none").tag(sync=True)
    residual = traitlets.Bool(False).tag(sync=True)
    depth = traitlets.Int(64).tag(sync=True)
    scale = traitlets.Float(1.0).tag(sync=True)

    @traitlets.validate("activation", "norm")
    def _check_choice(self, proposal: Mapping[str, Any]) -> str:
        name, known = proposal["trait"].name, ACTIVATIONS if proposal["trait"].name == "activation" else NORMS
        if proposal["value"] not in known:
            raise traitlets.TraitError(f"{name}={proposal['value']!r} must be one of {', '.join(known)}")
        return str(proposal["value"])

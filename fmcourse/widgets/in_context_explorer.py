"""The in-context explorer: a trained learner of attention layers, run in the page on a prompt of the reader's own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from numpy.typing import NDArray

from fmcourse.widgets.base import Widget

Array = NDArray[np.float64]
PARTS = ("query", "key", "value", "out")


def weights_of(model: Any, rows: Sequence[int], positions: int) -> dict[str, Any]:
    """The numbers of a learner (a `decoder` of attention layers and an `answer` matrix) that a short prompt needs.

    Args:
        rows: the token ids whose vectors are wanted.
        positions: how many places a prompt may have.

    Taught in `practice/in_context_learning`.
    """
    stack = model.decoder
    tokens, places = stack.tokens.weight.detach(), stack.positions.weight.detach()
    layers = [
        {"norm": block.attention_norm.weight.tolist()}
        | {part: getattr(block.attention, part).weight.tolist() for part in PARTS}
        for block in stack.blocks
    ]
    return {
        "tokens": tokens[list(rows)].tolist(),
        "positions": places[:positions].tolist(),
        "layers": layers,
        "norm": stack.norm.weight.tolist(),
        "answer": model.answer.weight.tolist(),
        "n_heads": stack.config.n_heads,
        "eps": stack.config.norm_eps,
    }


def run(weights: dict[str, Any], tokens: Sequence[int], off: Sequence[int] = ()) -> tuple[Array, Array]:
    """What the learner answers after the last token, and where each head looks from there: (head, place).

    Args:
        tokens: rows of `weights["tokens"]`.
        off: heads that are switched off, counted through the layers from 0.

    Taught in `practice/in_context_learning`.
    """

    def normalised(x: Array, gain: Sequence[float]) -> Array:
        return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + weights["eps"]) * np.array(gain)

    def softmax(x: Array) -> Array:
        raised: Array = np.exp(x - x.max(axis=-1, keepdims=True))
        return raised / raised.sum(axis=-1, keepdims=True)

    n, n_heads = len(tokens), weights["n_heads"]
    x = np.array(weights["tokens"])[list(tokens)] + np.array(weights["positions"])[:n]
    looks, future = [], np.triu(np.full((n, n), -np.inf), k=1)
    for place, layer in enumerate(weights["layers"]):
        read = normalised(x, layer["norm"])
        q, k, v = (np.split(read @ np.array(layer[part]).T, n_heads, axis=1) for part in PARTS[:3])
        heads = [softmax(a @ b.T / np.sqrt(a.shape[1]) + future) for a, b in zip(q, k, strict=True)]
        mixed = [(place * n_heads + i not in off) * (h @ c) for i, (h, c) in enumerate(zip(heads, v, strict=True))]
        looks += [h[-1] for h in heads]
        x = x + np.concatenate(mixed, axis=1) @ np.array(layer["out"]).T
    return softmax(normalised(x[-1:], weights["norm"]) @ np.array(weights["answer"]).T)[0], np.array(looks)


class InContextExplorer(Widget):
    """A learner in the page: examples that the reader rewrites, heads that the reader switches off.

    Args:
        words, colours: what the rows of `weights["tokens"]` are called, words first.
        weights: from `weights_of`.
        examples: pairs (word, colour), by number.
        shots: how many of the examples are shown.
        asked: the word in question, by number.
        off: heads that are switched off.
        watched: the head whose attention is shown.

    Raises ValueError when an example names no word or colour, or there are too few positions.
    Taught in `practice/in_context_learning`.
    """

    _module = "in_context_explorer"
    significant_digits = 4

    label = traitlets.Unicode("In-context explorer: a trained learner, its examples, and its heads").tag(sync=True)
    labels = traitlets.Dict(
        {
            "shots": "Examples shown",
            "asked": "Word asked",
            "watched": "Show the attention of",
            "heads": "Heads at work",
            "layer": "layer {0}",
            "head": "head {0}",
            "examples": "The prompt. Press an example to change its colour",
            "example": "example {0}, {1} is {2}: change the colour",
            "answers": "The learner answers",
            "looks": "Attention of the question in that head",
            "place": "token",
            "weight": "weight",
            "says": "says",
            "reset": "Start over",
        }
    ).tag(sync=True)
    words = traitlets.List(traitlets.Unicode()).tag(sync=True)
    colours = traitlets.List(traitlets.Unicode()).tag(sync=True)
    weights: "traitlets.Dict[str, Any]" = traitlets.Dict().tag(sync=True)
    examples: "traitlets.List[Any]" = traitlets.List().tag(sync=True)
    shots = traitlets.Int(4).tag(sync=True)
    asked = traitlets.Int(0).tag(sync=True)
    off = traitlets.List(traitlets.Int()).tag(sync=True)
    watched = traitlets.Int(0).tag(sync=True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for word, colour in self.examples:
            if not (0 <= word < len(self.words) and 0 <= colour < len(self.colours)):
                raise ValueError(f"example ({word}, {colour}) names no word or no colour")
        if len(self.weights["positions"]) < (needed := 2 * len(self.examples) + 1):
            raise ValueError(f"weights hold {len(self.weights['positions'])} positions; the examples need {needed}")

    def prompt(self) -> list[int]:
        """The tokens of the present prompt, as rows of the weights."""
        shown = self.examples[: self.shots]
        return [row for word, colour in shown for row in (word, len(self.words) + colour)] + [self.asked]

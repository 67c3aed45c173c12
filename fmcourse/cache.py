"""Keys and values of what a model has already read, so that it reads nothing twice. Taught in `practice/inference`."""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerCache:
    """Keys and values of the positions that one attention layer has already read (b h s d).

    It lives while the model's weights stay as they are, so it can also keep the layer's projections joined (`project`).

    Args:
        capacity: room for so many positions; None takes what the first append brings (a memory is read once).

    Taught in `practice/inference`.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.length = 0
        self.keys = self.values = torch.empty(0)
        self.joined: tuple[Tensor, Tensor | None] | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions and return all of them, old and new. Raises ValueError when there is no room."""
        new = key.shape[2]
        if self.length == 0:
            room = new if self.capacity is None else self.capacity
            self.keys, self.values = (side.new_empty(*side.shape[:2], room, side.shape[3]) for side in (key, value))
        end = self.length + new
        if end > self.keys.shape[2]:
            raise ValueError(f"the cache has room for {self.keys.shape[2]} positions; {end} were given")
        self.keys.narrow(2, self.length, new).copy_(key)  # `narrow` costs half of what a slice does
        self.values.narrow(2, self.length, new).copy_(value)
        self.length = end
        return self.stored()

    def project(self, x: Tensor, *layers: nn.Module) -> Tensor:
        """What the linear layers make of `x`, side by side, in one product: for one token it is the calls that cost.

        Their weights are read on the first call and kept. Layers that have none to join (quantised ones) are called.
        """
        if self.joined is None:
            if not all(isinstance(getattr(layer, "weight", None), Tensor) for layer in layers):
                return torch.cat([layer(x) for layer in layers], dim=-1)
            parts: list[Any] = [(layer.weight, layer.bias) for layer in layers]
            weights, biases = ([part[i] for part in parts if part[i] is not None] for i in (0, 1))
            self.joined = torch.cat(weights), torch.cat(biases) if biases else None
        return F.linear(x, *self.joined)

    def truncate(self, length: int) -> None:
        """Forget what was read after the first `length` positions. Raises ValueError when there are not so many."""
        if not 0 <= length <= self.length:
            raise ValueError(f"length={length} must be from 0 to the {self.length} positions that are stored")
        self.length = length

    def select(self, rows: Tensor) -> None:
        """Keep these sequences of the batch, in this order; one may be taken several times (beam search)."""
        self.keys, self.values = self.keys[rows], self.values[rows]

    def stored(self) -> tuple[Tensor, Tensor]:
        """All positions so far."""
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)


@dataclass
class KVCache:
    """What a model has already read: one pair of layer caches (self- and cross-attention) per block.

    Args: `n_layers` and `capacity` (positions it has room for). Taught in `practice/inference`.
    """

    n_layers: int
    capacity: int
    layers: list[tuple[LayerCache, LayerCache]] = field(init=False)

    def __post_init__(self) -> None:
        self.layers = [(LayerCache(self.capacity), LayerCache()) for _ in range(self.n_layers)]

    @property
    def length(self) -> int:
        """How many positions are stored."""
        return self.layers[0][0].length

    def truncate(self, length: int) -> None:
        """Forget the positions after the first `length` in every layer: guessed tokens that were wrong, for example."""
        for layer, _ in self.layers:
            layer.truncate(length)

    def select(self, rows: Tensor) -> None:
        """Keep these sequences of the batch in every layer; see `LayerCache.select`."""
        for layer in (side for pair in self.layers for side in pair):
            layer.select(rows)

"""Keys and values of what a model has already read, so that it reads nothing twice. Taught in `practice/inference`."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of the positions that one attention layer has already read (b h s d).

    Args:
        capacity: room for so many positions; None takes what the first append brings (a memory is read once).

    Taught in `practice/inference`.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.length = 0
        self.keys = self.values = torch.empty(0)

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new positions and return all of them, old and new. Raises ValueError when there is no room."""
        if self.length == 0:
            room = key.shape[2] if self.capacity is None else self.capacity
            self.keys, self.values = (side.new_empty(*side.shape[:2], room, side.shape[3]) for side in (key, value))
        end = self.length + key.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(f"the cache has room for {self.keys.shape[2]} positions; {end} were given")
        self.keys[:, :, self.length : end], self.values[:, :, self.length : end] = key, value
        self.length = end
        return self.stored()

    def stored(self) -> tuple[Tensor, Tensor]:
        """All positions so far."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


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

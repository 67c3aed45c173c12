"""`Batch`, the one thing that passes from data to models, and `DataSource`, the one thing that makes it.

Taught in `practice/train_gpt`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Int
from torch import Tensor

IGNORE = -100
"""Target that is not scored: padding, or a token that was not masked."""


@dataclass(frozen=True)
class Batch:
    """What the model is called with, and the ids it should predict.

    Args:
        inputs: keyword arguments of the model; every tensor has the batch first.
        targets: (b t) ids, `IGNORE` where nothing is to be predicted.
    """

    inputs: dict[str, Tensor]
    targets: Int[Tensor, "b t"]

    def __len__(self) -> int:
        return self.targets.shape[0]

    def __getitem__(self, rows: slice) -> "Batch":
        return Batch({name: value[rows] for name, value in self.inputs.items()}, self.targets[rows])

    def to(self, device: object) -> "Batch":
        """The same batch on another device."""
        move = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}  # type: ignore[call-overload]
        return Batch(move, self.targets.to(device, non_blocking=True))  # type: ignore[call-overload]


class DataSource(Protocol):
    """Training batches that depend on the step alone, so that interrupted training resumes exactly."""

    def batch(self, step: int, size: int) -> Batch:
        """The training batch of that step: the same at every call."""

    def validation(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Fixed validation batches, always the same `limit` examples (all when None), spread over the whole set."""

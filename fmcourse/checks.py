"""Checks of arguments: each raises an error that names the argument, what was given and what is allowed.

Used in every chapter.
"""

from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from torch import Tensor


def check_positive(name: str, value: float) -> None:
    """Raise ValueError unless `value` is greater than zero."""
    if not value > 0:
        raise ValueError(f"{name} must be positive; got {value}")


def check_choice(name: str, value: object, allowed: Any) -> None:
    """Raise ValueError unless `value` is one of `allowed` (a Literal type or any iterable)."""
    options = get_args(allowed) or tuple(allowed)
    if value not in options:
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(map(repr, options))}")


def check_ids(name: str, ids: "Tensor", limit_name: str, limit: int) -> None:
    """Raise ValueError unless every id is in [0, limit).

    Only on the CPU and outside a compiled graph: elsewhere this look at the values would stall the device, and the ids
    were checked when the data were made.
    """
    import torch

    if ids.device.type != "cpu" or torch.compiler.is_compiling() or not ids.numel():
        return
    low, high = (int(bound) for bound in ids.aminmax())
    if low < 0 or high >= limit:
        raise ValueError(
            f"{name} {low if low < 0 else high} is out of range; {limit_name}={limit} allows 0 to {limit - 1}"
        )

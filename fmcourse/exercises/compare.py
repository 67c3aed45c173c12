"""Is this answer right? If not, the difference in words that help: type, shape, numbers, the first place that differs.

Used in the exercises.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def difference(answer: Any, expected: Any, *, rtol: float, atol: float, show: bool = True) -> str | None:
    """None when the two agree, else what is wrong with `answer`, in a sentence.

    Any precision and any device will do, and a scalar may be a number or a tensor without dimensions. Tuples and lists
    are the same. `show=False` leaves every expected number out, for feedback that must not reveal hidden inputs.
    """
    if isinstance(expected, Tensor) or _is_number(expected):
        return _tensors(answer, expected, rtol, atol, show)
    if isinstance(expected, str):
        if not isinstance(answer, str):
            return f"a string is expected; this is {_kind(answer)}"
        return None if answer == expected else _first_difference(answer, expected, show)
    if isinstance(expected, Sequence):
        return _sequences(answer, expected, rtol, atol, show)
    raise TypeError(f"a reference may give tensors, numbers, strings and sequences of them; got {_kind(expected)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _kind(value: Any) -> str:
    return "None (is a return missing?)" if value is None else f"of type {type(value).__name__}"


def _tensors(answer: Any, expected: Any, rtol: float, atol: float, show: bool) -> str | None:
    scalar = _is_number(expected)
    if not isinstance(answer, Tensor) and not (scalar and _is_number(answer)):
        return f"a {'number' if scalar else 'tensor'} is expected; this is {_kind(answer)}"
    got, want = (torch.as_tensor(side).detach().cpu() for side in (answer, expected))
    if got.shape != want.shape:
        return f"the shape is {tuple(got.shape)}; it should be {tuple(want.shape)}"
    if got.is_complex():
        return "the numbers are complex; real ones are expected"
    if want.dtype == torch.bool and got.dtype != torch.bool:
        return f"True and False are expected; the numbers are {_name(got)}"
    if not want.is_floating_point() and want.dtype != torch.bool and got.is_floating_point():
        return f"whole numbers are expected; these are {_name(got)}"
    got, want = got.double(), want.double()
    if bool(got.isnan().any()) and not bool(want.isnan().any()):
        return f"{_place(got.isnan())}not a number (nan)"
    wrong = ~torch.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    if not bool(wrong.any()):
        return None
    at = wrong.nonzero()[0].tolist()
    yours, right = got[tuple(at)].item(), want[tuple(at)].item()
    share = "" if wrong.numel() == 1 else f" ({int(wrong.sum())} of {wrong.numel()} numbers differ)"
    what = f"{yours:.5g}, and it should be {right:.5g}" if show else "not the right number"
    return f"{_place(wrong)}{what}{share}"


def _place(wrong: Tensor) -> str:
    at = wrong.nonzero()[0].tolist()
    return f"at {at} there is " if at else "it is "


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first_difference(answer: str, expected: str, show: bool) -> str:
    place = next((i for i, (a, b) in enumerate(zip(answer, expected, strict=False)) if a != b), None)
    if place is None:
        return f"the string has {len(answer)} characters; it should have {len(expected)}"
    right = f"; it should be {expected[place]!r}" if show else ""
    return f"character {place} is {answer[place]!r}{right}"


def _sequences(answer: Any, expected: Sequence[Any], rtol: float, atol: float, show: bool) -> str | None:
    if not isinstance(answer, list | tuple):
        return f"{len(expected)} values in a list or tuple are expected; this is {_kind(answer)}"
    if len(answer) != len(expected):
        return f"there are {len(answer)} values; there should be {len(expected)}"
    for i, (part, want) in enumerate(zip(answer, expected, strict=True)):
        found = difference(part, want, rtol=rtol, atol=atol, show=show)
        if found is not None:
            return f"value {i}: {found}"
    return None

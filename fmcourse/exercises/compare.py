"""Is this answer right? If not, the difference in words that help: type, shape, numbers, the first place that differs.

Used in the exercises.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def difference(answer: Any, expected: Any, *, rtol: float, atol: float, show: bool = True) -> str | None:
    """None when the two agree, else what is wrong with `answer`, in a sentence.

    Any precision and any device will do, and a scalar may be a number or a tensor without dimensions. Tuples and lists
    are the same, and so are arrays of numpy and tensors. `show=False` chooses among a few fixed sentences: what is said
    of numbers, places or sizes would tell of hidden inputs.
    """
    if isinstance(answer, np.generic | np.ndarray):
        answer = answer.item() if answer.ndim == 0 else torch.as_tensor(answer)
    if isinstance(expected, Tensor) or _is_number(expected):
        return _tensors(answer, expected, rtol, atol, show)
    if isinstance(expected, str):
        if not isinstance(answer, str):
            return f"a string is expected; this is {_kind(answer)}"
        if answer == expected:
            return None
        return _first_difference(answer, expected) if show else "the string is not the right one"
    if isinstance(expected, Sequence):
        return _sequences(answer, expected, rtol, atol, show)
    if isinstance(expected, Mapping):
        return _mappings(answer, expected, rtol, atol, show)
    raise TypeError(f"a reference may give tensors, numbers, strings, sequences or dicts; got {_kind(expected)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _kind(value: Any) -> str:
    return "None (is a return missing?)" if value is None else f"of type {type(value).__name__}"


def _tensors(answer: Any, expected: Any, rtol: float, atol: float, show: bool) -> str | None:
    scalar = _is_number(expected) or expected.ndim == 0
    if not isinstance(answer, Tensor) and not (scalar and _is_number(answer)):
        return f"a {'number' if scalar else 'tensor'} is expected; this is {_kind(answer)}"
    got, want = (torch.as_tensor(side).detach() for side in (answer, expected))
    if got.shape != want.shape:
        return f"the shape is {tuple(got.shape)}; it should be {tuple(want.shape)}" if show else "the shape is wrong"
    if got.layout is not torch.strided or got.is_meta:
        return "an ordinary tensor with numbers is expected"
    if got.is_complex():
        return "the numbers are complex; real ones are expected"
    if want.dtype == torch.bool and got.dtype != torch.bool:
        return "True and False are expected" + (f"; the numbers are {_name(got)}" if show else "")
    if not want.is_floating_point() and want.dtype != torch.bool and got.is_floating_point():
        return "whole numbers are expected" + (f"; these are {_name(got)}" if show else "")
    truth = want.dtype == torch.bool
    got, want = got.cpu().double(), want.cpu().double()
    if bool(got.isnan().any()) and not bool(want.isnan().any()):
        return f"{_place(got.isnan())}not a number (nan)" if show else "some of it is not a number (nan)"
    wrong = ~torch.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    if not bool(wrong.any()):
        return None
    if not show:
        return "the numbers are not the right ones"
    at = wrong.nonzero()[0].tolist()
    yours, right = (str(bool(x[tuple(at)])) if truth else f"{x[tuple(at)].item():.5g}" for x in (got, want))
    share = "" if wrong.numel() == 1 else f" ({int(wrong.sum())} of {wrong.numel()} numbers differ)"
    return f"{_place(wrong)}{yours}, and it should be {right}{share}"


def _place(wrong: Tensor) -> str:
    at = wrong.nonzero()[0].tolist()
    return f"at {at} there is " if at else "it is "


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _first_difference(answer: str, expected: str) -> str:
    place = next((i for i, (a, b) in enumerate(zip(answer, expected, strict=False)) if a != b), None)
    if place is None:
        return f"the string has {len(answer)} characters; it should have {len(expected)}"
    return f"character {place} is {answer[place]!r}; it should be {expected[place]!r}"


def _sequences(answer: Any, expected: Sequence[Any], rtol: float, atol: float, show: bool) -> str | None:
    if not isinstance(answer, list | tuple):
        return f"values in a list or tuple are expected; this is {_kind(answer)}"
    if len(answer) != len(expected):
        number = f"there are {len(answer)} values; there should be {len(expected)}"
        return number if show else "the number of values is wrong"
    for i, (part, want) in enumerate(zip(answer, expected, strict=True)):
        found = difference(part, want, rtol=rtol, atol=atol, show=show)
        if found is not None:
            return f"value {i}: {found}" if show else found
    return None


def _mappings(answer: Any, expected: Mapping[Any, Any], rtol: float, atol: float, show: bool) -> str | None:
    if not isinstance(answer, dict):
        return f"a dict is expected; this is {_kind(answer)}"
    if odd := sorted(repr(name) for name in answer.keys() ^ expected.keys()):
        where = "has" if any(repr(name) == odd[0] for name in answer) else "lacks"
        return f"the dict {where} the key {odd[0]}" if show else "the keys of the dict are not the right ones"
    for name, want in expected.items():
        found = difference(answer[name], want, rtol=rtol, atol=atol, show=show)
        if found is not None:
            return f"at key {name!r}: {found}" if show else found
    return None

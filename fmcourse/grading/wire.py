"""What may cross the wall of the sandbox: tensors, numbers, texts, lists and dictionaries of them; never an object.

A value becomes tensors in one safetensors file and a small JSON tree that says how they are put together. Both sides
use this module, and the trusted side takes nothing for granted: sizes and depth are limited, and whatever is not of
this form is an error.

Used in the grading of exercises.
"""

import json
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

MAX_PARTS, MAX_DEPTH, MAX_BYTES = 10_000, 6, 20_000_000


class WireError(ValueError):
    """What came is not of the form that this module writes."""


def pack(values: dict[str, Any]) -> bytes:
    """Named values as bytes. Raises WireError for a value of a kind that cannot cross, and for too much of it."""
    tensors: dict[str, torch.Tensor] = {}

    def tree(value: Any, depth: int) -> Any:
        if depth > MAX_DEPTH or len(tensors) > MAX_PARTS:
            raise WireError("the answer has too many parts")
        if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biuf":
            value = value.item() if value.ndim == 0 else torch.from_numpy(np.ascontiguousarray(value))
        if isinstance(value, torch.Tensor):
            plain = torch.Tensor.detach(value).to_dense().cpu().contiguous().clone()
            tensors[str(len(tensors))] = plain
            return {"tensor": len(tensors) - 1}
        if isinstance(value, list | tuple):
            kind = "list" if isinstance(value, list) else "tuple"
            return {kind: [tree(part, depth + 1) for part in value]}
        if isinstance(value, dict):
            return {"dict": [[tree(name, depth + 1), tree(part, depth + 1)] for name, part in value.items()]}
        if value is None or isinstance(value, bool | int | str):
            return {"value": value}
        if isinstance(value, float):
            return {"float": repr(value)}  # JSON has no infinity
        raise WireError(f"an answer is of tensors, numbers, strings, lists and dicts; got {type(value).__name__}")

    form = {name: tree(value, 0) for name, value in values.items()}
    return save(tensors or {"none": torch.zeros(1)}, metadata={"form": json.dumps(form)})


def unpack(data: bytes) -> dict[str, Any]:
    """The named values in bytes that nobody vouches for. Raises WireError."""
    if len(data) > MAX_BYTES:
        raise WireError(f"{len(data)} bytes; at most {MAX_BYTES} are taken")
    try:
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        form = json.loads(header["__metadata__"]["form"])
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"no answers could be read ({type(error).__name__})") from None
    left = MAX_PARTS

    def value(tree: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0 or depth > MAX_DEPTH or not isinstance(tree, dict) or len(tree) != 1:
            raise WireError("the answers are not of the agreed form")
        ((kind, inner),) = tree.items()
        if kind == "tensor" and isinstance(inner, int) and str(inner) in tensors:
            return tensors[str(inner)]
        if kind in ("list", "tuple") and isinstance(inner, list):
            parts = [value(part, depth + 1) for part in inner]
            return parts if kind == "list" else tuple(parts)
        if kind == "dict" and isinstance(inner, list) and all(isinstance(e, list) and len(e) == 2 for e in inner):
            try:
                return {value(name, depth + 1): value(part, depth + 1) for name, part in inner}
            except TypeError:  # a list as a key
                raise WireError("the answers are not of the agreed form") from None
        if kind == "value" and (inner is None or isinstance(inner, bool | int | str)):
            return inner
        if kind == "float" and isinstance(inner, str):
            try:
                return float(inner)
            except ValueError:
                raise WireError(f"{inner[:20]!r} is not a number") from None
        raise WireError("the answers are not of the agreed form")

    if not isinstance(form, dict):
        raise WireError("the answers are not of the agreed form")
    return {str(name): value(tree, 0) for name, tree in form.items()}


def frame(data: bytes) -> bytes:
    """Packed bytes with their length before them."""
    return len(data).to_bytes(8, "little") + data


def send(pipe: BinaryIO, data: bytes) -> None:
    """Write packed bytes as a frame."""
    pipe.write(frame(data))
    pipe.flush()


def receive(pipe: BinaryIO) -> dict[str, Any]:
    """The next frame of a pipe that is trusted. Raises EOFError at its end."""
    size = int.from_bytes(pipe.read(8), "little")
    data = pipe.read(size)
    if len(data) < size or not size:
        raise EOFError("the other side has gone")
    return unpack(data)

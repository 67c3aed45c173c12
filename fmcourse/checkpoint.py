"""Checkpoints: tensors and a JSON description in one safetensors file, written whole or not at all.

Taught in `practice/train_gpt`.
"""

import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint cannot be read, written or used here; the message says which file and why."""


def _checksum(tensors: Mapping[str, Tensor], about: object) -> int:
    """CRC-32 of everything: the description, and name, type, shape and bytes of every tensor."""
    value = zlib.crc32(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        value = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), value)
        if tensor.numel():
            value = zlib.crc32(tensor.flatten().view(torch.uint8).numpy().data, value)
    return value


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and their description; whatever goes wrong, the file that was there before stays whole.

    Raises CheckpointError when the file cannot be written (a full disk, say).
    """
    unshared = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    header = {"format": FORMAT, "checksum": _checksum(unshared, about), "about": about}
    temporary = path.with_name(f".{path.name}.tmp")  # one process writes a folder; what a kill leaves is overwritten
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(save(unshared, metadata={"fmcourse": json.dumps(header)}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(
            f"could not write {path}: {error.strerror or error}; the previous file is untouched"
        ) from error
    finally:
        with suppress(OSError):  # the folder itself may be what could not be made
            temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a checkpoint.

    Raises CheckpointError when the file is missing, truncated, altered, or none of ours.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = json.loads((file.metadata() or {}).get("fmcourse", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint at {path}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a whole safetensors file ({error}); it may be cut off") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise CheckpointError(f"{path} was not written by this version of fmcourse")
    if header.get("checksum") != _checksum(tensors, header.get("about")):
        raise CheckpointError(f"{path} is damaged: its contents do not match its checksum")
    return tensors, header["about"]


def load_weights(model: torch.nn.Module, tensors: Mapping[str, Tensor], source: object) -> None:
    """Copy `tensors` into the model.

    Raises CheckpointError, naming the first difference, when names or shapes are not the model's.
    """
    own = model.state_dict()
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or extra:
        raise CheckpointError(
            f"{source} belongs to another model: it lacks {missing[:3] or 'nothing'}, and nothing here is called "
            f"{extra[:3] or 'otherwise'}"
        )
    for name, tensor in own.items():
        if tensors[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source} belongs to another model: {name} is {tuple(tensors[name].shape)} there and "
                f"{tuple(tensor.shape)} here"
            )
    model.load_state_dict(dict(tensors))

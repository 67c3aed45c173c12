"""What the machine can do: device, number format and the preset (size of the experiments) that suits it.

Taught in `practice/environment`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple, get_args

import torch

from fmcourse.checks import check_choice

Preset = Literal["cpu", "t4", "gpu"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Settings(NamedTuple):
    """What `setup` found; unpacks as `device, preset = fmcourse.setup()`."""

    device: torch.device
    preset: Preset


def pick_device(name: str | None = None) -> torch.device:
    """The device of that name, or the best one here: CUDA, then Apple's MPS, then the CPU.

    Raises ValueError when the name is unknown or the device is not on this machine.
    """
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name is None:
        return torch.device("cuda" if cuda else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name!r} is not known; choose 'cpu', 'cuda', 'cuda:N' or 'mps'") from None
    here = {"cpu": True, "meta": True, "cuda": cuda, "mps": mps}
    if not here.get(device.type, False):
        found = ", ".join(kind for kind, ok in here.items() if ok and kind != "meta")
        raise ValueError(f"device={name!r} is not on this machine; it has: {found}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device={name!r} is not on this machine; it has {torch.cuda.device_count()} CUDA devices")
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the hardware itself multiplies bfloat16 (a T4 and older CPUs do not)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return False


def pick_precision(device: torch.device, precision: Precision = "auto") -> Precision:
    """The number format to train in: bf16 where the hardware has it, fp16 on other GPUs, else fp32."""
    check_choice("precision", precision, Precision)
    if precision != "auto":
        return precision
    if has_fast_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Context in which matrix products run in that precision while weights stay in float32."""
    dtype = _DTYPES.get(pick_precision(device, precision))
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def setup(preset: Preset | None = None, *, device: str | None = None, seed: int = 0) -> Settings:
    """The first line of every chapter: pick the device and the preset, and seed torch's generators.

    Args:
        preset: "cpu" (two cores, embedded data), "t4" (Colab's free GPU) or "gpu" (A100 or better); None picks one.
        device: as in `pick_device`.
        seed: of torch's global generators, from which weights are drawn.

    Raises ValueError for an unknown preset, or a device that is not here.
    """
    found = pick_device(device)
    if preset is None:
        preset = "cpu" if found.type != "cuda" else "gpu" if has_fast_bf16(found) else "t4"
    check_choice("preset", preset, get_args(Preset))
    torch.manual_seed(seed)
    return Settings(found, preset)

"""The device, the number format and the preset follow from what the machine has; other machines are simulated."""

import pytest
import torch

import fmcourse
from fmcourse.device import autocast, has_fast_bf16, pick_device, pick_precision, setup


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be on a machine with (or without) CUDA of a given compute capability, MPS, and bf16 on its CPU."""

    def pretend(*, cuda=None, mps=False, cpu_bf16=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, probe, lambda: cpu_bf16, raising=False)

    return pretend


T4, A100 = (7, 5), (8, 0)


@pytest.mark.parametrize(
    ("hardware", "device", "preset", "precision"),
    [
        ({}, "cpu", "cpu", "fp32"),
        ({"cpu_bf16": True}, "cpu", "cpu", "bf16"),
        ({"mps": True}, "mps", "cpu", "fp32"),
        ({"cuda": T4}, "cuda", "t4", "fp16"),
        ({"cuda": A100}, "cuda", "gpu", "bf16"),
        ({"cuda": (9, 0), "mps": True}, "cuda", "gpu", "bf16"),
    ],
)
def test_setup_picks_what_suits_the_machine(machine, hardware, device, preset, precision):
    machine(**hardware)
    found = setup()
    assert (found.device.type, found.preset) == (device, preset)
    assert pick_precision(found.device) == precision
    assert has_fast_bf16(found.device) == (precision == "bf16")


def test_setup_obeys_and_seeds(machine):
    machine(cuda=A100)
    device, preset = fmcourse.setup("t4", device="cpu", seed=5)
    assert (device, preset) == (torch.device("cpu"), "t4")
    first = torch.rand(3)
    setup(seed=5, device="cpu")
    assert torch.equal(torch.rand(3), first)
    setup(seed=6, device="cpu")
    assert not torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_named_precision_is_obeyed(machine, precision):
    machine(cuda=T4)
    assert pick_precision(torch.device("cuda"), precision) == precision


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_multiplies_in_the_named_format(precision, dtype):
    with autocast(torch.device("cpu"), precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_unknown_names_are_refused_with_the_choices(machine):
    machine()
    with pytest.raises(ValueError, match="device='gpu' is not known; choose 'cpu', 'cuda', 'cuda:N' or 'mps'"):
        pick_device("gpu")
    with pytest.raises(ValueError, match="device='cuda' is not on this machine; it has: cpu"):
        pick_device("cuda")
    with pytest.raises(ValueError, match="preset='huge' is not known; choose one of 'cpu', 't4', 'gpu'"):
        setup("huge")
    with pytest.raises(ValueError, match="precision='fp8' is not known; choose one of 'auto', 'fp32', 'bf16', 'fp16'"):
        pick_precision(torch.device("cpu"), "fp8")


def test_a_gpu_that_is_not_there_is_named(machine, monkeypatch):
    machine(cuda=A100, mps=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="device='cuda:2' is not on this machine"):
        pick_device("cuda:2")

"""Set-up of the package's tests: no network, one thread, repeatable property tests, shared fixtures."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # before `transformers` is imported: the references are built here, never fetched
os.environ["TQDM_DISABLE"] = "1"

import pytest
import torch
from builders import ROOT
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)  # the models are tiny: more threads would only wait for each other
settings.register_profile(
    "fmcourse", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fmcourse")


@pytest.fixture
def float64():
    """New tensors and modules are in double precision, so that parity can be asked for to 1e-12."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def subprocess_environment() -> dict[str, str]:
    """The environment of a child process: it finds the package, runs on one thread, and knows no torchrun."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"}}
    return {**inherited, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}

"""Timing that two implementations can be compared by: interleaved repeats in one process, and their medians."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """One line of the README's table: what was compared, both figures with their unit, and the ratio asked for."""

    question: str
    ours: str
    peer: str
    ratio: float
    target: str


def environment(*packages: str) -> dict[str, str]:
    """The machine and the versions a measurement depends on."""
    found = {
        "date": date.today().isoformat(),
        "cpu": _cpu_name(),
        "cores": str(os.cpu_count()),
        "torch_threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
    }
    for package in ("torch", *packages):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def _cpu_name() -> str:
    """The processor's name as the system tells it, with what matters for speed here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except FileNotFoundError:  # not Linux
        return platform.processor() or platform.machine()
    name = next((line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), "?")
    return name + (" with AVX512-BF16" if "avx512_bf16" in text else "")


def medians(runs: Mapping[str, Callable[[], object]], *, repeats: int, warmup: int = 3) -> dict[str, float]:
    """Median seconds of each run; the runs take turns, so that a busy moment hits all of them alike."""
    for run in runs.values():
        for _ in range(warmup):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}

"""How does the memory of attention grow with the text: explicit, tiled, and PyTorch's fused kernel?

    python -m benchmarks.attention_memory            # some minutes on one core; writes the committed table

One head of width 64, forward and backward, causal, single precision. The functions that are measured are those of the
chapter `mathematics/backpropagation_through_attention`, read from its notebook. Each point has a process of its own,
which reports the allocator's peak and, after a warm-up at a short length, the growth of the whole process (Linux's
VmHWM, set back before the pass). The table is `fmcourse/results/attention_memory.json`.
"""

import argparse
import ast
import contextlib
import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.profiler import profile
from tqdm import tqdm

from benchmarks.common import environment

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "chapters" / "mathematics" / "backpropagation_through_attention.ipynb"
OUT = ROOT / "fmcourse" / "results" / "attention_memory.json"
LENGTHS = (256, 512, 1024, 2048, 4096, 8192, 16384)
LONGEST = {"explicit": 8192}
WANTED = """softmax softmax_backward attention attention_backward tiles tile_scores tiled_attention tiled_backward
    quiet peak_bytes explicit_pass tiled_pass fused_pass""".split()


def chapter_functions() -> dict[str, Any]:
    """The functions of the chapter that are measured, defined exactly as its cells define them."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    found: dict[str, Any] = {"math": math, "os": os, "np": np, "torch": torch, "F": F, "profile": profile}
    found["contextmanager"] = contextlib.contextmanager
    for source in ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"):
        if not any(f"def {name}(" in source for name in WANTED):
            continue
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef) and node.name in WANTED:
                exec(compile(ast.Module([node], []), str(NOTEBOOK), "exec"), found)
    if missing := [name for name in WANTED if name not in found]:
        raise RuntimeError(f"{NOTEBOOK.name} does not define {missing}")
    return found


def status(field: str) -> int:
    """A size of this process as Linux tells it, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(kind: str, n: int, device: str) -> dict[str, Any]:
    """One point, in this process."""
    torch.set_num_threads(1)
    functions = chapter_functions()

    def inputs(n: int) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(n)
        return [torch.randn(n, 64, generator=generator).to(device) for _ in range(4)]

    run = functions[f"{kind}_pass"]
    run(*inputs(64))  # what is loaded and reserved once is not the pass's own
    one_pass = partial(run, *inputs(n))
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        one_pass()
        return {"kind": kind, "n": n, "peak_bytes": torch.cuda.max_memory_allocated() - before}
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # VmHWM begins anew
    before = status("VmRSS")
    one_pass()
    process = status("VmHWM") - before
    return {"kind": kind, "n": n, "peak_bytes": int(functions["peak_bytes"](one_pass)), "process_bytes": process}


def main() -> None:
    """Measure every point in a fresh process and write the table (on a GPU: print it)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--point", nargs=2, metavar=("KIND", "N"), help="one point, printed as JSON")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(options.point[0], int(options.point[1]), options.device)))
        return
    rows = []
    kinds = ("explicit", "tiled", "fused")
    points = [(kind, n) for kind in kinds for n in LENGTHS if n <= LONGEST.get(kind, max(LENGTHS))]
    for kind, n in tqdm(points, unit="point"):
        command = [sys.executable, "-m", "benchmarks.attention_memory", "--device", options.device]
        done = subprocess.run([*command, "--point", kind, str(n)], cwd=ROOT, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    about = {"command": "python -m benchmarks.attention_memory", "environment": environment()}
    about["setting"] = "one head of width 64, tile 128, causal, float32, forward and backward, one thread"
    table = json.dumps({**about, "rows": rows}, indent=1) + "\n"
    if options.device == "cuda":
        print(table)
        return
    OUT.write_text(table, encoding="utf-8")
    print(f"wrote {OUT.name}")


if __name__ == "__main__":
    main()

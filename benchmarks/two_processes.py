"""What does it cost to train with two processes that exchange gradients (torchrun, gloo) on a machine with two cores?

Each process has one thread. One process trains with half of the batch: that is the work of one of two. Then two
processes do so side by side without knowing of each other, which shows what sharing the machine costs; then two that
share a batch and average their gradients after each step, which shows what the exchange costs on top. Twice the speed
of one process would be free of overhead.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.common import Row
from fmcourse.data.text import LanguageModelData
from fmcourse.training import TrainConfig, fit
from fmcourse.transformer import GPT, TransformerConfig

# The second has as many parameters as nanoGPT's small GPU recipe.
SIZES = {
    "4 x 128, context 64, batch 24": {"d_model": 128, "n_layers": 4, "n_heads": 4, "context": 64, "batch": 24},
    "6 x 384, context 256, batch 8": {"d_model": 384, "n_layers": 6, "n_heads": 6, "context": 256, "batch": 8},
}
STEPS = {"4 x 128, context 64, batch 24": 60, "6 x 384, context 256, batch 8": 8}
VOCABULARY = 65


def worker(name: str, share: int, out: Path) -> None:
    """Train for twice STEPS on random tokens; the first process writes its speed over the second half."""
    torch.set_num_threads(1)
    size, steps = SIZES[name], STEPS[name]
    torch.manual_seed(0)
    model = GPT(
        TransformerConfig(
            vocab_size=VOCABULARY,
            context=size["context"],
            d_model=size["d_model"],
            n_layers=size["n_layers"],
            n_heads=size["n_heads"],
        )
    )
    tokens = torch.randint(VOCABULARY, (20_000,))
    data = LanguageModelData(tokens, tokens, tokenizer=None, context=size["context"])
    config = TrainConfig(
        steps=2 * steps, batch_size=size["batch"] // share, precision="fp32", eval_every=steps, eval_examples=2
    )
    speed = fit(model, data, config, device="cpu", progress=False).rows[-1]["tokens_per_second"]
    if os.environ.get("RANK", "0") == "0":
        out.write_text(json.dumps(speed))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def speeds(name: str, kind: str) -> float:
    """Tokens per second of one way to run it, all processes together."""
    run = {"one": ["-m"], "apart": ["-m"], "together": ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]}
    count, share = (2, 2) if kind == "apart" else (1, 2 if kind == "one" else 1)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.json" for i in range(count)]
        commands = [
            [sys.executable, *run[kind], "benchmarks.two_processes", "--worker", name, str(share), str(file)]
            for file in files
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for command in commands]
        for process in started:
            if process.wait():
                raise RuntimeError(f"{' '.join(process.args)} failed with exit code {process.returncode}")  # type: ignore[arg-type]
        return sum(json.loads(file.read_text()) for file in files)


def measure(repeats: int = 5) -> list[Row]:
    """Medians of runs that take turns."""
    rows = []
    for name in SIZES:
        found: dict[str, list[float]] = {"one": [], "apart": [], "together": []}
        for _ in range(repeats):
            for kind, values in found.items():
                values.append(speeds(name, kind))
        one, apart, together = (statistics.median(found[kind]) for kind in ("one", "apart", "together"))
        for what, value in (
            (f"training, {name}: two processes (torchrun, gloo) beside one", together),
            ("the same, two that exchange nothing", apart),
        ):
            question = f"{what}; overhead {1 - value / (2 * one):.0%}"
            rows.append(Row(question, f"{value:,.0f} tokens/s", f"{one:,.0f} tokens/s", value / one, ""))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", nargs=3, required=True, metavar=("SIZE", "SHARE", "FILE"))
    size, share, file = parser.parse_args().worker
    worker(size, int(share), Path(file))

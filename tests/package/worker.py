"""A training run in a process of its own, for the tests that kill it or start several: `worker.py FOLDER OPTIONS`.

OPTIONS is JSON: `model` and `train` change the small model and its training, `masked` hides targets, and at the step
`die_at` the process kills itself. Prints the number of every step when it begins; writes the final weights and the
history to FOLDER, and the state of the random generator at every training step's forward pass.
"""

import hashlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from builders import small_data, small_model, small_training
from safetensors.torch import save_file

from fmcourse.data.batch import IGNORE, Batch
from fmcourse.training import fit


class WorkerData:
    """The small data; says which step begins, and can hide most targets of the first half of every batch."""

    def __init__(self, *, masked: bool = False, aloud: bool = False, die_at: int | None = None) -> None:
        self.data, self.masked, self.aloud, self.die_at = small_data(), masked, aloud, die_at

    def batch(self, step: int, size: int) -> Batch:
        if self.aloud:
            print(step, flush=True)
        if step == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        batch = self.data.batch(step, size)
        if not self.masked:
            return batch
        targets = batch.targets.clone()
        targets[: size // 2, 3:] = IGNORE
        return replace(batch, targets=targets)

    def validation(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        return self.data.validation(size, limit)


def run(
    folder: Path, options: dict[str, Any], *, aloud: bool = False, draws: list[str] | None = None
) -> tuple[torch.nn.Module, Any]:
    """Train as the options say; also what the tests call to do the same in their own process."""
    model = small_model(**options.get("model", {}))

    def note(module: torch.nn.Module, inputs: object) -> None:
        if draws is not None and module.training:
            draws.append(hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest())

    model.register_forward_pre_hook(note)
    data = WorkerData(masked=options.get("masked", False), die_at=options.get("die_at"), aloud=aloud)
    history = fit(model, data, small_training(**options.get("train", {})), device="cpu", folder=folder, progress=False)
    return model, history


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    draws: list[str] = []
    model, history = run(folder, json.loads(sys.argv[2]), aloud=True, draws=draws)
    if torch.distributed.is_initialized():
        rank = torch.distributed.get_rank()
        torch.distributed.destroy_process_group()
    else:
        rank = 0
    save_file(
        {name: tensor.clone() for name, tensor in model.state_dict().items()}, folder / f"final_{rank}.safetensors"
    )
    (folder / f"history_{rank}.json").write_text(json.dumps(history.rows))
    (folder / f"draws_{rank}.json").write_text(json.dumps(draws))

"""Two processes that share every batch end where one process with the whole batch ends."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from builders import assert_same, weights
from safetensors.torch import load_file
from worker import run

WORKER = Path(__file__).with_name("worker.py")


def torchrun(folder, options, environment, processes=2):
    """Run the worker in so many processes, as a user would with several GPUs."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*launcher, str(WORKER), str(folder), json.dumps(options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)


def final_weights(folder):
    """The weights of both processes, which must be the same to the last bit."""
    ends = [load_file(folder / f"final_{rank}.safetensors") for rank in range(2)]
    assert_same(ends[1], ends[0], atol=0.0)
    return ends[0]


@pytest.mark.slow
def test_two_processes_on_half_batches_equal_one_on_the_whole(tmp_path, subprocess_environment):
    """In two micro-batches a step, of which the first holds far fewer targets than the second.

    Without biases: that of a key has no effect, so its gradient is rounding noise, which Adam would blow up.
    """
    options = {"model": {"bias": False}, "train": {"batch_size": 8, "accumulate": 2}, "masked": True}
    (tmp_path / "two").mkdir()
    done = torchrun(tmp_path / "two", options, subprocess_environment)
    assert done.returncode == 0, done.stderr
    whole, history = run(tmp_path / "one", options)
    ours = final_weights(tmp_path / "two")
    assert_same(ours, weights(whole), atol=1e-5)
    for rank in range(2):
        rows = json.loads((tmp_path / "two" / f"history_{rank}.json").read_text())
        for column in ("step", "train_loss", "val_loss", "learning_rate"):
            assert [row[column] for row in rows] == pytest.approx(history.column(column), abs=1e-5), column
    saved = load_file(tmp_path / "two" / "last.safetensors")
    assert_same({name: saved[f"model.{name}"] for name in ours}, ours, atol=0.0)


@pytest.mark.slow
def test_two_killed_processes_resume_to_bit_identical_weights(tmp_path, subprocess_environment):
    """With dropout, which each process draws for itself: both must find their own place in the randomness again."""
    options = {"model": {"dropout": 0.2}, "train": {"batch_size": 8, "optimizer": "muon"}}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = torchrun(tmp_path / "whole", options, subprocess_environment)
    killed = torchrun(tmp_path / "killed", {**options, "die_at": 8}, subprocess_environment)
    assert (whole.returncode, killed.returncode) == (0, 1), killed.stderr
    assert not (tmp_path / "killed" / "final_0.safetensors").exists()
    resumed = torchrun(tmp_path / "killed", options, subprocess_environment)
    assert resumed.returncode == 0, resumed.stderr
    assert_same(final_weights(tmp_path / "killed"), final_weights(tmp_path / "whole"), atol=0.0)
    draws = [json.loads((tmp_path / "whole" / f"draws_{rank}.json").read_text()) for rank in range(2)]
    assert len(draws[0]) == len(draws[1]) > 8
    assert len({*draws[0], *draws[1]}) == 2 * len(draws[0]), "two processes, or two steps, dropped the same units"


def test_a_batch_that_cannot_be_shared_evenly_is_refused(monkeypatch, tmp_path):
    from fmcourse import training

    monkeypatch.setattr(training.World, "join", classmethod(lambda cls, device: cls(0, 4, 0)))
    with pytest.raises(ValueError, match="batch_size=6 must be divisible by accumulate=1 times the 4 processes"):
        run(tmp_path, {"train": {"batch_size": 6}})

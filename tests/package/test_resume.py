"""A run killed at any moment goes on as if nothing had happened: its weights end bit for bit the same."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from builders import small_data, small_model, small_training, weights
from safetensors.torch import load_file
from worker import run

from fmcourse.checkpoint import CheckpointError, load_checkpoint
from fmcourse.training import fit

WORKER = Path(__file__).with_name("worker.py")


def start(folder, options, environment):
    """Start the worker in its own process."""
    command = [sys.executable, str(WORKER), str(folder), json.dumps(options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def options(optimizer, eval_every, steps=30):
    """A run with dropout, so that the random state matters."""
    return {
        "model": {"dropout": 0.2, "position": "rotary"},
        "train": {"optimizer": optimizer, "eval_every": eval_every, "steps": steps},
    }


def assert_identical(given, wanted):
    """The same names, and the same bits."""
    assert given.keys() == wanted.keys()
    assert [name for name in given if not torch.equal(given[name], wanted[name])] == []


@pytest.mark.parametrize(("optimizer", "eval_every", "seed"), [("adamw", 7, 1), ("muon", 7, 2), ("adamw", 1, 3)])
def test_a_killed_run_resumes_to_bit_identical_weights(tmp_path, subprocess_environment, optimizer, eval_every, seed):
    """Killed with SIGKILL at a random moment of a random step; with eval_every=1 it may well be while it saves."""
    draw, how = random.Random(seed), options(optimizer, eval_every)
    uninterrupted, expected = run(tmp_path / "whole", how)
    fatal = draw.randint(8, 25)
    worker = start(tmp_path / "killed", how, subprocess_environment)
    for line in worker.stdout:
        if int(line) == fatal:
            time.sleep(draw.uniform(0, 0.01))
            worker.kill()
            break
    worker.stdout.read()
    assert worker.wait() == -9
    assert 0 < load_checkpoint(tmp_path / "killed" / "last.safetensors")[1]["step"] < 30
    resumed, history = run(tmp_path / "killed", how)
    assert_identical(weights(resumed), weights(uninterrupted))
    losses = [[(row["step"], row["train_loss"], row["val_loss"]) for row in h.rows] for h in (history, expected)]
    assert losses[0] == losses[1]
    ends = [load_file(tmp_path / name / "last.safetensors") for name in ("killed", "whole")]
    assert_identical(*ends)  # the optimiser's state and the random state too
    bests = [load_file(tmp_path / name / "best.safetensors") for name in ("killed", "whole")]
    assert_identical(*bests)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_in_low_precision_resumes_exactly(tmp_path, precision, monkeypatch):
    """Interrupted by an exception after each evaluation; the gradient scaler's state must come back as well.

    It starts so high that the first steps overflow and lower it: a scaler that began anew would skip steps again.
    """
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: scaler(device, 2.0**20, enabled=enabled))

    class Interrupted(Exception):
        pass

    def interrupt(row):
        if row["step"] in (5, 10):
            raise Interrupted

    how = {"optimizer": "muon", "precision": precision}
    wanted, given = small_model(dropout=0.2), small_model(9, dropout=0.2)
    fit(wanted, small_data(), small_training(**how), device="cpu", folder=tmp_path / "a", progress=False)
    common = {"device": "cpu", "folder": tmp_path / "b", "progress": False}
    for seed in (0, 9):  # from the second start on, the weights come from the checkpoint
        with pytest.raises(Interrupted):
            fit(small_model(seed, dropout=0.2), small_data(), small_training(**how), **common, on_evaluation=interrupt)
    history = fit(given, small_data(), small_training(**how), **common)
    assert_identical(weights(given), weights(wanted))
    assert history.column("step") == [5, 10, 12]


def test_a_finished_run_trains_no_further_and_returns_its_history(tmp_path):
    model, history = run(tmp_path, options("adamw", 7))
    again, same = run(tmp_path, options("adamw", 7))
    assert_identical(weights(again), weights(model))
    assert same.rows == history.rows


def test_resume_false_starts_anew(tmp_path):
    common = {"device": "cpu", "folder": tmp_path, "progress": False}
    first, second = small_model(), small_model()
    fit(first, small_data(), small_training(), **common)
    fit(second, small_data(), small_training(), **common, resume=False)
    assert_identical(weights(second), weights(first))
    with torch.no_grad():
        second.head.weight.add_(1.0)
    fit(second, small_data(), small_training(), **common, resume=False)
    assert not torch.equal(second.head.weight, first.head.weight)


def test_best_holds_the_weights_of_the_lowest_validation_loss(tmp_path):
    """Training at a rate so high that the loss rises at the end."""
    seen, model = [], small_model()

    def remember(row):
        seen.append((row["val_loss"], weights(model)))

    train = small_training(steps=40, lr=0.3, schedule="constant", warmup=0)
    fit(model, small_data(), train, device="cpu", folder=tmp_path, progress=False, on_evaluation=remember)
    best, about = load_checkpoint(tmp_path / "best.safetensors")
    loss, wanted = min(seen, key=lambda item: item[0])
    assert loss < seen[-1][0]  # the last is not the best, or this test shows nothing
    assert about["best"] == loss
    assert_identical({name.removeprefix("model."): tensor for name, tensor in best.items()}, wanted)
    last, _ = load_checkpoint(tmp_path / "last.safetensors")
    assert torch.equal(last["model.head.weight"], seen[-1][1]["head.weight"])


def test_what_is_told_about_a_run_is_kept(tmp_path):
    common = {"device": "cpu", "folder": tmp_path, "progress": False}
    fit(small_model(), small_data(), small_training(), **common, about={"tokenizer": {"kind": "characters"}})
    _, about = load_checkpoint(tmp_path / "best.safetensors")
    assert about["tokenizer"] == {"kind": "characters"}
    assert about["model"] == "GPT"
    assert about["model_config"]["d_model"] == 24
    assert about["train_config"]["lr"] == 3e-3
    assert about["history"][-1]["step"] == about["step"] == 12


def test_what_is_told_may_not_hide_what_the_run_itself_keeps(tmp_path):
    with pytest.raises(ValueError, match="about must not hold step"):
        fit(small_model(), small_data(), small_training(), folder=tmp_path, about={"step": 3}, progress=False)


@pytest.mark.parametrize(
    ("model", "train", "message"),
    [
        ({"d_model": 30}, {}, r"last\.safetensors was made with d_model=24, this run has d_model=30"),
        ({}, {"lr": 1e-2}, r"was made with lr=0\.003, this run has lr=0\.01; .*resume=False"),
        ({}, {"steps": 99}, r"was made with steps=12, this run has steps=99"),
        ({"position": "rotary"}, {"lr": 1e-2}, "made with position='learned', this run has position='rotary'"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(tmp_path, model, train, message):
    common = {"device": "cpu", "folder": tmp_path, "progress": False}
    fit(small_model(), small_data(), small_training(), **common)
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(CheckpointError, match=message):
        fit(small_model(**model), small_data(), small_training(**train), **common)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_a_damaged_checkpoint_stops_the_run_and_says_where_it_is(tmp_path):
    common = {"device": "cpu", "folder": tmp_path, "progress": False}
    fit(small_model(), small_data(), small_training(), **common)
    last = tmp_path / "last.safetensors"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"last\.safetensors"):
        fit(small_model(), small_data(), small_training(), **common)

"""A checkpoint is whole or it is refused, and a save that fails leaves the one before as it was."""

import ast
import errno
import json
import os
import random
import re
import subprocess
import sys

import pytest
import torch
from builders import ROOT, config
from safetensors.torch import save_file

from fmcourse.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from fmcourse.transformer import GPT

TENSORS = {
    "matrix": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "counts": torch.tensor([7, 8, 9]),
    "scalar": torch.tensor(3.25, dtype=torch.float64),
    "nothing": torch.empty(0, 4),
    "flag": torch.tensor([True, False]),
}
ABOUT = {"step": 1234, "text": "naïve 你好 \ud83d", "loss": 0.1 + 0.2, "none": None, "nested": {"list": [1, 2.5, "x"]}}


@pytest.fixture
def file(tmp_path):
    """A small checkpoint."""
    path = tmp_path / "deep" / "folder" / "some.safetensors"
    save_checkpoint(path, TENSORS, ABOUT)
    return path


def assert_unharmed(path):
    """The checkpoint is as `file` made it, and nothing else is in its folder."""
    tensors, about = load_checkpoint(path)
    assert about == ABOUT
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_tensors_and_description_come_back_as_they_were(file):
    assert_unharmed(file)


def test_shared_and_strided_tensors_can_be_saved(tmp_path):
    matrix = torch.arange(12.0).reshape(3, 4)
    save_checkpoint(tmp_path / "x", {"a": matrix, "b": matrix, "c": matrix.T, "d": matrix[:, 1]}, {})
    tensors, _ = load_checkpoint(tmp_path / "x")
    assert torch.equal(tensors["b"], matrix)
    assert torch.equal(tensors["c"], matrix.T)
    assert torch.equal(tensors["d"], matrix[:, 1])


# ------------------------------------------------------------------------------------------------------- failed writes


@pytest.mark.parametrize("function", ["fsync", "replace", "rename"])
def test_a_write_that_fails_midway_leaves_the_previous_checkpoint_whole(file, monkeypatch, function):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, function, full)
    if function == "rename":  # whichever of the two the implementation uses
        monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        CheckpointError, match=r"could not write .*some\.safetensors: No space left on device; the prev"
    ):
        save_checkpoint(file, {"matrix": torch.zeros(5)}, {})
    monkeypatch.undo()
    assert_unharmed(file)


def test_an_interrupted_write_leaves_the_previous_checkpoint_whole(file, monkeypatch):
    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(file, {"matrix": torch.zeros(5)}, {})
    monkeypatch.undo()
    assert_unharmed(file)


FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from fmcourse.checkpoint import CheckpointError, save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_checkpoint(Path(sys.argv[1]), {"big": torch.zeros(100_000)}, {})
except CheckpointError as error:
    print(error)
"""


def test_a_real_limit_of_the_file_system_leaves_the_previous_checkpoint_whole(file, subprocess_environment):
    """The operating system itself stops the write after 50 kB, in a process of its own."""
    command = [sys.executable, "-c", FULL_DISK, str(file)]
    done = subprocess.run(command, env=subprocess_environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"could not write {file}: File too large; the previous file is untouched" in done.stdout
    assert_unharmed(file)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"could not write .*file/x\.safetensors"):
        save_checkpoint(tmp_path / "file" / "x.safetensors", TENSORS, {})


def test_a_description_that_is_not_json_harms_nothing(file):
    with pytest.raises(TypeError, match="JSON serializable"):
        save_checkpoint(file, TENSORS, {"path": object()})
    assert_unharmed(file)


# ------------------------------------------------------------------------------------------------------- damaged files


def test_every_truncation_is_refused(file):
    data = file.read_bytes()
    for length in [*range(24), *range(24, len(data), 7), len(data) - 1]:
        file.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"some\.safetensors"):
            load_checkpoint(file)


def test_every_single_flipped_bit_is_refused(file):
    """A random bit of every byte: of the length, the names, the shapes, the description and the numbers."""
    data, draw, missed = file.read_bytes(), random.Random(0), []
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        try:
            load_checkpoint(file)
            missed.append((place, data[max(0, place - 20) : place + 20]))
        except CheckpointError as error:
            assert "some.safetensors" in str(error)  # noqa: PT017
    assert missed == []


def test_appended_and_swapped_bytes_are_refused(file):
    data = file.read_bytes()
    for damaged in (
        data + b"\0",
        data[:-2] + data[-1:] + data[-2:-1],
        data * 2,
        b"",
        b"\0" * len(data),
        os.urandom(500),
    ):
        if damaged != data:
            file.write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"some\.safetensors"):
                load_checkpoint(file)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    for metadata in (
        None,
        {"format": "pt"},
        {"fmcourse": "[]"},
        {"fmcourse": '{"format": 99}'},
        {"fmcourse": '{"format": 1}'},
    ):
        save_file({"x": torch.zeros(3)}, tmp_path / "foreign.safetensors", metadata=metadata)
        with pytest.raises(CheckpointError, match=r"foreign\.safetensors"):
            load_checkpoint(tmp_path / "foreign.safetensors")


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no checkpoint at .*nowhere"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path))):
        load_checkpoint(tmp_path)


def test_weights_of_another_model_are_refused_with_the_difference():
    small, wide, deep = GPT(config()), GPT(config(d_ff=48)), GPT(config(n_layers=3))
    with pytest.raises(
        CheckpointError, match=r"here\.st belongs to another model: decoder\.blocks\.0\.feed_forward\.up\."
    ):
        load_weights(small, wide.state_dict(), "here.st")
    with pytest.raises(CheckpointError, match=r"nothing here is called \['decoder\.blocks\.2\.attention"):
        load_weights(small, deep.state_dict(), "here.st")
    with pytest.raises(CheckpointError, match=r"it lacks \['decoder\.blocks\.2\.attention"):
        load_weights(deep, small.state_dict(), "here.st")


# -------------------------------------------------------------------------------------------------------------- safety


UNSAFE = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.load", "torch.save", "numpy.load"}


def test_nothing_in_the_package_can_unpickle():
    """A checkpoint from the internet must not be able to run code. What runs notebooks does: the grader's box, and
    `fmcourse check`, which a learner calls on a notebook of their own."""
    found = []
    runs_notebooks = {ROOT / "fmcourse" / "grading" / name for name in ("runner.py", "practice.py")}
    for path in set((ROOT / "fmcourse").rglob("*.py")) - runs_notebooks:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Attribute):
                names = [ast.unparse(node).replace("np.", "numpy.")]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                names = ["pickle"]  # just as bad
            found += [f"{path.name}:{node.lineno} {name}" for name in names if name in UNSAFE]
    assert found == []


def test_the_description_is_readable_without_our_package(file):
    header_length = int.from_bytes(file.read_bytes()[:8], "little")
    header = json.loads(file.read_bytes()[8 : 8 + header_length])
    assert json.loads(header["__metadata__"]["fmcourse"])["about"]["step"] == 1234

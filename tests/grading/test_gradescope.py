"""The zip for Gradescope: it holds all that a container needs; there, code runs as nobody and cannot read the judge."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from answers import submission
from packaging.requirements import Requirement
from test_hostile import notebook

from fmcourse.exercises import load
from fmcourse.grading.box import BoxMissing
from fmcourse.grading.gradescope import grade_one, package

EXERCISE = load("attention")
IDS = [question.id for question in EXERCISE.questions]
AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "autograder.zip"
    package(EXERCISE, "secret", path)
    return path


@pytest.fixture
def autograder(archive, tmp_path):
    """The folder that Gradescope makes from the zip."""
    shutil.unpack_archive(archive, tmp_path / "source")
    for name in ("submission", "results"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "run_autograder").chmod(0o755)
    return tmp_path


def in_container(root, script):
    """Run a script as Gradescope's container would, with our environment where `setup.sh` installs it."""
    base = Path(os.path.realpath(sys.executable)).parent.parent
    bound = {Path("/usr"): "/usr", Path("/etc"): "/etc", Path(sys.prefix): "/opt/fmcourse"}
    bound |= {} if base == Path("/usr") else {base: str(base)}
    links = [part for name in ("bin", "lib", "lib64", "sbin") for part in ("--symlink", f"usr/{name}", f"/{name}")]
    above = [path for path in reversed(base.parents) if len(path.parts) > 1]
    dirs = [part for path in above for part in ("--perms", "0755", "--dir", path)]
    above = [path for path in reversed(base.parents) if len(path.parts) > 1]
    dirs = [part for path in above for part in ("--perms", "0755", "--dir", path)]
    return subprocess.run(
        [
            *("bwrap", "--unshare-pid", "--die-with-parent", "--proc", "/proc", "--dev", "/dev", *links),
            *(
                "--perms",
                "1777",
                "--tmpfs",
                "/tmp",
                "--perms",
                "0755",
                "--tmpfs",
                "/opt",
                "--bind",
                root,
                "/autograder",
            ),
            *dirs,
            *(part for path, place in bound.items() for part in ("--ro-bind", path, place)),
            *("bash", "-c", script),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def hand_in(root, cells):
    (root / "submission" / "my exercise.ipynb").write_text(json.dumps(notebook(cells)))


LOOKS_AROUND = """
import glob, os
seen = []
for path in glob.glob("/opt/**/fmcourse/**/*.py", recursive=True) + ["/autograder/source/seed.txt"]:
    try:
        text = open(path).read()
    except OSError:
        continue
    if "secret" in text or "masked_fill" in text:
        seen.append(path)
entropy_of_mine = entropy
def entropy(weights):
    import os
    if os.fork() == 0:
        while True: pass
    assert not seen, seen
    assert os.getuid() != 0
    try:
        os.kill(os.getppid(), 9)
    except PermissionError:
        return entropy_of_mine(weights)
"""


def test_a_submission_is_graded_as_another_user(autograder):
    hand_in(autograder, [*submission("attention", IDS[1:]).cells, LOOKS_AROUND])
    done = in_container(autograder, "/autograder/source/run_autograder && ps -u nobody -o pid=")
    if not AS_ROOT:  # then it must refuse, for it could not keep code away from the judge
        assert "as root" in done.stderr or "does not start" in done.stderr
        return
    assert done.stderr == ""
    assert done.stdout == ""  # nobody runs anything any more
    results = json.loads((autograder / "results" / "results.json").read_text("utf-8"))
    assert [test["score"] for test in results["tests"]] == [0, *(q.points for q in EXERCISE.questions[1:])]
    assert results["score"] == EXERCISE.points - 1
    assert {test["max_score"] for test in results["tests"]} == {1, 2, 3}
    assert (autograder / "source").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("names", [[], ["a.ipynb", "b.ipynb"]])
def test_what_cannot_be_graded_gets_no_points_and_a_reason(autograder, names):
    for name in names:
        (autograder / "submission" / name).write_text("{}")
    done = in_container(autograder, "/autograder/source/run_autograder")
    if not AS_ROOT:
        assert "as root" in done.stderr or "does not start" in done.stderr
        return
    assert done.stderr == ""
    results = json.loads((autograder / "results" / "results.json").read_text("utf-8"))
    assert results["score"] == 0
    assert f"there are {len(names)}" in results["output"]


def test_without_the_rights_to_change_the_user_nothing_is_graded(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BoxMissing, match="as root"):
        grade_one(tmp_path, EXERCISE, "secret", tmp_path)


def test_the_zip_pins_what_is_installed_here(archive):
    with zipfile.ZipFile(archive) as contents:
        names = set(contents.namelist())
        lines = contents.read("requirements.txt").decode().split()
        assert contents.getinfo("setup.sh").external_attr >> 16 == 0o755
    assert {"setup.sh", "run_autograder", "seed.txt", "judge/fmcourse/exercises/attention.py"} <= names
    assert {name for name in names if name.startswith("box/")} == {
        f"box/fmcourse/{name}.py" for name in ("__init__", "grading/__init__", "grading/runner", "grading/wire")
    }
    pins = {Requirement(line).name: line for line in lines}
    assert len(pins) == len(lines)
    for name in ("torch", "numpy", "safetensors", "einops", "jinja2", "ipython"):
        assert pins[name] == f"{name}=={version(name).split('+')[0]}"


def test_the_same_zip_again_and_nothing_overwritten(archive, tmp_path):
    package(EXERCISE, "secret", tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    with pytest.raises(ValueError, match="is there already"):
        package(EXERCISE, "secret", archive)
    with pytest.raises(ValueError, match="seed is empty"):
        package(EXERCISE, " \n", tmp_path / "x.zip")


def test_the_scripts_are_sound():
    for name in ("setup.sh", "run_autograder"):
        path = Path(sys.modules["fmcourse.grading"].__file__).with_name(name)
        subprocess.run(["bash", "-n", path], check=True)

"""An autograder for Gradescope: `package` makes the zip to upload, `main` grades one submission there.

Gradescope builds a container from the zip once and starts a copy of it for every submission. Inside, student code runs
as nobody and cannot read the references; the judge runs as root. Source: Gradescope's autograder specification.

Used in the grading of exercises.
"""

import contextlib
import io
import os
import shutil
import signal
import stat
import sys
import zipfile
from functools import partial
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fmcourse
from fmcourse.exercises import load
from fmcourse.exercises.spec import Exercise
from fmcourse.grading import report
from fmcourse.grading.box import NOBODY, Limits, check, inner_files, other_user
from fmcourse.grading.judge import Mark, grade
from fmcourse.grading.submission import SubmissionError, read


def pinned() -> list[str]:
    """The environment to grade in: what is installed here, as `name==version` lines."""
    found, waiting = dict[str, str](), [Requirement("fmcourse")]
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in found:
            continue
        package = distribution(name)
        found[name] = f"{name}=={package.version.split('+')[0]}"
        needed = [Requirement(line) for line in package.requires or ()]
        if name == "torch":  # the one for CPUs needs none of the libraries for GPUs
            needed = [one for one in needed if not one.name.startswith(("nvidia", "cuda", "triton"))]
        waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    del found["fmcourse"]  # it comes in the zip
    return sorted(found.values())


def package(exercise: Exercise, seed: str, out: Path) -> None:
    """Write the zip for an exercise. Raises ValueError for an empty seed or a file that is there already."""
    if not seed.strip():
        raise ValueError("the seed is empty: put a secret text into the seed file")
    if out.exists():
        raise ValueError(f"{out} is there already")
    home = Path(fmcourse.__file__).parent
    contents = {"requirements.txt": "\n".join(pinned()) + "\n", "seed.txt": seed, "exercise.txt": exercise.name + "\n"}
    for name in ("setup.sh", "run_autograder"):
        contents[name] = files("fmcourse.grading").joinpath(name).read_text("utf-8")
    for path in sorted(home.rglob("*.py")):
        contents[f"judge/fmcourse/{path.relative_to(home).as_posix()}"] = path.read_text("utf-8")
    for name, path in inner_files().items():
        contents[f"box/fmcourse/{name}"] = path.read_text("utf-8")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(contents.items()):
            entry = zipfile.ZipInfo(name)  # with a fixed date: the same contents are the same file
            entry.external_attr = (0o755 if name in ("setup.sh", "run_autograder") else 0o644) << 16
            archive.writestr(entry, text, zipfile.ZIP_DEFLATED)
    out.write_bytes(data.getvalue())


def grade_one(folder: Path, exercise: Exercise, seed: str, box: Path, limits: Limits | None = None) -> str:
    """results.json for the only notebook in `folder`. Raises BoxMissing unless this runs as root."""
    walls = partial(other_user, package=str(box))
    check(limits or Limits(), walls)  # refuses at once
    try:
        found = sorted(path for path in folder.rglob("*.ipynb") if stat.S_ISREG(path.lstat().st_mode))
        if len(found) != 1:
            raise SubmissionError(f"hand in one notebook (.ipynb); there are {len(found)}")
        marks, note = grade(read(found[0], "submission"), exercise, seed, limits, walls), ""
    except SubmissionError as error:
        note = f"Nothing could be graded: {error}."
        marks = [Mark(question.id, 0, question.points, (note,)) for question in exercise.questions]
    _stop_leftovers()
    return report.results(exercise, marks, note)


def _stop_leftovers() -> None:
    """End whatever nobody still runs: here there is no namespace that ends with its first process."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == NOBODY:
                os.kill(int(entry.name), signal.SIGKILL)


def main() -> None:
    """What `run_autograder` calls, with the autograder's folder as its argument."""
    root = Path(sys.argv[1])
    source, box = root / "source", Path(sys.argv[2])
    source.chmod(0o700)  # references and seed are for the judge alone
    shutil.rmtree(box, ignore_errors=True)
    shutil.copytree(source / "box", box)
    exercise = load((source / "exercise.txt").read_text("utf-8").strip())
    results = grade_one(root / "submission", exercise, (source / "seed.txt").read_text("utf-8"), box)
    (root / "results").mkdir(exist_ok=True)
    report.write_atomically(root / "results" / "results.json", results)


if __name__ == "__main__":
    main()

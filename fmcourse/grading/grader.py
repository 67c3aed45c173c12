"""Grade a folder of submissions: several boxes at once, with progress; what is interrupted goes on.

Used in the grading of exercises.
"""

import hashlib
import inspect
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

import fmcourse
from fmcourse.checks import check_positive
from fmcourse.exercises.spec import Exercise
from fmcourse.grading import report
from fmcourse.grading.box import Limits, check
from fmcourse.grading.judge import Mark, grade
from fmcourse.grading.submission import SubmissionError, read


def submissions(folder: Path) -> dict[str, Path]:
    """Every student's notebook: `<student>.ipynb`, or the only notebook in a folder called like the student.

    Raises ValueError when there is none, or when a student has two.
    """
    found: dict[str, list[Path]] = {}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            found.setdefault(entry.name, []).extend(sorted(path.glob("*.ipynb")))
        elif path.suffix == ".ipynb":
            found.setdefault(path.stem, []).append(path)
    several = [student for student, paths in found.items() if len(paths) > 1]
    if several:
        raise ValueError(f"{folder}: {several[0]!r} has {len(found[several[0]])} notebooks; leave one")
    one = {student: paths[0] for student, paths in found.items() if paths}
    if not one:
        raise ValueError(f"{folder} holds no notebooks (<student>.ipynb or <student>/<any name>.ipynb)")
    return one


def grade_class(
    folder: Path,
    exercise: Exercise,
    seed: str,
    out: Path,
    *,
    jobs: int = 1,
    resume: bool = False,
    shard: tuple[int, int] | None = None,
    limits: Limits | None = None,
    progress: bool = True,
) -> dict[str, tuple[list[Mark], str]]:
    """Grade every submission in `folder` and write everything to `out`; returns the marks and a note by student.

    With the same seed the same submissions give byte-identical grades. With `resume`, what an interrupted run has
    graded is taken over if neither submission, exercise nor seed changed. `shard=(i, n)` does every n-th submission,
    from the i-th, so that n processes share the work, and leaves out what is about the whole class: a run with `resume`
    at the end writes that. Raises BoxMissing where there is no sandbox, ValueError for a folder without submissions, an
    empty seed, a shard that is none, or an `out` that already has grades (without `resume` or `shard`).
    """
    check_positive("jobs", jobs)
    if shard is not None and not 0 <= shard[0] < shard[1]:
        raise ValueError(f"shard={shard[0]}/{shard[1]} is none: of n shards the first is 0/n, the last (n - 1)/n")
    resume = resume or shard is not None
    if not seed.strip():
        raise ValueError("the seed is empty: put a secret text into the seed file")
    if not resume and (out / "marks").is_dir() and any((out / "marks").iterdir()):
        raise ValueError(f"{out} already has grades: go on with --resume, or choose another folder")
    check(limits or Limits())  # refuses at once where there is no sandbox
    waiting = submissions(folder)
    if shard is not None:
        waiting = dict(list(waiting.items())[shard[0] :: shard[1]])
    for name in ("marks", "results", "feedback"):
        (out / name).mkdir(parents=True, exist_ok=True)
    graded: dict[str, tuple[list[Mark], str]] = {}
    with (
        ThreadPoolExecutor(jobs) as pool,
        tqdm(total=len(waiting), unit="submission", disable=None if progress else True) as bar,
    ):
        work = {
            pool.submit(_one, student, path, exercise, seed, out, resume, limits): student
            for student, path in waiting.items()
        }
        try:
            for done in as_completed(work):
                graded[work[done]] = done.result()
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if shard is None:
        report.write_class(out, exercise, graded)
    return graded


def _one(
    student: str, path: Path, exercise: Exercise, seed: str, out: Path, resume: bool, limits: Limits | None
) -> tuple[list[Mark], str]:
    kept = out / "marks" / f"{report.file_name(student)}.json"
    try:
        submission = read(path, student)
    except SubmissionError as error:
        said = f"Nothing could be graded: {error}."
        marks = [Mark(question.id, 0, question.points, (said,)) for question in exercise.questions]
        report.write_student(out, exercise, student, marks, said)
        return marks, said
    digest = hashlib.sha256("\n".join([_version(exercise), seed, *submission.cells]).encode("utf-8", "replace"))
    if resume and kept.exists():
        marks, note, before = report.from_json(kept.read_text(encoding="utf-8"))
        if before == digest.hexdigest():
            report.write_student(out, exercise, student, marks, note)
            return marks, note
    marks = grade(submission, exercise, seed, limits)
    report.write_student(out, exercise, student, marks, "")
    report.write_atomically(kept, report.as_json(marks, "", digest.hexdigest()))
    return marks, ""


def _version(exercise: Exercise) -> str:
    """What the marks depend on besides the submission and the seed."""
    return fmcourse.__version__ + "".join(_sources(exercise))


def _sources(exercise: Exercise) -> Iterator[str]:
    for name in (f"fmcourse.exercises.{exercise.name}", "fmcourse.exercises.compare", "fmcourse.grading.judge"):
        yield inspect.getsource(import_module(name))

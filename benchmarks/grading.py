"""Submissions graded per minute on two cores, beside otter-grader and nbgrader; and memory over a thousand submissions.

    python -m benchmarks.grading                 # the three graders in turn, in an environment of their own
    python -m benchmarks.grading --memory 1000   # our grader alone: memory of the judge while it grades

The peers get the same notebooks and the same tests: every question's cases, compared with its reference. Like ours they
use both cores: otter grades two notebooks at a time, nbgrader two halves of the class.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from benchmarks.common import environment
from fmcourse.exercises import load
from tools.exercises import FOLDER, cells_of, for_learner, solved
from tools.project import ROOT

EXERCISE = load("attention")
PEERS = ("otter-grader==7.0.0", "nbgrader==0.9.6")
ENVIRONMENT = ROOT / "_build" / "graders"
IDS = [question.id for question in EXERCISE.questions]


def cells(answered: list[str]) -> list[tuple[str | None, str]]:
    """Question and code of every cell of a submission, without the calls of `check`, which are the learner's."""
    found = []
    for cell in cells_of(FOLDER / EXERCISE.name / "master.py"):
        question = cell.metadata.get("question")
        if cell.cell_type == "code" and "check.progress" not in cell.source and "check.receipt" not in cell.source:
            source = solved(cell.source) if question in answered else for_learner(cell.source)
            lines = [line for line in source.splitlines() if not line.startswith("check(")]
            found.append((question, "\n".join(lines).strip()))
    return found


def answered(student: int) -> list[str]:
    """Which questions a student has answered: student 0 none, student 8 all, then again."""
    return IDS[: student % (len(IDS) + 1)]


def points(student: int) -> int:
    """What a student must get."""
    return sum(EXERCISE.question(name).points for name in answered(student))


def test_code(question: str) -> str:
    """The test of a question for the peers: it passes where our judge would give the points."""
    return (
        "from fmcourse.exercises import load\nfrom fmcourse.exercises.session import examine\n"
        f"question = load('{EXERCISE.name}').question('{question}')\n"
        f"assert examine(question, {EXERCISE.question(question).answer}, (20261125,)) is None"
    )


def save(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Write a notebook; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)


def call(folder: Path, *command: str | Path) -> None:
    """Run a command of the peers' environment; what it prints is shown when it fails."""
    program = ENVIRONMENT / "bin" / command[0]
    search = f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": search}
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")


def peers() -> None:
    """An environment with the two peers, on top of the book's own."""
    if (ENVIRONMENT / "installed").exists():
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
    site = next((ENVIRONMENT / "lib").glob("python*/site-packages"))
    own = next(path for path in sys.path if path.endswith("site-packages"))
    (site / "book.pth").write_text(f"{own}\n{ROOT}\n", encoding="utf-8")
    subprocess.run([ENVIRONMENT / "bin" / "python", "-m", "pip", "install", "--quiet", *PEERS], check=True)
    (ENVIRONMENT / "installed").touch()


def ours(folder: Path, students: int) -> Callable[[], dict[int, float]]:
    """`fmcourse grade` on a folder of submissions."""
    for student in range(students):
        notebook = new_notebook(cells=[new_code_cell(source) for _, source in cells(answered(student))])
        save(folder / "submissions" / f"{student}.ipynb", notebook)
    (folder / "seed.txt").write_text("secret", encoding="utf-8")
    runs = iter(range(1000))

    def grade() -> dict[int, float]:
        out = folder / f"out-{next(runs)}"
        command = [sys.executable, "-m", "fmcourse", "grade", "submissions", "--exercise", EXERCISE.name, "--jobs", "2"]
        command += ["--seed-file", "seed.txt", "--out", str(out)]
        subprocess.run(command, cwd=folder, capture_output=True, check=True)
        with (out / "grades.csv").open(encoding="utf-8") as file:
            return {int(row["student"]): float(row["total"]) for row in csv.DictReader(file)}

    return grade


def otter(folder: Path, students: int) -> Callable[[], dict[int, float]]:
    """`otter run` on every submission, two at a time."""
    for question in EXERCISE.questions:
        body = test_code(question.id).replace("\n", "\n    ")
        text = (
            "from otter.test_files import test_case\n\nOK_FORMAT = False\n"
            f"name = '{question.id}'\npoints = {question.points}\n\n\n@test_case(points={question.points})\n"
            f"def test_it({question.answer}):\n    {body}\n"
        )
        (folder / "tests").mkdir(parents=True, exist_ok=True)
        (folder / "tests" / f"{question.id}.py").write_text(text, encoding="utf-8")
    call(folder, "otter", "generate", "--tests-dir", "tests", "--output-path", "autograder.zip", "--no-environment")
    for student in range(students):
        notebook = new_notebook(cells=[new_code_cell(source) for _, source in cells(answered(student))])
        save(folder / "submissions" / f"{student}.ipynb", notebook)

    def one(student: int) -> float:
        out = folder / f"out-{student}"
        out.mkdir(exist_ok=True)
        call(folder, "otter", "run", "--no-logo", "-a", "autograder.zip", "-o", out, f"submissions/{student}.ipynb")
        tests = json.loads((out / "results.json").read_text("utf-8"))["tests"]
        return sum(float(test.get("score", 0)) for test in tests)

    def grade() -> dict[int, float]:
        with ThreadPoolExecutor(2) as pool:
            return dict(enumerate(pool.map(one, range(students))))

    return grade


def nbgrader(folder: Path, students: int) -> Callable[[], dict[int, float]]:
    """`nbgrader autograde` on two halves of the class at the same time, each with a course of its own."""

    def notebook(done: list[str]) -> nbformat.NotebookNode:
        about = {"schema_version": 3, "task": False}
        made = []
        for question, source in cells(done):
            name = question or "setup"
            fixed = {"nbgrader": {**about, "grade": False, "solution": True, "locked": False, "grade_id": name}}
            made.append(new_code_cell(source, metadata=fixed))
            if question:
                mark = {**about, "grade": True, "solution": False, "locked": True, "grade_id": f"test-{name}"}
                mark["points"] = EXERCISE.question(question).points
                made.append(new_code_cell(test_code(question), metadata={"nbgrader": mark}))
        return new_notebook(cells=made)

    halves = [folder / "course-0", folder / "course-1"]
    for i, half in enumerate(halves):
        save(half / "source" / "ps1" / "exercise.ipynb", notebook(IDS))
        call(half, "nbgrader", "generate_assignment", "ps1", "--create", "--force")
        for student in range(i, students, 2):
            save(half / "submitted" / str(student) / "ps1" / "exercise.ipynb", notebook(answered(student)))

    def one(half: Path) -> None:
        call(half, "nbgrader", "autograde", "ps1", "--force")

    def grade() -> dict[int, float]:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, halves))
        found = {}
        for half in halves:
            call(half, "nbgrader", "export", "--to", half / "grades.csv")
            with (half / "grades.csv").open(encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            found |= {int(row["student_id"]): float(row["score"]) for row in rows}
        return found

    return grade


def compare(students: int, repeats: int) -> None:
    """Print submissions per minute of the three, in turn, and their ratios."""
    peers()
    with tempfile.TemporaryDirectory() as name:
        graders = {}
        for make in (ours, otter, nbgrader):
            folder = Path(name, make.__name__)
            folder.mkdir()
            graders[make.__name__] = make(folder, students)
        wanted = {student: float(points(student)) for student in range(students)}
        speed: dict[str, list[float]] = {grader: [] for grader in graders}
        for _ in range(repeats):
            for grader, grade in graders.items():
                begun = time.perf_counter()
                marks = grade()
                speed[grader].append(60 * students / (time.perf_counter() - begun))
                if marks != wanted:
                    raise RuntimeError(f"{grader} gave {marks}, and it should have been {wanted}")
    median = {grader: statistics.median(values) for grader, values in speed.items()}
    print("measured on: " + ", ".join(f"{key} {value}" for key, value in environment().items()))
    print(f"{students} submissions, {repeats} times, all marks right; medians\n")
    print("| grader | submissions per minute | fmcourse is faster by |\n|---|---|---|")
    for grader, value in median.items():
        print(f"| {grader} | {value:.1f} | {median['ours'] / value:.2f} |")


def memory(students: int) -> None:
    """Print how much memory the grader itself holds while it grades many submissions."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grade = ours(folder, students)
        seen: list[tuple[int, int]] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(5):
                ids = subprocess.run(["pgrep", "-f", "fmcourse grade submissions"], capture_output=True, text=True)
                done = sum(1 for _ in (folder / "out-0" / "marks").glob("*.json"))
                sizes = [resident(line) for line in ids.stdout.split()]
                if sizes and max(sizes) and done:
                    seen.append((done, max(sizes)))

        watcher = threading.Thread(target=watch)
        watcher.start()
        begun = time.perf_counter()
        marks = grade()
        seconds = time.perf_counter() - begun
        over.set()
        watcher.join()
    if marks != {student: float(points(student)) for student in range(students)}:
        raise RuntimeError("some marks are wrong")
    print("measured on: " + ", ".join(f"{key} {value}" for key, value in environment().items()))
    print(
        f"{students} submissions in {seconds:.0f} s, all marks right\n\n| after | memory of the judge (MB) |\n|---|---|"
    )
    step = max(1, students // 10)
    for target in range(step, students + 1, step):
        done, size = min(seen, key=lambda entry: abs(entry[0] - target))
        print(f"| {done} | {size / 1e6:.0f} |")


def resident(process: str) -> int:
    """Bytes of a process that are in memory; 0 when it has ended."""
    try:
        text = Path("/proc", process, "status").read_text("utf-8")
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grading")
    parser.add_argument("--students", type=int, default=18)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, metavar="STUDENTS", help="measure memory with so many submissions")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
    else:
        compare(options.students, options.repeats)


if __name__ == "__main__":
    main()

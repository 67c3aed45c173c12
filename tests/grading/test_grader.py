"""A class is graded as a whole: files, names, resuming, the same grades again."""

import csv
import json
import os
import subprocess
import sys

import pytest
from answers import submission
from hostile import ATTACKS
from test_hostile import EXERCISE, LIMITS, RIGHT, notebook

from fmcourse.grading.box import Box, BoxMissing
from fmcourse.grading.grader import grade_class, submissions
from fmcourse.grading.judge import grade
from fmcourse.grading.report import file_name, total
from fmcourse.grading.submission import Submission

BLANK = ["check = None"]
CLASS = {"Ada Lovelace": RIGHT, "bob": [*RIGHT, ATTACKS["not a number"].code], "=cmd()": BLANK}


@pytest.fixture
def folder(tmp_path):
    handed_in = tmp_path / "handed in"
    handed_in.mkdir()
    for student, cells in CLASS.items():
        (handed_in / f"{student}.ipynb").write_text(json.dumps(notebook(cells)))
    (handed_in / "Émile").mkdir()
    (handed_in / "Émile" / "my exercise.ipynb").write_text("no notebook")
    return handed_in


def files(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_a_class_is_graded_and_graded_alike_again(folder, tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    graded = grade_class(folder, EXERCISE, "secret", out, jobs=2, limits=LIMITS, progress=False)
    assert {student: total(marks) for student, (marks, _) in graded.items()} == {
        "Ada Lovelace": 18, "bob": 16, "=cmd()": 0, "Émile": 0,
    }  # fmt: skip
    rows = list(csv.DictReader((out / "grades.csv").open(encoding="utf-8")))
    assert [row["student"] for row in rows] == ["'=cmd()", "Ada Lovelace", "bob", "Émile"]
    assert [row["total"] for row in rows] == ["0", "18", "16", "0"]
    assert rows[3]["note"].startswith("Nothing could be graded")
    results = json.loads((out / "results" / "bob.json").read_text("utf-8"))
    assert results["score"] == 16
    assert [test["score"] for test in results["tests"]] == [1, 2, 0, 3, 3, 3, 2, 2]
    feedback = (out / "feedback" / "bob.html").read_text("utf-8")
    assert "A softmax that survives large scores: 0 of 2" in feedback
    assert "should be" not in feedback
    report = (out / "report.html").read_text("utf-8")
    assert "4 submissions, 1 of them unreadable" in report
    grade_class(folder, EXERCISE, "secret", again, limits=LIMITS, progress=False)
    assert files(again) == files(out)


def test_hostile_neighbours_change_no_other_mark_and_leave_no_file(tmp_path):
    handed_in, out = tmp_path / "handed in", tmp_path / "out"
    handed_in.mkdir()
    for i, name in enumerate(
        ["copies another student's answers", "floods the pipe", "fills the disk", "writes the results itself"]
    ):
        (handed_in / f"evil{i}.ipynb").write_text(json.dumps(notebook([*RIGHT, ATTACKS[name].code])))
    for student, cells in {"ada": RIGHT, "bob": submission("attention", ["q1", "q5"]).cells}.items():
        (handed_in / f"{student}.ipynb").write_text(json.dumps(notebook(cells)))
    before = files(tmp_path)
    graded = grade_class(handed_in, EXERCISE, "secret", out, jobs=2, limits=LIMITS, progress=False)
    assert [total(graded[student][0]) for student in ("ada", "bob")] == [18, 4]
    assert {name: data for name, data in files(tmp_path).items() if not name.startswith("out/")} == before
    students = [f"evil{i}" for i in range(4)] + ["ada", "bob"]
    written = {f"{kind}/{s}.{end}" for s in students for kind, end in
               (("feedback", "html"), ("results", "json"), ("marks", "json"))}  # fmt: skip
    assert set(files(out)) == written | {"grades.csv", "report.html", "report.svg"}


def test_an_interrupted_run_goes_on_without_grading_again(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    grade_class(folder, EXERCISE, "secret", out, limits=LIMITS, progress=False)
    before = files(out)
    (out / "marks" / "bob.json").unlink()
    (out / "grades.csv").unlink()
    runs = []
    monkeypatch.setattr("fmcourse.grading.judge.Box", lambda *args: runs.append(1) or Box(*args))
    with pytest.raises(ValueError, match="already has grades: go on with --resume"):
        grade_class(folder, EXERCISE, "secret", out, progress=False)
    grade_class(folder, EXERCISE, "secret", out, resume=True, limits=LIMITS, progress=False)
    assert files(out) == before
    assert len(runs) == 1  # bob's
    grade_class(folder, EXERCISE, "another secret", out, resume=True, limits=LIMITS, progress=False)
    assert len(runs) == 1 + len(CLASS)


def test_shards_together_give_the_same_files(folder, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    grade_class(folder, EXERCISE, "secret", whole, limits=LIMITS, progress=False)
    for i in (2, 0, 1):
        graded = grade_class(folder, EXERCISE, "secret", parts, shard=(i, 3), limits=LIMITS, progress=False)
        assert len(graded) in (1, 2)
        assert not (parts / "grades.csv").exists()
    grade_class(folder, EXERCISE, "secret", parts, resume=True, limits=LIMITS, progress=False)
    assert files(parts) == files(whole)


@pytest.mark.parametrize("student", ["..", "../../etc/passwd", "a/b", ".", "a.b", "", "\n", "%2E"])
def test_names_of_students_stay_names(student):
    assert not set(file_name(student)) & set("/.\n\0")
    assert file_name(student)


def test_different_students_have_different_files():
    names = ["a.b", "a%2Eb", "a b", "a+b", "A b", "Ä", "a/b"]
    assert len({file_name(name) for name in names}) == len(names)


def test_a_folder_that_cannot_be_graded_is_named(tmp_path):
    with pytest.raises(ValueError, match="holds no notebooks"):
        submissions(tmp_path)
    (tmp_path / "ada").mkdir()
    for name in ("one", "two"):
        (tmp_path / "ada" / f"{name}.ipynb").write_text("{}")
    with pytest.raises(ValueError, match="'ada' has 2 notebooks; leave one"):
        submissions(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": " "}, "seed is empty"),
        ({"jobs": 0}, "jobs must be positive"),
        ({"shard": (3, 3)}, "shard=3/3 is none"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(folder, tmp_path, changes, message):
    options = {"seed": "secret", "out": tmp_path / "out"} | changes
    with pytest.raises(ValueError, match=message):
        grade_class(folder, EXERCISE, **options)


def test_without_a_sandbox_nothing_is_graded(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BoxMissing, match="sudo apt-get install bubblewrap"):
        grade_class(folder, EXERCISE, "secret", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(BoxMissing, match="this is darwin"):
        grade_class(folder, EXERCISE, "secret", tmp_path / "out")


def test_a_sandbox_that_does_not_start_grades_nobody(folder, tmp_path, monkeypatch):
    """As where user namespaces are forbidden: bubblewrap is there, and stops."""
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(BoxMissing, match="does not start on this machine: bwrap: setting up uid map"):
        grade_class(folder, EXERCISE, "secret", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_from_the_shell(folder, tmp_path):
    (tmp_path / "seed").write_text("secret")
    arguments = [
        "grade",
        folder,
        "--exercise",
        "attention",
        "--seed-file",
        tmp_path / "seed",
        "--out",
        tmp_path / "out",
    ]
    command = [sys.executable, "-m", "fmcourse", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 submissions graded" in done.stdout
    refused = subprocess.run(
        [*command[:-4], "--seed-file", "nowhere", "--out", "x"], capture_output=True, text=True, check=False
    )
    assert refused.returncode == 1
    assert "nowhere does not exist" in refused.stderr
    misspelt = subprocess.run([*command, "--shard", "3"], capture_output=True, text=True, check=False)
    assert "write it as i/n" in misspelt.stderr


@pytest.mark.parametrize(("answered", "code"), [(["q1", "q3"], 1), (None, 0)])
def test_practice_from_the_shell_says_what_is_missing(tmp_path, answered, code):
    ids = [question.id for question in EXERCISE.questions]
    cells = [*submission("attention", answered or ids).cells, "1 / 0"]
    (tmp_path / "mine.ipynb").write_text(json.dumps(notebook(cells)))
    command = [sys.executable, "-m", "fmcourse", "check", "mine.ipynb", "--exercise", "attention"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "ZeroDivisionError" in done.stderr
    assert f"{3 if answered else 18} of 18 points in these checks" in done.stdout
    assert ("q2, Scores: not yet" in done.stdout) == bool(answered)


def test_playing_with_given_functions_costs_nothing():
    """Much goes through the pipe then, and none of it is an answer."""
    play = "for _ in range(60):\n    given.softmax(torch.zeros(1000, 200))"
    ids = [question.id for question in EXERCISE.questions]
    marks = grade(Submission("x", (*submission("attention", ids).cells, play)), EXERCISE, "secret", LIMITS)
    assert total(marks) == EXERCISE.points

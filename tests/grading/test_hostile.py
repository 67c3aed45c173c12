"""No attack wins a point, stops the grader, leaves anything behind, or touches another student's mark."""

import contextlib
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hostile import ATTACKS, server

from fmcourse.exercises import load
from fmcourse.grading.box import Limits
from fmcourse.grading.judge import grade
from fmcourse.grading.submission import Submission, SubmissionError, read
from tools.attacks import PAGE, page
from tools.exercises import FOLDER
from tools.normalise import is_colab_cell
from tools.normalise import read as read_notebook

EXERCISE = load("attention")
LIMITS = Limits(seconds=40, seconds_a_cell=4, seconds_a_question=4, cpu_seconds=30, processes=61)
RIGHT = [
    cell.source
    for cell in read_notebook(FOLDER / EXERCISE.name / "solution.ipynb").cells
    if cell.cell_type == "code" and not is_colab_cell(cell) and "check.progress" not in cell.source
]


def notebook(sources):
    cells = [{"cell_type": "code", "source": source, "metadata": {}, "outputs": []} for source in sources]
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}


@pytest.fixture(scope="session")
def marks(tmp_path_factory):
    """Every attack graded once, two at a time."""
    folder = tmp_path_factory.mktemp("submissions")

    def graded(item):
        name, attack = item
        path = folder / f"{len(name)}-{abs(hash(name))}.ipynb"
        path.write_text(json.dumps(notebook([*RIGHT, attack.code])))
        return name, {mark.question: mark.points for mark in grade(read(path, name), EXERCISE, "secret", LIMITS)}

    os.environ["GRADING_SECRET"] = "something to be read"
    with server(), ThreadPoolExecutor(2) as pool:
        return dict(pool.map(graded, ATTACKS.items()))


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_wins_nothing_and_loses_only_what_it_spoils(marks, name):
    attack = ATTACKS[name]
    expected = {q.id: 0 if q.id in attack.lost else q.points for q in EXERCISE.questions}
    if attack.self_harm:
        assert all(marks[name][question] in (0, points) for question, points in expected.items())
    else:
        assert marks[name] == expected


def test_nothing_is_left_running(marks):
    """Other tests have boxes of their own at the same time; the processes of these have an unusual limit."""
    assert marks

    def left():
        found = []
        for limits in Path("/proc").glob("[0-9]*/limits"):
            with contextlib.suppress(OSError):
                found += [limits.parent.name] if re.search(r"Max processes +61 ", limits.read_text()) else []
        return found

    for _ in range(100):  # the kernel ends those of the last box at its leisure
        if not left():
            break
        time.sleep(0.1)
    assert left() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a Jupyter notebook"),
        (b"hello", "not a Jupyter notebook"),
        (b"[]", "not a Jupyter notebook"),
        (b"{}", "not a Jupyter notebook"),
        (b"[" * 100_000, "not a Jupyter notebook"),
        (b'{"nbformat": 3, "worksheets": []}', "format 3"),
        (b'{"nbformat": 4, "cells": []}', "no code cells"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code"}]}', "not a Jupyter notebook"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": [1]}]}', "not a Jupyter notebook"),
        (json.dumps(notebook(["1"] * 1000)).encode(), "at most 500"),
        (b" " * 10_000_001, "at most 10 MB"),
        (b"\xff\xfe\x00", "not a Jupyter notebook"),
    ],
)
def test_what_is_no_notebook_is_named(tmp_path, content, message):
    path = tmp_path / "x.ipynb"
    path.write_bytes(content)
    with pytest.raises(SubmissionError, match=message):
        read(path, "x")


def test_special_files_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo.ipynb")
    (tmp_path / "link.ipynb").symlink_to("/etc/passwd")
    (tmp_path / "folder.ipynb").mkdir()
    for name, message in {"fifo": "ordinary", "link": "cannot be opened", "folder": "ordinary"}.items():
        with pytest.raises(SubmissionError, match=message):
            read(tmp_path / f"{name}.ipynb", name)
    with pytest.raises(SubmissionError, match="cannot be opened"):
        read(tmp_path / "missing.ipynb", "missing")


def test_the_same_seed_gives_the_same_marks_and_words():
    submission = Submission("x", (*RIGHT, "def softmax(x):\n    return x.exp() / x.exp().sum(-1, True)"))
    first, second = (grade(submission, EXERCISE, "secret", LIMITS) for _ in range(2))
    assert first == second
    assert [mark.points for mark in first] == [1, 2, 0, 3, 3, 3, 2, 2]
    for mark in first:
        assert "should be" not in " ".join(mark.says)


LEAKS = {
    "in the text of an error": "def entropy(w):\n    raise ValueError(str(w.tolist()))",
    "in the name of an error": "def entropy(w):\n    raise type('Seen' + str(w.sum().item()), (Exception,), {})",
    "in a shape": "def entropy(w):\n    return torch.zeros(*w.shape, int(1e3 * w[0, 0]))",
    "in the place of a mistake": "def scores(query, key):\n    return (query @ key.mT).round()",
    "in a measured number": "seen = []\ndef entropy(w):\n    global sharpness\n    sharpness = -w[0, 0]\n    return w",
    "in a string": "def entropy(w):\n    return str(w.tolist())",
    "in a number of values": "def entropy(w):\n    return [1] * int(1e3 * w[0, 0])",
}


@pytest.mark.parametrize("way", LEAKS)
def test_feedback_tells_nothing_of_hidden_inputs(way):
    """It is chosen from a few fixed sentences, so that other inputs give the same words."""
    submission = Submission("x", (*RIGHT, LEAKS[way]))
    first, second = ([m.says for m in grade(submission, EXERCISE, seed, LIMITS)] for seed in ("one", "two"))
    assert first == second
    assert sum(m.points for m in grade(submission, EXERCISE, "one", LIMITS)) < EXERCISE.points


def test_the_page_of_attacks_lists_every_one():
    """What they win in a plain checker takes minutes to find out (`python -m tools.attacks`); that is not done here."""
    rows = [line.split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.count(" | ") == 2]
    outcomes = {row[0].removeprefix("| "): row[1] for row in rows if row[0] != "| submission"}
    assert list(outcomes) == list(ATTACKS)
    assert page(outcomes) == PAGE.read_text("utf-8")

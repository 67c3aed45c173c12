"""Instant feedback in the learner's notebook: `check("q1", answer)`, a table of progress, a receipt to hand in.

Used in the exercises.
"""

import html
import json
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from fmcourse.exercises.compare import difference
from fmcourse.exercises.spec import Case, Exercise, Misconception, Question, copied, load

PUBLIC_SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Feedback:
    """What `check` says: whether the answer is right, and in words what is not. Jupyter shows it as a framed note."""

    question: Question
    passed: bool
    lines: tuple[str, ...]

    @property
    def title(self) -> str:
        """The question and the outcome."""
        outcome = "right" if self.passed else "not yet"
        return f"{self.question.id}, {self.question.title}: {outcome}"

    def __repr__(self) -> str:
        return "\n".join([self.title, *(f"  {line}" for line in "\n".join(self.lines).splitlines())])

    def _repr_html_(self) -> str:
        colour, mark = ("#1a7f37", "✓") if self.passed else ("#9a6700", "…")
        paragraphs = "".join(f"<p style='white-space:pre-wrap;margin:.3em 0'>{html.escape(x)}</p>" for x in self.lines)
        return (
            f"<div role='status' style='border-left:4px solid {colour};padding:.2em .8em'>"
            f"<p style='margin:.3em 0'><strong>{mark} {html.escape(self.title)}</strong></p>{paragraphs}</div>"
        )


@dataclass
class Session:
    """The checks of one exercise in one notebook: `check = start("attention")`, then `check("q1", my_function)`."""

    exercise: Exercise
    attempts: dict[str, int] = field(default_factory=dict)
    passed: dict[str, bool] = field(default_factory=dict)

    def __call__(self, question_id: str, answer: Any) -> Feedback:
        """Try the answer on every public case; say what is wrong on the smallest case that fails.

        Never shows a solution. Hints grow: one more with every failed attempt. Raises ValueError for an unknown
        question. Used in the exercises.
        """
        question = self.exercise.question(question_id)
        problem = examine(question, answer, PUBLIC_SEEDS)
        if problem is not None or not self._done(question):
            self.attempts[question_id] = self.attempts.get(question_id, 0) + 1
        self.passed[question_id] = problem is None
        if problem is None:
            return Feedback(question, True, (f"{question.points} of {question.points} points in this check.",))
        known = misconception(question, answer, PUBLIC_SEEDS)
        hints = question.hints[: max(1, min(self.attempts[question_id], len(question.hints)))]
        lines = [f"Expected: {question.expects}", problem]
        lines += [f"It looks as if {known.says}"] if known else []
        lines += [f"Hint {i} of {len(question.hints)}: {hint}" for i, hint in enumerate(hints, start=1)]
        return Feedback(question, False, tuple(lines))

    @property
    def given(self) -> SimpleNamespace:
        """Right answers to the earlier questions, for use in the later ones."""
        return SimpleNamespace(**self.exercise.given)

    def _done(self, question: Question) -> bool:
        return self.passed.get(question.id, False)

    def progress(self) -> "Progress":
        """A table of all questions: points, attempts, which are right so far. Used in the exercises."""
        return Progress(self)

    def receipt(self, folder: str | Path = ".") -> Path:
        """Write what was checked here as `<exercise>.receipt.json`, to go with the notebook.

        A mark never trusts it: it tells an instructor what the learner saw. Used in the exercises.
        """
        import fmcourse

        rows = [
            {
                "question": question.id,
                "passed": self._done(question),
                "attempts": self.attempts.get(question.id, 0),
                "points": question.points,
            }
            for question in self.exercise.questions
        ]
        receipt = {
            "exercise": self.exercise.name,
            "fmcourse": fmcourse.__version__,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "questions": rows,
        }
        path = Path(folder) / f"{self.exercise.name}.receipt.json"
        path.write_text(json.dumps(receipt, indent=1) + "\n", encoding="utf-8")
        return path


@dataclass(frozen=True)
class Progress:
    """The state of a session as a table."""

    session: Session

    def rows(self) -> list[tuple[str, ...]]:
        """One row a question: id, title, kind, minutes, points, attempts, state."""
        session = self.session
        return [
            (
                question.id,
                question.title,
                question.kind,
                str(question.minutes),
                f"{question.points if session._done(question) else 0} of {question.points}",
                str(session.attempts.get(question.id, 0)),
                "right" if session._done(question) else "open" if question.id not in session.attempts else "not yet",
            )
            for question in session.exercise.questions
        ]

    @property
    def points(self) -> int:
        """Points of the questions answered rightly so far."""
        return sum(q.points for q in self.session.exercise.questions if self.session._done(q))

    HEADER = ("question", "title", "kind", "minutes", "points", "attempts", "state")

    def __repr__(self) -> str:
        table = [self.HEADER, *self.rows()]
        widths = [max(len(row[i]) for row in table) for i in range(len(self.HEADER))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        return "\n".join([*lines, f"{self.points} of {self.session.exercise.points} points in these checks"])

    def _repr_html_(self) -> str:
        left = " style='text-align:left'"
        head = "".join(f"<th scope='col'{left}>{name}</th>" for name in self.HEADER)
        body = "".join(
            "<tr>" + "".join(f"<td{left}>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in self.rows()
        )
        total = f"{self.points} of {self.session.exercise.points} points in these checks"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{total}</p>"


def start(name: str) -> Session:
    """Begin an exercise: returns the `check` of its notebook. Raises ValueError for an unknown exercise.

    Used in the exercises.
    """
    return Session(load(name))


def examine(question: Question, answer: Any, seeds: tuple[int, ...]) -> str | None:
    """None for a right answer, else the smallest failing case and what is wrong there."""
    if question.accepts is not None:
        return measured(question, answer)
    if question.cases is not None and not callable(answer):
        return f"{question.answer} should be a function; this is of type {type(answer).__name__}."
    if question.cases is None and (answer is None or answer is ...):
        return "There is no answer yet."
    for case in (case for seed in seeds for case in question.draw(seed)):
        try:
            given = answer(*copied(case.args)) if question.cases is not None else answer
        except NotImplementedError:
            return "There is no answer yet: replace the line that raises NotImplementedError."
        except Exception as error:
            return f"{_call(question, case)} stops with {type(error).__name__}: {error}{_line(error)}"
        found = difference(
            given, question.expected(case), rtol=question.rtol, atol=question.atol, show=question.cases is not None
        )
        if found is not None:
            return f"{_call(question, case)}: {found}." if question.cases is not None else f"Your answer: {found}."
    return None


def misconception(question: Question, answer: Any, seeds: tuple[int, ...]) -> Misconception | None:
    """The known mistake that gives exactly this answer everywhere, if there is one."""
    cases = [case for seed in seeds for case in question.draw(seed)]
    return next((known for known in question.misconceptions if _same(question, answer, known.answer, cases)), None)


def _same(question: Question, answer: Any, wrong: Any, cases: list[Case]) -> bool:
    def agree(one: Callable[..., Any] | Any, other: Any, case: Case) -> bool:
        if question.cases is not None:
            one, other = one(*copied(case.args)), other(*copied(case.args))
        return difference(one, other, rtol=question.rtol, atol=question.atol) is None

    try:
        return all(agree(answer, wrong, case) for case in cases)
    except Exception:  # either may fail on some input; then they are not the same
        return False


def measured(question: Question, answer: Any) -> str | None:
    """None for a number that the experiment can give, else what is wrong with it."""
    if question.accepts is None:
        raise ValueError(f"question {question.id} is no experiment")
    if answer is None:
        return "There is no measurement yet."
    if isinstance(answer, Tensor) and answer.numel() == 1:
        answer = answer.item()
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return f"{question.answer} should be a number that you measured; this is of type {type(answer).__name__}."
    return None if question.accepts(float(answer)) else f"You measured {answer:.4g}, which this experiment cannot give."


def _call(question: Question, case: Case) -> str:
    return f"{question.answer}({', '.join(_shown(arg) for arg in case.args)}), {case.about}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        shown = {name: _shown(part) for name, part in value.items()}
        return "{" + ", ".join(f"{name!r}: {x if len(x) <= 40 else '...'}" for name, x in shown.items()) + "}"
    if isinstance(value, Tensor):
        if value.numel() <= 6:
            numbers = value.tolist()
            return json.dumps(_rounded(numbers))
        return f"<{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}>"
    if isinstance(value, list | tuple):
        inside = ", ".join(_shown(part) for part in value)
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return repr(value)


def _rounded(numbers: Any) -> Any:
    if isinstance(numbers, list):
        return [_rounded(part) for part in numbers]
    return round(numbers, 3) if isinstance(numbers, float) else numbers


def _line(error: Exception) -> str:
    """Where in the learner's own cell it happened."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "fmcourse" not in f.filename]
    own = [f for f in frames if "ipykernel" in f.filename or f.filename.startswith("<")]
    return f" (line {own[-1].lineno} of its cell: {own[-1].line})" if own and own[-1].line else ""

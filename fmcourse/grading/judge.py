"""The trusted side: what came out of the box is compared with the reference, on inputs that the student never saw.

Used in the grading of exercises.
"""

import builtins
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from fmcourse.exercises.compare import difference
from fmcourse.exercises.session import measured
from fmcourse.exercises.spec import Exercise, Misconception, Question, copied
from fmcourse.grading.box import Box, Limits, command
from fmcourse.grading.submission import Submission, shortcuts
from fmcourse.grading.wire import pack

# What a student reads about trouble. Fixed words: code in the box could send hidden inputs home in words of its own.
TROUBLE = {
    "missing": "it is not there",
    "time": "it ran longer than a question has time",
    "kind": "it is neither a tensor nor a number, a text, or a list or dict of them",
    "NotImplementedError": "there is no answer yet",
    "Box time": "everything ran longer than a submission has time",
    "Box output": "it gave more data than a submission may",
    "Box died": "it ended the process, or used more memory than a submission may",
}
NUMBERS, CALLS = 10_000_000, 10_000  # what given functions may be asked: to make so many numbers at once, so often


@dataclass(frozen=True)
class Mark:
    """Points for one question, and what to say to the student: no hidden input, no expected value.

    `looks_like` is the name of the known mistake that gives exactly these answers, if there is one.
    """

    question: str
    points: int
    out_of: int
    says: tuple[str, ...]
    looks_like: str = ""


def secret(seed: str, exercise: Exercise) -> int:
    """The seed of the hidden inputs: from the instructor's text, another one for every exercise."""
    return int.from_bytes(hashlib.sha256(f"{exercise.name}\n{seed}".encode()).digest()[:7], "big")


def grade(
    submission: Submission,
    exercise: Exercise,
    seed: str,
    limits: Limits | None = None,
    walls: Callable[[Limits], list[str]] = command,
) -> list[Mark]:
    """Run a submission in the box and mark every question. Raises BoxMissing where there is no box.

    When a question takes the whole run down with it, the questions after it get a run of their own.
    """
    limits = limits or Limits()
    number = secret(seed, exercise)
    hidden = {question.id: question.draw(number) for question in exercise.questions}
    said: dict[str, dict[str, Any]] = {}
    while waiting := [question for question in exercise.questions if question.id not in said]:
        with Box(limits, walls) as box:
            box.send(
                {
                    "cells": list(submission.cells),
                    "given": list(exercise.given),
                    "seconds_a_cell": limits.seconds_a_cell,
                    "seconds_a_question": limits.seconds_a_question,
                }
            )
            lost = waiting  # all of them, when the cells end the run
            if _listen(box, exercise, None) is not None:
                for question in waiting:
                    calls = None if question.cases is None else [list(case.args) for case in hidden[question.id]]
                    box.send({"question": question.id, "answer": question.answer, "calls": calls})
                    answer = _listen(box, exercise, question)
                    lost = [question]
                    if answer is None:
                        break
                    said[question.id] = answer
            for question in lost:
                said.setdefault(question.id, {"trouble": f"Box {box.ended}"})
    return [mark(question, said[question.id], hidden[question.id], submission) for question in exercise.questions]


def _listen(box: Box, exercise: Exercise, question: Question | None) -> dict[str, Any] | None:
    """The next frame that is no call of a given function; such calls are answered. None when the box has ended."""
    for _ in range(CALLS):
        frame = box.receive()
        if frame is None or "given" not in frame:
            return frame
        box.send({"call": frame.get("call"), **_given(frame, exercise, question)})
    box.ended = "output"
    return None


def _given(frame: dict[str, Any], exercise: Exercise, question: Question | None) -> dict[str, Any]:
    """Compute a given function for the box, unless it is the answer to the very question that is being asked."""
    name, args, named = frame["given"], frame.get("args"), frame.get("names")
    if not isinstance(name, str) or name not in exercise.given or not isinstance(args, list):
        return {"refused": "there is no such function"}
    if question is not None and name == question.answer:
        return {"refused": "this is the function to be written"}
    try:
        arguments, keywords = copied(args), dict(copied(named or []))
        _check_size(exercise.given[name], arguments, keywords)
        value = exercise.given[name](*arguments, **keywords)
        pack({"value": value})
    except Exception as error:  # the arguments are anything at all
        return {"refused": f"given.{name} stopped with {type(error).__name__}"}
    return {"value": value}


class _Sizes(TorchDispatchMode):
    """Refuses an operation that would make too large a tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if any(part.numel() > NUMBERS for part in tree_leaves(made) if isinstance(part, torch.Tensor)):
            raise MemoryError
        return made


def _check_size(function: Callable[..., Any], args: list[Any], named: dict[str, Any]) -> None:
    """Try a function on shapes alone: small arguments can broadcast to what no memory holds."""

    def shape(value: Any) -> Any:
        return value.to("meta") if isinstance(value, torch.Tensor) else value

    with _Sizes():  # type: ignore[no-untyped-call]
        function(*tree_map(shape, args), **tree_map(shape, named))


def mark(question: Question, frame: dict[str, Any], hidden: list[Any], submission: Submission) -> Mark:
    """The points of one question, all or none."""

    def none(*says: str, known: Misconception | None = None) -> Mark:
        guess = (f"It looks as if {known.says}",) if known else ()
        says = (*says, *guess, f"Hint: {question.hints[0]}")
        return Mark(question.id, 0, question.points, says, known.name if known else "")

    if found := shortcuts(submission, question):
        return none(f"The answer uses {', '.join(found)}, which this question does not allow.")
    if isinstance(trouble := frame.get("trouble"), str):
        kind = trouble if isinstance(getattr(builtins, trouble, None), type) else "an error"
        said = f"No answer from {question.answer}: {TROUBLE.get(trouble, f'it stopped with {kind}')}."
        return none(said, f"Expected: {question.expects}")
    answers = frame.get("answers")
    if not isinstance(answers, list) or len(answers) != len(hidden):
        return none("No answer came out.")
    if question.accepts is not None:
        if measured(question, answers[0]):
            return none(f"Expected: {question.expects}", "The measured value is not one that this experiment can give.")
        return Mark(question.id, question.points, question.points, ("Right.",))
    for case, given in zip(hidden, answers, strict=True):
        if wrong := _wrong(question, given, question.expected(case)):
            about = f"{question.answer}, {case.about}" if case.about else question.answer
            return none(f"Expected: {question.expects}", f"{about}: {wrong}.", known=_known(question, hidden, answers))
    return Mark(question.id, question.points, question.points, ("Right.",))


def _wrong(question: Question, given: Any, expected: Any) -> str | None:
    try:
        with torch.inference_mode():
            return difference(given, expected, rtol=question.rtol, atol=question.atol, show=False)
    except (RuntimeError, TypeError, ValueError):  # tensors of a kind that cannot be compared
        return "it could not be compared"


def _known(question: Question, hidden: list[Any], answers: list[Any]) -> Misconception | None:
    """The known mistake that gives these answers to every hidden call."""

    def same(known: Misconception) -> bool:
        try:
            mistaken = [known.answer(*copied(case.args)) if question.cases else known.answer for case in hidden]
        except Exception:  # some mistakes stop on some inputs
            return False
        return not any(_wrong(question, given, value) for given, value in zip(answers, mistaken, strict=True))

    return next((known for known in question.misconceptions if same(known)), None)

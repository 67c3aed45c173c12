"""The trusted side: what came out of the box is compared with the reference, on inputs that the student never saw.

Used in the grading of exercises.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from fmcourse.exercises.compare import difference
from fmcourse.exercises.session import measured
from fmcourse.exercises.spec import Exercise, Question
from fmcourse.grading.box import Limits, run
from fmcourse.grading.submission import Submission, shortcuts

ENDED = {
    "time": "it ran longer than the time that a submission has",
    "output": "it gave more data than a submission may",
    "died": "it ended the process, or used more memory than a submission may",
}


@dataclass(frozen=True)
class Mark:
    """Points for one question, and what to say to the student: no hidden input, no expected value."""

    question: str
    points: int
    out_of: int
    says: tuple[str, ...]


def secret(seed: str, exercise: Exercise) -> int:
    """The seed of the hidden inputs: from the instructor's text, another one for every exercise."""
    return int.from_bytes(hashlib.sha256(f"{exercise.name}\n{seed}".encode()).digest()[:7], "big")


def grade(submission: Submission, exercise: Exercise, seed: str, limits: Limits | None = None) -> list[Mark]:
    """Run a submission in the box and mark every question. Raises BoxMissing where there is no box.

    When a question takes the whole run down with it, the questions after it get a run of their own.
    """
    limits = limits or Limits()
    number = secret(seed, exercise)
    hidden = {question.id: question.draw(number) for question in exercise.questions}
    said: dict[str, dict[str, Any]] = {}
    waiting = list(exercise.questions)
    while waiting:
        frames, end = run(
            {
                "cells": list(submission.cells),
                "seconds_a_cell": limits.seconds_a_cell,
                "seconds_a_question": limits.seconds_a_question,
                "calls": [
                    [q.id, q.answer, None if q.cases is None else [list(case.args) for case in hidden[q.id]]]
                    for q in waiting
                ],
            },
            limits,
        )
        began, allowed = None, {question.id for question in waiting}
        for frame in frames:
            name = frame.get("question")
            if not isinstance(name, str) or name not in allowed:
                continue
            if "begin" in frame:
                began = name
            else:
                said.setdefault(name, frame)
        waiting = [question for question in waiting if question.id not in said]
        if waiting:  # the one that was running when it ended, or the cells before all of them
            lost = next((q for q in waiting if q.id == began), None)
            stopped = {"trouble": ENDED.get(end, ENDED["died"])}
            for question in [lost] if lost else waiting:
                said[question.id] = stopped
            waiting = [question for question in waiting if question.id not in said]
    return [mark(question, said[question.id], hidden[question.id], submission) for question in exercise.questions]


def mark(question: Question, frame: dict[str, Any], hidden: list[Any], submission: Submission) -> Mark:
    """The points of one question, all or none."""

    def none(*says: str) -> Mark:
        return Mark(question.id, 0, question.points, (*says, f"Hint: {question.hints[0]}"))

    if found := shortcuts(submission, question):
        return none(f"The answer uses {', '.join(found)}, which this question does not allow.")
    if isinstance(frame.get("trouble"), str):
        return none(f"No answer: {frame['trouble'][:300]}.")
    answers = frame.get("answers")
    if not isinstance(answers, list) or len(answers) != len(hidden):
        return none("No answer came out.")
    if question.accepts is not None:
        problem = measured(question, answers[0])
        return none(problem) if problem else Mark(question.id, question.points, question.points, ("Right.",))
    for case, given in zip(hidden, answers, strict=True):
        try:
            with torch.inference_mode():
                wrong = difference(given, question.expected(case), rtol=question.rtol, atol=question.atol, show=False)
        except (RuntimeError, TypeError, ValueError):  # tensors of a kind that cannot be compared
            wrong = "it could not be compared"
        if wrong:
            about = f"{question.answer}, {case.about}" if case.about else question.answer
            return none(f"Expected: {question.expects}", f"{about}: {wrong}.")
    return Mark(question.id, question.points, question.points, ("Right.",))

"""Every exercise through the judge: all answered, some, none, and each known mistake costs exactly its question."""

import pytest
from answers import submission

from fmcourse.exercises import load, names
from fmcourse.exercises.spec import copied
from fmcourse.grading.box import Limits
from fmcourse.grading.judge import grade, mark, secret
from fmcourse.grading.submission import Submission
from fmcourse.grading.wire import pack, unpack

LIMITS = Limits(seconds=100, seconds_a_cell=30, seconds_a_question=30, cpu_seconds=100)
EXERCISES = [load(name) for name in names()]


def points(exercise, answered):
    return {question.id: question.points if question.id in answered else 0 for question in exercise.questions}


@pytest.mark.parametrize("share", ["all", "none", "every second one", "the others"])
@pytest.mark.parametrize("exercise", EXERCISES, ids=names())
def test_a_submission_gets_exactly_what_it_has_done(exercise, share):
    ids = [question.id for question in exercise.questions]
    answered = {"all": ids, "none": [], "every second one": ids[::2], "the others": ids[1::2]}[share]
    marks = grade(submission(exercise.name, answered), exercise, share, LIMITS)
    assert {mark.question: mark.points for mark in marks} == points(exercise, answered)


def marked(exercise, seed, replaced):
    """Marks as the judge gives them, for the references with some answers replaced, all sent over the wire."""
    found = {}
    for question in exercise.questions:
        answer, hidden = replaced.get(question.id, question.reference), question.draw(secret(seed, exercise))
        try:
            given = [answer(*copied(case.args)) for case in hidden] if question.cases else [answer]
            frame = unpack(pack({"question": question.id, "answers": given}))
        except Exception as error:
            frame = {"question": question.id, "trouble": type(error).__name__}
        found[question.id] = mark(question, frame, hidden, Submission("x", ("",)))
    return found


@pytest.mark.parametrize("exercise", EXERCISES, ids=names())
def test_a_known_mistake_loses_its_question_and_nothing_else(exercise):
    for question in exercise.questions:
        rest = points(exercise, {other.id for other in exercise.questions} - {question.id})
        for known in question.misconceptions:
            marks = marked(exercise, "secret", {question.id: known.answer})
            assert {name: one.points for name, one in marks.items()} == rest, known.name
            if question.accepts is None and not any("stopped" in line for line in marks[question.id].says):
                assert marks[question.id].looks_like == known.name


@pytest.mark.parametrize("exercise", EXERCISES, ids=names())
def test_the_references_get_everything_on_twenty_seeds(exercise):
    everything = points(exercise, {question.id for question in exercise.questions})
    for seed in range(20):
        assert {name: one.points for name, one in marked(exercise, str(seed), {}).items()} == everything

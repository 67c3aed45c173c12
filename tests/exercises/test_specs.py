"""Every exercise: its reference is right, a blank answer fails, and each known mistake loses exactly its question."""

import pytest
import torch
from torch.utils._pytree import tree_map

from fmcourse.exercises import load, names
from fmcourse.exercises.session import examine, misconception

QUESTIONS = [(load(name), question) for name in names() for question in load(name).questions]
IDS = [f"{exercise.name}-{question.id}" for exercise, question in QUESTIONS]
SEEDS = tuple(range(100, 120))


@pytest.mark.parametrize("exercise", [load(name) for name in names()], ids=names())
def test_an_exercise_is_of_the_agreed_form(exercise):
    kinds = [question.kind for question in exercise.questions]
    assert exercise.chapter.split("/")[1] == exercise.name
    assert [question.id for question in exercise.questions] == [f"q{i + 1}" for i in range(len(kinds))]
    assert 4 <= len(kinds) <= 8
    assert set(kinds) == {"recall", "code", "find the bug", "experiment"}
    assert 45 <= sum(question.minutes for question in exercise.questions) <= 90


def blank(*args):
    raise NotImplementedError


@pytest.mark.parametrize(("exercise", "question"), QUESTIONS, ids=IDS)
def test_the_reference_passes_on_twenty_seeds(exercise, question):
    assert examine(question, question.reference, SEEDS) is None


@pytest.mark.parametrize(("exercise", "question"), QUESTIONS, ids=IDS)
def test_a_blank_answer_fails(exercise, question):
    assert examine(question, blank if question.cases else None, (1,)) is not None
    assert examine(question, ..., (1,)) is not None


@pytest.mark.parametrize(("exercise", "question"), QUESTIONS, ids=IDS)
def test_every_known_mistake_fails_on_any_seed_and_is_recognised(exercise, question):
    assert len(question.misconceptions) >= 3
    for known in question.misconceptions:
        for seed in SEEDS:
            assert examine(question, known.answer, (seed,)) is not None, known.name
        assert misconception(question, known.answer, SEEDS).name == known.name


@pytest.mark.parametrize(("exercise", "question"), QUESTIONS, ids=IDS)
def test_another_precision_loses_nothing(exercise, question):
    if question.cases is None:
        return
    change = {torch.float32: torch.float64, torch.int64: torch.int32}

    def other(value):
        return value.to(change.get(value.dtype, value.dtype)) if isinstance(value, torch.Tensor) else value

    assert examine(question, lambda *args: other(question.reference(*tree_map(other, args))), SEEDS) is None


def test_the_same_seed_draws_the_same_cases_and_another_seed_others():
    for _, question in QUESTIONS:
        if question.cases is None:
            continue
        again = [[case.args for case in question.draw(seed)] for seed in (5, 5, 6)]
        assert repr(again[0]) == repr(again[1])
    question = load("attention").question("q2")
    assert not torch.equal(question.draw(5)[0].args[0], question.draw(6)[0].args[0])

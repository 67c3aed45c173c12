"""`check` in the notebook: kind words, the smallest failing case, growing hints, progress, a receipt."""

import json

import numpy as np
import pytest
import torch

from fmcourse.exercises import start
from fmcourse.exercises.compare import difference
from fmcourse.exercises.session import _shown


@pytest.fixture
def check():
    return start("attention")


def right(check, question_id):
    return check.exercise.question(question_id).reference


def test_a_right_answer_passes_and_counts(check):
    feedback = check("q2", right(check, "q2"))
    assert feedback.passed
    assert "right" in repr(feedback)
    assert check.progress().points == 2


def test_a_wrong_answer_gets_words_the_smallest_case_and_one_more_hint_each_time(check):
    question = check.exercise.question("q2")
    shown = [repr(check("q2", lambda query, key: query @ key.mT)) for _ in range(4)]
    assert all("one query, two keys of width 2" in text and question.expects in text for text in shown)
    assert all("not divided by the square root of d" in text for text in shown)
    assert [text.count("Hint ") for text in shown] == [1, 2, 3, 3]
    assert check.progress().points == 0
    assert check.attempts["q2"] == 4


def test_a_shape_mismatch_is_said_first(check):
    text = repr(check("q2", lambda query, key: (query @ key.mT).squeeze(0)))
    assert "the shape is (2,); it should be (1, 2)" in text


def test_an_error_in_the_answer_is_shown_not_raised(check):
    text = repr(check("q2", lambda query, key: query + torch.ones(5)))
    assert "RuntimeError" in text
    assert "one query, two keys" in text


def test_an_untouched_question_says_so(check):
    def scores(query, key):
        raise NotImplementedError

    assert "no answer yet" in repr(check("q2", scores))
    assert "should be a function" in repr(check("q2", torch.ones(2)))


def test_a_value_is_never_revealed(check):
    for wrong in (0.1, 0.9, None, "0.73"):
        text = repr(check("q1", wrong))
        assert f"{right(check, 'q1'):.2f}" not in text
    assert "divided by the square root" in repr(check("q1", 0.8808))
    assert check("q1", torch.tensor(0.731)).passed


def test_a_measurement_is_judged_by_its_range(check):
    assert check("q8", 0.84).passed
    assert "cannot give" in repr(check("q8", 0.5))
    assert "should be a number" in repr(check("q8", [0.84]))


def test_an_answer_cannot_harm_the_inputs_of_the_next_case(check):
    def scores(query, key):
        result = right(check, "q2")(query, key)
        query.zero_()
        key.zero_()
        return result

    assert check("q2", scores).passed
    assert check("q2", right(check, "q2")).passed


def test_arguments_are_shown_short():
    assert _shown([torch.ones(2), (torch.ones(9), 0.5)]) == "[[1.0, 1.0], (<float32 (9,)>, 0.5)]"


def test_progress_and_receipt(check, tmp_path):
    check("q1", 0.5)
    check("q3", right(check, "q3"))
    table = repr(check.progress())
    assert "2 of 18 points" in table
    rows = {row[0]: row for row in check.progress().rows()}
    assert (rows["q1"][-1], rows["q2"][-1], rows["q3"][-1]) == ("not yet", "open", "right")
    receipt = json.loads(check.receipt(tmp_path).read_text("utf-8"))
    assert receipt["exercise"] == "attention"
    assert [q["passed"] for q in receipt["questions"]] == [q["question"] == "q3" for q in receipt["questions"]]


def test_unknown_names_are_refused_with_the_choices(check):
    with pytest.raises(ValueError, match="'q9' is not known; choose one of 'q1'"):
        check("q9", 1)
    with pytest.raises(ValueError, match="exercise='atention'.*'attention'"):
        start("atention")


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (None, torch.ones(2), "is a return missing"),
        ([1.0], torch.ones(1), "a tensor is expected; this is of type list"),
        (torch.ones(2, 1), torch.ones(2), r"the shape is \(2, 1\); it should be \(2,\)"),
        (torch.tensor([1.0, float("nan")]), torch.ones(2), r"at \[1\] there is not a number"),
        (torch.tensor([1.0, 3.0]), torch.ones(2), r"at \[1\] there is 3, and it should be 1 \(1 of 2 numbers differ\)"),
        (torch.tensor([True, True]), torch.tensor([True, False]), r"at \[1\] there is True, and it should be False"),
        (torch.ones(2), torch.ones(2, dtype=torch.bool), "True and False are expected"),
        (torch.ones(2), torch.ones(2, dtype=torch.int64), "whole numbers are expected; these are float32"),
        (torch.ones(2, dtype=torch.complex64), torch.ones(2), "complex"),
        (torch.ones(2, device="meta"), torch.ones(2), "an ordinary tensor with numbers"),
        (torch.ones(2).to_sparse(), torch.ones(2), "an ordinary tensor with numbers"),
        ((1, 2), (1, 2, 3), "there are 2 values; there should be 3"),
        ((1, 2), [1, 3], "value 1: it is 2, and it should be 3"),
        ("abx", "abc", "character 2 is 'x'; it should be 'c'"),
        ("ab", "abc", "the string has 2 characters; it should have 3"),
        ([1], {"a": 1}, "a dict is expected; this is of type list"),
        ({"a": 1}, {"a": 1, ("b", "c"): 2}, r"the dict lacks the key \('b', 'c'\)"),
        ({"a": 1, "b": 2}, {"a": 1}, "the dict has the key 'b'"),
        ({"a": 1}, {"a": 2}, "at key 'a': it is 1, and it should be 2"),
    ],
)
def test_differences_in_words(answer, expected, words):
    import re

    assert re.search(words, difference(answer, expected, rtol=1e-4, atol=1e-5))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 7.0])),
        (torch.ones(4, 7), torch.ones(4)),
        (torch.tensor([4.0, float("nan")]), torch.ones(2)),
        (torch.tensor([1.5, 7]), torch.tensor([1, 7])),
        ([4, 7], [4, 8]),
        ([4, 7], [4]),
        ("47", "48"),
        ({47: 1}, {48: 1}),
        ({"a": 47}, {"a": 48}),
    ],
)
def test_hidden_inputs_stay_hidden(answer, expected):
    text = difference(answer, expected, rtol=0, atol=0, show=False)
    assert not set(text) & set("0123456789")


def test_a_scalar_may_be_a_number_or_a_tensor_on_either_side():
    for expected in (0.5, torch.tensor(0.5)):
        for answer in (0.5, torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float64)):
            assert difference(answer, expected, rtol=1e-4, atol=1e-5) is None
        assert "a number is expected" in difference("0.5", expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(np.float32(0.5), 0.5), (np.int64(3), 3), (np.ones((2, 3)), torch.ones(2, 3)), (np.bool_(True), True),
     ([np.int64(1), 2], [1, 2])],
)  # fmt: skip
def test_numbers_and_arrays_of_numpy_will_do(answer, expected):
    assert difference(answer, expected, rtol=0, atol=1e-6) is None

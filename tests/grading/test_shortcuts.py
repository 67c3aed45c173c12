"""Forbidden names: found where the answer uses them, and not taken from what only looks like it."""

import pytest

from fmcourse.exercises import load
from fmcourse.grading.submission import Submission, shortcuts

SOFTMAX = load("attention").question("q3")
ANSWER = "def softmax(x):\n    {}"

USES = {
    "directly": (ANSWER.format("return torch.softmax(x, -1)"),),
    "by a helper": ("def help(x):\n    return x.softmax(-1)", ANSWER.format("return help(x)")),
    "imported by another name": ("from torch import softmax as s", ANSWER.format("return s(x, -1)")),
    "by a module of that name": ("import torch.softmax as s", ANSWER.format("return s(x)")),
    "from a module of that name": ("from torch.softmax import call", ANSWER.format("return call(x)")),
    "in a function inside": (ANSWER.format("def inside(y):\n        return help(y)\n    return inside(x)"),
                             "help = torch.softmax"),
    "in a class": ("class Help:\n    run = torch.softmax", ANSWER.format("return Help.run(x, -1)")),
}  # fmt: skip
DOES_NOT_USE = {
    "a trial with a variable called like a parameter": (ANSWER.format("return x"), "x = torch.softmax(y, 0)"),
    "a trial with a variable called like one inside": (
        ANSWER.format("y = x\n    return y"), "y = torch.softmax(x, 0)"),
    "a module imported beside it": (ANSWER.format("return torch.exp(x)"), "import torch.softmax"),
    "an own function of that name": ("def logsumexp(x):\n    return x", ANSWER.format("return logsumexp(x)")),
    "a variable of that name": (ANSWER.format("logsumexp = x\n    return logsumexp"),),
}  # fmt: skip


@pytest.mark.parametrize("cells", USES.values(), ids=USES)
def test_a_shortcut_is_found(cells):
    assert shortcuts(Submission("x", cells), SOFTMAX) == ["softmax"]


@pytest.mark.parametrize("cells", DOES_NOT_USE.values(), ids=DOES_NOT_USE)
def test_what_a_notebook_does_beside_its_answer_is_no_shortcut(cells):
    assert shortcuts(Submission("x", cells), SOFTMAX) == []

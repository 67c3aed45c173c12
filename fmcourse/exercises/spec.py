"""What an exercise is: questions, each with inputs drawn from a seed, a reference, hints, and the mistakes people make.

Both sides read the same specification: `check` in the learner's notebook, with a public seed, and the judge that grades
submissions, with a secret one.

Used in the exercises.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal

import torch
from torch import Tensor

from fmcourse.checks import check_choice

Kind = Literal["recall", "code", "find the bug", "experiment"]
_CORE = frozenset({"compare", "session", "spec"})


@dataclass(frozen=True)
class Case:
    """One call of the learner's answer: the arguments, and what is special about them ("two keys, no mask")."""

    about: str
    args: tuple[Any, ...] = ()


class Draw:
    """Draws what a question's cases need; the same seed draws the same."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed % 2**63)

    def sizes(self, *ranges: tuple[int, int]) -> list[int]:
        """A whole number from each range, ends included."""
        return [int(torch.randint(low, high + 1, (1,), generator=self.generator)) for low, high in ranges]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, generator=self.generator)

    def mask(self, t: int, s: int) -> Tensor:
        """A boolean mask (t s), half of it True, and in every row at least one."""
        mask = torch.rand(t, s, generator=self.generator) < 0.5
        mask[torch.arange(t), torch.randint(0, s, (t,), generator=self.generator)] = True
        return mask


@dataclass(frozen=True)
class Misconception:
    """A mistake that people make: a wrong answer to this question, and what to say to somebody who gives it."""

    name: str
    answer: Any
    says: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question of an exercise.

    Args:
        id: "q1", "q2", ...
        answer: the name that the answer has in the notebook: a function, or a value.
        expects: in words, what a right answer gives; shown when an answer is wrong.
        reference: the right function, or the right value.
        cases: the calls to try, drawn at random, the smallest first; None for a value.
        accepts: for an experiment, whether a measured value is in the range that the experiment can give.
        hints: shown one more with every failed attempt; the last one nearly says it, but is not code to copy.
        forbidden: names that must not occur in the notebook's code for this question ("scaled_dot_product_attention").
    """

    id: str
    title: str
    kind: Kind
    points: int
    minutes: int
    answer: str
    expects: str
    reference: Any
    cases: Callable[[Draw], list[Case]] | None = None
    accepts: Callable[[float], bool] | None = None
    hints: tuple[str, ...]
    misconceptions: tuple[Misconception, ...]
    forbidden: frozenset[str] = frozenset()
    rtol: float = 1e-4
    atol: float = 1e-5

    def draw(self, seed: int) -> list[Case]:
        """The calls for that seed; a value is one call without arguments."""
        if self.cases is None:
            return [Case("")]
        # Every question has its own stream, so that a new question does not change the inputs of the others.
        stream = int.from_bytes(self.id.encode(), "big")
        return self.cases(Draw(seed * 1_000_003 + stream))

    def expected(self, case: Case) -> Any:
        """What the reference gives for that call."""
        return self.reference(*copied(case.args)) if self.cases is not None else self.reference


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """All questions that belong to one chapter.

    Args:
        given: reference functions that later questions may use, so that an early mistake is not paid for twice.
    """

    name: str
    chapter: str
    title: str
    questions: tuple[Question, ...]
    given: Mapping[str, Callable[..., Any]] = field(default_factory=dict)

    @property
    def points(self) -> int:
        """The most that can be reached."""
        return sum(question.points for question in self.questions)

    def question(self, question_id: str) -> Question:
        """The question with this id. Raises ValueError for an unknown one."""
        check_choice("question", question_id, [question.id for question in self.questions])
        return next(question for question in self.questions if question.id == question_id)


def names() -> list[str]:
    """The exercises of this version of the package."""
    return sorted(module.name for module in iter_modules([str(Path(__file__).parent)]) if module.name not in _CORE)


def load(name: str) -> Exercise:
    """The exercise with this name. Raises ValueError for an unknown one."""
    check_choice("exercise", name, names())
    exercise: Exercise = import_module(f"fmcourse.exercises.{name}").EXERCISE
    return exercise


def copied(value: Any) -> Any:
    """The same value with its own tensors, so that an answer that changes its arguments harms nobody but itself."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return type(value)(copied(part) for part in value)  # type: ignore[call-arg]
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    return value

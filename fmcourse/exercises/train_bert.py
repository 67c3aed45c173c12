"""The exercise of `practice/train_bert`: the word under a stain, whole words, doubt, and a control that controls."""

from collections.abc import Callable

import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question


def both_sides(to_gap: Tensor, from_gap: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """What the word in each gap may be, (n, v): tables (v, v) of steps into and out of the gap, its neighbours (n,)."""
    products = to_gap[left] * from_gap[:, right].mT
    return products / products.sum(dim=-1, keepdim=True)


def choose_words(continues: Tensor, special: Tensor, draws: Tensor, n: int) -> Tensor:
    """Which tokens (b, t) are hidden: whole words, smallest draw first, until one does not fit into n tokens."""
    chosen = torch.zeros_like(special)
    for row, words in enumerate(_words(continues, special)):
        left = n
        for word in sorted(words, key=lambda word: float(draws[row, word[0]])):
            left -= len(word)
            if left < 0:
                break
            chosen[row, word] = True
    return chosen


def _words(continues: Tensor, special: Tensor) -> list[list[list[int]]]:
    """The words of each row, each as a list of places; special tokens are none."""
    rows = []
    for goes_on, marks in zip(continues.tolist(), special.tolist(), strict=True):
        words = list[list[int]]()
        for i, more in enumerate(goes_on):
            if not marks[i] and more and i and not marks[i - 1]:
                words[-1].append(i)
            elif not marks[i]:
                words.append([i])
        rows.append(words)
    return rows


def believe(context: Tensor, shown: Tensor, keep: float, replace: float) -> Tensor:
    """What the originals may be, (n, v), at chosen places: `context` (n, v) without the place, `shown` (n,) at it."""
    v = context.shape[-1]
    eyes = keep * (shown[:, None] == torch.arange(v, device=shown.device)) + replace / v
    joint = torch.where(shown[:, None] == v, context, context * eyes)
    return joint / joint.sum(dim=-1, keepdim=True)


def control(learn: Tensor, judge: Tensor, coins: Tensor) -> tuple[Tensor, Tensor]:
    """The coin of each place's word, in both parts: coin k belongs to the k-th smallest of all words."""
    words = torch.unique(torch.cat([learn, judge]))
    return coins[torch.searchsorted(words, learn)], coins[torch.searchsorted(words, judge)]


def read(table: Tensor, row: Tensor, keep: float, replace: float) -> Tensor:
    """What each inner token of the row was, (t - 2, v): by the nearest visible tokens and by what stands there."""
    return believe(_context(table, row), row[1:-1], keep, replace)


def _table(draw: Draw, v: int) -> Tensor:
    return (1.5 * draw.normal(v, v)).softmax(dim=-1)


def _ids(draw: Draw, n: int, v: int) -> Tensor:
    return torch.randint(v, (n,), generator=draw.generator)


def _both_cases(draw: Draw) -> list[Case]:
    n, v = draw.sizes((3, 4), (6, 8))
    small = torch.tensor([[0.1, 0.9], [0.6, 0.4]])
    zeros = torch.tensor([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.3, 0.7]])
    return [
        Case("two words, one gap", (small, small, torch.tensor([0]), torch.tensor([0]))),
        Case("words that cannot be", (zeros, zeros, torch.tensor([0, 2]), torch.tensor([2, 0]))),
        Case("several gaps", (one := _table(draw, v), one, _ids(draw, n, v), _ids(draw, n, v))),
        Case("two different tables", (_table(draw, v), _table(draw, v), _ids(draw, n, v), _ids(draw, n, v))),
    ]


def _row(pieces: str) -> tuple[Tensor, Tensor]:
    """A row from its picture: w a word's first token, - one that continues, S a special one."""
    return torch.tensor([[p == "-" for p in pieces]]), torch.tensor([[p == "S" for p in pieces]])


def _order(draw: Draw, b: int, t: int) -> Tensor:
    return torch.stack([(torch.randperm(t, generator=draw.generator) + 0.5) / t for _ in range(b)])


def _words_cases(draw: Draw) -> list[Case]:
    b, t, n = draw.sizes((3, 4), (12, 15), (4, 6))
    special = torch.rand(b, t, generator=draw.generator) < 0.15
    special[:, -1] = True
    continues = (torch.rand(b, t, generator=draw.generator) < 0.5) & ~special
    continues[:, 1:] &= ~special[:, :-1]
    return [
        Case("two words of one and two tokens", (*_row("ww-"), torch.tensor([[0.7, 0.4, 0.9]]), 2)),
        Case("special tokens around", (*_row("Sww-wS"), torch.tensor([[0.1, 0.8, 0.3, 0.9, 0.5, 0.2]]), 3)),
        Case("the second in line does not fit", (*_row("ww---w"), torch.tensor([[0.2, 0.4, 0.1, 0.6, 0.7, 0.8]]), 3)),
        Case("the window begins inside a word", (*_row("--w-S"), torch.tensor([[0.3, 0.1, 0.2, 0.9, 0.05]]), 2)),
        Case("many rows", (continues, special, _order(draw, b, t), n)),
        Case("room for everything", (continues, special, _order(draw, b, t), t)),
    ]


def _believe_cases(draw: Draw) -> list[Case]:
    n, v = draw.sizes((3, 5), (6, 9))
    context = (2 * draw.normal(n, v)).softmax(dim=-1)
    likely = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
    return [
        Case("an unlikely word", (torch.tensor([[0.2, 0.8]]), torch.tensor([0]), 0.1, 0.1)),
        Case("a mask, and a word", (likely, torch.tensor([3, 1]), 0.1, 0.3)),
        Case("nothing is ever replaced", (likely, torch.tensor([1, 3]), 0.2, 0.0)),
        Case("a word that cannot be", (torch.tensor([[0.0, 0.4, 0.6]]), torch.tensor([0]), 0.1, 0.1)),
        Case("several places", (context, _ids(draw, n, v), 0.15, 0.05)),
        Case("nothing is ever kept", (context, _ids(draw, n, v), 0.0, 0.2)),
    ]


def _control_cases(draw: Draw) -> list[Case]:
    n, v = draw.sizes((14, 20), (18, 25))
    learn, judge = _ids(draw, n, v) + 100, _ids(draw, n - 5, v) + 100
    coins = torch.rand(len(torch.unique(torch.cat([learn, judge]))), generator=draw.generator) < 0.5
    three = torch.tensor([False, False, True])
    return [
        Case("three words", (torch.tensor([7, 3, 3]), torch.tensor([5, 7]), three)),
        Case("the same words in both", (torch.tensor([6, 2, 4]), torch.tensor([4, 2, 6, 6]), ~three)),
        Case("a new word in judge", (torch.tensor([1, 9, 9, 1]), torch.tensor([9, 4]), three.roll(2))),
        Case("more words", (learn, judge, coins)),
    ]


def _read_cases(draw: Draw) -> list[Case]:
    t, v = draw.sizes((9, 11), (5, 7))
    row = _ids(draw, t, v)
    row[[2, 4, 5]] = v
    small = torch.tensor([[0.1, 0.9], [0.6, 0.4]])
    return [
        Case("one gap", (small, torch.tensor([0, 2, 0]), 0.1, 0.1)),
        Case("one word", (small, torch.tensor([0, 1, 1]), 0.1, 0.1)),
        Case("two gaps side by side", (_table(draw, 3), torch.tensor([0, 3, 3, 1]), 0.1, 0.1)),
        Case("words and gaps", (_table(draw, v), row, 0.1, 0.3)),
        Case("a long gap", (_table(draw, 4), torch.tensor([2, 1, 4, 4, 4, 0, 3]), 0.2, 0.1)),
    ]


def _wrong_end(way: str) -> Callable[..., Tensor]:
    """Wrong ways to choose words, told apart by what they do when one does not fit."""

    def choose(continues: Tensor, special: Tensor, draws: Tensor, n: int) -> Tensor:
        chosen = torch.zeros_like(special)
        for row, words in enumerate(_words(continues, special)):
            left = n
            for word in sorted(words, key=lambda word: float(draws[row, word[0]])):
                if len(word) > left and way == "skips":
                    continue
                if left <= 0:
                    break
                chosen[row, word[:left] if way == "breaks" else word] = True
                left -= len(word)
        return chosen

    return choose


def _copy(context: Tensor, shown: Tensor, *shares: float) -> Tensor:
    return _unless_masked(context, shown, (shown[:, None] == torch.arange(context.shape[-1])).float())


def _unless_masked(context: Tensor, shown: Tensor, belief: Tensor) -> Tensor:
    return torch.where(shown[:, None] == context.shape[-1], context, belief)


def _only_eyes(context: Tensor, shown: Tensor, *shares: float) -> Tensor:
    return _unless_masked(context, shown, believe(torch.ones_like(context), shown, *shares))


def _joint(context: Tensor, shown: Tensor, keep: float, replace: float) -> Tensor:
    v = context.shape[-1]
    return _unless_masked(context, shown, context * (keep * (shown[:, None] == torch.arange(v)) + replace / v))


def _ranks_apart(learn: Tensor, judge: Tensor, coins: Tensor) -> tuple[Tensor, Tensor]:
    first, second = (torch.unique(part, return_inverse=True)[1] for part in (learn, judge))
    return coins[first], coins[second]


def _ranks_of_learn(learn: Tensor, judge: Tensor, coins: Tensor) -> tuple[Tensor, Tensor]:
    words = torch.unique(learn)
    return coins[torch.searchsorted(words, learn)], coins[torch.searchsorted(words, judge)]


def _for_each_place(learn: Tensor, judge: Tensor, coins: Tensor) -> tuple[Tensor, Tensor]:
    places = coins[torch.arange(len(learn) + len(judge)) % len(coins)]
    return places[: len(learn)], places[len(learn) :]


def _context(table: Tensor, row: Tensor, look: str = "") -> Tensor:
    """What the neighbours say of the inner places, read rightly or in a wrong way."""
    visible = (row != len(table)).nonzero().flatten().tolist()
    context = []
    for i in range(1, len(row) - 1):
        left, right = max(j for j in visible if j < i), min(j for j in visible if j > i)
        steps = (1, 1) if look == "steps" else (i - left, right - i)
        before, after = (table.matrix_power(n) for n in steps)
        if look == "left":
            after = torch.ones_like(after)
        context.append(both_sides(before, after, row[left, None], row[right, None])[0])
    return torch.stack(context)


def _read_wrongly(look: str, judge: Callable[..., Tensor] = believe) -> Callable[..., Tensor]:
    return lambda table, row, *shares: judge(_context(table, row, look), row[1:-1], *shares)


EXERCISE = Exercise(
    name="train_bert",
    chapter="practice/train_bert",
    title="Hidden words, from a stain to a reader that doubts its eyes",
    given={"both_sides": both_sides, "believe": believe},
    questions=(
        Question(
            id="q1",
            title="By hand: under the stain",
            kind="recall",
            points=1,
            minutes=6,
            answer="share_of_tall",
            expects="the share of *tall* among the words that may stand there, between 0 and 1, right to two digits.",
            # after a: small 3/4, tall 1/4; before tree: small 1/4, tall 2/3
            reference=(1 / 4 * 2 / 3) / (1 / 4 * 2 / 3 + 3 / 4 * 1 / 4),
            hints=(
                "Two factors for each word: how often it follows *a*, and how often *tree* follows it.",
                "Count *a* four times, *small* four times, *tall* three times. Multiply; then divide by the sum.",
            ),
            misconceptions=(
                Misconception("left only", 0.25, "only the left side speaks."),
                Misconception("right only", 8 / 11, "only the right side speaks."),
                Misconception("not divided", 1 / 6, "the product is not yet divided by the sum of both products."),
                Misconception("whole notes", 0.0, "whole notes are counted: *a tall tree* never came."),
            ),
            rtol=0.0,
            atol=0.006,
        ),
        Question(
            id="q2",
            title="Both sides",
            kind="code",
            points=2,
            minutes=8,
            answer="both_sides",
            expects="for each gap the probability of every word, by both neighbours; each row sums to one.",
            reference=both_sides,
            cases=_both_cases,
            hints=(
                "As by hand: a factor from the left, a factor from the right, then divide each row by its sum.",
                "The left neighbour picks a row of to_gap. Does the right one pick a row or a column of from_gap?",
                "from_gap[:, right] has the words in its rows and the gaps in its columns: turn it.",
            ),
            misconceptions=(
                Misconception("left only", lambda to_gap, _, left, __: to_gap[left], "the right side has no say."),
                Misconception(
                    "row for column",
                    lambda into, out, left, right: both_sides(into, out.mT, left, right),
                    "the right neighbour picks a row: that says what follows it, not what it follows.",
                ),
                Misconception(
                    "not divided",
                    lambda into, out, left, right: into[left] * out[:, right].mT,
                    "the products are not divided by their sum.",
                ),
            ),
        ),
        Question(
            id="q3",
            title="Whole words",
            kind="code",
            points=3,
            minutes=15,
            answer="choose_words",
            expects="True for all tokens of the words that fit, in the order of their draws; False elsewhere.",
            reference=choose_words,
            cases=_words_cases,
            hints=(
                "First make a list of the words of a row: for each the places of its tokens. Special ones are none.",
                "Sort the words by the draw of their first token. How many tokens are used up after each of them?",
                "Take words until one would carry the count over n, and leave the loop there.",
            ),
            misconceptions=(
                Misconception(
                    "tokens", lambda c, *rest: choose_words(c & False, *rest), "each token has a draw of its own."
                ),
                Misconception(
                    "special", lambda c, s, *rest: choose_words(c, s & False, *rest), "special tokens are hidden too."
                ),
                Misconception("skips", _wrong_end("skips"), "shorter words are taken after one that did not fit."),
                Misconception("breaks", _wrong_end("breaks"), "the last word is broken to fill up the number."),
                Misconception("too many", _wrong_end("over"), "the last word is taken although it does not fit."),
            ),
            forbidden=frozenset({"choose"}),
        ),
        Question(
            id="q4",
            title="What to believe",
            kind="code",
            points=3,
            minutes=12,
            answer="believe",
            expects="for each place the probability of every token to be the original; each row sums to one.",
            reference=believe,
            cases=_believe_cases,
            hints=(
                "If the original is y, with what probability does the place show the token a? Take y = a and y ≠ a.",
                "A random token is a with probability replace / v whatever y was; a kept one only if y = a.",
                "Multiply by the context and divide by the row's sum. A mask says nothing: there the context stands.",
            ),
            misconceptions=(
                Misconception("copies", _copy, "a word that is shown is always believed."),
                Misconception("eyes only", _only_eyes, "the context has no say."),
                Misconception(
                    "one token",
                    lambda context, shown, keep, replace: believe(context, shown, keep, replace * context.shape[-1]),
                    "each token has the whole of `replace`; v tokens share it evenly.",
                ),
                Misconception("not divided", _joint, "the rows do not sum to one."),
                Misconception("context only", lambda context, *rest: context, "what is shown has no say."),
            ),
        ),
        Question(
            id="q5",
            title="Find the bug: a control that is too hard",
            kind="find the bug",
            points=2,
            minutes=10,
            answer="control",
            expects="two tensors: for every place, in both parts, the coin of its word.",
            reference=control,
            cases=_control_cases,
            hints=(
                "Which number does the word 7 get in learn, and which in judge? Print `rank` for three words.",
                "A word must have one rank wherever it stands. Among which words does its rank count?",
                "Rank the words of both parts together, and then take them apart again.",
            ),
            misconceptions=(
                Misconception("the bug itself", _ranks_apart, "a word has one coin in learn and another in judge."),
                Misconception("learn alone", _ranks_of_learn, "words are ranked among those of learn alone."),
                Misconception("places", _for_each_place, "every place has a coin of its own; every word should."),
            ),
        ),
        Question(
            id="q6",
            title="Design: a reader that doubts its eyes",
            kind="code",
            points=4,
            minutes=17,
            answer="read",
            expects="for each inner place the probability of every token to be the original; each row sums to one.",
            reference=read,
            cases=_read_cases,
            hints=(
                "For one place: find the nearest visible token on each side (not at the place itself), and how far.",
                "What comes two steps after l? Sum over what may stand between: the table times itself, row l.",
                "torch.linalg.matrix_power makes both tables for given.both_sides; given.believe does the rest.",
            ),
            misconceptions=(
                Misconception("steps", _read_wrongly("steps"), "tokens beyond a gap count as direct neighbours."),
                Misconception("left only", _read_wrongly("left"), "only the left side is read."),
                Misconception("context only", lambda table, row, *_: _context(table, row), "the eyes have no say."),
                Misconception("copies", _read_wrongly("", _copy), "a word that is shown is always believed."),
            ),
        ),
        Question(
            id="q7",
            title="Measure: what the right side is worth",
            kind="experiment",
            points=2,
            minutes=10,
            answer="found",
            expects="the share of hidden words that are guessed right from both neighbours (10,000 notes or more).",
            reference=0.736,
            accepts=lambda value: 0.708 <= value <= 0.764,
            hints=(
                "A note is three draws: l evenly, w from row l of its table, r from row w. Then w is hidden.",
                "torch.multinomial draws from rows; the guess is where row l times column r is largest.",
            ),
            misconceptions=(
                Misconception("left only", 0.566, "the guess looks at the left side alone."),
                Misconception("right only", 0.476, "the guess looks at the right side alone."),
                Misconception("row for column", 0.452, "the right word picks a row of the table, not a column."),
                Misconception("sum", 0.677, "the two sides are added; they should be multiplied."),
            ),
            atol=0.008,
        ),
    ),
)

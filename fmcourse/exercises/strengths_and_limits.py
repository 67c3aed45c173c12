"""The exercise of `algorithm/strengths_and_limits`: the price of keeping everything, and what a map hides."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

EVERYTHING = 10**6  # a window wider than any text


def operations(n: int, d: int, windows: list[int], per_token: float = 24.0, per_pair: float = 4.0) -> dict[str, float]:
    """Operations for n tokens in blocks of width d, one for each window: in matrices, and in causal attention."""
    pairs = sum(min(n, w) * (min(n, w) + 1) / 2 + max(n - w, 0) * w for w in windows)
    return {"matrices": per_token * d * d * len(windows) * n, "attention": per_pair * d * pairs}


def crossover(d: int, windows: list[int], limit: int) -> int:
    """The smallest n up to `limit` at which attention costs at least as much as the matrices; 0 if there is none."""

    def half(n: int) -> bool:
        cost = operations(n, d, windows)
        return cost["attention"] >= cost["matrices"]

    return _first(half, limit)


def _first(true: Callable[[int], bool], limit: int) -> int:
    return next((n for n in range(1, limit + 1) if true(n)), 0)


def read_state(q: Tensor, k: Tensor, v: Tensor, keep: Tensor, rule: str = "") -> Tensor:
    """Step by step (t): state (d, e) times keep, plus the outer product of k and v, then read with q; gives (t, e)."""
    state, read = k.new_zeros(k.shape[1], v.shape[1]), []
    for i in range(len(q)):
        before = state
        state = keep[i] * (state + k[i][:, None] * v[i]) if rule == "late" else keep[i] * state + k[i][:, None] * v[i]
        read.append(q[i] @ (before if rule == "before" else state))
    return torch.stack(read)


def worth(tokens: list[float], losses: list[float], spent: float, loss: float) -> float:
    """Clean tokens for each token spent, where losses[i] is reached with tokens[i] clean ones; logarithmic between."""
    return _tokens(tokens, losses, loss, lambda a, b, share: a ** (1 - share) * b**share) / spent


def _tokens(tokens: list[float], losses: list[float], loss: float, between: Callable[..., float]) -> float:
    loss = min(max(loss, losses[-1]), losses[0])
    i = next(i for i in range(1, len(losses)) if losses[i] <= loss)
    return between(tokens[i - 1], tokens[i], (losses[i - 1] - loss) / (losses[i - 1] - losses[i]))


def rollout(maps: Tensor) -> Tensor:
    """Maps (blocks, t, t), first block first: how much of each input is in each output (t, t), residuals included."""
    rolled = torch.eye(maps.shape[-1], dtype=maps.dtype)
    for weights in maps:
        rolled = (weights + torch.eye(len(weights))) / 2 @ rolled
    return rolled


def other_weights(weights: Tensor, values: Tensor, wish: Tensor) -> Tensor:
    """Weights (n) moved as `wish` (n) says, as far as none is negative; sum and output over values (n, d) stay."""
    return weights + _longest(weights, _free(wish, values, _one(wish)))


def _one(wish: Tensor) -> Tensor:
    return torch.ones_like(wish)[:, None]


def _free(wish: Tensor, *fixed: Tensor) -> Tensor:
    basis = torch.linalg.qr(torch.cat(fixed, dim=1)).Q
    return wish - basis @ (basis.mT @ wish)


def _longest(weights: Tensor, step: Tensor) -> Tensor:
    down = step < 0
    return step * (weights[down] / -step[down]).min()


def _operations_cases(draw: Draw) -> list[Case]:
    n, d, narrow, wide = draw.sizes((60, 90), (8, 32), (5, 9), (20, 40))
    return [
        Case("three tokens, one block that sees all of them", (3, 2, [3])),
        Case("three tokens, one block with a window of two", (3, 2, [2])),
        Case("a window wider than the text", (4, 3, [9])),
        Case("blocks with different windows", (n, d, [narrow, wide, EVERYTHING, wide])),
    ]


def _crossover_cases(draw: Draw) -> list[Case]:
    d, narrow = draw.sizes((5, 8), (3, 12))
    return [
        Case("one block that sees everything", (2, [EVERYTHING], 100)),
        Case("another block has a window of 5", (3, [EVERYTHING, 5], 500)),
        Case("windows so narrow that attention never takes half", (4, [8, 8], 500)),
        Case("only wide windows", (3, [30, 30], 500)),
        Case("half only beyond the limit", (20, [EVERYTHING], 100)),
        Case("any width, windows of all kinds", (d, [narrow, EVERYTHING, 10 * d], 500)),
    ]


def _state_cases(draw: Draw) -> list[Case]:
    t, d, e = draw.sizes((5, 8), (3, 4), (9, 10))

    def case(about: str, t: int, d: int, e: int, keep: Tensor) -> Case:
        return Case(about, (draw.normal(t, d), draw.normal(t, d), draw.normal(t, e), keep))

    return [
        case("two steps, the second keeps half", 2, 2, 1, torch.tensor([1.0, 0.5])),
        case("four steps that keep everything", 4, 3, 2, torch.ones(4)),
        case("the third step wipes the state", 4, 2, 3, torch.tensor([0.9, 0.8, 0.0, 0.7])),
        case("any numbers", t, d, e, torch.rand(t, generator=draw.generator)),
    ]


def _worth_cases(draw: Draw) -> list[Case]:
    falls = (0.1 + 0.4 * torch.rand(6, generator=draw.generator)).tolist()
    tokens = [10_000.0 * 2**i for i in range(6)]
    losses = [round(4 - sum(falls[: i + 1]), 3) for i in range(6)]
    (i,) = draw.sizes((1, 4))
    spent = 320_000.0
    return [
        Case("halfway between two points", ([25_000.0, 100_000.0], [3.0, 2.0], 100_000.0, 2.5)),
        Case("between two points of a longer scale", (tokens, losses, spent, 0.7 * losses[i] + 0.3 * losses[i + 1])),
        Case("a loss that was measured", (tokens, losses, spent, losses[i])),
        Case("worse than the whole scale", (tokens, losses, spent, losses[0] + 0.5)),
        Case("better than the whole scale", (tokens, losses, spent, losses[-1] - 0.1)),
    ]


def _rollout_cases(draw: Draw) -> list[Case]:
    blocks, t = draw.sizes((4, 5), (6, 9))
    example = torch.eye(3).repeat(2, 1, 1)
    example[0, 2], example[1, 0] = torch.eye(3)[1], torch.eye(3)[2]
    causal = draw.normal(2, 5, 5).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf)
    return [
        Case("the two blocks of the student's example", (example,)),
        Case("one block", (draw.normal(1, 2, 2).softmax(dim=-1),)),
        Case("two causal blocks", (causal.softmax(dim=-1),)),
        Case("several blocks", (draw.normal(blocks, t, t).softmax(dim=-1),)),
    ]


def _other_cases(draw: Draw) -> list[Case]:
    n, d = draw.sizes((9, 12), (3, 5))

    def case(about: str, n: int, d: int) -> Case:
        weights = draw.normal(n).double().softmax(dim=0)
        return Case(about, (weights, draw.normal(n, d).double(), draw.normal(n).double()))

    example = torch.tensor([[0.25, 0.5, 0.25], [0.0, 1.0, 3.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
    return [
        Case("the example: less on the second key", (example[0], example[1][:, None], example[2])),
        case("five keys, values of width 2", 5, 2),
        case("one key more than conditions", 5, 3),
        case("many keys", n, d),
    ]


def _unsorted(tokens: list[float], losses: list[float], spent: float, loss: float) -> float:
    return float(np.exp(np.interp(loss, losses, np.log(tokens)))) / spent


def _causal_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    past = torch.ones(len(q), len(k)).tril() > 0
    return (q @ k.mT / k.shape[1] ** 0.5).masked_fill(~past, -torch.inf).softmax(dim=-1) @ v


def _last_wins(maps: Tensor) -> Tensor:
    return rollout(maps.flip(0))


def _product(maps: Tensor, residual: float) -> Tensor:
    rolled = torch.eye(maps.shape[-1])
    for weights in maps:
        rolled = (weights + residual * torch.eye(len(weights))) @ rolled
    return rolled


def _clipped(weights: Tensor, values: Tensor, wish: Tensor) -> Tensor:
    moved = (weights + _free(wish, values, _one(wish))).clamp(min=0)
    return moved / moved.sum()


_CACHE = (
    Misconception("keys only", 384.0,
        "a factor of two is missing: keys and values are kept, and a number is two bytes."),
    Misconception("query heads", 3072.0, "the query heads are counted; queries are not kept."),
    Misconception("one block", 32.0, "this is the cache of one block."),
    Misconception("bits for bytes", 6144.0, "bits are taken for bytes."),
    Misconception("millions", 805.3, "a MiB is taken for a million bytes; it has 1,048,576."),
)  # fmt: skip
_OPERATIONS = (
    Misconception("future counted", lambda n, d, windows: operations(n, d, windows)
            | {"attention": sum(4.0 * d * n * min(n, w) for w in windows)},
        "every token meets a whole window of keys; the first tokens have fewer before them."),
    Misconception("windows ignored", lambda n, d, windows: operations(n, d, [n] * len(windows)),
        "the windows are ignored: every token meets all before it."),
    Misconception("multiply-add as one", lambda n, d, windows: operations(n, d, windows, 12.0, 2.0),
        "a multiplication and its addition are counted as one operation; they are two."),
    Misconception("only comparing", lambda n, d, windows: operations(n, d, windows, per_pair=2.0),
        "only the scores are counted; the values must be mixed, too."),
    Misconception("no feed-forward layer", lambda n, d, windows: operations(n, d, windows, per_token=8.0),
        "only the matrices of attention are counted; the feed-forward layer has twice as many weights."),
)  # fmt: skip
_CROSSOVER = (
    Misconception("future counted",
        lambda d, windows, limit: _first(lambda n: sum(min(n, w) for w in windows) >= 6 * d * len(windows), limit),
        "every token is held to meet a whole window of keys; the first tokens have fewer before them."),
    Misconception("more than half", lambda d, windows, limit: _first(lambda n: operations(n, d, windows)["attention"]
            > operations(n, d, windows)["matrices"], limit),
        "the first length is given at which attention costs more; as much is enough."),
    Misconception("windows ignored", lambda d, windows, limit: crossover(d, [EVERYTHING] * len(windows), limit),
        "the windows are ignored."),
    Misconception("never", lambda d, windows, limit: crossover(d, windows, limit) or limit,
        "the limit is given where there is no such length."),
)  # fmt: skip
_STATE = (
    Misconception("read before written", lambda q, k, v, keep: read_state(q, k, v, keep, "before"),
        "the state is read before the step has written to it."),
    Misconception("forgets the new", lambda q, k, v, keep: read_state(q, k, v, keep, "late"),
        "what the step has just written is multiplied by keep, too."),
    Misconception("keeps everything", lambda q, k, v, keep: read_state(q, k, v, torch.ones_like(keep)),
        "nothing is ever forgotten: keep is ignored."),
    Misconception("attention", _causal_attention, "this is attention, which keeps all keys and takes a softmax."),
    Misconception("nothing carried", lambda q, k, v, keep: read_state(q, k, v, torch.zeros_like(keep)),
        "every step starts from an empty state."),
)  # fmt: skip
_WORTH = (
    Misconception("straight between", lambda tokens, losses, spent, loss: _tokens(
            tokens, losses, loss, lambda a, b, share: a + share * (b - a)) / spent,
        "the line between two points is drawn in tokens, not in their logarithm."),
    Misconception("nearest point", lambda tokens, losses, spent, loss: _tokens(
            tokens, losses, loss, lambda a, b, share: a if share < 0.5 else b) / spent,
        "a measured point is taken instead of the line between two."),
    Misconception("unsorted", _unsorted,
        "numpy.interp was given falling losses; it wants them rising and does not complain."),
    Misconception("upside down", lambda *args: 1 / worth(*args), "the fraction is upside down."),
    Misconception("in tokens", lambda *args: args[2] * worth(*args),
        "this is a number of tokens, not a share of those spent."),
)  # fmt: skip
_ROLLOUT = (
    Misconception("the bug itself", _last_wins, "the last block is taken for the first."),
    Misconception("no residual", lambda maps: _product(maps, 0.0), "what goes past attention is left out."),
    Misconception("not halved", lambda maps: _product(maps, 1.0),
        "the rows do not sum to one: each block hands on half by attention and half past it."),
    Misconception("last block only", lambda maps: maps[-1], "only the last block is looked at."),
    Misconception("mean", lambda maps: rollout(maps.mean(dim=0, keepdim=True)),
        "the maps are averaged; a block reads what the block before it has written."),
)  # fmt: skip
_OTHER = (
    Misconception("sum forgotten", lambda weights, values, wish: weights + _longest(weights, _free(wish, values)),
        "the output stays, but the weights no longer sum to one."),
    Misconception("output forgotten", lambda weights, values, wish: weights + _longest(weights, wish - wish.mean()),
        "the weights still sum to one, but the output moves."),
    Misconception("clipped", _clipped, "negative weights are cut off, and that moves the output."),
    Misconception("one step", lambda weights, values, wish: weights + _free(wish, values, _one(wish)),
        "the step has length one, whatever the weights; it should end where the first of them reaches 0."),
    Misconception("against the wish", lambda weights, values, wish: other_weights(weights, values, -wish),
        "the weights move against the wish."),
)  # fmt: skip
_RECALL = (
    Misconception("guessing", 0.125, "the answers have nothing to do with the question: one dish of eight is right."),
    Misconception("mistakes", 0.284, "the mistakes are counted."),
    Misconception("as wide as guests", 0.894, "the keys have 64 numbers; 32 are asked for."),
    Misconception("keeps everything", 1.0, "the orders themselves were kept; only the state may be asked."),
)  # fmt: skip

EXERCISE = Exercise(
    name="strengths_and_limits",
    chapter="algorithm/strengths_and_limits",
    title="The price of keeping everything, and maps that explain nothing",
    given={"operations": operations, "read_state": read_state},
    questions=(
        Question(
            id="q1", title="By hand: the weight of a memory", kind="recall", points=1, minutes=5,
            answer="cache_mib", reference=768.0,
            expects="a number of MiB, of 1,048,576 bytes each.",
            hints=(
                "How many numbers does one block keep for one token? There are keys, and there are values.",
                "8 heads of 128 numbers, twice, in each of 24 blocks; two bytes a number; then 8,192 tokens.",
            ),
            misconceptions=_CACHE, rtol=0.0, atol=0.5,
        ),
        Question(
            id="q2", title="Count", kind="code", points=2, minutes=10,
            answer="operations", reference=operations, cases=_operations_cases,
            expects="a dict with the operations in \"matrices\" and in \"attention\", of all blocks together.",
            hints=(
                "How many weights do the matrices of a block have together? Each token meets each of them once.",
                "What does one pair of a query and a key cost? A dot product of d numbers, then d numbers of a value "
                "times a weight, added up.",
                "Then count pairs. Token number i (from 1) meets i keys, or as many as the window holds.",
            ),
            misconceptions=_OPERATIONS,
        ),
        Question(
            id="q3", title="Where attention takes half", kind="code", points=2, minutes=10,
            answer="crossover", reference=crossover, cases=_crossover_cases,
            expects="the smallest whole number of tokens at which attention costs at least as much as the matrices.",
            hints=(
                "given.operations tells both costs for any n. At which n do you have to ask?",
                "Attention's share only grows with n. If it is below half at the limit, it is so everywhere.",
                "So halve the interval: when the middle has less than half, the answer lies to the right of it.",
            ),
            misconceptions=_CROSSOVER,
        ),
        Question(
            id="q4", title="A memory that does not grow", kind="code", points=2, minutes=10,
            answer="read_state", reference=read_state, cases=_state_cases,
            expects="for every step what its query reads from the state after this step: (t, e).",
            hints=(
                "A loop over the steps, with a table of d rows and e columns that starts at zero.",
                "The outer product of k and v has k[a] * v[b] in row a, column b.",
                "In each step: shrink, write, then read, which is a product of a vector with a table.",
            ),
            misconceptions=_STATE,
        ),
        Question(
            id="q5", title="What is a dirty token worth?", kind="code", points=2, minutes=10,
            answer="worth", reference=worth, cases=_worth_cases,
            expects="how many clean tokens would have done as much, divided by the tokens spent.",
            hints=(
                "Find the two points of the scale between which the loss lies. How far is it from one to the other?",
                "Go as far between the logarithms of their numbers of tokens. Only then take the exponential.",
                "If you use numpy.interp: it wants its x rising, and losses fall. Turn both lists round.",
            ),
            misconceptions=_WORTH,
        ),
        Question(
            id="q6", title="Find the bug: the detour that vanished", kind="find the bug", points=2, minutes=10,
            answer="rollout", reference=rollout, cases=_rollout_cases,
            expects="row i says how much of each input is in the output of place i; every row sums to one.",
            hints=(
                "Take the student's example with pencil and paper: which of the two maps acts first on the input?",
                "Output = last map times (the one before times (... times input)): on which side stands a new block?",
                "The maps come first block first, so each new one belongs to the left of all that was rolled so far.",
            ),
            misconceptions=_ROLLOUT,
        ),
        Question(
            id="q7", title="Other weights, same output", kind="code", points=3, minutes=15,
            answer="other_weights", reference=other_weights, cases=_other_cases,
            expects="weights with the same sum and the same output, one of them 0, none negative, moved as wished.",
            hints=(
                "Which directions u change neither the sum nor the output? Write both conditions as dot products of u "
                "with columns: one column of ones, and those of the values.",
                "Take from the wish what lies in the span of these columns: torch.linalg.lstsq or torch.linalg.qr find "
                "it, since the columns are independent.",
                "Only weights whose u is negative fall. After which multiple of u does each of them reach 0? The first "
                "of these ends the step.",
            ),
            misconceptions=_OTHER,
        ),
        Question(
            id="q8", title="Measure: far too many guests", kind="experiment", points=3, minutes=15,
            answer="right_answers", reference=0.716, accepts=lambda value: 0.68 <= value <= 0.75,
            expects="the share of right answers, from 0 to 1, over all guests of at least 200 evenings.",
            hints=(
                "For one evening: keys (64, 32), each divided by its length; dishes as one-hot rows (64, 8). The state "
                "is a product of the two.",
                "Read with all keys at once, and take argmax over the 8 dishes. Many evenings are a batch.",
            ),
            misconceptions=_RECALL, rtol=0.0, atol=0.01,
        ),
    ),
)  # fmt: skip

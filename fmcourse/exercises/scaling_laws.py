"""The exercise of `practice/scaling_laws`: what a run costs, the best split, a fit, and how sure it is."""

import math
from collections.abc import Iterable
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

Law = dict[str, float]  # E, A, B, alpha, beta
_SIMPLE: Law = {"E": 1.0, "A": 10.0, "B": 10.0, "alpha": 0.5, "beta": 0.5}
Curves = dict[int, list[tuple[int, float]]]  # for each size the tokens and the loss of its runs


def operations(blocks: int, width: int, context: int, vocabulary: int, hidden: int, kv_width: int) -> float:
    """Operations of training for one token, with narrow keys and values and a gated feed-forward layer."""
    weights = 2 * width**2 + 2 * width * kv_width + 3 * width * hidden
    forward = blocks * (2 * weights + 4 * context * width) + 2 * width * vocabulary
    return 3.0 * forward


def iso_flop(curves: Curves, budget: float) -> dict[int, float]:
    """The loss that each size reaches with this budget, for those whose runs are short and long enough to tell."""
    found = {}
    for size, runs in curves.items():
        tokens, losses = zip(*runs, strict=True)
        if tokens[0] <= budget / (6 * size) <= tokens[-1]:
            found[size] = float(np.interp(math.log(budget / (6 * size)), np.log(tokens), losses))
    return found


def loss_of(law: Law, size: Any, tokens: Any) -> Any:
    """E + A / N^alpha + B / D^beta."""
    return law["E"] + law["A"] / size ** law["alpha"] + law["B"] / tokens ** law["beta"]


def best_split(law: Law, budget: float, text: float) -> tuple[float, float]:
    """Size and tokens of the lowest loss for 6 N D = budget, when no more than `text` tokens can be had."""
    alpha, beta = law["alpha"], law["beta"]
    g = (alpha * law["A"] / (beta * law["B"])) ** (1 / (alpha + beta))
    tokens = min((budget / 6) ** (alpha / (alpha + beta)) / g, text)
    return budget / 6 / tokens, tokens


def fit(sizes: Tensor, tokens: Tensor, losses: Tensor, exponents: list[float]) -> Law:
    """The law with the smallest sum of squares; both exponents are from the list."""
    return _fits((sizes, tokens, losses), product(exponents, exponents))[0]


def _fits(runs: tuple[Tensor, ...], pairs: Iterable[tuple[float, float]], floor: bool = True) -> list[Law]:
    fits = []
    for alpha, beta in pairs:
        columns = [runs[0] ** -alpha, runs[1] ** -beta, torch.ones_like(runs[0])]
        table = torch.stack(columns[: 2 + floor], dim=1)
        a, b, *e = torch.linalg.lstsq(table, runs[2][:, None]).solution[:, 0].tolist()
        fits.append({"E": e[0] if e else 0.0, "A": a, "B": b, "alpha": alpha, "beta": beta})
    return sorted(fits, key=lambda law: _squares(law, *runs))


def _squares(law: Law, sizes: Tensor, tokens: Tensor, losses: Tensor) -> float:
    return float((loss_of(law, sizes, tokens) - losses).square().sum())


def cheapest_life(law: Law, budget: float, served: float, each: float = 2.0) -> float:
    """The least 6 N D + 2 N served of all models that are as good as the best one for the budget."""
    largest, tokens = best_split(law, budget, math.inf)
    lacking = loss_of(law, largest, tokens) - law["E"]

    def cost(log_size: float) -> float:
        size = math.exp(log_size)
        read = (law["B"] / (lacking - law["A"] / size ** law["alpha"])) ** (1 / law["beta"])
        return 6 * size * read + each * size * served

    low, high = math.log(law["A"] / lacking) / law["alpha"] + 1e-9, math.log(largest)
    for _ in range(100):  # one valley: cut off the third that cannot hold its bottom
        left, right = (2 * low + high) / 3, (low + 2 * high) / 3
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    return cost((low + high) / 2)


def _operations_cases(draw: Draw) -> list[Case]:
    b, d, n, v, f, kv = draw.sizes((2, 5), (11, 16), (40, 60), (200, 300), (25, 35), (3, 8))
    return [
        Case("one block, all of width 1", (1, 1, 1, 1, 1, 1)),
        Case("two blocks of width 4", (2, 4, 8, 10, 12, 2)),
        Case("other sizes", (b, 16 * d, n, v, 16 * f, 16 * kv)),
        Case("a long context", (b + 1, 8 * d, 100 * n, v, 8 * f, 8 * kv)),
        Case("a large vocabulary", (b, 64 * d, 10 * n, 100 * v, 64 * f, 64 * kv)),
    ]


def _curves(draw: Draw) -> Curves:
    law, (first, unit) = _law(draw), draw.sizes((8_000, 12_000), (18_000, 22_000))
    sizes, tokens = [first * 4**i for i in range(4)], [unit * 2**i for i in range(5)]
    return {n: [(d, round(loss_of(law, n, d), 4)) for d in tokens] for n in sizes}


def _law(draw: Draw) -> Law:
    e, a, b, alpha, beta = (torch.rand(5, generator=draw.generator) * 0.2).tolist()
    return {"E": 1 + e, "A": 20 + 50 * a, "B": 60 + 50 * b, "alpha": 0.3 + alpha / 2, "beta": 0.35 + beta / 2}


def _iso_cases(draw: Draw) -> list[Case]:
    curves = _curves(draw)
    middle = 6 * 7 * min(curves) * curves[min(curves)][2][0]
    return [
        Case("one model of size 10, two runs", ({10: [(100, 3.0), (400, 2.0)]}, 12_000)),
        Case("a budget larger than any run", ({10: [(100, 3.0), (400, 2.0)], 40: [(100, 2.8), (400, 1.7)]}, 120_000)),
        Case("exactly the budget of the last run", ({10: [(100, 3.0), (400, 2.0)]}, 24_000)),
        Case("four models, a middle budget", (curves, middle)),
        Case("four models, a small budget", (curves, middle / 6)),
        Case("four models, a large budget", (curves, middle * 7)),
    ]


def _split_cases(draw: Draw) -> list[Case]:
    law, (power, more) = _law(draw), draw.sizes((12, 14), (2, 5))
    rich = more * 10.0 ** (power + 1)
    enough = best_split(law, rich, math.inf)[1]
    return [
        Case("A = B and both exponents 1/2", (_SIMPLE, 600.0, 100.0)),
        Case("the same with little text", (_SIMPLE, 600.0, 5.0)),
        Case("text without end", (law, 10.0**power, math.inf)),
        Case("a larger budget, text enough", (law, rich, 3 * enough)),
        Case("a larger budget, too little text", (law, rich, enough / (more + 1))),
    ]


def _fit_cases(draw: Draw) -> list[Case]:
    grid = torch.tensor(list(product([1e4, 4e4, 1.6e5, 6.4e5], [2e4, 8e4, 3.2e5, 1.28e6])), dtype=torch.float64).T
    cases = []
    for about, noise, exponents in [
        ("a law without noise", 0.0, [0.3, 0.5]),
        ("a little noise", 0.002, [0.25, 0.35, 0.45, 0.55]),
        ("more noise", 0.005, [0.2, 0.3, 0.4, 0.5, 0.6]),
    ]:
        for ends in (1, -1):
            while True:
                n, d = grid * (1 + 0.2 * draw.normal(2, 16).sigmoid())
                law = {**_law(draw), "alpha": exponents[::ends][0], "beta": exponents[::ends][-1]}
                runs = n, d, loss_of(law, n, d) + noise * draw.normal(16)
                if _clear(runs, exponents):
                    break
            cases.append(Case(about, (*runs, exponents)))
    return cases


def _clear(runs: tuple[Tensor, ...], exponents: list[float]) -> bool:
    """Whether the best pair of exponents is clearly the best, and unequal."""
    best, second, *_ = _fits(runs, product(exponents, exponents))
    return best["alpha"] != best["beta"] and _squares(second, *runs) > 1.05 * _squares(best, *runs) + 1e-9


def _life_cases(draw: Draw) -> list[Case]:
    law, (power, times) = _law(draw), draw.sizes((13, 16), (5, 20))
    tokens = best_split(law, 10.0**power, math.inf)[1]
    return [
        Case("A = B and both exponents 1/2", (_SIMPLE, 600.0, 200.0)),
        Case("nobody uses it", (law, 10.0**power, 0.0)),
        Case("used about as much as trained", (law, 10.0**power, 3 * tokens)),
        Case("used much", (law, 10.0**power, times * tokens)),
        Case("used very much", (law, 10.0**power, 10 * times * tokens)),
    ]


def _wrong_iso(how: str, curves: Curves, budget: float) -> dict[int, float]:
    found = {}
    for size, runs in curves.items():
        wanted = budget / (6 * size)
        inside = runs[0][0] <= wanted <= runs[-1][0]
        tokens, losses = (torch.tensor(side, dtype=torch.float64).numpy() for side in zip(*runs, strict=True))
        if how == "clamped" or (how == "one end" and wanted <= runs[-1][0]):
            found[size] = float(np.interp(math.log(wanted), np.log(tokens), losses))
        elif how == "straight" and inside:
            found[size] = float(np.interp(wanted, tokens, losses))
    return found


def _only(left_out: str, *args: int) -> float:
    """Operations with something left out, or counted although it is not there."""
    blocks, width, context, vocabulary, hidden, kv_width = args
    more = {
        "attention": -12 * blocks * context * width,
        "output": -6 * width * vocabulary,
        "table": 6 * width * vocabulary,
        "wide": 12 * blocks * width * (width - kv_width),
        "two": -6 * blocks * width * hidden,
    }
    return operations(*args) + more[left_out]


def _floorless(*args: Any) -> Law:
    return _fits(args[:3], product(args[3], args[3]), floor=False)[0]


def _same_exponent(*args: Any) -> Law:
    return _fits(args[:3], zip(args[3], args[3], strict=True))[0]


def _swapped(sizes: Tensor, tokens: Tensor, losses: Tensor, exponents: list[float]) -> Law:
    law = fit(sizes, tokens, losses, exponents)
    return {**law, "alpha": law["beta"], "beta": law["alpha"]}


def _capped(law: Law, budget: float, text: float) -> tuple[float, float]:
    size, tokens = best_split(law, budget, math.inf)
    return size, min(tokens, text)


def _exchanged(law: Law, budget: float, text: float) -> tuple[float, float]:
    alpha, beta = law["alpha"], law["beta"]
    tokens = best_split(law, budget, math.inf)[1] * (budget / 6) ** ((beta - alpha) / (alpha + beta))
    return budget / 6 / min(tokens, text), min(tokens, text)


def _billed_later(law: Law, budget: float, served: float) -> float:
    return budget + 2 * best_split(law, budget, math.inf)[0] * served


EXERCISE = Exercise(
    name="scaling_laws",
    chapter="practice/scaling_laws",
    title="Scaling laws, from a pencil to a bet and its error",
    given={"iso_flop": iso_flop, "loss_of": loss_of, "best_split": best_split, "fit": fit},
    questions=(
        Question(
            id="q1",
            title="By hand: the last tenths",
            kind="recall",
            points=1,
            minutes=6,
            answer="units",
            expects="how many units of compute a loss of 1.6 takes; it is a whole number.",
            reference=64.0,
            hints=(
                "Only the part above the floor shrinks as a power. How large is it at one unit, and at four?",
                "Four times the compute halves it. How many halvings lead from 1.6 to 0.2?",
            ),
            misconceptions=(
                Misconception("no floor", 16.61, "the whole loss falls as a power, as if it could fall to 0."),
                Misconception("from four", 16.0, "the steps are counted from four units, but multiplied with one."),
                Misconception("straight", 11.31, "every four times the compute takes the same 0.8 nats off."),
                Misconception("doubled", 8.0, "each halving is paid with twice the compute; it takes four times."),
            ),
            rtol=0.0,
            atol=0.2,
        ),
        Question(
            id="q2",
            title="The bill of one token",
            kind="code",
            points=3,
            minutes=14,
            answer="operations",
            expects="the additions and multiplications of one token in training, forward and back, a whole number.",
            reference=operations,
            cases=_operations_cases,
            hints=(
                "Count the weights of one block's matrices. Each costs two operations forward, and twice that back.",
                "A query of full width meets `context` keys, and the weights average `context` values. How many "
                "multiplications and additions is each? Shared keys save memory here, not work.",
                "Blocks first, then the output matrix once; the table at the input is only looked up.",
            ),
            misconceptions=(
                Misconception("forward only", lambda *a: operations(*a) / 3, "only the way forward is counted."),
                Misconception("halves", lambda *a: operations(*a) / 2, "additions are not counted."),
                Misconception("no attention", partial(_only, "attention"), "scores and averages are left out."),
                Misconception("no output", partial(_only, "output"), "the output matrix is left out."),
                Misconception("table", partial(_only, "table"), "the table at the input is multiplied, too."),
                Misconception("wide keys", partial(_only, "wide"), "keys and values have the full width."),
                Misconception("two matrices", partial(_only, "two"), "the feed-forward layer has two matrices."),
            ),
            rtol=1e-6,
        ),
        Question(
            id="q3",
            title="Find the bug: the largest always wins",
            kind="find the bug",
            points=3,
            minutes=12,
            answer="iso_flop",
            expects="a dict: for every size whose runs can tell, the loss that it reaches with this budget.",
            reference=iso_flop,
            cases=_iso_cases,
            hints=(
                "Print the tokens wanted of each size beside the tokens of its shortest and longest run.",
                "What does np.interp give for a place beyond the last of its points, or before the first?",
                "A size may only speak where it has been measured: from its first run to its last, both included.",
            ),
            misconceptions=(
                Misconception("the bug itself", partial(_wrong_iso, "clamped"), "sizes speak without a measurement."),
                Misconception("one end", partial(_wrong_iso, "one end"), "sizes speak whose shortest run cost more."),
                Misconception("straight", partial(_wrong_iso, "straight"), "the line runs over D, not ln D."),
                Misconception("no six", lambda c, budget: iso_flop(c, 6 * budget), "the six of 6ND is missing."),
            ),
        ),
        Question(
            id="q4",
            title="The best split when text is scarce",
            kind="code",
            points=3,
            minutes=12,
            answer="best_split",
            expects="size and tokens of the lowest loss, with 6ND equal to the budget and D at most the text.",
            reference=best_split,
            cases=_split_cases,
            hints=(
                "Without a limit: put D = C / 6N into the law, and ask where its derivative by N vanishes.",
                "When there is not so much text: the loss falls all the way to the limit, so read all of it.",
                "The budget is to be spent. What is left for N when D is the text?",
            ),
            misconceptions=(
                Misconception("no limit", lambda law, c, text: best_split(law, c, math.inf), "text were endless."),
                Misconception("not spent", _capped, "the size is that for endless text: compute is left over."),
                Misconception(
                    "no six", lambda law, c, text: best_split(law, 6 * c, text), "the six of 6ND is missing."
                ),
                Misconception("exchanged", _exchanged, "alpha and beta have changed places in the powers of C."),
            ),
            forbidden=frozenset({"scaling_explorer"}),
        ),
        Question(
            id="q5",
            title="Fit a law without an optimiser",
            kind="code",
            points=3,
            minutes=15,
            answer="fit",
            expects='a dict with "E", "A", "B", "alpha", "beta": of all pairs of exponents the least squares.',
            reference=fit,
            cases=_fit_cases,
            hints=(
                "Fix alpha and beta. Then the loss is E times 1 plus A times a known column plus B times another.",
                "torch.linalg.lstsq(table, losses[:, None]).solution gives the three numbers; do it for every pair.",
                "Keep the pair whose predictions have the smallest sum of squared differences to the losses.",
            ),
            misconceptions=(
                Misconception("no floor", _floorless, "there is no column of ones for the floor."),
                Misconception("one exponent", _same_exponent, "alpha and beta are always the same."),
                Misconception("exchanged", _swapped, "alpha and beta have changed places."),
                Misconception("last", lambda *a: _same_exponent(*a[:3], a[3][-1:]), "the last pair is kept."),
            ),
            rtol=1e-3,
        ),
        Question(
            id="q6",
            title="Design: the cheapest life",
            kind="code",
            points=4,
            minutes=15,
            answer="cheapest_life",
            expects="the least of 6ND + 2N served over all models of the same loss, right to a thousandth.",
            reference=cheapest_life,
            cases=_life_cases,
            hints=(
                "given.best_split with math.inf as text, and given.loss_of: they tell how good it must be.",
                "For a smaller N, solve the law for D. Below some N no amount of text is enough; where?",
                "Then it is a search in one number: try a few thousand sizes between that N and the best split's.",
            ),
            misconceptions=(
                Misconception("billed later", _billed_later, "the model is the best one for training alone."),
                Misconception("not served", lambda law, budget, served: budget, "only training is paid."),
                Misconception("served like trained", partial(cheapest_life, each=6.0), "a served token costs 6N."),
                Misconception("half", partial(cheapest_life, each=1.0), "a served token costs N; it should be 2N."),
            ),
            forbidden=frozenset({"scaling_explorer"}),
            rtol=1e-3,
        ),
        Question(
            id="q7",
            title="Measure: how often is the interval right?",
            kind="experiment",
            points=3,
            minutes=16,
            answer="coverage",
            expects="the share of repetitions in which the law's value at 14 lies in the interval called 90 per cent.",
            reference=0.824,
            accepts=lambda value: 0.787 <= value <= 0.861,
            hints=(
                "One repetition: 8 losses; 200 times 8 places drawn with replacement, a line through them, its value "
                "at 14; of these 200 values the 5th and the 95th percentile.",
                "x and y must be drawn together: one row of places picks from both.",
                "Slope: the sum of (x - mean x)(y - mean y) over the sum of (x - mean x)^2, for all at once.",
            ),
            misconceptions=(
                Misconception("by its name", 0.9, "this is what the interval is called, not what it does."),
                Misconception("95", 0.889, "the interval is that of 95 per cent."),
                Misconception("80", 0.718, "ten per cent are cut off at each side."),
                Misconception("a new run", 0.771, "the interval is to hold a new run with noise; the law was asked."),
            ),
            atol=0.005,
        ),
    ),
)

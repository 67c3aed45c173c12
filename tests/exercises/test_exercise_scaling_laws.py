"""The exercise of `practice/scaling_laws`: its references beside torch's counter, scipy and the package, and others."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from scipy.optimize import least_squares, minimize_scalar
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.widgets import scaling_explorer as package

SEEDS = tuple(range(100, 120))


def counted(blocks, width, context, vocabulary, hidden, kv_width):
    """Torch counts the products of one text in training, on shapes without numbers; narrow keys are repeated."""
    with torch.device("meta"):
        square = [[nn.Linear(width, width, bias=False) for _ in range(2)] for _ in range(blocks)]
        narrow = [[nn.Linear(width, kv_width, bias=False) for _ in range(2)] for _ in range(blocks)]
        wide = [[nn.Linear(width, hidden, bias=False) for _ in range(2)] for _ in range(blocks)]
        back = [nn.Linear(hidden, width, bias=False) for _ in range(blocks)]
        out = nn.Linear(width, vocabulary, bias=False)
        x = torch.empty(context, width, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        for i in range(blocks):
            query, key, value = square[i][0](x), narrow[i][0](x), narrow[i][1](x)
            key, value = (side.repeat(1, width // kv_width + 1)[:, :width] for side in (key, value))
            x = x + square[i][1]((query @ key.T).softmax(dim=-1) @ value)
            x = x + back[i](wide[i][0](x).sigmoid() * wide[i][1](x))
        out(x).sum().backward()
    return counter.get_total_flops() / context


@pytest.mark.parametrize("seed", SEEDS)
def test_scaling_laws_references_equal_torchs_counter_scipy_and_the_package(seed):
    exercise = load("scaling_laws")
    for case in exercise.question("q2").draw(seed):
        assert exercise.question("q2").reference(*case.args) == counted(*case.args)
    for case in exercise.question("q3").draw(seed):
        assert exercise.given["iso_flop"](*case.args) == pytest.approx(iso_flop_with_scipy(*case.args))
    for case in exercise.question("q4").draw(seed):
        law, budget, text = case.args
        size, tokens = exercise.given["best_split"](law, budget, text)
        assert 6 * size * tokens == pytest.approx(budget)
        assert (size, tokens) == pytest.approx(split_by_search(law, budget, text), rel=1e-5)
        if text == math.inf:
            assert (size, tokens) == pytest.approx(package.best_split(law, budget))
        assert exercise.given["loss_of"](law, size, tokens) == pytest.approx(package.law_loss(law, size, tokens))
    for case in exercise.question("q6").draw(seed):
        assert exercise.question("q6").reference(*case.args) == pytest.approx(package.best_for_life(*case.args)[2])


def by_optimiser(sizes, tokens, losses, alpha, beta):
    def error(t):
        return t[0] + t[1] * sizes**-alpha + t[2] * tokens**-beta - losses

    return 2 * least_squares(error, (1.0, 10.0, 10.0), x_scale="jac", xtol=1e-14, ftol=1e-14, gtol=1e-14).cost


@pytest.mark.parametrize("seed", SEEDS)
def test_scaling_laws_the_fit_is_a_minimum_that_an_optimiser_cannot_leave(seed):
    for case in load("scaling_laws").question("q5").draw(seed):
        sizes, tokens, losses, exponents = (np.asarray(arg) for arg in case.args)
        law = load("scaling_laws").given["fit"](*case.args)
        squares = {pair: by_optimiser(sizes, tokens, losses, *pair) for pair in product(exponents, exponents)}
        assert (law["alpha"], law["beta"]) == min(squares, key=squares.get)
        off = package.law_loss(law, sizes, tokens) - losses
        assert (off**2).sum() == pytest.approx(min(squares.values()), rel=1e-6, abs=1e-12)


def test_scaling_laws_by_hand():
    above = {1: 3.0 - 1.4, 4: 2.2 - 1.4}
    power = math.log(above[1] / above[4]) / math.log(4)
    assert (above[1] / (1.6 - 1.4)) ** (1 / power) == pytest.approx(load("scaling_laws").question("q1").reference)


@pytest.mark.parametrize("seed", range(10))
def test_scaling_laws_by_measurement(seed):
    """All repetitions at once, weights by how often a run is drawn, lines by solving two equations."""
    generator, x = torch.Generator().manual_seed(seed), torch.arange(8.0, dtype=torch.float64)
    held = []
    for _ in range(10):
        y = -0.2 * x + 0.05 * torch.randn(500, 1, 8, generator=generator, dtype=torch.float64)
        times = nn.functional.one_hot(torch.randint(8, (500, 200, 8), generator=generator), 8).sum(dim=2).double()
        sums = [(times * part).sum(dim=-1) for part in (x, x * x, y, x * y)]
        slope = (8 * sums[3] - sums[0] * sums[2]) / (8 * sums[1] - sums[0] ** 2)
        value = sums[2] / 8 + slope * (14 - sums[0] / 8)
        low, high = value.nanquantile(torch.tensor([0.05, 0.95], dtype=torch.float64), dim=1)
        held.append(((low <= -2.8) & (high >= -2.8)).double().mean())
    assert load("scaling_laws").question("q7").accepts(torch.stack(held).mean().item())


def operations_by_parameters(blocks, width, context, vocabulary, hidden, kv_width):
    """Six for each weight that is multiplied, and attention in a tensor."""
    shapes = [(width, width)] * 2 + [(width, kv_width)] * 2 + [(width, hidden)] * 3
    weights = blocks * sum(rows * columns for rows, columns in shapes) + width * vocabulary
    return torch.tensor(6 * weights + 6 * blocks * 2 * context * width)


def iso_flop_with_scipy(curves, budget):
    found = {}
    for size, runs in curves.items():
        tokens, losses = np.array(runs).T
        read = interp1d(tokens**0 * np.log(6 * size * tokens), losses, bounds_error=False)
        nearest = min(6 * size * tokens, key=lambda cost: abs(cost - budget))
        loss = read(np.log(nearest if math.isclose(nearest, budget) else budget))
        if not np.isnan(loss):
            found[size] = loss[()]
    return found


def iso_flop_in_a_loop(curves, budget):
    """From piece to piece of each curve, the largest size first, in tensors."""
    found = {}
    for size in sorted(curves, reverse=True):
        for (d0, l0), (d1, l1) in zip(curves[size], curves[size][1:], strict=False):
            if 6 * size * d0 <= budget <= 6 * size * d1:
                part = math.log2(budget / 6 / size / d0) / math.log2(d1 / d0)
                found[size] = torch.tensor(l0 + part * (l1 - l0))
    return found


def split_by_search(law, budget, text):
    high = min(math.log(text), 60) if text < math.inf else 60
    best = minimize_scalar(
        lambda x: package.law_loss(law, budget / 6 / math.exp(x), math.exp(x)) - law["E"],
        bounds=(-5, high), method="bounded", options={"xatol": 1e-11},
    )  # fmt: skip
    tokens = math.exp(best.x) if high - best.x > 1e-4 else text
    return budget / 6 / tokens, tokens


def split_by_bisection(law, budget, text):
    """Where one per cent more of either would gain the same; and then the limit."""
    low, high = -20.0, 80.0
    for _ in range(200):
        x = (low + high) / 2
        size, tokens = budget / 6 / math.exp(x), math.exp(x)
        by_size = law["alpha"] * law["A"] * size ** -law["alpha"]
        by_text = law["beta"] * law["B"] * tokens ** -law["beta"]
        low, high = (x, high) if by_text > by_size else (low, x)
    tokens = torch.tensor(min(math.exp(low), text), dtype=torch.float64)
    return [budget / (6 * tokens), tokens]


def fit_with_numpy(sizes, tokens, losses, exponents):
    """Normal equations, exponents from the largest."""
    n, d, y = sizes.numpy(), tokens.numpy(), losses.numpy()
    found = []
    for alpha, beta in product(exponents[::-1], exponents[::-1]):
        table = np.stack([np.ones_like(n), (n / 1e4) ** -alpha, (d / 1e4) ** -beta], axis=1)
        e, a, b = np.linalg.solve(table.T @ table, table.T @ y)
        error = np.square(table @ (e, a, b) - y).mean()
        law = {"alpha": alpha, "beta": beta, "E": e, "A": a * 1e4**alpha, "B": b * 1e4**beta}
        found.append((error, law))
    return min(found, key=lambda pair: pair[0])[1]


def fit_all_at_once(sizes, tokens, losses, exponents):
    """One batch of tables, solved with the pseudo-inverse."""
    pairs = torch.tensor(list(product(exponents, exponents)), dtype=torch.float64)
    table = torch.stack([sizes.expand(len(pairs), -1) ** 0, sizes ** -pairs[:, :1], tokens ** -pairs[:, 1:]], dim=-1)
    found = torch.linalg.pinv(table, rtol=1e-14) @ losses
    best = ((table @ found[..., None])[..., 0] - losses).norm(dim=-1).argmin()
    return dict(zip(("E", "A", "B", "alpha", "beta"), [*found[best], *pairs[best]], strict=True))


def life_by_tokens(law, budget, served):
    """The search goes over tokens; the size follows from them."""
    size, tokens = split_by_bisection(law, budget, math.inf)
    lacking = package.law_loss(law, float(size), float(tokens)) - law["E"]
    read = float(tokens) * torch.logspace(0, 8, 20001, dtype=torch.float64)
    small = (law["A"] / (lacking - law["B"] / read ** law["beta"])) ** (1 / law["alpha"])
    return (6 * small * read + 2 * small * served).min()


def life_with_scipy(law, budget, served):
    size, tokens = package.best_split(law, budget)
    loss = package.law_loss(law, size, tokens)

    def cost(x):
        return 6 * math.exp(x) * package.tokens_for(law, math.exp(x), loss) + 2 * math.exp(x) * served

    low = math.log(law["A"] / (loss - law["E"])) / law["alpha"]
    return minimize_scalar(cost, bounds=(low + 1e-6, math.log(size)), method="bounded").fun


UNUSUAL = {
    "q2": [operations_by_parameters, lambda *args: int(counted(*args))],
    "q3": [iso_flop_with_scipy, iso_flop_in_a_loop],
    "q4": [split_by_search, split_by_bisection],
    "q5": [fit_with_numpy, fit_all_at_once],
    "q6": [life_by_tokens, life_with_scipy],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_scaling_laws_right_but_unusual_answers_lose_nothing(question_id):
    question = load("scaling_laws").question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None

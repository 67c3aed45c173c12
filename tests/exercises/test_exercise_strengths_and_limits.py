"""The exercise of `algorithm/strengths_and_limits`: references beside loops, counters and numpy, unusual answers."""

import bisect
import math
from itertools import product

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fmcourse.config import TransformerConfig
from fmcourse.exercises import load
from fmcourse.exercises.session import examine, misconception
from fmcourse.transformer import GPT

SEEDS = tuple(range(100, 120))
NAME = "strengths_and_limits"


def drawn(question_id, seed):
    question = load(NAME).question(question_id)
    return [(case.args, question.expected(case)) for case in question.draw(seed)]


def counted(n, d, windows):
    """Every weight of every matrix, every pair of query and key, one after the other."""
    pairs = sum(1 for window in windows for i, j in product(range(n), repeat=2) if 0 <= i - j < window)
    return {"matrices": n * len(windows) * 2 * (4 * d * d + 2 * d * 4 * d), "attention": pairs * (2 * d + 2 * d)}


@pytest.mark.parametrize("seed", SEEDS)
def test_references_equal_what_others_find(seed):
    for args, ours in drawn("q2", seed):
        assert ours == counted(*args)
    for (d, windows, limit), ours in drawn("q3", seed):
        costs, pairs = [], 0
        for i in range(limit):
            pairs += sum(min(i + 1, window) for window in windows)
            costs.append(4 * d * pairs >= 24 * d * d * len(windows) * (i + 1))
        assert ours == (costs.index(True) + 1 if any(costs) else 0)
        assert costs == sorted(costs)  # as the question says: once half, always half
    for (q, k, v, keep), ours in drawn("q4", seed):
        theirs = np.zeros((len(q), v.shape[1]))
        for i in range(len(q)):
            for j in range(i + 1):
                theirs[i] += np.prod(keep.double().numpy()[j + 1 : i + 1]) * float(q[i] @ k[j]) * v[j].double().numpy()
        torch.testing.assert_close(ours.double(), torch.from_numpy(theirs), rtol=1e-4, atol=1e-5)
    for (tokens, losses, spent, loss), ours in drawn("q5", seed):
        assert losses == sorted(losses, reverse=True)
        theirs = math.exp(np.interp(loss, losses[::-1], np.log(tokens[::-1]))) / spent
        assert ours == pytest.approx(theirs)
    for (maps,), ours in drawn("q6", seed):
        mixed = [(each.double().numpy() + np.eye(maps.shape[-1])) / 2 for each in maps]
        theirs = np.linalg.multi_dot(mixed[::-1]) if len(mixed) > 1 else mixed[0]
        torch.testing.assert_close(ours.double(), torch.from_numpy(theirs), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.sum(dim=-1), torch.ones(maps.shape[-1]))


@pytest.mark.parametrize("seed", SEEDS)
def test_other_weights_change_nothing_and_go_as_far_as_they_can(seed):
    for (weights, values, wish), ours in drawn("q7", seed):
        assert len(weights) > values.shape[1] + 1
        torch.testing.assert_close(ours.sum(), weights.sum())
        torch.testing.assert_close(ours @ values, weights @ values)
        assert ours.min().abs() < 1e-12
        assert (ours - weights).abs().max() > 1e-3
        # The direction is the wish, projected by the null space that numpy finds.
        fixed = np.hstack([values.numpy(), np.ones((len(wish), 1))])
        null = np.linalg.svd(fixed.T)[2][fixed.shape[1] :]
        u = null.T @ (null @ wish.numpy())
        moved = (ours - weights).numpy()
        assert np.allclose(moved / np.linalg.norm(moved), u / np.linalg.norm(u), atol=1e-8)


def test_the_matrices_are_those_of_the_package():
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        GPT(TransformerConfig(context=20, n_heads=2, n_layers=3, d_model=16, vocab_size=7))(torch.zeros(1, 20).long())
    ours = load(NAME).question("q2").reference(20, 16, [20] * 3)
    head, all_pairs = 2 * 20 * 16 * 7, 3 * 4 * 16 * 20 * 20  # kernels count the future, too
    assert counter.get_total_flops() == ours["matrices"] + head + all_pairs
    assert ours["attention"] == all_pairs * 21 / 40


def test_the_cache_by_hand():
    keys_and_values = torch.zeros(2, 24, 8, 8192, 128, dtype=torch.float16, device="meta")
    assert load(NAME).question("q1").reference == keys_and_values.numel() * keys_and_values.element_size() / 2**20


def test_the_examples_of_the_text_are_right():
    exercise = load(NAME)
    weights, values, wish = (torch.tensor(x, dtype=torch.float64) for x in ([0.25, 0.5, 0.25], [0, 1, 3], [0, -1, 0]))
    expected = torch.tensor([7 / 12, 0, 5 / 12], dtype=torch.float64)
    torch.testing.assert_close(exercise.question("q7").reference(weights, values[:, None], wish), expected)
    (example,) = exercise.question("q6").draw(1)[0].args
    assert exercise.question("q6").reference(example)[0].tolist() == [0.5, 0.25, 0.25]
    assert handed_out(example)[0, 1] == 0


def handed_out(maps):
    """The code with the bug."""
    identity = torch.eye(maps.shape[-1], dtype=maps.dtype)
    rolled = identity
    for weights in maps:
        rolled = rolled @ (weights + identity) / 2
    return rolled


def test_the_bug_that_is_handed_out_is_recognised():
    question = load(NAME).question("q6")
    assert examine(question, handed_out, (1,)) is not None
    assert misconception(question, handed_out, SEEDS).name == "the bug itself"


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("evenings", [200, 1000])
def test_far_too_many_guests_by_numpy(seed, evenings):
    """The experiment, guest by guest, and where the known mistakes lead."""
    generator = np.random.default_rng(seed)

    def share(width=32, guests=64):
        right = 0
        for _ in range(evenings):
            keys = generator.standard_normal((guests, width))
            keys /= np.linalg.norm(keys, axis=1, keepdims=True)
            dishes = generator.integers(8, size=guests)
            state = np.zeros((width, 8))
            np.add.at(state.T, dishes, keys)
            right += (np.argmax(keys @ state, axis=1) == dishes).sum()
        return float(right / evenings / guests)

    question = load(NAME).question("q8")
    measured = share()
    assert abs(measured - question.reference) < 0.02
    assert question.accepts(measured)
    for wrong in (share(width=64), share(guests=16), share(guests=128)):
        assert not question.accepts(wrong)
    assert misconception(question, share(width=64), SEEDS).name == "as wide as guests"


def by_steps(d, windows, limit):
    """Adds the pairs of one token after the other, without the given function."""
    attention = 0
    for n in range(1, limit + 1):
        attention += 4 * d * sum(min(n, window) for window in windows)
        if attention >= 24 * d**2 * len(windows) * n:
            return n
    return 0


def by_asking(d, windows, limit):
    cost = load(NAME).given["operations"]

    def half(n):
        return cost(n, d, windows)["attention"] / cost(n, d, windows)["matrices"] >= 1

    return (bisect.bisect_left(range(1, limit + 1), True, key=half) + 1) % (limit + 1)


def parallel(q, k, v, keep):
    """All steps at once, as state-space models train."""
    t = len(q)
    decay = torch.stack([torch.stack([keep[j + 1 : i + 1].prod() for j in range(t)]) for i in range(t)])
    return torch.tril(q @ k.T * decay) @ v


def by_numbers(q, k, v, keep):
    """Number by number, in double precision."""
    q, k, v, keep = (each.double().tolist() for each in (q, k, v, keep))
    state = [[0.0] * len(v[0]) for _ in k[0]]
    read = []
    for i in range(len(q)):
        state = [[keep[i] * x + k[i][a] * v[i][b] for b, x in enumerate(row)] for a, row in enumerate(state)]
        read.append([sum(q[i][a] * state[a][b] for a in range(len(state))) for b in range(len(v[0]))])
    return torch.tensor(read)


def by_bisection(tokens, losses, spent, loss):
    loss = min(max(loss, losses[-1]), losses[0])
    right = min(max(bisect.bisect_left([-x for x in losses], -loss), 1), len(losses) - 1)
    slope = math.log2(tokens[right] / tokens[right - 1]) / (losses[right] - losses[right - 1])
    return tokens[right] * 2 ** (slope * (loss - losses[right])) / spent


def by_torch(tokens, losses, spent, loss):
    x, y = torch.tensor(losses).double(), torch.tensor(tokens).double().log10()
    for i in range(len(x) - 1):
        if x[i] >= loss >= x[i + 1]:
            share = (loss - x[i + 1]) / (x[i] - x[i + 1])
            return 10 ** (share * y[i] + (1 - share) * y[i + 1]) / spent
    return torch.tensor(tokens[0] if loss > losses[0] else tokens[-1]) / spent


def recursive(maps):
    if len(maps) == 0:
        return torch.eye(maps.shape[-1])
    return 0.5 * maps[-1] @ recursive(maps[:-1]) + 0.5 * recursive(maps[:-1])


def all_paths(maps):
    """Follows every input through every block, in double precision."""
    places = maps.shape[-1]
    rolled = torch.zeros(places, places, dtype=torch.float64)
    for source in range(places):
        amount = torch.eye(places, dtype=torch.float64)[source]
        for weights in maps:
            amount = 0.5 * amount + 0.5 * weights.double() @ amount
        rolled[:, source] = amount
    return rolled


def by_null_space(weights, values, wish):
    fixed = np.vstack([values.numpy().T, np.ones(len(wish))])
    null = np.linalg.svd(fixed)[2][len(fixed) :]
    u = null.T @ (null @ wish.numpy())
    times = [w / -x for w, x in zip(weights.tolist(), u, strict=True) if x < -1e-12]
    return torch.from_numpy(weights.numpy() + min(times) * u)


def by_normal_equations(weights, values, wish):
    fixed = torch.cat([torch.ones(len(wish), 1), values], dim=1)
    u = wish - fixed @ torch.linalg.solve(fixed.T @ fixed, fixed.T @ wish)
    return weights + u / (-u / weights).max()


def by_gram_schmidt(weights, values, wish):
    """Takes off one direction after the other; the answer in single precision."""
    columns = [torch.ones_like(wish), *values.T]
    for i, column in enumerate(columns):
        for other in columns[:i]:
            column = column - (column @ other) * other
        columns[i] = column / column.norm()
        wish = wish - (wish @ columns[i]) * columns[i]
    return (weights + wish / (-wish / weights).max()).float()


UNUSUAL = {
    "q2": [counted, lambda n, d, windows: {k: torch.tensor(float(x)) for k, x in counted(n, d, windows).items()}],
    "q3": [by_steps, by_asking],
    "q4": [parallel, by_numbers],
    "q5": [by_bisection, by_torch],
    "q6": [recursive, all_paths],
    "q7": [by_null_space, by_normal_equations, by_gram_schmidt],
}


@pytest.mark.parametrize(("question_id", "answer"), [(name, answer) for name in UNUSUAL for answer in UNUSUAL[name]])
def test_right_but_unusual_answers_lose_nothing(question_id, answer):
    assert examine(load(NAME).question(question_id), answer, SEEDS) is None

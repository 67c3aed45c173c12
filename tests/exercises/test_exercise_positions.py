"""The exercise of `mathematics/positions`: its references beside the package's and complex numbers, unusual answers."""

import cmath
import math

import pytest
import torch
from einops import rearrange

from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.positions import Rotary, alibi_bias, alibi_slopes, sinusoidal

SEEDS = tuple(range(100, 120))
EXERCISE = load("positions")


def cases(question_id):
    """Arguments and expected answer of every case of every seed."""
    question = EXERCISE.question(question_id)
    return [(case.args, question.expected(case)) for seed in SEEDS for case in question.draw(seed)]


def turned(x, positions):
    """Rotary positions with complex numbers, in double precision."""
    theta = 10_000 ** (-torch.arange(0, x.shape[-1], 2, dtype=torch.float64) / x.shape[-1])
    angle = torch.as_tensor(positions)[..., None] * theta
    pairs = torch.view_as_complex(rearrange(x.double(), "... (pair two) -> ... pair two", two=2).contiguous())
    return rearrange(torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)), "... i two -> ... (i two)")


def close(one, other):
    torch.testing.assert_close(one.double(), other.double(), rtol=1e-5, atol=2e-5)


def test_the_score_by_hand():
    query, key = (tip * cmath.exp(1j * math.pi / 6 * p) for tip, p in ((2, 1009), (1j, 1007)))
    assert EXERCISE.question("q1").reference == pytest.approx((query * key.conjugate()).real)


def test_a_shifted_code_is_the_row_of_the_table_k_further_on():
    for (codes, k), expected in cases("q2"):
        table = sinusoidal(100, codes.shape[1])
        rows = (codes[:, None] - table).square().sum(dim=-1).argmin(dim=1)
        close(table[rows], codes)
        close(expected, table[rows + k])


def test_rotation_is_that_of_complex_numbers_and_of_the_package_in_its_layout():
    for (x, positions), expected in cases("q3"):
        close(expected, turned(x, positions))
        if not positions.is_floating_point() and x.ndim == 4:
            halves = rearrange(x, "... (pair two) -> ... (two pair)", two=2)
            package = Rotary(60, x.shape[-1])(positions)(halves)
            close(expected, rearrange(package, "... (two pair) -> ... (pair two)", two=2))


def test_converted_weights_give_the_scores_of_the_other_layout():
    generator = torch.Generator().manual_seed(0)
    for (weight, n_heads), expected in cases("q4"):
        x, places = torch.randn(5, weight.shape[1], generator=generator), torch.arange(5)
        before, after = (rearrange(x @ w.T, "t (h d) -> 1 h t d", h=n_heads) for w in (weight, expected))
        halves = Rotary(5, before.shape[-1])(places)(before)
        neighbours = turned(after, places)
        close(halves @ halves.mT, neighbours @ neighbours.mT)
        assert sorted(weight[:, 0].tolist()) == sorted(expected[:, 0].tolist())
        assert torch.equal(expected[:2], weight[[0, before.shape[-1] // 2]])


def test_cached_scores_are_those_of_one_pass():
    for (query, key, cached), expected in cases("q5"):
        s, t, d = cached.shape[-2], key.shape[-2], key.shape[-1]
        keys = torch.cat([turned(cached, -torch.arange(s)), key.double()], dim=-2)  # none of them turned
        whole = turned(torch.cat([torch.zeros_like(cached), query], dim=-2), torch.arange(s + t))
        close(expected, (whole @ turned(keys, torch.arange(s + t)).mT / math.sqrt(d))[..., s:, :])


def test_alibi_is_that_of_the_package():
    for (queries, keys, n_heads), expected in cases("q6"):
        close(expected, alibi_bias(alibi_slopes(n_heads), queries, keys))


def score_at(query, key, distance):
    """The score of two vectors, a pair at a time, with complex numbers."""
    d, total = len(query), 0.0
    for i in range(d // 2):
        q, k = (complex(*v[2 * i : 2 * i + 2].tolist()) for v in (query, key))
        total += (q * k.conjugate() * cmath.exp(1j * distance * 10_000 ** (-2 * i / d))).real
    return total / math.sqrt(d)


def one_by_one(query, key, furthest):
    """Clipped scores, one at a time."""
    if query.ndim > 2:
        return torch.stack([one_by_one(*both, furthest) for both in zip(query, key, strict=True)])
    return torch.tensor(
        [[score_at(q, k, min(m - n, furthest)) for n, k in enumerate(key)] for m, q in enumerate(query)]
    )


def test_clipped_scores_are_those_of_clipped_distances():
    for args, expected in cases("q8"):
        close(expected, one_by_one(*args))


def test_what_is_left_at_distance_100():
    question = EXERCISE.question("q7")
    theta = 10_000 ** (-torch.arange(32, dtype=torch.float64) / 32)
    assert question.reference == pytest.approx((100 * theta).cos().mean().item(), abs=1e-3)
    for seed in range(10):
        x = torch.randn(1000, 64, generator=torch.Generator().manual_seed(seed))
        scores = (turned(x, 7) * turned(x, 107)).sum(dim=-1)
        size = x.square().sum(dim=-1)
        assert question.accepts((scores / size).mean().item())
        assert question.accepts((scores.mean() / size.mean()).item())
        assert question.accepts(scores.mean().item() / 64)
        for distance in (10, 50, 200):
            assert not question.accepts(((turned(x, 0) * turned(x, distance)).sum(dim=-1) / size).mean().item())


def shift_by_matrix(codes, k):
    """One 2 x 2 rotation for each pair, along the diagonal."""
    angles = k * torch.exp(-math.log(10_000) * torch.arange(0, codes.shape[1], 2) / codes.shape[1])
    blocks = [torch.tensor([[a.cos(), a.sin()], [-a.sin(), a.cos()]]) for a in angles]
    return codes @ torch.block_diag(*blocks).T


def shift_by_reading_the_clock(codes, k):
    hands = torch.atan2(codes[:, 0::2], codes[:, 1::2]) + k / 10_000 ** (
        torch.arange(0, codes.shape[1], 2) / codes.shape[1]
    )
    later = torch.zeros_like(codes)
    later[:, 0::2], later[:, 1::2] = hands.sin(), hands.cos()
    return later


def rotate_by_loops(x, positions):
    out, d = x.double().clone(), x.shape[-1]
    for t, p in enumerate(positions.tolist()):
        for i in range(d // 2):
            angle = p / 10_000 ** (2 * i / d)
            a, b = x[..., t, 2 * i].double(), x[..., t, 2 * i + 1].double()
            out[..., t, 2 * i] = a * math.cos(angle) - b * math.sin(angle)
            out[..., t, 2 * i + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out


def rotate_in_float32(x, positions):
    angle = torch.outer(positions.float(), 10_000.0 ** (-torch.arange(0, x.shape[-1], 2).float() / x.shape[-1]))
    unit = torch.view_as_complex(torch.stack([angle.cos(), angle.sin()], dim=-1))
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * unit).flatten(-2)


def rotate_with_a_partner(x, positions):
    """x times the cosine, plus its partner, with a sign, times the sine."""
    angle = (positions[:, None] / 10_000 ** (torch.arange(0, x.shape[-1], 2) / x.shape[-1])).repeat_interleave(
        2, dim=-1
    )
    partner = torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).reshape(x.shape)
    return x * angle.cos() + partner * angle.sin()


def reorder_by_loops(weight, n_heads):
    d, rows = weight.shape[0] // n_heads, []
    for head in range(n_heads):
        for i in range(d // 2):
            rows += [weight[head * d + i], weight[head * d + i + d // 2]]
    return torch.stack(rows)


def reorder_by_a_matrix(weight, n_heads):
    d = weight.shape[0] // n_heads
    place = torch.arange(d).reshape(d // 2, 2).T.flatten()  # where an old row goes
    return torch.kron(torch.eye(n_heads), torch.eye(d)[place].T.contiguous()) @ weight


def cache_turned_back(query, key, cached):
    """Only distances count: leave the new tokens at zero and turn the cache back by its size."""
    steps = torch.arange(query.shape[-2])
    keys = torch.cat([turned(cached, torch.tensor(-cached.shape[-2])), turned(key, steps)], dim=-2)
    return torch.einsum("...td,...sd->...ts", turned(query, steps), keys) / query.shape[-1] ** 0.5


def cached_one_by_one(query, key, cached):
    s = cached.shape[-2]
    keys = [*cached.unbind(-2), *(rotate_in_float32(k[..., None, :], torch.tensor([s + i]))[..., 0, :]
                                  for i, k in enumerate(key.unbind(-2)))]  # fmt: skip
    queries = [
        rotate_in_float32(q[..., None, :], torch.tensor([s + i]))[..., 0, :] for i, q in enumerate(query.unbind(-2))
    ]
    rows = [torch.stack([(q * k).sum(-1) for k in keys], dim=-1) for q in queries]
    return torch.stack(rows, dim=-2) * query.shape[-1] ** -0.5


def clipped_by_masks(query, key, furthest):
    """A sum of two tables, each zero where the other counts."""
    places = torch.arange(query.shape[-2], dtype=torch.float64)
    far = (places[:, None] - places >= furthest).double()
    near = turned(query, places) @ turned(key, places).mT
    behind = query.double() @ turned(key, torch.tensor(-furthest)).mT
    return (near * (1 - far) + behind * far) / math.sqrt(query.shape[-1])


UNUSUAL = {
    "q2": [shift_by_matrix, shift_by_reading_the_clock, lambda codes, k: turned(codes, -k)],
    "q3": [rotate_by_loops, rotate_in_float32, rotate_with_a_partner, turned],
    "q4": [
        reorder_by_loops,
        reorder_by_a_matrix,
        lambda weight, n_heads: torch.cat([
            torch.stack(head.chunk(2), dim=1).reshape(head.shape) for head in weight.double().chunk(n_heads)
        ]),
    ],
    "q5": [cache_turned_back, cached_one_by_one],
    "q6": [
        lambda m, n, heads: -torch.einsum(
            "h,ts->hts", torch.logspace(-8 / heads, -8, heads, base=2.0), (m[:, None].float() - n).square().sqrt()
        ),
        lambda m, n, heads: torch.tensor(
            [[[-abs(int(q) - int(k)) / 256 ** (j / heads) for k in n] for q in m] for j in range(1, heads + 1)]
        ),
    ],
    "q8": [one_by_one, clipped_by_masks],
}  # fmt: skip


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None


def test_rotary_scores_depend_on_the_distance_alone():
    rotate, generator = EXERCISE.given["rotate"], torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    scores = [
        (rotate(query, torch.tensor(m)) * rotate(key, torch.tensor(n))).sum() for m, n in ((7, 4), (1007, 1004), (4, 7))
    ]
    assert abs(scores[0] - scores[1]) < 1e-9
    assert abs(scores[0] - scores[2]) > 1e-3

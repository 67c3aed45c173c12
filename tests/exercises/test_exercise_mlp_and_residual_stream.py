"""The exercise of `mathematics/mlp_and_residual_stream`: its references beside torch's own, unusual answers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.layers import FeedForward

SEEDS = tuple(range(100, 120))
EXERCISE = load("mlp_and_residual_stream")
close = torch.testing.assert_close


def cases(question_id):
    """Arguments and expected answer of every case of every seed."""
    question = EXERCISE.question(question_id)
    return [(case.args, question.expected(case)) for seed in SEEDS for case in question.draw(seed)]


def test_the_normalised_entry_by_hand():
    x = torch.tensor([5.0, 5, 5, 1005], dtype=torch.float64)
    question = EXERCISE.question("q1")
    assert question.reference == pytest.approx(F.layer_norm(x, (4,))[-1].item(), abs=1e-5)
    wrong = {known.name: known.answer for known in question.misconceptions}
    assert wrong["RMSNorm"] == pytest.approx(F.rms_norm(x, (4,))[-1].item(), abs=1e-3)
    assert wrong["unbiased"] == pytest.approx(((x - x.mean()) / x.std())[-1].item())


def test_three_hidden_units_find_the_larger_number():
    for (x,), expected in cases("q2"):
        close(expected, x.amax(dim=-1, keepdim=True))


def package(gate, up, down):
    """The package's own gated layer with these weights."""
    layer = FeedForward(gate.shape[1], gate.shape[0], activation="swiglu", bias=False)
    layer.load_state_dict({"up.weight": torch.cat([gate, up]), "down.weight": down})
    return layer.requires_grad_(False)


def test_the_gated_layer_is_that_of_the_package():
    for (x, *w), expected in cases("q3"):
        close(expected, package(*w)(x))
    (x, gate, up, down), _ = cases("q3")[1]
    assert gate.numel() + up.numel() + down.numel() == 2 * 4 * x.shape[-1] ** 2  # the budget that the text speaks of


def test_layer_norm_is_that_of_torch():
    for (x, gain, shift), expected in cases("q4"):
        close(expected, F.layer_norm(x, gain.shape, gain, shift))


def test_weights_have_the_gain_of_torch_and_keep_the_mean_square():
    for (noise, slope), expected in cases("q5"):
        gain = nn.init.calculate_gain("leaky_relu", slope)
        close(expected, noise * gain / math.sqrt(noise.shape[1]))
    generator = torch.Generator().manual_seed(0)
    h, noise = 3 * torch.randn(2000, 500, generator=generator), torch.randn(500, 500, generator=generator)
    for slope in (-1.0, 0.0, 0.3, 1.0):
        out = F.leaky_relu(h, slope) @ EXERCISE.question("q5").reference(noise, slope).T
        assert out.square().mean() / 9 == pytest.approx(1, abs=0.03)


def test_the_block_is_one_of_torch_modules():
    for (x, gain, shift, *w), expected in cases("q6"):
        norm = nn.LayerNorm(x.shape[-1])
        norm.load_state_dict({"weight": gain, "bias": shift})
        close(expected, x + package(*w)(norm(x).detach()))


def grown(seed, bend=F.gelu, normalise=True, divide=1.0):
    """The ratio of sizes in one network, made of torch's modules."""
    torch.manual_seed(seed)
    stream = torch.randn(100, 128)
    size = stream.pow(2).mean() ** 0.5
    norm = nn.RMSNorm(128, elementwise_affine=False) if normalise else nn.Identity()
    with torch.no_grad():
        for _ in range(32):
            up, down = nn.Linear(128, 512, bias=False), nn.Linear(512, 128, bias=False)
            for layer in (up, down):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            stream = stream + down(bend(up(norm(stream)))) / divide
    return (stream.pow(2).mean() ** 0.5 / size).item()


def mean(values):
    return sum(values) / len(values)


def test_the_growth_of_the_stream_repeated():
    question = EXERCISE.question("q7")
    with torch.random.fork_rng():
        for first in (0, 20):
            assert question.accepts(mean([grown(seed) for seed in range(first, first + 20)]))
        for other in ({"bend": F.relu}, {"bend": nn.Identity()}, {"normalise": False}, {"divide": math.sqrt(32)}):
            assert not question.accepts(mean([grown(seed, **other) for seed in range(8)]))
    z = torch.linspace(-9, 9, 10_001, dtype=torch.float64)
    kept = (F.gelu(z).square() * torch.exp(-z.square() / 2)).sum() * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    assert question.reference == pytest.approx(math.sqrt(1 + 32 * kept), abs=0.05)


def test_credit_adds_up_to_the_logits_in_any_order():
    for (start, writes, gain, rows), expected in cases("q8"):
        logits = rows @ F.rms_norm(start + writes.sum(dim=0), gain.shape, gain, eps=1e-5)
        close(expected.sum(dim=0), logits, rtol=1e-4, atol=1e-5)
        turned = EXERCISE.question("q8").reference(start, writes.flip(0), gain, rows)
        close(turned[1:], expected[1:].flip(0), rtol=1e-4, atol=1e-5)
        close(by_gradient(start, writes, gain, rows), expected, rtol=1e-4, atol=1e-5)


def by_gradient(start, writes, gain, rows):
    """The derivative of each logit in the direction of each write, the size of the stream held fixed."""
    stream = (start + writes.sum(dim=0)).requires_grad_()
    size = (stream.detach().square().mean() + 1e-5).sqrt()
    slopes = torch.stack([torch.autograd.grad(row @ (gain * stream / size), stream)[0] for row in rows])
    return torch.cat([start[None], writes]) @ slopes.T


def credit_by_loops(start, writes, gain, rows):
    parts = [start.double(), *writes.double()]
    size = math.sqrt(sum(float(e) ** 2 for e in sum(parts)) / len(start) + 1e-5)
    return torch.tensor([[sum(float(p * g * r) for p, g, r in zip(part, gain, row, strict=True)) / size for row in rows]
                         for part in parts])  # fmt: skip


def layer_norm_by_moments(x, gain, shift):
    """The variance as the mean square minus the square of the mean."""
    first, second = x.mean(-1, keepdim=True), (x * x).mean(-1, keepdim=True)
    return (x - first) * torch.rsqrt(second - first * first + 1e-5) * gain + shift


def layer_norm_by_loops(x, gain, shift):
    rows = []
    for token in x.double().reshape(-1, x.shape[-1]):
        middle = sum(token) / len(token)
        spread = sum((e - middle) ** 2 for e in token) / len(token)
        rows.append(torch.stack([(e - middle) / (spread + 1e-5) ** 0.5 for e in token]))
    return torch.stack(rows).reshape(x.shape) * gain + shift


def gated_one_by_one(x, gate, up, down):
    """A sum over hidden units, each with its value, as in a memory."""
    total = torch.zeros_like(x)
    for g, u, value in zip(gate, up, down.T, strict=True):
        z = (x * g).sum(-1)
        total = total + (z / (1 + torch.exp(-z)) * (x * u).sum(-1))[..., None] * value
    return total


def block_in_float64(x, gain, shift, *w):
    x, gain, shift, *w = (each.double() for each in (x, gain, shift, *w))
    return gated_one_by_one(F.layer_norm(x, x.shape[-1:], gain, shift), *w).add_(x)


def block_token_by_token(x, gain, shift, *w):
    if x.ndim > 1:
        return torch.stack([block_token_by_token(part, gain, shift, *w) for part in x])
    return torch.stack([x, gated_one_by_one(layer_norm_by_moments(x, gain, shift), *w)]).sum(dim=0)


UNUSUAL = {
    "q2": [
        lambda x: F.relu(x @ torch.tensor([[1.0, -1], [0, 1], [0, -1]]).T) @ torch.tensor([[1.0], [1], [-1]]),
        lambda x: (x.sum(-1, keepdim=True) + (x[..., :1] - x[..., 1:]).abs()) / 2,
    ],
    "q3": [gated_one_by_one, lambda x, g, u, d: torch.einsum("...k,...k,dk->...d", F.silu(x @ g.T), x @ u.T, d)],
    "q4": [
        layer_norm_by_moments,
        layer_norm_by_loops,
        lambda x, gain, shift: F.batch_norm(x.reshape(1, -1, x.shape[-1]), None, None, training=True).view_as(x) * gain
        + shift,
    ],
    "q5": [
        lambda noise, slope: noise.double() * math.sqrt(2) / math.sqrt(noise.size(1)) / math.hypot(1, slope),
        lambda noise, slope: noise * (nn.init.calculate_gain("leaky_relu", slope) / noise.shape[1] ** 0.5),
    ],
    "q6": [block_in_float64, block_token_by_token],
    "q8": [by_gradient, credit_by_loops],
}  # fmt: skip


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None

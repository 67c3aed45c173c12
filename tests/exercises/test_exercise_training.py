"""The exercise of `algorithm/training`: its references beside torch's own, unusual answers that are right."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fmcourse.exercises import load
from fmcourse.exercises.session import examine

SEEDS = tuple(range(100, 120))
EXERCISE = load("training")


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_the_largest_rate_by_walking():
    def size_after(rate, steps=2000):
        place = torch.tensor([1.0, 1.0], dtype=torch.float64, requires_grad=True)
        for _ in range(steps):
            (slope,) = torch.autograd.grad(place[0] ** 2 + 25 * place[1] ** 2, place)
            place = (place - rate * slope).detach().requires_grad_()
        return place.norm().item()

    rate = EXERCISE.question("q1").reference
    assert size_after(0.99 * rate) < 1e-6
    assert size_after(1.01 * rate) > 1e6


@pytest.mark.parametrize("seed", SEEDS)
def test_loss_and_clipping_equal_torch(seed):
    for case in EXERCISE.question("q2").draw(seed):
        logits, targets, smoothing = case.args
        theirs = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, label_smoothing=smoothing)
        close(EXERCISE.question("q2").reference(*case.args), theirs)
    for case in EXERCISE.question("q3").draw(seed):
        gradients, limit = case.args
        weights = [nn.Parameter(torch.zeros_like(g)) for g in gradients]
        for w, g in zip(weights, gradients, strict=True):
            w.grad = g.clone()
        norm = nn.utils.clip_grad_norm_(weights, limit)
        ours, length = EXERCISE.given["clip_all"](gradients, limit)
        close(length, norm)
        close(ours, [w.grad for w in weights])


def whole_gradient(weight, bias, pieces):
    """By autograd, from all pieces put together again."""
    weight, bias = (w.clone().requires_grad_() for w in (weight, bias))
    inputs, targets = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return list(torch.autograd.grad(F.cross_entropy(inputs @ weight + bias, targets), [weight, bias]))


@pytest.mark.parametrize("seed", SEEDS)
def test_pieces_add_up_to_the_batch(seed):
    for case in EXERCISE.question("q4").draw(seed):
        close(EXERCISE.given["accumulated_gradient"](*case.args), whole_gradient(*case.args))


def theirs(weights, decay, rate):
    matrices, vectors = ([w for w in weights if (w.ndim >= 2) == big] for big in (True, False))
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=rate, betas=(0.9, 0.95))


def torch_adamw(weights, gradients, means, squares, t, rate, decay):
    weights = [nn.Parameter(w.clone()) for w in weights]
    optimizer = theirs(weights, decay, rate)
    for w, g, m, v in zip(weights, gradients, means, squares, strict=True):
        w.grad = g.clone()
        optimizer.state[w] = {"step": torch.tensor(t - 1.0), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    optimizer.step()
    return [w.detach() for w in weights], *(
        [optimizer.state[w][name] for w in weights] for name in ("exp_avg", "exp_avg_sq")
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_adamw_equals_torch(seed):
    for case in EXERCISE.question("q5").draw(seed):
        close(EXERCISE.given["adamw_step"](*case.args), torch_adamw(*case.args))


def by_singular_values(matrix, coefficients, rounds):
    u, strengths, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    strengths = strengths / strengths.norm().clamp(min=1e-12)
    for _ in range(rounds):
        strengths = sum(c * strengths ** (2 * i + 1) for i, c in enumerate(coefficients))
    return u @ torch.diag(strengths) @ v


@pytest.mark.parametrize("seed", SEEDS)
def test_the_polynomial_acts_on_singular_values(seed):
    for case in EXERCISE.question("q6").draw(seed):
        close(EXERCISE.question("q6").reference(*case.args).double(), by_singular_values(*case.args))
    orthogonal = EXERCISE.question("q6").reference(torch.randn(4, 6), [1.5, -0.5], 30)
    close(orthogonal @ orthogonal.mT, torch.eye(4))


def torch_loop(inputs, targets, weight, bias, batch, steps, warmup):
    """torch's layer, loss, clipping, AdamW and schedule, in double precision."""
    layer = nn.Linear(*weight.shape).double()
    layer.load_state_dict({"weight": weight.mT.double(), "bias": bias.double()})
    optimizer = theirs(list(layer.parameters()), 0.1, 0.05)
    up = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (k + 1) / (warmup + 1))
    down = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 0.5 + math.cos(math.pi * k / (steps - warmup)) / 2)
    rates = torch.optim.lr_scheduler.SequentialLR(optimizer, [up, down], [warmup]) if warmup else down
    rows = [i % len(inputs) for i in range(steps * batch)]
    for k in range(steps):
        now = rows[k * batch : (k + 1) * batch]
        optimizer.zero_grad()
        F.cross_entropy(layer(inputs[now].double()), targets[now]).backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
        optimizer.step()
        rates.step()
    return [layer.weight.detach().mT, layer.bias.detach()]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_loop_equals_one_of_torchs_parts(seed):
    for case in EXERCISE.question("q7").draw(seed):
        ours = EXERCISE.question("q7").reference(*case.args)
        close([w.double() for w in ours], torch_loop(*case.args))


@pytest.mark.parametrize("seed", range(40))
def test_the_experiment_repeated_with_torchs_adam_is_accepted(seed):
    noise = torch.Generator().manual_seed(seed)
    weight, rate, steps = nn.Parameter(torch.zeros(2000)), 0.001, []
    optimizer = torch.optim.Adam([weight], lr=rate, betas=(0.9, 0.95))
    for _ in range(100):
        before = weight.detach().clone()
        weight.grad = torch.randn(2000, generator=noise)
        optimizer.step()
        steps.append(weight.detach() - before)
    assert EXERCISE.question("q8").accepts((torch.stack(steps[50:]) / rate).square().mean().sqrt().item())


def loss_by_loops(logits, targets, smoothing):
    total, count, v = 0.0, 0, logits.shape[-1]
    for row, answers in zip(logits.double(), targets, strict=True):
        for scores, answer in zip(row, answers.tolist(), strict=True):
            if answer != -100:
                share = [smoothing / v + (1 - smoothing) * (c == answer) for c in range(v)]
                total -= sum(s * (scores[c] - scores.logsumexp(0)).item() for c, s in enumerate(share))
                count += 1
    return total / count


def loss_by_one_hot(logits, targets, smoothing):
    logits, targets = logits[targets >= 0], targets[targets >= 0]
    share = (1 - smoothing) * torch.eye(logits.shape[-1])[targets] + smoothing / logits.shape[-1]
    return logits.logsumexp(-1).mean() - (share * logits).sum(-1).mean()


def clip_one_vector(gradients, limit):
    flat = torch.cat([g.double().flatten() for g in gradients])
    norm = torch.linalg.vector_norm(flat)
    if norm > limit:
        flat = flat / (norm + 1e-6) * limit
    parts = flat.split([g.numel() for g in gradients])
    return tuple(part.view_as(g) for part, g in zip(parts, gradients, strict=True)), norm.item()


def clip_by_loops(gradients, limit):
    length = sum(x**2 for g in gradients for x in g.flatten().tolist()) ** 0.5
    return [g / max(1.0, length / limit) for g in gradients], length


def accumulate_shares(weight, bias, pieces):
    """Each piece's own mean, weighed by its share of the targets."""
    real = [(targets != -100).sum().item() for _, targets in pieces]
    total = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for piece, n in zip(pieces, real, strict=True):
        if n:
            total = [t + g * n / sum(real) for t, g in zip(total, whole_gradient(weight, bias, [piece]), strict=True)]
    return total


def adamw_by_rates(weights, gradients, means, squares, t, rate, decay):
    """The corrections drawn into the rate and epsilon, the weights shrunk first."""
    root = (1 - 0.95**t) ** 0.5
    moved = []
    for i, w in enumerate(weights):
        means[i] = torch.lerp(means[i].double(), gradients[i].double(), 0.1)
        squares[i] = squares[i].double() * 0.95 + 0.05 * gradients[i].double() ** 2
        w = w * (1 - rate * decay) if w.ndim > 1 else w
        moved.append(w - rate * root / (1 - 0.9**t) * means[i] / (squares[i].sqrt() + 1e-8 * root))
    return moved, means, squares


def horner(matrix, coefficients, rounds):
    """The Gram matrix on the other side, the polynomial from within, in double precision."""
    x = matrix.double() / max(matrix.double().square().sum().sqrt().item(), 1e-30)
    for _ in range(rounds):
        inner = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64)
        for c in reversed(coefficients):
            inner = inner @ x.mT @ x + c * torch.eye(x.shape[1])
        x = x @ inner
    return x


def train_alone(inputs, targets, weight, bias, batch, steps, warmup):
    """Every part again in its other form, with autograd, without given functions."""
    weights = [weight.double(), bias.double()]
    means, squares = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    data = [(x.double(), y) for x, y in zip(inputs, targets, strict=True)] * (steps * batch)
    for k in range(steps):
        now = data[k * batch : (k + 1) * batch]
        pieces = [(x[None], y[None]) for x, y in now]
        gradients, _ = clip_one_vector(accumulate_shares(*weights, pieces), 1.0)
        factor = (k + 1) / (warmup + 1) if k < warmup else math.cos(math.pi / 2 * (k - warmup) / (steps - warmup)) ** 2
        weights, means, squares = adamw_by_rates(weights, gradients, means, squares, k + 1, 0.05 * factor, 0.1)
    return weights


UNUSUAL = {
    "q2": [loss_by_loops, loss_by_one_hot],
    "q3": [clip_one_vector, clip_by_loops],
    "q4": [whole_gradient, accumulate_shares],
    "q5": [torch_adamw, adamw_by_rates],
    "q6": [by_singular_values, horner],
    "q7": [torch_loop, train_alone],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None

"""The exercise of `algorithm/training`: from a ravine with a pencil to a training loop of your own."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

PADDING = -100
BETA1, BETA2, EPS = 0.9, 0.95, 1e-8
RATE, DECAY, LIMIT = 0.05, 0.1, 1.0  # of the training loop


def sequence_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Smoothed cross-entropy of logits (b, t, v) and targets (b, t), the mean over all that are not padding."""
    log_p, real = logits.log_softmax(dim=-1), targets != PADDING
    right = log_p.gather(-1, targets.clamp(min=0).long()[..., None])[..., 0]
    losses = -(1 - smoothing) * right - smoothing * log_p.mean(dim=-1)
    return losses[real].mean()


def clip_all(gradients: list[Tensor], limit: float) -> tuple[list[Tensor], Tensor]:
    """The gradients, shortened together to the length `limit` if they are longer, and their length before."""
    length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    return [g * (limit / length).clamp(max=1) for g in gradients], length


def accumulated_gradient(weight: Tensor, bias: Tensor, pieces: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Gradient of the mean loss over the targets of all pieces, for logits x @ weight + bias."""
    sums, count = _sums(weight, bias, pieces)
    return [part.sum(dim=0) / count.sum() for part in sums]


def _sums(weight: Tensor, bias: Tensor, pieces: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], Tensor]:
    """For each piece the gradient of the SUM of its losses, and its number of targets."""
    slopes, counts = [], []
    for inputs, targets in pieces:
        real, right = targets != PADDING, targets[:, None] == torch.arange(len(bias), device=bias.device)
        slope = ((inputs @ weight + bias).softmax(dim=-1) - right.to(bias.dtype)) * real[:, None]
        slopes.append((inputs.mT @ slope, slope.sum(dim=0)))
        counts.append(real.sum())
    return [torch.stack(parts) for parts in zip(*slopes, strict=True)], torch.stack(counts)


def adamw_step(
    weights: list[Tensor], gradients: list[Tensor], means: list[Tensor], squares: list[Tensor],
    t: int, rate: float, decay: float,
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:  # fmt: skip
    """The t-th step (t = 1, 2, ...) of AdamW: new weights, running means, running means of squares."""
    means = [BETA1 * m + (1 - BETA1) * g for m, g in zip(means, gradients, strict=True)]
    squares = [BETA2 * v + (1 - BETA2) * g * g for v, g in zip(squares, gradients, strict=True)]
    moved = []
    for w, m, v in zip(weights, means, squares, strict=True):
        step = (m / (1 - BETA1**t)) / ((v / (1 - BETA2**t)).sqrt() + EPS)
        moved.append(w - rate * step - (rate * decay * w if w.ndim >= 2 else 0))
    return moved, means, squares


def orthogonalise(matrix: Tensor, coefficients: list[float], rounds: int) -> Tensor:
    """Divide a matrix by its length, then apply an odd polynomial to it, so many times."""
    return _rounds(matrix / matrix.norm().clamp(min=1e-12), coefficients, rounds)


def _rounds(x: Tensor, coefficients: list[float], rounds: int) -> Tensor:
    """Each round takes X to c0 X + c1 (XX')X + c2 (XX')(XX')X + ..."""
    for _ in range(rounds):
        power, total = x, torch.zeros_like(x)
        for c in coefficients:
            total, power = total + c * power, x @ x.mT @ power
        x = total
    return x


def schedule(step: int, steps: int, warmup: int) -> float:
    """Fraction of the peak rate: a straight line up, then half a cosine down."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def train(
    inputs: Tensor, targets: Tensor, weight: Tensor, bias: Tensor, batch: int, steps: int, warmup: int, *,
    factor: Callable[[int, int, int], float] = schedule, limit: float = LIMIT, walks: bool = True,
    remembers: bool = True, optimizer: Callable[..., Any] = adamw_step,
) -> list[Tensor]:  # fmt: skip
    """Weight and bias after so many steps on batches taken in order (the keywords are for the mistakes below)."""
    weights = [weight, bias]
    means = squares = [torch.zeros_like(w) for w in weights]
    for k in range(steps):
        rows = (torch.arange(batch) + k * batch * walks) % len(inputs)
        gradients, _ = clip_all(accumulated_gradient(weights[0], weights[1], [(inputs[rows], targets[rows])]), limit)
        before = (means, squares) if remembers else ([0 * w for w in weights],) * 2
        weights, means, squares = optimizer(weights, gradients, *before, k + 1, RATE * factor(k, steps, warmup), DECAY)
    return weights


def _targets(draw: Draw, classes: int, *shape: int) -> Tensor:
    """Random targets of which a third is padding; the first is real, the last is not."""
    targets = torch.randint(classes, shape, generator=draw.generator)
    targets[torch.rand(shape, generator=draw.generator) < 1 / 3] = PADDING
    targets.view(-1)[0], targets.view(-1)[-1] = 1, PADDING
    return targets


def _loss_cases(draw: Draw) -> list[Case]:
    b, t, v = draw.sizes((2, 3), (4, 5), (6, 8))
    uneven = torch.tensor([[1, 2, 0, 2], [0, PADDING, PADDING, PADDING]])
    return [
        Case("one position, no padding, no smoothing", (draw.normal(1, 1, 2), torch.tensor([[1]]), 0.0)),
        Case("one position, smoothed", (draw.normal(1, 1, 3), torch.tensor([[2]]), 0.3)),
        Case("a long text and a short one, no smoothing", (draw.normal(2, 4, 3), uneven, 0.0)),
        Case("padding and smoothing", (2 * draw.normal(b, t, v), _targets(draw, v, b, t), 0.2)),
        Case("logits in the hundreds", (200 * draw.normal(b, t, v), _targets(draw, v, b, t), 0.1)),
    ]


def _clip_cases(draw: Draw) -> list[Case]:
    a, b, c = draw.sizes((2, 3), (4, 5), (6, 8))
    return [
        Case("one gradient of length 5, limit 1", ([torch.tensor([3.0, -4.0])], 1.0)),
        Case("short gradients, which stay as they are", ([0.01 * draw.normal(2), 0.01 * draw.normal(2)], 1.0)),
        Case("a matrix and a vector, too long", ([3 * draw.normal(a, b), 5 + draw.normal(c)], 2.0)),
        Case("one long, one short", ([0.1 * draw.normal(b), 9 + draw.normal(a, c), draw.normal(1)], 0.5)),
        Case("nothing but zeros", ([torch.zeros(2), torch.zeros(a, 1)], 1.0)),
    ]


def _gradient_cases(draw: Draw) -> list[Case]:
    d, v, a, b = draw.sizes((2, 3), (4, 5), (3, 5), (6, 8))
    weights = draw.normal(d, v), draw.normal(v)
    short, empty = torch.tensor([2, PADDING, PADDING]), torch.full((2,), PADDING)
    uneven = [(draw.normal(3, d), short), (draw.normal(b, d), torch.arange(b) % v)]
    return [
        Case("two pieces, of one target and of three", (
            draw.normal(1, 2), draw.normal(2),
            [(draw.normal(1, 1), torch.tensor([0])), (draw.normal(3, 1), torch.tensor([1, 1, 0]))])),
        Case("one piece with padding", (*weights, [(draw.normal(a, d), _targets(draw, v, a))])),
        Case("a short piece and a long one", (*weights, uneven)),
        Case("one piece of three is all padding", (*weights, [*uneven, (draw.normal(2, d), empty)])),
    ]  # fmt: skip


def _adamw_cases(draw: Draw) -> list[Case]:
    a, b, t = draw.sizes((2, 3), (4, 5), (3, 9))
    both = [draw.normal(a, b), 1 + draw.normal(b).abs()]
    zeros, tiny = [torch.zeros(a, b), torch.zeros(b)], 1e-7 * (torch.arange(b) % 2)
    squares = [0.1 + draw.normal(*w.shape).square() for w in both]
    gradients, one, zero = [draw.normal(a, b), draw.normal(b)], draw.normal(1), torch.zeros(1)
    return [
        Case("one number, its first step", ([one], [1 + draw.normal(1).abs()], [zero], [zero], 1, 0.1, 0.0)),
        Case("a matrix and a bias, their first step", (both, gradients, zeros, zeros, 1, 0.1, 0.5)),
        Case("a later step", (both, gradients, both, squares, t, 0.2, 0.3)),
        Case("gradients of 1e-7 and of zero", (both, [tiny.expand(a, b), -tiny], zeros, zeros, 1, 0.1, 0.0)),
    ]  # fmt: skip


def _matrix_cases(draw: Draw) -> list[Case]:
    a, b, c = draw.sizes((2, 3), (4, 5), (6, 8))
    cubic, quintic = [1.5, -0.5], [3.4445, -4.775, 2.0315]
    return [
        Case("two by two, one round", (3 * draw.normal(2, 2), cubic, 1)),
        Case("a wide matrix, several rounds", (0.1 * draw.normal(a, c), cubic, b)),
        Case("a tall matrix, three coefficients", (5 * draw.normal(c, b), quintic, 2)),
        Case("one coefficient alone", (draw.normal(b, c), [0.5], 2)),
        Case("a matrix of zeros", (torch.zeros(a, b), cubic, 2)),
    ]


def _train_cases(draw: Draw) -> list[Case]:
    n, d, v = draw.sizes((10, 13), (2, 3), (4, 5))
    start = 0.1 * draw.normal(d, v), draw.normal(v)
    inputs = draw.normal(n, d)
    inputs[[2, 5]] += torch.tensor([[10.0], [20.0]])  # gradients that need clipping, among others that do not
    targets, classes = torch.arange(n) % v, torch.tensor([0, 1, 1])
    padded = targets.clone()
    padded[1::3] = PADDING
    return [
        Case("one step, one batch", (draw.normal(3, 2), classes, draw.normal(2, 2), draw.normal(2), 3, 1, 0)),
        Case("three steps, two of them warm-up", (inputs, targets, *start, 4, 3, 2)),
        Case("more than once through the data", (inputs, targets, *start, 4, 9, 3)),
        Case("with padding", (inputs, padded, *start, 5, 6, 1)),
    ]  # fmt: skip


def _smoothed_among_wrong(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    v = logits.shape[-1]  # a share v / (v - 1) of the smoothing, spread evenly, leaves 1 - smoothing for the right one
    return sequence_loss(logits, targets, smoothing * v / (v - 1))


def _mean_of_means(weight: Tensor, bias: Tensor, pieces: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    sums, counts = _sums(weight, bias, pieces)
    return [sum(s / c for s, c in zip(part, counts.clamp(min=1), strict=True)) / len(pieces) for part in sums]


def _decays_all(weights: list[Tensor], *rest: Any) -> Any:
    moved, means, squares = adamw_step(weights, *rest)
    decay = rest[-1] * rest[-2]
    return [n - decay * w * (w.ndim < 2) for n, w in zip(moved, weights, strict=True)], means, squares


# fmt: off
EXERCISE = Exercise(
    name="training",
    chapter="algorithm/training",
    title="Training, from a ravine with a pencil to a loop of your own",
    given={"clip_all": clip_all, "accumulated_gradient": accumulated_gradient, "adamw_step": adamw_step},
    questions=(
        Question(
            id="q1", title="A ravine, by hand", kind="recall", points=1, minutes=5, answer="largest_rate",
            expects="the rate at which the steep direction stops shrinking; a number, right to two digits.",
            reference=2 / 50,  # curvatures 2 and 50
            rtol=0.0, atol=0.0005,
            hints=(
                "Write down the two slopes. By what number does one step multiply x, and by what number y?",
                "The slope across is 50 y. For which rates is the size of 1 - 50 times the rate below 1?",
            ),
            misconceptions=(
                Misconception("no slope taken", 2 / 25, "25 is taken for the curvature; the slope of 25 y² is 50 y."),
                Misconception("one step to the bottom", 1 / 50, "this is the rate that brings y to zero in one step."),
                Misconception("the gentle direction", 1.0, "only x was looked at; y explodes long before."),
                Misconception("the best rate", 2 / 52, "this is the rate that is best for both directions together."),
            ),
        ),
        Question(
            id="q2", title="A loss blind to padding", kind="code", points=2, minutes=10, answer="sequence_loss",
            expects="minus the log probabilities, weighted by the smoothed answer; the mean over all real targets.",
            reference=sequence_loss, cases=_loss_cases,
            forbidden=frozenset({"cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss", "KLDivLoss", "kl_div"}),
            hints=(
                "log_softmax gives all logarithms at once, safely. A loss for each position first, the average last.",
                "The smoothed answer gives every class the share smoothing / v, the right one 1 - smoothing on top.",
                "gather picks the right class; -100 is no index, so clamp the targets, and keep a mask.",
            ),
            misconceptions=(
                Misconception(
                    "padding in the average",
                    lambda logits, targets, s: sequence_loss(logits, targets, s) * (targets != PADDING).float().mean(),
                    "the sum is divided by the number of all positions, padding included."),
                Misconception(
                    "padding is class 0", lambda logits, targets, s: sequence_loss(logits, targets.clamp(min=0), s),
                    "padding is treated as a target of class 0."),
                Misconception(
                    "every text alike",
                    lambda logits, targets, s: torch.stack(
                        [sequence_loss(*text, s) for text in zip(logits, targets, strict=True)]).mean(),
                    "each text is averaged by itself, so that a target in a short text counts for more."),
                Misconception(
                    "smoothed among the wrong", _smoothed_among_wrong,
                    "the smoothing is shared among the wrong classes only; it goes to all v classes."),
                Misconception(
                    "logarithm of zero", lambda logits, *rest: sequence_loss(logits.softmax(dim=-1).log(), *rest),
                    "a probability became zero before its logarithm was taken."),
            ),
        ),
        Question(
            id="q3", title="Clip all together", kind="code", points=2, minutes=10, answer="clip_all",
            expects="all gradients times one common factor (1 if they are short enough), and their length before.",
            reference=clip_all, cases=_clip_cases,
            forbidden=frozenset({"clip_grad_norm_", "clip_grads_with_norm_", "get_total_norm", "clip_grad_norm"}),
            hints=(
                "Imagine all gradients written one after the other as a single long vector. How long is it?",
                "The length is the root of the sum of all squares. A vector that is short enough is multiplied by 1.",
            ),
            misconceptions=(
                Misconception(
                    "each by itself",
                    lambda all, limit: ([clip_all([g], limit)[0][0] for g in all], clip_all(all, 1)[1]),
                    "each tensor is clipped by itself; that changes the direction of the whole."),
                Misconception(
                    "each number",
                    lambda all, limit: ([g.clamp(-limit, limit) for g in all], clip_all(all, 1)[1]),
                    "each number is clipped by itself; that changes the direction."),
                Misconception(
                    "short ones stretched",
                    lambda all, limit: ([g * limit / clip_all(all, 1)[1] for g in all], clip_all(all, 1)[1]),
                    "short gradients are made longer."),
                Misconception(
                    "length after",
                    lambda all, limit: (clip_all(all, limit)[0], clip_all(all, 1)[1].clamp(max=limit)),
                    "the length after clipping is returned; the one before is asked for."),
            ),
        ),
        Question(
            id="q4", title="Find the bug: pieces of a batch", kind="find the bug", points=3, minutes=10,
            answer="accumulated_gradient",
            expects="the gradient of the mean loss over all real targets, as if all pieces were one batch.",
            reference=accumulated_gradient, cases=_gradient_cases,
            hints=(
                "Take a piece of one target and a piece of three. With what weight does each target enter "
                "the mean of the whole batch, and with what weight does it enter here?",
                "A mean of means is the mean only if all pieces are of one size, and targets count, not rows.",
                "Let each piece give a sum; divide once by the number of real targets in all pieces.",
            ),
            misconceptions=(
                Misconception("the bug itself", _mean_of_means, "every piece still counts the same."),
                Misconception(
                    "means added up", lambda w, b, pieces: [len(pieces) * g for g in _mean_of_means(w, b, pieces)],
                    "the means of the pieces are added up."),
                Misconception(
                    "sum", lambda w, b, pieces: [part.sum(dim=0) for part in _sums(w, b, pieces)[0]],
                    "the losses are added up and never divided by their number."),
                Misconception(
                    "divided by rows",
                    lambda w, b, pieces: [
                        part.sum(dim=0) / sum(len(piece[1]) for piece in pieces) for part in _sums(w, b, pieces)[0]],
                    "the sum is divided by the number of all rows, padding included."),
            ),
        ),
        Question(
            id="q5", title="A step of AdamW", kind="code", points=3, minutes=15, answer="adamw_step",
            expects="the new weights, means and means of squares: three lists; matrices decay, vectors do not.",
            reference=adamw_step, cases=_adamw_cases,
            forbidden=frozenset({"AdamW", "Adam", "adamw", "adam"}),
            hints=(
                "Update the means first. What is returned are the means before their correction.",
                "At t = 1 the corrections undo the 0.1 and the 0.05, and the step has the size of the rate. Has yours?",
                "The decay takes rate times decay times the old weight, never touches the means, asks for w.ndim >= 2.",
            ),
            misconceptions=(
                Misconception(
                    "no correction", lambda w, g, m, v, t, *rest: adamw_step(w, g, m, v, 10**6, *rest),
                    "the means are not corrected for their start at zero."),
                Misconception("vectors decay", _decays_all, "vectors decay, too; only matrices should."),
                Misconception(
                    "decay in the gradient",
                    lambda w, g, m, v, t, rate, decay: adamw_step(
                        w, [y + decay * x * (x.ndim > 1) for x, y in zip(w, g, strict=True)], m, v, t, rate, 0.0),
                    "the decay is added to the gradient (Adam with L2); there it is divided by the root as well."),
                Misconception(
                    "decay without the rate",
                    lambda w, g, m, v, t, rate, decay: adamw_step(w, g, m, v, t, rate, decay / rate),
                    "the decay is not multiplied by the learning rate."),
            ),
        ),
        Question(
            id="q6", title="Act on the strengths alone", kind="code", points=3, minutes=10, answer="orthogonalise",
            expects="the matrix divided by its length, then the odd polynomial of matrix products, so many times over.",
            reference=orthogonalise, cases=_matrix_cases,
            forbidden=frozenset({"svd", "svdvals", "svd_lowrank", "eigh", "eig", "pinv"}),
            hints=(
                "Each product is X times its transpose times the product before it; the first is X.",
                "A loop over the coefficients inside a loop over the rounds; each round begins with the last one's X.",
                "The length is the root of the sum of squares. Never divide by zero: clamp it to something tiny.",
            ),
            misconceptions=(
                Misconception(
                    "number by number",
                    lambda x, *rest: _rounds((x / x.norm().clamp(min=1e-12))[..., None, None], *rest)[..., 0, 0],
                    "each number is raised to powers by itself; matrix products are meant."),
                Misconception("not divided", _rounds, "the matrix is not divided by its length at the start."),
                Misconception(
                    "divided by the largest", lambda x, *rest: _rounds(x / x.abs().max().clamp(min=1e-12), *rest),
                    "the matrix is divided by its largest number; its length is meant."),
                Misconception(
                    "zero by zero", lambda x, *rest: _rounds(x / x.norm(), *rest),
                    "a matrix of zeros is divided by zero."),
            ),
        ),
        Question(
            id="q7", title="Design: the whole loop", kind="code", points=4, minutes=20, answer="train",
            expects="weight and bias after all steps: batch, gradient, clip, rate of this step, AdamW, in this order.",
            reference=train, cases=_train_cases,
            forbidden=frozenset({"AdamW", "Adam", "adamw", "adam", "schedule_factor"}),
            hints=(
                "What must survive from step to step? The weights, and AdamW's memory. What is new each time?",
                "Rows k * batch to (k + 1) * batch - 1, taken round the end of the data: a remainder.",
                "Check step 0 alone: with warmup 0 its rate is 0.05, and every weight moves by about that much.",
            ),
            misconceptions=(
                Misconception(
                    "constant rate", lambda *a: train(*a, factor=lambda *_: 1.0), "the rate is the same in all steps."),
                Misconception("no clipping", lambda *a: train(*a, limit=math.inf), "the gradient is never clipped."),
                Misconception(
                    "no memory", lambda *a: train(*a, remembers=False), "AdamW's memory is lost in each step."),
                Misconception("first batch only", lambda *a: train(*a, walks=False), "each step sees the first batch."),
                Misconception("bias decays", lambda *a: train(*a, optimizer=_decays_all), "the bias decays, too."),
            ),
        ),
        Question(
            id="q8", title="Measure: Adam in pure noise", kind="experiment", points=2, minutes=10, answer="step_size",
            expects="the root of the mean square of Adam's steps 51 to 100 over all weights, in units of the rate.",
            reference=0.226, accepts=lambda value: 0.212 <= value <= 0.241, rtol=0.03,
            hints=(
                "One tensor can hold all weights. A hundred times: torch.randn as gradient, a step of Adam.",
                "A step is the weight after it minus the weight before. Square all, then average, then take the root.",
            ),
            misconceptions=(
                Misconception("a constant gradient", 1.0, "the gradient is the same in every step."),
                Misconception("no root", 0.051, "the root of the mean square is missing."),
                Misconception("mean size", 0.183, "this is the mean size; the root of the mean square is asked for."),
                Misconception("the whole walk", 10.5, "this is the way from start to end, not one step."),
                Misconception("all steps", 0.282, "the first fifty steps are in the average, too."),
            ),
        ),
    ),
)

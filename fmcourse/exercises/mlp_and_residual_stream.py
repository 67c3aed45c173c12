"""The exercise of `mathematics/mlp_and_residual_stream`: from weights set by hand to who wrote a prediction."""

from collections.abc import Callable

import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

EPS = 1e-5  # under the roots of normalisation


def larger(x: Tensor) -> Tensor:
    """The larger of two numbers: (..., 2) gives (..., 1), with three hidden units."""
    # max(0, a) - max(0, -a) is a, whatever its sign; max(0, b - a) is what is missing when b is larger.
    up, down = torch.tensor([[1.0, 0], [-1, 0], [-1, 1]]), torch.tensor([[1.0, -1, 1]])
    return _relu(x.float() @ up.T) @ down.T


def _relu(z: Tensor) -> Tensor:
    return z.clamp(min=0)


def gated(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU: (..., d) gives (..., d); gate and up are (k, d), down is (d, k)."""
    return (_silu(x @ gate.T) * (x @ up.T)) @ down.T


def _silu(z: Tensor) -> Tensor:
    return z * z.sigmoid()


def layer_norm(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """Every token for itself: its mean taken away, divided by its standard deviation, then gain and shift."""
    return _norm(x, gain, shift, (-1,))


def _norm(x: Tensor, gain: Tensor, shift: Tensor, over: tuple[int, ...], centred: bool = True) -> Tensor:
    left = x - x.mean(dim=over, keepdim=True) if centred else x
    return gain * left / (left.square().mean(dim=over, keepdim=True) + EPS).sqrt() + shift


def _unbiased(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    left = x - x.mean(dim=-1, keepdim=True)
    return gain * left / (x.var(dim=-1, keepdim=True) + EPS).sqrt() + shift


def weights(noise: Tensor, slope: float) -> Tensor:
    """Weights (n_out, n_in) that keep the mean square through a bend with this slope on the left and 1 on the right."""
    return noise * (2 / (1 + slope**2) / noise.shape[1]) ** 0.5


def _scaled_by(scale: Callable[[float, int, int], float]) -> Callable[[Tensor, float], Tensor]:
    return lambda noise, slope: noise * torch.tensor(scale(slope, *noise.shape))


def block(x: Tensor, gain: Tensor, shift: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The second half of a pre-norm block: what the layer reads is normalised, the stream is not."""
    return x + gated(layer_norm(x, gain, shift), gate, up, down)


def credit(start: Tensor, writes: Tensor, gain: Tensor, rows: Tensor) -> Tensor:
    """The part (n + 1, v) of the logits that comes from the embedding (d) and from each of n writes (n, d)."""
    parts = torch.cat([start[None], writes])
    size = (parts.sum(dim=0).square().mean() + EPS).sqrt()  # one number, that of the whole stream
    return (parts * gain / size) @ rows.T


def _read(stream: Tensor, gain: Tensor, rows: Tensor) -> Tensor:
    return (gain * stream / (stream.square().mean(dim=-1, keepdim=True) + EPS).sqrt()) @ rows.T


def _each_by_its_own(start: Tensor, writes: Tensor, gain: Tensor, rows: Tensor) -> Tensor:
    return _read(torch.cat([start[None], writes]), gain, rows)


def _lens(start: Tensor, writes: Tensor, gain: Tensor, rows: Tensor) -> Tensor:
    seen = _read(torch.cat([start[None], writes]).cumsum(dim=0), gain, rows)
    return torch.cat([seen[:1], seen.diff(dim=0)])


def _not_divided(start: Tensor, writes: Tensor, gain: Tensor, rows: Tensor) -> Tensor:
    return (torch.cat([start[None], writes]) * gain) @ rows.T


def _larger_cases(draw: Draw) -> list[Case]:
    b, t = draw.sizes((2, 3), (4, 7))
    return [
        Case("the second is larger", (torch.tensor([[2.0, 5.0]]),)),
        Case("the first is larger", (torch.tensor([[4.0, 1.0]]),)),
        Case("both are negative", (torch.tensor([[-1.0, -3.0], [-6.0, -2.0]]),)),
        Case("any numbers", (4 * draw.normal(t, 2),)),
        Case("a batch", (4 * draw.normal(b, t, 2),)),
    ]


def _gated_weights(draw: Draw, d: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    return draw.normal(k, d), draw.normal(k, d), draw.normal(d, k) / k**0.5


def _gated_cases(draw: Draw) -> list[Case]:
    b, t, k = draw.sizes((2, 3), (4, 5), (7, 11))
    return [
        Case("one token of width 2, two hidden units", (draw.normal(1, 2) + 1, *_gated_weights(draw, 2, 2))),
        Case("width 3 and 8 hidden units", (draw.normal(2, 3), *_gated_weights(draw, 3, 8))),
        Case("a batch", (draw.normal(b, t, 6), *_gated_weights(draw, 6, k))),
    ]


def _norm_cases(draw: Draw) -> list[Case]:
    b, t, d = draw.sizes((2, 3), (4, 6), (7, 12))
    return [
        Case("two tokens of width 3", (draw.normal(2, 3) + torch.tensor([-2, 1, 6]), torch.ones(3), torch.zeros(3))),
        Case("tokens of very different size", (
            draw.normal(t, d) * torch.logspace(-1, 1, t)[:, None], draw.normal(d), draw.normal(d))),
        Case("a batch", (2 * draw.normal(b, t, d) + torch.arange(b)[:, None, None], draw.normal(d), draw.normal(d))),
    ]  # fmt: skip


def _weights_cases(draw: Draw) -> list[Case]:
    n_out, n_in, tenths = draw.sizes((3, 5), (6, 9), (1, 6))
    return [
        Case("no bend at all, two inputs", (draw.normal(1, 2), 1.0)),
        Case("ReLU, three inputs", (draw.normal(2, 3), 0.0)),
        Case("the absolute value", (draw.normal(3, 2), -1.0)),
        Case("a leaky ReLU, more inputs than outputs", (draw.normal(n_out, n_in), tenths / 10)),
    ]


def _block_cases(draw: Draw) -> list[Case]:
    b, t, d, k = draw.sizes((2, 3), (4, 6), (7, 8), (9, 12))
    return [
        Case("one token of width 3", (
            draw.normal(1, 3) + torch.tensor([-2, 1, 6]), torch.ones(3), torch.zeros(3), *_gated_weights(draw, 3, 2))),
        Case("several tokens", (3 * draw.normal(t, d), draw.normal(d), draw.normal(d), *_gated_weights(draw, d, k))),
        Case("a batch", (3 * draw.normal(b, t, d), draw.normal(d), draw.normal(d), *_gated_weights(draw, d, k))),
    ]  # fmt: skip


def _credit_cases(draw: Draw) -> list[Case]:
    n, d, v = draw.sizes((3, 6), (7, 10), (11, 14))
    return [
        Case("one write, width 2, one logit", (draw.normal(2), draw.normal(1, 2), torch.ones(2), draw.normal(1, 2))),
        Case("two writes", (draw.normal(3), draw.normal(2, 3), draw.normal(3), draw.normal(4, 3))),
        Case("many writes", (draw.normal(d), 2 * draw.normal(n, d), draw.normal(d), draw.normal(v, d))),
    ]


EXERCISE = Exercise(
    name="mlp_and_residual_stream",
    chapter="mathematics/mlp_and_residual_stream",
    title="MLP and residual stream, from weights by hand to who wrote a prediction",
    given={"gated": gated, "layer_norm": layer_norm},
    questions=(
        Question(
            id="q1",
            title="By hand",
            kind="recall",
            points=1,
            minutes=5,
            answer="last_entry",
            expects="the last of the four entries after LayerNorm, right to two digits after the point.",
            reference=3**0.5,  # that of (0, 0, 0, 1): mean 1/4, variance 3/16
            hints=(
                "LayerNorm does not notice when the same number is taken from all entries, nor when all are divided "
                "by the same positive number. Which simple vector gives the same result?",
                "Of (0, 0, 0, 1): what is the mean, what are the distances from it, what is the mean of their squares?",
            ),
            misconceptions=(
                Misconception("unbiased", 1.5, "the squares are added up and divided by 3; LayerNorm divides by 4."),
                Misconception("RMSNorm", 2.0, "this is RMSNorm: the mean has not been taken away."),
                Misconception("only divided", 1005 / 187_500**0.5, "the mean is taken away below, but not above."),
                Misconception("no root", 750 / 187_500, "this is divided by the variance, not by its square root."),
            ),
            atol=0.006,
        ),
        Question(
            id="q2",
            title="Three hidden units",
            kind="code",
            points=3,
            minutes=15,
            answer="larger",
            expects="for every pair of numbers the larger of the two, also when they are negative.",
            reference=larger,
            cases=_larger_cases,
            hints=(
                "The larger of a and b is a, plus something that is zero when a is the larger. Which hidden unit is "
                "that something?",
                "That leaves two units to let a through. One of them passes a when a is positive.",
                "The other one is there for a negative a: what does max(0, -a) give, and with which weight must it "
                "be added?",
            ),
            misconceptions=(
                Misconception(
                    "lost below zero", lambda x: _relu(x[..., :1]) + _relu(x.diff(dim=-1)), "a negative a gets lost."
                ),
                Misconception("smaller", lambda x: -larger(-x), "this is the smaller of the two."),
                Misconception("distance", lambda x: x.diff(dim=-1).abs(), "this is how far apart the two are."),
                Misconception("sum", lambda x: x.sum(dim=-1, keepdim=True), "this is the sum of the two: no bend."),
            ),
            forbidden=frozenset({"max", "maximum", "amax", "fmax", "where", "topk", "sort"}),
        ),
        Question(
            id="q3",
            title="A gate",
            kind="code",
            points=2,
            minutes=10,
            answer="gated",
            expects="down times (SiLU of the gate's units, times the other units, entry by entry), for every token.",
            reference=gated,
            cases=_gated_cases,
            hints=(
                "A weight matrix has a row for each output: x (..., d) with gate (k, d) to (..., k) is x @ gate.T.",
                "SiLU(z) is z times the logistic function of z. Only the gate's units go through it.",
                "Multiply the two vectors of hidden units entry by entry, then go down to width d.",
            ),
            misconceptions=(
                Misconception(
                    "the other way round", lambda x, g, u, d: gated(x, u, g, d), "the bend is on up, not on the gate."
                ),
                Misconception(
                    "bent twice",
                    lambda x, g, u, d: (_silu(x @ g.T) * _silu(x @ u.T)) @ d.T,
                    "both vectors of hidden units go through SiLU; only the gate's should.",
                ),
                Misconception(
                    "sigmoid", lambda x, g, u, d: ((x @ g.T).sigmoid() * (x @ u.T)) @ d.T, "SiLU's factor z is missing."
                ),
                Misconception(
                    "added", lambda x, g, u, d: (_silu(x @ g.T) + x @ u.T) @ d.T, "the two are added, not multiplied."
                ),
            ),
            forbidden=frozenset({"FeedForward", "activate"}),
            atol=1e-4,
        ),
        Question(
            id="q4",
            title="Find the bug: what the first token knows",
            kind="find the bug",
            points=3,
            minutes=10,
            answer="layer_norm",
            expects="every token normalised for itself, over its d entries, then times gain plus shift.",
            reference=layer_norm,
            cases=_norm_cases,
            hints=(
                "Give it one token, then the same token with another one after it. Is the result for the first the "
                "same?",
                "How many means are computed for x of shape (2, 5, 7), and how many should be?",
                "A token's mean and variance are taken over its own entries: the last dimension and no other.",
            ),
            misconceptions=(
                Misconception(
                    "the bug itself", lambda x, g, s: _norm(x, g, s, (-2, -1)), "all tokens of a text share one mean."
                ),
                Misconception(
                    "over positions", lambda x, g, s: _norm(x, g, s, (-2,)), "means are taken over the positions."
                ),
                Misconception(
                    "over all", lambda x, g, s: _norm(x, g, s, tuple(range(x.ndim))), "one mean is taken of everything."
                ),
                Misconception(
                    "RMSNorm", lambda x, g, s: _norm(x, g, s, (-1,), centred=False), "the mean is not taken away."
                ),
                Misconception("unbiased", _unbiased, "the variance is divided by d - 1; LayerNorm divides by d."),
            ),
            forbidden=frozenset({"layer_norm", "LayerNorm", "native_layer_norm"}),
        ),
        Question(
            id="q5",
            title="How large should the weights be?",
            kind="code",
            points=2,
            minutes=10,
            answer="weights",
            expects="the noise times one number, so chosen that the mean square on average stays what it was.",
            reference=weights,
            cases=_weights_cases,
            hints=(
                "First without a bend: one output is a sum of as many products as there are inputs. What must the "
                "variance of a weight be so that the sum is as large as one input?",
                "Now the bend. Half of the h are positive and keep their square. What becomes of the square of the "
                "other half? What is the mean of the two?",
                "The bend multiplies the mean square by (1 + slope²) / 2, and the weights' variance must undo that. "
                "The noise has variance 1: from a variance to a factor there is a root.",
            ),
            misconceptions=(
                Misconception(
                    "outputs",
                    _scaled_by(lambda a, n_out, n_in: (2 / (1 + a * a) / n_out) ** 0.5),
                    "outputs are counted.",
                ),
                Misconception("no bend", _scaled_by(lambda a, n_out, n_in: n_in**-0.5), "the bend is forgotten."),
                Misconception(
                    "always ReLU", _scaled_by(lambda a, n_out, n_in: (2 / n_in) ** 0.5), "the slope is forgotten."
                ),
                Misconception(
                    "no root", _scaled_by(lambda a, n_out, n_in: 2 / (1 + a * a) / n_in), "the root is missing."
                ),
                Misconception(
                    "not squared",
                    _scaled_by(lambda a, n_out, n_in: (2 / (1 + abs(a)) / n_in) ** 0.5),
                    "the mean is taken of sizes; it should be one of squares.",
                ),
            ),
            forbidden=frozenset({"calculate_gain", "kaiming_normal_", "kaiming_uniform_"}),
        ),
        Question(
            id="q6",
            title="Find the bug: a stream that forgets",
            kind="find the bug",
            points=2,
            minutes=10,
            answer="block",
            expects="the stream as it came, plus what the layer makes of the normalised stream.",
            reference=block,
            cases=_block_cases,
            hints=(
                "With `down` full of zeros the layer writes nothing. What should come out, and what does?",
                "There are two uses of x after the normalisation. Which of them should see the normalised x?",
            ),
            misconceptions=(
                Misconception(
                    "the bug itself",
                    lambda x, g, s, *w: layer_norm(x, g, s) + gated(layer_norm(x, g, s), *w),
                    "the normalised stream takes the place of the stream.",
                ),
                Misconception(
                    "post-norm", lambda x, g, s, *w: layer_norm(x + gated(x, *w), g, s), "the sum is normalised."
                ),
                Misconception(
                    "writes normalised",
                    lambda x, g, s, *w: x + layer_norm(gated(x, *w), g, s),
                    "writes are normalised.",
                ),
                Misconception("raw", lambda x, g, s, *w: x + gated(x, *w), "nothing is normalised."),
                Misconception(
                    "no stream", lambda x, g, s, *w: gated(layer_norm(x, g, s), *w), "nothing is added to the stream."
                ),
            ),
            atol=1e-4,
        ),
        Question(
            id="q7",
            title="Measure: how a stream grows",
            kind="experiment",
            points=2,
            minutes=15,
            answer="growth",
            expects="how many times as large (root mean square) the stream is after 32 layers, mean of 20 networks.",
            reference=3.8,
            accepts=lambda value: 3.64 <= value <= 3.98,
            hints=(
                "A loop over 32 layers, each with fresh weights: read the normalised stream, up, GELU, down, and add "
                "to the stream. torch.nn.functional has rms_norm and gelu.",
                "Root mean square: square everything, mean, root. Divide that of the end by that of the beginning.",
            ),
            misconceptions=(
                Misconception("not normalised", 507.0, "the layers read the stream without normalising it."),
                Misconception("replaced", 0.64, "each layer's output replaces the stream."),
                Misconception("post-norm", 1.0, "the stream itself is normalised."),
                Misconception("divided", 1.19, "the writes are divided by the root of 32: that comes afterwards."),
                Misconception("no root", 14.6, "this is the ratio of mean squares, without the root."),
                Misconception("as for ReLU", 17**0.5, "GELU is taken to halve the mean square, as ReLU does."),
            ),
        ),
        Question(
            id="q8",
            title="Design: who wrote the prediction?",
            kind="code",
            points=4,
            minutes=15,
            answer="credit",
            expects="rows for the embedding and each layer that add up to the logits, whatever the order of layers.",
            reference=credit,
            cases=_credit_cases,
            hints=(
                "Without the normalisation it would be easy: a matrix times a sum is a sum. Which step of the "
                "normalisation is not linear?",
                "It divides by one number. Which stream is that number the size of, when the model reads out?",
                "Compute that number once, from the sum of everything. Then give it, the gain and the rows to each "
                "summand alone.",
            ),
            misconceptions=(
                Misconception("each by its own", _each_by_its_own, "each summand is divided by its own size."),
                Misconception("logit lens", _lens, "these are steps of the logit lens; they depend on the order."),
                Misconception("not divided", _not_divided, "nothing is divided by the size of the stream."),
                Misconception(
                    "no gain", lambda x, w, g, rows: credit(x, w, torch.ones_like(g), rows), "the gain is missing."
                ),
                Misconception("no embedding", lambda *args: credit(*args)[1:], "the embedding has no row."),
            ),
        ),
    ),
)

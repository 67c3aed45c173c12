"""The exercise of `mathematics/backpropagation_through_attention`: backward passes with a pencil, then in tiles."""

from collections.abc import Callable
from functools import partial

import torch
from einops import reduce, repeat
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

IGNORED = -100
# Doors to automatic differentiation, and to torch's own backward passes.
AUTOMATIC = frozenset(
    "autograd backward requires_grad requires_grad_ vjp jvp jacrev jacfwd func functorch ops "
    "_softmax_backward_data".split()
)


def softmax_backward(dp: Tensor, p: Tensor, temperature: float) -> Tensor:
    """The gradient of scores s, when p = softmax(s / temperature) has the gradient dp; all are (..., s)."""
    return p * (dp - (p * dp).sum(dim=-1, keepdim=True)) / temperature


def head_backward(x: Tensor, table: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """dx (t, m) and dtable (v, m) of the mean cross-entropy of logits x @ table.mT; targets of -100 do not count."""
    counted = targets >= 0
    p = (x @ table.mT).softmax(dim=-1)
    right = targets[:, None] == torch.arange(len(table))
    dz = (p - right.to(p)) * counted[:, None] / counted.sum()
    return dz @ table, dz.mT @ x


def unit_backward(dy: Tensor, x: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """dx (..., d) and dgain (d) of y = gain * x / |x|, where |x| is the length of each row."""
    length = x.norm(dim=-1, keepdim=True)
    unit, dunit = x / length, gain * dy
    dx = (dunit - unit * (unit * dunit).sum(dim=-1, keepdim=True)) / length
    return dx, (dy * unit).flatten(0, -2).sum(dim=0)


def embedding_backward(dx: Tensor, tokens: Tensor, n_rows: int) -> Tensor:
    """The gradient (n_rows, m) of a table whose rows `tokens` (b, t) were looked up, from dx (b, t, m)."""
    return dx.new_zeros(n_rows, dx.shape[-1]).index_add(0, tokens.flatten(), dx.flatten(0, 1))


def attention_backward(
    do: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor, through: Callable[..., Tensor] = softmax_backward
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv; queries (h, t, d), keys (g, s, d), values (g, s, e): h / g neighbouring heads share keys, values."""
    shared = len(q) // len(k)
    keys, values = (repeat(each, "g s d -> (g shared) s d", shared=shared) for each in (k, v))
    ds = through(do @ values.mT, p, q.shape[-1] ** 0.5)
    dk, dv = (reduce(each, "(g shared) s d -> g s d", "sum", shared=shared) for each in (ds.mT @ q, p.mT @ do))
    return ds @ keys, dk, dv


def add_tile(output: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, may_attend: Tensor) -> tuple[Tensor, Tensor]:
    """Output (t, e) and log-sum-exp (t) of the keys so far and of a new tile: keys (c, d), values (c, e)."""
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~may_attend, -torch.inf)
    new = torch.logaddexp(lse, scores.logsumexp(dim=-1))
    scale = new.nan_to_num(neginf=0.0)  # a row that has seen nothing: any finite number does
    return (lse - scale).exp()[:, None] * output + (scores - scale[:, None]).exp() @ v, new


def _softmax_cases(draw: Draw) -> list[Case]:
    b, t, s = draw.sizes((2, 3), (4, 5), (6, 8))

    def weights(*shape: int) -> Tensor:
        return draw.normal(*shape).softmax(dim=-1)

    sure = torch.eye(3)[:2]
    causal = draw.normal(4, 4).masked_fill(torch.ones(4, 4).triu(1) > 0, -torch.inf).softmax(dim=-1)
    return [
        Case("one row of three weights, temperature 1", (draw.normal(1, 3), weights(1, 3), 1.0)),
        Case("several rows", (draw.normal(t, s), weights(t, s), 2.0)),
        Case("a batch of tables", (draw.normal(b, t, s), weights(b, t, s), 0.5)),
        Case("forbidden keys, whose weight is 0", (draw.normal(4, 4), causal, 3.0)),
        Case("rows that are sure of one key", (draw.normal(2, 3), sure, 2.0)),
    ]


def _head_cases(draw: Draw) -> list[Case]:
    t, m, v = draw.sizes((4, 6), (7, 9), (10, 14))

    def targets(t: int, v: int) -> Tensor:
        return torch.randint(v, (t,), generator=draw.generator)

    some = targets(t, v)
    some[[0, -1]] = IGNORED
    large = [torch.randint(-1, 2, (n, 4), generator=draw.generator).float() for n in (2, 5)]
    large[0][:, 0], large[1][:, 0] = 50, 20  # whole numbers: logits near 1000, exact in any precision
    return [
        Case("two positions, three words", (draw.normal(2, 2), draw.normal(3, 2), targets(2, 3))),
        Case("two positions, the first does not count", (
            draw.normal(2, 3), draw.normal(4, 3), torch.tensor([IGNORED, 2]))),
        Case("some positions do not count", (draw.normal(t, m), draw.normal(v, m), some)),
        Case("logits near 1000", (*large, torch.tensor([1, 3]))),
    ]  # fmt: skip


def _unit_cases(draw: Draw) -> list[Case]:
    b, h, t, d = draw.sizes((2, 3), (2, 3), (4, 6), (7, 9))
    return [
        Case("one vector, (3, 4)", (draw.normal(1, 2), torch.tensor([[3.0, 4.0]]), draw.normal(2))),
        Case("several vectors", (draw.normal(t, d), draw.normal(t, d), draw.normal(d))),
        Case("a batch of heads", (draw.normal(b, h, t, d), 3 * draw.normal(b, h, t, d), draw.normal(d))),
    ]


def _embedding_cases(draw: Draw) -> list[Case]:
    b, t, m, v = draw.sizes((2, 3), (8, 10), (4, 6), (5, 7))
    tokens = torch.randint(v - 1, (b, t), generator=draw.generator)
    return [
        Case("one text of three words, the first comes again", (draw.normal(1, 3, 1), torch.tensor([[1, 0, 1]]), 2)),
        Case("two texts, and a word that is in neither", (draw.normal(2, 2, 3), torch.tensor([[3, 1], [0, 3]]), 4)),
        Case("a batch of long texts", (draw.normal(b, t, m), tokens, v)),
    ]


def _all(t: int, s: int) -> Tensor:
    return torch.ones(t, s, dtype=torch.bool)


def _attention_cases(draw: Draw) -> list[Case]:
    g, shared, t, s, d, e = draw.sizes((2, 3), (2, 3), (3, 4), (5, 7), (8, 10), (11, 13))

    def case(about: str, h: int, g: int, t: int, s: int, d: int, e: int, may_attend: Tensor) -> Case:
        do, q, k, v = draw.normal(h, t, e), draw.normal(h, t, d), draw.normal(g, s, d), draw.normal(g, s, e)
        scores = q @ k.repeat_interleave(h // g, dim=0).mT / d**0.5
        return Case(about, (do, q, k, v, scores.masked_fill(~may_attend, -torch.inf).softmax(dim=-1)))

    return [
        case("one head, two queries, two keys", 1, 1, 2, 2, 3, 1, _all(2, 2)),
        case("two query heads share their keys and values", 2, 1, 2, 3, 4, 2, _all(2, 3)),
        case("four query heads, two of keys and values, a causal mask", 4, 2, 4, 4, 3, 5, _all(4, 4).tril()),
        case("any sizes, any mask", g * shared, g, t, s, d, e, draw.mask(t, s)),
    ]


def _tile_cases(draw: Draw) -> list[Case]:
    t, c, d, e = draw.sizes((3, 4), (5, 6), (7, 8), (9, 10))

    def case(about: str, lse: Tensor, q: Tensor, k: Tensor, e: int, may_attend: Tensor) -> Case:
        output = draw.normal(len(q), e).masked_fill((lse == -torch.inf)[:, None], 0.0)
        return Case(about, (output, lse, q, k, draw.normal(len(k), e), may_attend))

    new = torch.full((2,), -torch.inf)
    mixed = torch.tensor([-torch.inf, 0.5, -torch.inf])
    hidden = torch.tensor([[False, False], [False, False], [True, False]])
    large = [torch.randint(-1, 2, (n, 4), generator=draw.generator).float() for n in (2, 3)]
    large[0][:, 0], large[1][:, 0] = 20, 20  # scores near 200
    return [
        Case("the first tile", (
            torch.zeros(2, 2), new, draw.normal(2, 2), draw.normal(2, 2), draw.normal(2, 2), _all(2, 2))),
        case("another tile, all visible", draw.normal(2), draw.normal(2, 4), draw.normal(3, 4), 2, _all(2, 3)),
        case("any mask", draw.normal(t), draw.normal(t, d), draw.normal(c, d), e, draw.mask(t, c)),
        case("scores near 200", 200 + draw.normal(2), large[0], large[1], 3, _all(2, 3)),
        case("queries that see nothing in this tile, one of them nothing ever",
             mixed, draw.normal(3, 4), draw.normal(2, 4), 3, hidden),
    ]  # fmt: skip


def _times(factor: float | Tensor, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(factor * each for each in gradients)


def _ignored_push(x: Tensor, table: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    right = targets[:, None] == torch.arange(len(table))
    dz = ((x @ table.mT).softmax(dim=-1) - right.float()) / (targets >= 0).sum()
    return dz @ table, dz.mT @ x


def _one_wins(dx: Tensor, tokens: Tensor, n_rows: int, step: int) -> Tensor:
    table = dx.new_zeros(n_rows, dx.shape[-1])
    for token, row in list(zip(tokens.flatten().tolist(), dx.flatten(0, 1), strict=True))[::step]:
        table[token] = row
    return table


def _in_turn(do: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor) -> tuple[Tensor, ...]:
    order = torch.arange(len(q)).view(-1, len(k)).mT.flatten()  # heads 0, g, 2g, ... share the first keys
    dq, dk, dv = attention_backward(do[order], q[order], k, v, p[order])
    return dq[order.argsort()], dk, dv


def _overflows(output: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, may_attend: Tensor) -> tuple[Tensor, ...]:
    powers = (q @ k.mT / q.shape[-1] ** 0.5).exp() * may_attend
    total = lse.exp() + powers.sum(dim=-1)
    return (lse.exp()[:, None] * output + powers @ v) / total[:, None], total.log()


def _even(output: Tensor, lse: Tensor, *tile: Tensor) -> tuple[Tensor, ...]:
    alone, _ = add_tile(torch.zeros_like(output), torch.full_like(lse, -torch.inf), *tile)
    return (output + alone) / 2, add_tile(output, lse, *tile)[1]


_BY_HAND = (
    Misconception("not averaged", [0.5, -0.7, 0.2], "the mean over four positions is not taken."),
    Misconception("sign", [-0.125, 0.175, -0.05], "the sign is wrong: this is the way down, not the slope."),
    Misconception("right word only", [0.0, -0.175, 0.0], "only the right word is moved; the others are, too."),
    Misconception("stops at the probability", [0.0, -1 / 1.2, 0.0],
        "this is the gradient of the probabilities; the softmax is still to be passed."),
)  # fmt: skip
_SOFTMAX = (
    Misconception("no average", lambda dp, p, temperature: p * dp / temperature,
        "the average of the row is not taken off: no weight can grow without taking from the others."),
    Misconception("diagonal only", lambda dp, p, temperature: p * (1 - p) * dp / temperature,
        "each weight is held to depend on its own score alone; every score of the row moves it."),
    Misconception("plain average", lambda dp, p, temperature: p * (dp - dp.mean(dim=-1, keepdim=True)) / temperature,
        "the average is a plain mean; it must be weighted by p."),
    Misconception("one average for all", lambda dp, p, temperature: p * (dp - (p * dp).sum()) / temperature,
        "one average is taken for all rows; each row has its own."),
    Misconception("no temperature", lambda dp, p, temperature: softmax_backward(dp, p, 1.0),
        "the temperature is forgotten."),
    Misconception("times temperature", lambda dp, p, temperature: softmax_backward(dp, p, 1 / temperature),
        "the temperature multiplies; the scores were divided by it, so their gradient is, too."),
)  # fmt: skip
_HEAD = (
    Misconception("all in the mean", lambda *args: _times((args[2] >= 0).float().mean(), head_backward(*args)),
        "the mean divides by all positions, also by those that do not count."),
    Misconception("ignored positions push", _ignored_push, "positions that do not count still have a gradient."),
    Misconception("not averaged", lambda *args: _times((args[2] >= 0).sum(), head_backward(*args)),
        "this is the gradient of the sum of the losses; the mean is asked for."),
    Misconception("overflow", lambda *args: _times(1 + 0 * (args[0] @ args[1].mT).exp().sum(), head_backward(*args)),
        "the exponential of a large logit overflows."),
    Misconception("sign", lambda *args: _times(-1, head_backward(*args)),
        "the sign is wrong: what was true minus what was said is the way down, not the gradient."),
)  # fmt: skip
_UNIT = (
    Misconception("length held constant",
        lambda dy, x, gain: (gain * dy / x.norm(dim=-1, keepdim=True), unit_backward(dy, x, gain)[1]),
        "the length of x is taken for a constant; it depends on x."),
    Misconception("mean in place of the sum",
        lambda dy, x, gain: (unit_backward(dy, x, gain)[0] / x.shape[-1]
            + (1 - 1 / x.shape[-1]) * gain * dy / x.norm(dim=-1, keepdim=True), unit_backward(dy, x, gain)[1]),
        "the part along x is a mean over d numbers, as in RMSNorm; for a length it is a sum."),
    Misconception("gain forgotten in dx",
        lambda dy, x, gain: (unit_backward(dy, x, torch.ones_like(gain))[0], unit_backward(dy, x, gain)[1]),
        "dx does not pass through the gain."),
    Misconception("gain not summed",
        lambda dy, x, gain: (unit_backward(dy, x, gain)[0], dy * x / x.norm(dim=-1, keepdim=True)),
        "dgain has one row for each vector; there is one gain, and all of them must be summed."),
)  # fmt: skip
_EMBEDDING = (
    Misconception("the bug itself", partial(_one_wins, step=1),
        "a word that comes several times keeps only what came from its last place."),
    Misconception("first place only", partial(_one_wins, step=-1),
        "a word that comes several times keeps only what came from its first place."),
    Misconception("mean of the places", lambda dx, tokens, n_rows: embedding_backward(dx, tokens, n_rows)
            / tokens.flatten().bincount(minlength=n_rows).clamp(min=1)[:, None],
        "the places of a word are averaged; a word that was used ten times has ten parts in the loss."),
    Misconception("mean of all tokens", lambda *args: embedding_backward(*args) / args[1].numel(),
        "the result is divided by the number of tokens; if the loss is a mean, dx has that already."),
)  # fmt: skip
_ATTENTION = (
    Misconception("heads in turn", _in_turn, "the heads of keys are dealt out in turn; neighbours share theirs."),
    Misconception("mean over shared heads", lambda do, q, k, v, p: (attention_backward(do, q, k, v, p)[0],
            *_times(len(k) / len(q), attention_backward(do, q, k, v, p)[1:])),
        "the heads that share keys are averaged; what is used several times gets the sum."),
    Misconception("not scaled",
        partial(attention_backward, through=lambda dp, p, root: softmax_backward(dp, p, 1.0)),
        "the division of the scores by the square root of d is forgotten on the way back."),
    Misconception("no average", partial(attention_backward, through=lambda dp, p, root: p * dp / root),
        "the softmax is passed without taking off the average of the row."),
)  # fmt: skip
_TILE = (
    Misconception("nothing seen", lambda *args: (add_tile(*args)[0] + 0 * add_tile(*args)[1][:, None],
            add_tile(*args)[1]),
        "a query that has seen nothing so far, and sees nothing here, gives nan."),
    Misconception("overflow", _overflows, "the exponential of a large score overflows."),
    Misconception("not scaled", lambda output, lse, q, *tile: add_tile(output, lse, q * q.shape[-1] ** 0.5, *tile),
        "the scores are not divided by the square root of d."),
    Misconception("mask ignored", lambda output, lse, q, k, v, mask: add_tile(output, lse, q, k, v, mask | True),
        "the mask is ignored."),
    Misconception("both count the same", _even,
        "the old output and that of the tile are averaged; each must count by its share of the exponentials."),
)  # fmt: skip
_STEP = (
    Misconception("two-sided", -5.0, "the difference is taken on both sides: its error falls with the square of h."),
    Misconception("single precision", -3.25, "the numbers are in single precision, torch's default."),
    Misconception("the step itself", 3e-8, "this is the step; its exponent is asked for."),
    Misconception("sign of the exponent", 7.5, "the sign of the exponent is missing."),
)


EXERCISE = Exercise(
    name="backpropagation_through_attention",
    chapter="mathematics/backpropagation_through_attention",
    title="Backward passes with a pencil, and attention in tiles",
    given={"softmax_backward": softmax_backward},
    questions=(
        Question(
            id="q1", title="By hand", kind="recall", points=1, minutes=5,
            # (0.5, 0.3, 0.2) minus (0, 1, 0), and each position has a quarter of the mean
            answer="dlogits", reference=[0.125, -0.175, 0.05],
            expects="a list of three numbers: how the mean loss reacts to each logit of this position.",
            hints=(
                "The loss of this position is the log of the sum of exponentials, minus the logit of the right word.",
                "What the model said minus what was true. And how much of the mean does one position of four make?",
            ),
            misconceptions=_BY_HAND, rtol=0.0, atol=0.002,
        ),
        Question(
            id="q2", title="Back through a softmax", kind="code", points=2, minutes=10,
            answer="softmax_backward", reference=softmax_backward, cases=_softmax_cases,
            expects="the gradient of the scores s, as large as dp; each of its rows sums to zero.",
            hints=(
                "Weights sum to one: none can grow alone. What does a row gain when one of its scores grows a little?",
                "Compare each entry of dp with the average of its row. Which weights must that average have?",
                "The softmax saw s / temperature. By the chain rule, what does a small step of s itself count?",
            ),
            misconceptions=_SOFTMAX, forbidden=AUTOMATIC,
        ),
        Question(
            id="q3", title="The last layer and the loss", kind="code", points=3, minutes=12,
            answer="head_backward", reference=head_backward, cases=_head_cases,
            expects="dx like x and dtable like table, of the mean loss over the positions that count.",
            hints=(
                "Start with the gradient of the logits: what the model said minus what was true, position by position.",
                "A position that does not count has no gradient, and is not among those that the mean divides by.",
                "logits = x @ table.mT is a matrix product: dx and dtable are matrix products with the gradient of "
                "the logits. Only one arrangement of the factors has the right shape.",
            ),
            misconceptions=_HEAD, forbidden=AUTOMATIC,
        ),
        Question(
            id="q4", title="Keys of length one", kind="code", points=3, minutes=12,
            answer="unit_backward", reference=unit_backward, cases=_unit_cases,
            expects="dx like x, without any part along x, and dgain like gain, summed over all vectors.",
            hints=(
                "Two steps: u = x / |x|, then y = gain * u. For the second, du and dgain are easy; gain is used by "
                "every vector.",
                "Let x move by a small step. By how much does |x| move? (Its square is the sum of the squares of x.)",
                "By the quotient rule, u moves by (step - u <u, step>) / |x|. The matrix that does this is symmetric, "
                "so the same formula takes du to dx.",
            ),
            misconceptions=_UNIT, forbidden=AUTOMATIC,
        ),
        Question(
            id="q5", title="Find the bug: common words hardly learn", kind="find the bug", points=2, minutes=8,
            answer="embedding_backward", reference=embedding_backward, cases=_embedding_cases,
            expects="for every row of the table, all that comes back from the places where it was looked up.",
            hints=(
                "Try tokens [[1, 0, 1]] and a dx of ones. What should row 1 of the table get, and what does it get?",
                "A sum with an index reads all its rows first, then adds, then writes all back. What happens to a row "
                "that is written twice?",
                "Add one after the other, in a loop, or look for a function of torch that adds at an index.",
            ),
            misconceptions=_EMBEDDING, forbidden=AUTOMATIC,
        ),
        Question(
            id="q6", title="Back through attention, with shared keys", kind="code", points=3, minutes=15,
            answer="attention_backward", reference=attention_backward, cases=_attention_cases,
            expects="dq, dk and dv, with the shapes of q, k and v.",
            hints=(
                "First with as many heads of keys as of queries: o = p @ v and s = q @ k.mT / sqrt(d) are products, "
                "and between them is the softmax of question 2. Walk back from do.",
                "given.softmax_backward takes the division by sqrt(d) along, if you call it the temperature.",
                "Now give every query head its own copy of its keys and values, and go back. Copies of one thing: "
                "what happens to their gradients?",
            ),
            misconceptions=_ATTENTION, forbidden=AUTOMATIC | {"scaled_dot_product_attention"},
        ),
        Question(
            id="q7", title="One tile more", kind="code", points=3, minutes=15,
            answer="add_tile", reference=add_tile, cases=_tile_cases,
            expects="the output and the log-sum-exp that attention over the old and the new keys together would have.",
            hints=(
                "Over all keys, old and new: the new log-sum-exp is the log of the sum of both sums. How do you get "
                "it without the exponential of 200? (torch.logaddexp, or take off the larger first.)",
                "A weight is exp(score - log-sum-exp). When the log-sum-exp grows, by which factor do all old weights "
                "shrink, and so the old output?",
                "A row that has seen nothing has minus infinity minus minus infinity, which is not a number. Put any "
                "finite number there before you subtract: its exponentials are 0 in any case.",
            ),
            misconceptions=_TILE, forbidden=AUTOMATIC,
        ),
        Question(
            id="q8", title="Measure: the best step of a one-sided difference", kind="experiment", points=2, minutes=13,
            answer="best_exponent", reference=-7.5, accepts=lambda value: -8.6 <= value <= -6.4,
            expects="the exponent (log10) of the step with the smallest typical error, in double precision.",
            hints=(
                "The steps as 10.0 ** exponent, for exponents from -14 to -1; everything, also u and z, in "
                "torch.float64; for each step the median over all draws of |tried - exact|.",
                "Too large a step: half the second derivative times h. Too small: the rounding of L (1e-16) over h. "
                "Where are the two equal?",
            ),
            misconceptions=_STEP, rtol=0.0, atol=0.6,
        ),
    ),
)  # fmt: skip

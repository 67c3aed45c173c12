"""The exercise of `mathematics/attention`: from two numbers by hand to a window of attention."""

import math

import torch
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question


def scores(query: Tensor, key: Tensor) -> Tensor:
    """Scaled scores: (..., t, d) and (..., s, d) give (..., t, s)."""
    return query @ key.mT / query.shape[-1] ** 0.5


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last dimension; large numbers do no harm."""
    powers = (x - x.amax(dim=-1, keepdim=True)).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def masked_weights(scores: Tensor, may_attend: Tensor) -> Tensor:
    """Attention weights (..., t, s) of scores (..., t, s) where `may_attend` is True; 0 elsewhere."""
    return softmax(scores.masked_fill(~may_attend, -torch.inf))


def attention(query: Tensor, key: Tensor, value: Tensor, may_attend: Tensor) -> Tensor:
    """Attention: queries (..., t, d), keys (..., s, d), values (..., s, e), mask (t, s); gives (..., t, e)."""
    return masked_weights(scores(query, key), may_attend) @ value


def window_mask(length: int, width: int) -> Tensor:
    """True where a query may attend: itself and the `width` - 1 positions before it."""
    distance = torch.arange(length)[:, None] - torch.arange(length)
    return (distance >= 0) & (distance < width)


def entropy(weights: Tensor) -> Tensor:
    """Entropy of each row of weights, in nats; a weight of 0 adds nothing."""
    return -torch.xlogy(weights, weights).sum(dim=-1)


def _scores_cases(draw: Draw) -> list[Case]:
    b, h, t, s, d = draw.sizes((2, 3), (2, 3), (2, 5), (6, 8), (9, 16))
    return [
        Case("one query, two keys of width 2", (draw.normal(1, 2), draw.normal(2, 2))),
        Case("as many queries as keys", (draw.normal(3, 4), draw.normal(3, 4))),
        Case("more keys than queries", (draw.normal(t, d), draw.normal(s, d))),
        Case("a batch of heads", (draw.normal(b, h, t, d), draw.normal(b, h, s, d))),
    ]


def _softmax_cases(draw: Draw) -> list[Case]:
    b, t, s = draw.sizes((2, 3), (2, 4), (5, 8))
    return [
        Case("one row of three", (draw.normal(1, 3),)),
        Case("several rows", (draw.normal(t, s),)),
        Case("a batch", (draw.normal(b, t, s),)),
        Case("large scores", (draw.normal(2, 4) * 10 + 1000,)),
        Case("rows of very different size", (draw.normal(2, 3) + torch.tensor([[0.0], [500.0]]),)),
        Case(
            "a forbidden key (minus infinity)", (torch.cat([draw.normal(2, 2), torch.full((2, 1), -torch.inf)], dim=1),)
        ),
    ]


def _masked_cases(draw: Draw) -> list[Case]:
    b, t, s = draw.sizes((2, 3), (3, 5), (6, 8))
    return [
        Case("two queries, the first may not see the second key", (
            draw.normal(2, 2), torch.tensor([[True, False], [True, True]]))),
        Case("a causal mask", (draw.normal(t, t) - 3, _all(t, t).tril())),
        Case("any mask, a batch", (draw.normal(b, t, s), draw.mask(t, s))),
    ]  # fmt: skip


def _attention_cases(draw: Draw) -> list[Case]:
    b, h, t, s, d, e = draw.sizes((2, 3), (2, 3), (2, 4), (5, 7), (8, 12), (3, 6))
    return [
        Case("two queries, two keys, all visible", (*draw.normal(3, 2, 3), _all(2, 2))),
        Case("a causal mask", (*draw.normal(3, 4, 4), _all(4, 4).tril())),
        Case("values of another width", (draw.normal(t, d), draw.normal(s, d), draw.normal(s, e), draw.mask(t, s))),
        Case("a batch of heads", (
            draw.normal(b, h, t, d), draw.normal(b, h, s, d), draw.normal(b, h, s, e), draw.mask(t, s))),
    ]  # fmt: skip


def _all(t: int, s: int) -> Tensor:
    return torch.ones(t, s, dtype=torch.bool)


def _window_cases(draw: Draw) -> list[Case]:
    length, width = draw.sizes((6, 12), (2, 4))
    return [
        Case("three positions, a window of two", (3, 2)),
        Case("a window of one", (4, 1)),
        Case("any length and window", (length, width)),
        Case("a window wider than the text", (3, 5)),
    ]


def _entropy_cases(draw: Draw) -> list[Case]:
    t, s = draw.sizes((2, 4), (3, 7))
    return [
        Case("one even row", (torch.full((1, 2), 0.5),)),
        Case("several rows", (softmax(2 * draw.normal(t, s)),)),
        Case("a row with zeros", (masked_weights(draw.normal(4, 4), _all(4, 4).tril()),)),
    ]


def _global_softmax(x: Tensor) -> Tensor:
    powers = (x - x[x.isfinite()].max()).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


EXERCISE = Exercise(
    name="attention",
    chapter="mathematics/attention",
    title="Attention, from two numbers by hand to a window",
    given={"scores": scores, "softmax": softmax, "masked_weights": masked_weights, "attention": attention},
    questions=(
        Question(
            id="q1",
            title="By hand",
            kind="recall",
            points=1,
            minutes=5,
            answer="weight_of_first_key",
            expects="the first of the two attention weights, a number between 0 and 1, right to two digits.",
            # query (1, 1, 1, 1); keys (1, 1, 1, 1) and (1, 1, 0, 0): scores 4 / 2 and 2 / 2
            reference=1 / (1 + math.exp(-1)),
            hints=(
                "A score is the dot product of query and key, divided by the square root of their width.",
                "The width is 4. What are the two scores? Then softmax: the exponential of each, over their sum.",
            ),
            misconceptions=(
                Misconception(
                    "not scaled", 1 / (1 + math.exp(-2)), "the scores are not divided by the square root of the width."
                ),
                Misconception(
                    "divided by the width",
                    1 / (1 + math.exp(-0.5)),
                    "the scores are divided by the width, not by its square root.",
                ),
                Misconception("no softmax", 2 / 3, "the scores are divided by their sum, without exponentials."),
                Misconception("second key", 1 / (1 + math.exp(1)), "this is the weight of the second key."),
            ),
            rtol=0.0,
            atol=0.005,
        ),
        Question(
            id="q2",
            title="Scores",
            kind="code",
            points=2,
            minutes=10,
            answer="scores",
            expects="the dot product of every query with every key, divided by the square root of their width d.",
            reference=scores,
            cases=_scores_cases,
            hints=(
                "Which dimensions must disappear, and which must remain: (..., t, d) with (..., s, d) to (..., t, s)?",
                "A matrix product sums over the last dimension of its left and the last but one of its right factor: "
                "turn the last two dimensions of the keys.",
                "The width is the size of the last dimension; divide by its square root.",
            ),
            misconceptions=(
                Misconception(
                    "not scaled",
                    lambda query, key: query @ key.mT,
                    "the scores are not divided by the square root of d.",
                ),
                Misconception(
                    "divided by d",
                    lambda query, key: query @ key.mT / query.shape[-1],
                    "the scores are divided by d, not by its square root.",
                ),
                Misconception(
                    "scaled by the number of keys",
                    lambda query, key: query @ key.mT / key.shape[-2] ** 0.5,
                    "the scores are scaled by the number of keys; the width of a key is meant.",
                ),
                Misconception(
                    "keys ask",
                    lambda query, key: key @ query.mT / query.shape[-1] ** 0.5,
                    "queries and keys have changed places.",
                ),
            ),
            forbidden=frozenset({"scaled_dot_product_attention", "baddbmm"}),
        ),
        Question(
            id="q3",
            title="A softmax that survives large scores",
            kind="code",
            points=2,
            minutes=10,
            answer="softmax",
            expects="positive numbers along the last dimension that sum to one, also for scores near 1000.",
            reference=softmax,
            cases=_softmax_cases,
            hints=(
                "The exponential of 1000 is infinite in floating point. Does softmax change when you take the same "
                "number from every score of a row?",
                "Take the largest score of each row from that row before the exponential; keepdim=True keeps the "
                "shapes compatible.",
            ),
            misconceptions=(
                Misconception(
                    "overflow",
                    lambda x: x.exp() / x.exp().sum(dim=-1, keepdim=True),
                    "the exponential of a large score overflows.",
                ),
                Misconception(
                    "sums over queries",
                    lambda x: x.softmax(dim=-2),
                    "the sum runs over the queries; the weights of one query, over the keys, must sum to one.",
                ),
                Misconception(
                    "over everything",
                    lambda x: x.flatten().softmax(dim=0).view_as(x),
                    "one sum runs over all rows; every query needs its own.",
                ),
                Misconception(
                    "one maximum for all rows",
                    _global_softmax,
                    "one maximum is taken for all rows; then a row of small scores vanishes beside one of large.",
                ),
            ),
            forbidden=frozenset({"softmax", "log_softmax", "softmin", "logsumexp", "scaled_dot_product_attention"}),
        ),
        Question(
            id="q4",
            title="Masked weights",
            kind="code",
            points=3,
            minutes=15,
            answer="masked_weights",
            expects="weights that are zero where may_attend is False and still sum to one over the keys.",
            reference=masked_weights,
            cases=_masked_cases,
            hints=(
                "What must a score be so that its exponential is zero?",
                "masked_fill puts a number where its mask is True; may_attend is True where a key may be seen.",
                "Put minus infinity at ~may_attend, then take the softmax (given.softmax is there for you).",
            ),
            misconceptions=(
                Misconception(
                    "inverted",
                    lambda scores, may_attend: scores.masked_fill(may_attend, -1e9).softmax(dim=-1),
                    "the mask is upside down: True means that the query may attend to the key.",
                ),
                Misconception(
                    "masked after softmax",
                    lambda scores, may_attend: scores.softmax(dim=-1) * may_attend,
                    "the mask is applied after the softmax; then the weights no longer sum to one.",
                ),
                Misconception(
                    "zero instead of minus infinity",
                    lambda scores, may_attend: (scores * may_attend).softmax(dim=-1),
                    "forbidden scores are set to zero, and the exponential of zero is one.",
                ),
                Misconception("ignored", lambda scores, may_attend: scores.softmax(dim=-1), "the mask is ignored."),
            ),
            forbidden=frozenset({"scaled_dot_product_attention"}),
        ),
        Question(
            id="q5",
            title="Attention",
            kind="code",
            points=3,
            minutes=10,
            answer="attention",
            expects="for every query the average of the values, weighted by its attention weights: (..., t, e).",
            reference=attention,
            cases=_attention_cases,
            hints=(
                "You have the pieces: scores, then weights under the mask, then a weighted average of the values.",
                "A weighted average of rows is a matrix product: which factor stands left?",
                "weights (..., t, s) times values (..., s, e). given.scores and given.masked_weights are there.",
            ),
            misconceptions=(
                Misconception(
                    "not scaled",
                    lambda query, key, value, may_attend: masked_weights(query @ key.mT, may_attend) @ value,
                    "the scores are not divided by the square root of d.",
                ),
                Misconception(
                    "mask ignored",
                    lambda query, key, value, may_attend: scores(query, key).softmax(dim=-1) @ value,
                    "the mask is ignored.",
                ),
                Misconception(
                    "keys averaged",
                    lambda query, key, value, may_attend: masked_weights(scores(query, key), may_attend) @ key,
                    "the keys are averaged; keys say where to look, values what is found there.",
                ),
                Misconception(
                    "values scaled",
                    lambda query, key, value, may_attend: (
                        attention(query * query.shape[-1] ** 0.5, key, value, may_attend) / query.shape[-1] ** 0.5
                    ),
                    "the result is divided by the square root of d; the scores should be, before the softmax.",
                ),
            ),
            forbidden=frozenset({"scaled_dot_product_attention", "MultiheadAttention", "multi_head_attention_forward"}),
        ),
        Question(
            id="q6",
            title="Find the bug: a window that peeks",
            kind="find the bug",
            points=3,
            minutes=15,
            answer="window_mask",
            expects="True for the query's own position and the width - 1 positions before it, False elsewhere.",
            reference=window_mask,
            cases=_window_cases,
            hints=(
                "Print the mask for length 3 and width 2. Which entries are True that should not be?",
                "Rows are queries, columns are keys. A key in the future has a negative distance.",
                "Two conditions are needed: not in the future, and near enough. How many positions does a window hold?",
            ),
            misconceptions=(
                Misconception(
                    "the bug itself",
                    lambda length, width: window_mask(length, width) | window_mask(length, width).mT,
                    "keys in the future are still visible.",
                ),
                Misconception(
                    "one too many",
                    lambda length, width: window_mask(length, width + 1),
                    "the window holds width + 1 positions.",
                ),
                Misconception(
                    "blind to itself",
                    lambda length, width: window_mask(length, width) & ~torch.eye(length, dtype=torch.bool),
                    "a query does not see its own position.",
                ),
                Misconception(
                    "looks ahead",
                    lambda length, width: window_mask(length, width).mT,
                    "queries and keys have changed places: each query sees the future, not the past.",
                ),
            ),
        ),
        Question(
            id="q7",
            title="How sharp is it?",
            kind="code",
            points=2,
            minutes=10,
            answer="entropy",
            expects="for every row of weights minus the sum of weight times its natural logarithm, and 0 for 0 log 0.",
            reference=entropy,
            cases=_entropy_cases,
            hints=(
                "The logarithm of zero is minus infinity, zero times that is not a number. What should it count as?",
                "torch.xlogy, torch.where or clamping the weight inside the logarithm all do it.",
            ),
            misconceptions=(
                Misconception(
                    "zero times infinity",
                    lambda weights: -(weights * weights.log()).sum(dim=-1),
                    "a weight of exactly zero gives nan.",
                ),
                Misconception(
                    "in bits",
                    lambda weights: entropy(weights) / math.log(2),
                    "this is in bits; nats (the natural logarithm) are asked for.",
                ),
                Misconception("sign", lambda weights: -entropy(weights), "the sign is missing."),
                Misconception(
                    "mean",
                    lambda weights: entropy(weights) / weights.shape[-1],
                    "a mean is taken over the keys where a sum is meant.",
                ),
            ),
        ),
        Question(
            id="q8",
            title="Measure: what scaling saves",
            kind="experiment",
            points=2,
            minutes=15,
            answer="sharpness",
            expects="the mean largest weight over 16 keys of width 64 when scores are NOT scaled (1000 queries).",
            reference=0.843,
            accepts=lambda value: 0.82 <= value <= 0.865,
            hints=(
                "Draw queries and keys with torch.randn, take the softmax of the unscaled scores, then the largest "
                "weight of each query, then the mean.",
                "Give each query keys of its own, or use a few hundred sets of keys: one set is a small sample.",
            ),
            misconceptions=(
                Misconception("scaled", 0.245, "the scores are scaled."),
                Misconception("mean weight", 1 / 16, "this is the mean of all weights, always 1/16."),
                Misconception("share of the largest", 1.0, "this is the sum of the weights."),
            ),
        ),
    ),
)

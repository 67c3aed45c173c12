"""The exercise of `mathematics/multi_head_and_masks`: from one cut into heads to a whole layer."""

from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Vectors (b, t, h d) cut into heads (b, h, t, d): head 0 gets the first d numbers of every token."""
    return rearrange(x, "b t (h d) -> b h t d", h=n_heads)


def head_terms(mixed: Tensor, w_out: Tensor) -> Tensor:
    """What each head adds to the stream: what it found (b, h, t, d), through its own rows of w_out (h d, m)."""
    return mixed @ rearrange(w_out, "(h d) m -> h d m", h=mixed.shape[1])


def decoder_mask(real: Tensor) -> Tensor:
    """Who sees whom (b, 1, s, s): text that is not later, and everybody itself; `real` (b, s) is True for text."""
    return _past(real) & real[:, None, None, :] | _itself(real)


def share_heads(key: Tensor, n_heads: int) -> Tensor:
    """Key heads (b, k, s, d) handed out to query heads in groups of neighbours: (b, h, s, d)."""
    return repeat(key, "b k s d -> b (k g) s d", g=n_heads // key.shape[1])


def grouped_attention(
    x: Tensor, real: Tensor, w_query: Tensor, w_key: Tensor, w_value: Tensor, w_out: Tensor, n_heads: int
) -> Tensor:
    """A decoder's layer of attention with shared key and value heads: (b, t, m) gives (b, t, m)."""
    return _layer(x, decoder_mask(real), w_query, w_key, w_value, w_out, n_heads)


def width_needed(weights: Tensor) -> int:
    """The smallest width of a head that can give exactly these positive weights (n, n)."""
    logarithms = weights.log()
    return _rank(logarithms - logarithms.mean(dim=-1, keepdim=True))


def _past(real: Tensor) -> Tensor:
    return torch.ones(real.shape[1], real.shape[1], dtype=torch.bool, device=real.device).tril()


def _itself(real: Tensor) -> Tensor:
    return torch.eye(real.shape[1], dtype=torch.bool, device=real.device)


def _tile(key: Tensor, n_heads: int) -> Tensor:
    return key.repeat(1, n_heads // key.shape[1], 1, 1)


def _layer(x: Tensor, mask: Tensor, *rest: Any, scale: int = 0, share: Any = share_heads, mix: bool = False) -> Tensor:
    (w_query, w_key, w_value, w_out), n_heads = rest[:4], rest[4]
    query, width = split_heads(x @ w_query, n_heads), w_query.shape[1] // n_heads
    key, value = (share(split_heads(x @ w, w.shape[1] // width), n_heads) for w in (w_key, w_value))
    weights = (query @ key.mT / (scale or width) ** 0.5).masked_fill(~mask, -torch.inf).softmax(dim=-1)
    found = weights @ value
    return (found.reshape(*x.shape[:2], -1) if mix else rearrange(found, "b h t d -> b t (h d)")) @ w_out


def _rank(table: Tensor) -> int:
    return int(torch.linalg.matrix_rank(table, rtol=1e-9))


def _split_cases(draw: Draw) -> list[Case]:
    b, t, h, d = draw.sizes((2, 3), (4, 5), (2, 3), (6, 8))
    return [
        Case("three tokens of width 2, two heads", (torch.arange(6.0).view(1, 3, 2), 2)),
        Case("one head", (draw.normal(2, 3, 4), 1)),
        Case("a batch", (draw.normal(b, t, h * d), h)),
    ]


def _terms_cases(draw: Draw) -> list[Case]:
    b, h, t, d = draw.sizes((2, 3), (4, 5), (6, 7), (2, 3))
    return [
        Case("one token, two heads of width 1", (draw.normal(1, 2, 1, 1), draw.normal(2, 2))),
        Case("two heads of width 3", (draw.normal(1, 2, 4, 3), draw.normal(6, 6))),
        Case("a batch", (draw.normal(b, h, t, d), draw.normal(h * d, h * d))),
    ]


def _mask_cases(draw: Draw) -> list[Case]:
    b, s = draw.sizes((2, 3), (5, 8))
    return [
        Case("three tokens, no padding", (torch.tensor([[True, True, True]]),)),
        Case("padding on the right", (torch.tensor([[True, True, False, False]]),)),
        Case("padding on the left", (torch.tensor([[False, False, True, True]]),)),
        Case("two sentences, one of them all padding", (torch.tensor([[True, True, True], [False, False, False]]),)),
        Case("padding anywhere", (draw.mask(b, s),)),
    ]


def _share_cases(draw: Draw) -> list[Case]:
    b, k, g, s, d = draw.sizes((2, 3), (2, 3), (2, 3), (4, 5), (6, 7))
    return [
        Case("two key heads, one token each, for four query heads", (draw.normal(1, 2, 1, 1), 4)),
        Case("one key head for all", (draw.normal(2, 1, 3, 4), 3)),
        Case("a key head for each query head", (draw.normal(2, 3, 2, 4), 3)),
        Case("groups in a batch", (draw.normal(b, k, s, d), k * g)),
    ]


def _layer_cases(draw: Draw) -> list[Case]:
    def case(about: str, real: Tensor, m: int, h: int, k: int, d: int) -> Case:
        weights = [draw.normal(*shape) / shape[0] ** 0.5 for shape in ((m, h * d), (m, k * d), (m, k * d), (h * d, m))]
        return Case(about, (2 * draw.normal(*real.shape, m), real, *weights, h))

    b, t, k, g, d = draw.sizes((2, 3), (6, 7), (2, 3), (2, 3), (4, 5))
    left = torch.arange(t) >= torch.randint(1, 4, (b, 1), generator=draw.generator)
    return [
        case("three tokens, two ordinary heads", torch.ones(1, 3, dtype=torch.bool), 4, 2, 2, 2),
        case("padding on the right", torch.tensor([[True] * 4, [True, True, False, False]]), 6, 3, 3, 2),
        case("padding on the left", torch.tensor([[True] * 5, [False, False, True, True, True]]), 6, 2, 1, 3),
        case("groups, padding on the left", left, 2 * k * g * d, k * g, k, d),
    ]


def _width_cases(draw: Draw) -> list[Case]:
    n, rank = draw.sizes((8, 10), (3, 5))
    row, left, right = draw.normal(n).double(), draw.normal(n, rank).double(), draw.normal(rank, n).double()
    scores = {
        "two tokens": torch.diag(torch.tensor([1.0, 2.0])),
        "each of three tokens looks at itself": 3 * torch.eye(3),
        "all tokens look alike": row.expand(n, n),
        "weights from a narrow head": left @ right,
        "weights from random scores": draw.normal(n, n),
        "each token looks at one other": 5 * torch.eye(n)[torch.randperm(n, generator=draw.generator)],
    }
    return [Case(about, (table.double().softmax(dim=-1),)) for about, table in scores.items()]


EXERCISE = Exercise(
    name="multi_head_and_masks",
    chapter="mathematics/multi_head_and_masks",
    title="Many heads and masks, from one cut to a whole layer",
    given={function.__name__: function for function in (split_heads, head_terms, decoder_mask, share_heads)},
    questions=(
        Question(
            id="q1",
            title="Four numbers by hand",
            kind="recall",
            points=1,
            minutes=8,
            answer="four_numbers",
            expects="a list of four whole numbers: parameters, weights, largest rank, parameters when shared.",
            # 4 * 64 * 64; 16 * 10 * 10; 64 / 16; 2 * 64 * 64 + 2 * 64 * (4 * 4)
            reference=[16384, 1600, 4, 10240],
            hints=(
                "How wide is one head when 16 of them share 64 numbers? The parameters are in four matrices.",
                "Scores are a product of two matrices; their inner size bounds the rank. Each head has its own table.",
                "Shared: queries and output stay as they are; keys and values make 4 heads of that width, not 16.",
            ),
            misconceptions=(
                Misconception("heads of full width", [262144, 1600, 10, 163840], "every head is as wide as the model."),
                Misconception("rank of a text", [16384, 1600, 10, 10240], "the rank is bounded by the tokens alone."),
                Misconception("one table", [16384, 100, 4, 10240], "weights are counted for one head only."),
                Misconception("biases", [16640, 1600, 4, 10400], "biases are counted; this layer has none."),
                Misconception("all shared", [16384, 1600, 4, 4096], "in the last, queries and output shrink, too."),
                Misconception("no output", [12288, 1600, 4, 6144], "the matrix after the heads is missing."),
            ),
        ),
        Question(
            id="q2",
            title="Cut into heads",
            kind="code",
            points=2,
            minutes=8,
            answer="split_heads",
            expects="(b, h, t, d): head 0 has the first d numbers of every token, head 1 the next d, and so on.",
            reference=split_heads,
            cases=_split_cases,
            hints=(
                "Cut the last axis into two: which of the two is the head, which the place inside a head?",
                "Reading m as (h, d) gives (b, t, h, d), and nothing has moved yet. Then two axes trade places.",
            ),
            misconceptions=(
                Misconception(
                    "cut by reshape",
                    lambda x, n_heads: x.reshape(x.shape[0], n_heads, x.shape[1], -1),
                    "reshape cuts across tokens: the shape is right, but a row holds numbers of another token.",
                ),
                Misconception(
                    "interleaved",
                    lambda x, n_heads: rearrange(x, "b t (d h) -> b h t d", h=n_heads),
                    "the numbers are dealt out in turn, like cards; each head should get neighbours.",
                ),
                Misconception(
                    "number taken for width",
                    lambda x, n_heads: rearrange(x, "b t (h d) -> b h t d", d=n_heads),
                    "n_heads is taken for the width of a head.",
                ),
                Misconception(
                    "tokens first",
                    lambda x, n_heads: rearrange(x, "b t (h d) -> b t h d", h=n_heads),
                    "the heads still stand behind the tokens; they belong beside the batch.",
                ),
            ),
        ),
        Question(
            id="q3",
            title="What each head adds",
            kind="code",
            points=3,
            minutes=12,
            answer="head_terms",
            expects="(b, h, t, m): for every head what it found, multiplied by its own d rows of w_out.",
            reference=head_terms,
            cases=_terms_cases,
            hints=(
                "A row of two parts side by side, times two matrices one under the other: write it as a sum.",
                "Head i meets only d rows of w_out. Which ones?",
                "Cut w_out into (h, d, m); a matrix product then goes head by head, as it goes through a batch.",
            ),
            misconceptions=(
                Misconception(
                    "transposed",
                    lambda mixed, w_out: head_terms(mixed, w_out.mT),
                    "w_out is transposed; here it has a row for each number that comes in.",
                ),
                Misconception(
                    "interleaved",
                    lambda mixed, w_out: mixed @ rearrange(w_out, "(d h) m -> h d m", h=mixed.shape[1]),
                    "the rows of w_out are dealt out in turn; each head owns d rows that are neighbours.",
                ),
                Misconception(
                    "the sum for each",
                    lambda mixed, w_out: head_terms(mixed, w_out).sum(1, True).repeat(1, mixed.shape[1], 1, 1),
                    "every head is given what all of them add together.",
                ),
            ),
        ),
        Question(
            id="q4",
            title="Two masks in one",
            kind="code",
            points=3,
            minutes=12,
            answer="decoder_mask",
            expects="True where the key is text that stands before the query, and where it is the query itself.",
            reference=decoder_mask,
            cases=_mask_cases,
            hints=(
                "Rows are queries, columns are keys. Padding must not be looked AT: which of the two axes is that?",
                "Two conditions that must both hold, and one exception. Which of & and | joins what?",
                "real needs two new axes, for heads and for queries: (b, 1, 1, s). The exception is a diagonal.",
            ),
            misconceptions=(
                Misconception(
                    "axis of queries",
                    lambda real: _past(real) & real[:, None, :, None] | _itself(real),
                    "padding may not look; it is the others who may not look at it (the axis of the keys).",
                ),
                Misconception(
                    "empty rows",
                    lambda real: _past(real) & real[:, None, None, :],
                    "some padding sees nothing at all, not even itself; a softmax over nothing is not a number.",
                ),
                Misconception(
                    "sees the future",
                    lambda real: (real[:, None, None, :] | _itself(real)).expand(-1, -1, real.shape[1], -1),
                    "text that comes later is visible.",
                ),
                Misconception(
                    "upside down", lambda real: decoder_mask(~real), "True is taken for padding; it means text."
                ),
            ),
        ),
        Question(
            id="q5",
            title="Find the bug: whose keys are these?",
            kind="find the bug",
            points=3,
            minutes=10,
            answer="share_heads",
            expects="(b, h, s, d) where neighbouring query heads, h / k of them, get the same key head, in order.",
            reference=share_heads,
            cases=_share_cases,
            hints=(
                "Try two key heads that hold the numbers 0 and 1, for six query heads. What should come out?",
                "The code sets the whole row of key heads down again and again: 0 1 0 1 0 1. When is that right?",
                "Each head must be repeated before the next one comes. torch and einops have a function for that.",
            ),
            misconceptions=(
                Misconception("the bug itself", _tile, "the key heads are dealt out in turn, not to neighbours."),
                Misconception(
                    "one for all", lambda key, n_heads: key[:, :1].expand(-1, n_heads, -1, -1), "all get the first one."
                ),
                Misconception(
                    "mean", lambda key, n_heads: key.mean(1, True).expand(-1, n_heads, -1, -1), "all get the mean."
                ),
                Misconception(
                    "too many",
                    lambda key, n_heads: key.repeat_interleave(n_heads, 1),
                    "a group has h / k heads, not h.",
                ),
            ),
        ),
        Question(
            id="q6",
            title="Design: a whole layer",
            kind="code",
            points=4,
            minutes=15,
            answer="grouped_attention",
            expects="(b, t, m): the masked attention of all heads, joined in order, multiplied by w_out.",
            reference=grouped_attention,
            cases=_layer_cases,
            hints=(
                "Which shapes follow from which? First the width of a head, then the number of key heads.",
                "Project, cut, share, compare, mask, mix, join, project. `given` has four of the steps.",
                "Scale by a head's width. To join, the heads go behind the tokens first; or add given.head_terms.",
            ),
            misconceptions=(
                Misconception(
                    "scaled by the model",
                    lambda x, real, *rest: _layer(x, decoder_mask(real), *rest, scale=x.shape[-1]),
                    "scores are divided by the square root of the model's width, not of a head's.",
                ),
                Misconception(
                    "padding not masked", lambda x, real, *rest: _layer(x, _past(real), *rest), "padding is read, too."
                ),
                Misconception(
                    "key heads in turn",
                    lambda x, real, *rest: _layer(x, decoder_mask(real), *rest, share=_tile),
                    "the key heads are dealt out in turn, not to neighbours.",
                ),
                Misconception(
                    "joined by reshape",
                    lambda x, real, *rest: _layer(x, decoder_mask(real), *rest, mix=True),
                    "the heads are joined by a reshape alone, which mixes the tokens.",
                ),
            ),
            forbidden=frozenset({"MultiheadAttention", "multi_head_attention_forward", "MultiHeadAttention"}),
        ),
        Question(
            id="q7",
            title="How wide must this head be?",
            kind="code",
            points=3,
            minutes=12,
            answer="width_needed",
            expects="a whole number: the smallest rank that scores with exactly these weights can have.",
            reference=width_needed,
            cases=_width_cases,
            hints=(
                "Go back from weights to scores: what undoes an exponential? And what does the sum of a row hide?",
                "All scores with these weights differ by one number for each row. Which numbers give the lowest rank?",
                "Logarithms whose rows have mean zero have the lowest. torch.linalg.matrix_rank counts; see its rtol.",
            ),
            misconceptions=(
                Misconception(
                    "rank of the weights", _rank, "this is the rank of the weights; a head makes their scores."
                ),
                Misconception(
                    "logarithms as they are",
                    lambda weights: _rank(weights.log()),
                    "the logarithms are taken as they are; a number may be added to each whole row.",
                ),
                Misconception(
                    "always one less",
                    lambda weights: _rank(weights.log()) - 1,
                    "one is always subtracted; the freedom in each row does not always lower the rank.",
                ),
                Misconception(
                    "no logarithm",
                    lambda weights: _rank(weights - weights.mean(dim=-1, keepdim=True)),
                    "the mean of a row is taken from the weights themselves; scores are their logarithms.",
                ),
            ),
        ),
        Question(
            id="q8",
            title="Measure: keys that nobody looks at",
            kind="experiment",
            points=2,
            minutes=13,
            answer="winners",
            expects="how many of 64 random keys of width 2 win for at least one query, on average over sets of keys.",
            reference=8.27,
            accepts=lambda value: 7.85 <= value <= 8.75,  # 500 sets: standard deviation 0.065
            hints=(
                "For one set of 64 keys: many queries, their scores, the winner of each. How many different winners?",
                "Scores of many sets at once have axes for sets, queries, keys. Count different winners set by set.",
            ),
            misconceptions=(
                Misconception("width 1", 2.0, "the keys have width 1, where only two of them can ever win."),
                Misconception("all win", 64.0, "winners of all sets are put together, or the keys are wider than 2."),
                Misconception("share", 8.27 / 64, "this is the share of the keys; their number is asked for."),
                Misconception("few queries", 7.7, "there are too few queries for each set, and winners are missed."),
            ),
            rtol=0.02,
        ),
    ),
)

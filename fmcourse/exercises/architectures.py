"""The exercise of `concepts/architectures`: masks, what many blocks can see, patches, parameters, arithmetic."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question


def joint_mask(n_source: int, n_target: int) -> Tensor:
    """True where a position (row) may look: all see the source, and the target sees its own past as well."""
    place = torch.arange(n_source + n_target)
    return (place < n_source) | (place <= place[:, None])


def influence(may_attend: Tensor, n_blocks: int) -> Tensor:
    """Which outputs (rows) can depend on which tokens after so many blocks: masks (..., n, n) give (..., n, n)."""
    own = torch.eye(may_attend.shape[-1], dtype=torch.bool, device=may_attend.device)
    step = (may_attend | own).float()
    reached = own.float().expand_as(step)
    for _ in range(n_blocks):
        reached = (step @ reached > 0).float()
    return reached > 0


def cut(pictures: Tensor, patch: int) -> Tensor:
    """Pictures (b, rows, columns, channels) give patches (b, n, patch * patch * channels), row by row."""
    return _cut("(rows columns) (p q c)", pictures, patch)


def _cut(order: str, pictures: Tensor, patch: int) -> Tensor:
    return rearrange(pictures, f"b (rows p) (columns q) c -> b {order}", p=patch, q=patch)


def block_parameters(d: int, d_ff: int, n_heads: int, n_kv_heads: int, gated: bool, bias: bool) -> int:
    """Parameters of one decoder block: two norms, attention, feed-forward layer."""
    shared = n_kv_heads * (d // n_heads)  # width of all keys, and of all values
    attention = 2 * _linear(d, d, bias) + 2 * _linear(d, shared, bias)
    feed_forward = (1 + gated) * _linear(d, d_ff, bias) + _linear(d_ff, d, bias)
    return attention + feed_forward + 2 * (1 + bias) * d


def _linear(a: int, b: int, bias: bool) -> int:
    return a * b + bias * b


def operations(n: int, d: int, d_ff: int, n_blocks: int) -> int:
    """Multiplications of matrices in one pass of n positions, all of which see all."""
    linear = n * (4 * d * d + 2 * d * d_ff)
    scores_and_mixing = 2 * n * n * d
    return n_blocks * (linear + scores_and_mixing)


def widest(budget: int, size: int, n_blocks: int, vocabulary: int, context: int) -> int:
    """The largest width, a multiple of 64, of a GPT-2 whose parameters of `size` bytes fit into `budget` bytes."""
    d = 64
    while size * _gpt_parameters(d + 64, n_blocks, vocabulary, context) <= budget:
        d += 64
    return d


def _gpt_parameters(d: int, n_blocks: int, vocabulary: int, context: int) -> int:
    return (vocabulary + context) * d + n_blocks * block_parameters(d, 4 * d, 1, 1, False, True) + 2 * d


def _wrong_mask(mistake: str, n_source: int, n_target: int) -> Tensor:
    right, place = joint_mask(n_source, n_target), torch.arange(n_source + n_target)
    reads = place < n_source
    return {
        "source reads forwards": place <= place[:, None],
        "source sees target": right | reads[:, None],
        "target does not listen": right & (reads == reads[:, None]),
        "exchanged": right.mT,
        "blind to itself": right & (place != place[:, None]),
    }[mistake]


def _wrong_influence(mistake: str, may_attend: Tensor, n_blocks: int) -> Tensor:
    if mistake == "own vector lost":
        reached = torch.eye(len(may_attend))
        for _ in range(n_blocks):
            reached = (may_attend.float() @ reached > 0).float()
        return reached > 0
    blocks = {"one block": 1, "one too many": n_blocks + 1, "all that ever can": len(may_attend)}
    return influence(may_attend.mT if mistake == "exchanged" else may_attend, blocks.get(mistake, n_blocks))


def _wrong_cut(mistake: str, pictures: Tensor, patch: int) -> Tensor:
    if mistake == "the bug itself":
        b, rows, columns, channels = pictures.shape
        return pictures.reshape(b, (rows // patch) * (columns // patch), patch * patch * channels)
    order = {"columns first": "(columns rows) (p q c)", "turned": "(rows columns) (q p c)"}
    return _cut(order.get(mistake, "(rows columns) (c p q)"), pictures, patch)


def _wrong_block(mistake: str, d: int, d_ff: int, n_heads: int, n_kv_heads: int, gated: bool, bias: bool) -> int:
    right = block_parameters(d, d_ff, n_heads, n_kv_heads, gated, bias)
    return {
        "full keys": block_parameters(d, d_ff, 1, 1, gated, bias),
        "no gate": block_parameters(d, d_ff, n_heads, n_kv_heads, False, bias),
        "times heads": right + (n_heads - 1) * 2 * _linear(d, d, bias),
        "no norms": right - 2 * (1 + bias) * d,
        "no biases": block_parameters(d, d_ff, n_heads, n_kv_heads, gated, False),
    }[mistake]


def _wrong_operations(mistake: str, n: int, d: int, d_ff: int, n_blocks: int) -> int:
    right, square = operations(n, d, d_ff, n_blocks), n_blocks * n * n * d
    return {
        "linear only": right - 2 * square,
        "scores only": right - square,
        "per position": right // n,
        "additions too": 2 * right,
        "triangle": right - square + n_blocks * n * d,
    }[mistake]


def _wrong_width(mistake: str, budget: int, size: int, n_blocks: int, vocabulary: int, context: int) -> int:
    def fits(d: int) -> bool:
        count = _gpt_parameters(d, n_blocks, vocabulary * (2 if mistake == "own head" else 1), context)
        if mistake == "rule of thumb":
            count = 12 * n_blocks * d * d
        return (1 if mistake == "numbers" else size) * count + (mistake == "below") <= budget

    d = step = 1 if mistake == "any width" else 64
    while fits(d + step):
        d += step
    return d + step if mistake == "too wide" else d


def _known(wrong: Callable[..., Any], says: dict[str, str]) -> tuple[Misconception, ...]:
    return tuple(Misconception(name, partial(wrong, name), text) for name, text in says.items())


def _mask_cases(draw: Draw) -> list[Case]:
    few, many = draw.sizes((2, 4), (5, 7))
    return [
        Case("two and two", (2, 2)),
        Case("no source: a decoder", (0, 4)),
        Case("no target: an encoder", (3, 0)),
        Case("a short source", (few, many)),
        Case("a long source", (many, few)),
    ]


def _influence_cases(draw: Draw) -> list[Case]:
    n, width, more = draw.sizes((9, 12), (2, 3), (14, 16))
    left = torch.ones(3, 3, dtype=torch.bool).tril(-1).triu(-1)
    window = torch.ones(n, n, dtype=torch.bool).tril().triu(1 - width)
    chain = torch.zeros(more, more, dtype=torch.bool)
    order = torch.randperm(more, generator=draw.generator)
    chain[order[1:], order[:-1]] = True
    return [
        Case("each sees its left neighbour only, one block", (left, 1)),
        Case("each sees its left neighbour only, two blocks", (left, 2)),
        Case("a sliding window, three blocks", (window, 3)),
        Case("a chain in any order, four blocks", (chain, 4)),
    ]


def _cut_cases(draw: Draw) -> list[Case]:
    b, rows, columns, channels = draw.sizes((2, 3), (2, 3), (4, 5), (2, 4))
    return [
        Case("one picture of 4 x 4 pixels, patches of 2 x 2", (draw.normal(1, 4, 4, 1), 2)),
        Case("wide pictures in colours", (draw.normal(b, 3 * rows, 3 * columns, channels), 3)),
        Case("a tall picture", (draw.normal(1, 2 * columns, 2 * rows, channels), 2)),
    ]


def _block_cases(draw: Draw) -> list[Case]:
    heads, d_head, d_ff = draw.sizes((2, 5), (5, 9), (50, 90))
    return [
        Case("as in GPT-2, tiny", (8, 32, 2, 2, False, True)),
        Case("without biases", (8, 32, 2, 2, False, False)),
        Case("a gate", (8, 20, 2, 2, True, True)),
        Case("four heads share two of keys and values", (16, 40, 4, 2, True, False)),
        Case("any sizes", (2 * heads * d_head, d_ff, 2 * heads, heads, False, True)),
    ]


def _operations_cases(draw: Draw) -> list[Case]:
    n, d, d_ff, n_blocks = draw.sizes((20, 40), (50, 90), (100, 300), (2, 9))
    return [
        Case("two positions of width 3", (2, 3, 5, 1)),
        Case("any sizes", (n, d, d_ff, n_blocks)),
        Case("a long text", (1000 * n, d, d_ff, n_blocks)),
    ]


def _width_cases(draw: Draw) -> list[Case]:
    def budget(d: int, size: int, *sizes: int) -> int:
        return size * _gpt_parameters(d, *sizes)

    steps, size, n_blocks, vocabulary, context = draw.sizes((3, 12), (2, 4), (2, 6), (9_000, 30_000), (100, 900))
    d, gpt2, other = 64 * steps, (12, 50_257, 1024), (n_blocks, vocabulary, context)
    between = (budget(d, size, *other) + budget(d + 64, size, *other)) // 2
    return [
        Case("64 fits, 128 does not", (2 * budget(64, 2, 1, 1000, 10) - 1, 2, 1, 1000, 10)),
        Case("GPT-2 small fits to the byte", (budget(768, 4, *gpt2), 4, *gpt2)),
        Case("one byte less", (budget(768, 4, *gpt2) - 1, 4, *gpt2)),
        Case("any sizes", (between, size, *other)),
    ]


EXERCISE = Exercise(
    name="architectures", chapter="concepts/architectures",
    title="Architectures, from a mask to the widest model that fits",
    given={"influence": influence, "block_parameters": block_parameters},
    questions=(
        Question(
            id="q1", title="With a pencil: the memory", kind="recall", points=1, minutes=5, answer="gigabytes",
            expects="the memory for the weights of all blocks, in gigabytes of 10^9 bytes, right to two digits.",
            # 12 L d^2 = 12 * 100 * 1000^2 numbers of 2 bytes
            reference=2.4, rtol=0.0, atol=0.05,
            hints=(
                "How many parameters has one block of width d, when biases and norms are left aside? Add the matrices.",
                "Attention has four matrices of d x d, the feed-forward layer two of d x 4d. Then blocks, then bytes.",
            ),
            misconceptions=(
                Misconception("four bytes", 4.8, "each number takes four bytes; here it takes two."),
                Misconception("attention only", 0.8, "the feed-forward layers are left out."),
                Misconception("feed-forward only", 1.6, "the attention layers are left out."),
                Misconception("parameters", 1.2, "this is the number of parameters, in billions."),
            ),
        ),
        Question(
            id="q2", title="One mask for three families", kind="code", points=2, minutes=8, answer="joint_mask",
            expects="True where a row may look: everyone at the source, the target also at itself and its own past.",
            reference=joint_mask, cases=_mask_cases,
            hints=(
                "Draw it for two and two, as in the chapter: which two kinds of squares are there?",
                "Number all positions in a row, source first. Columns of the source are open to every row.",
                "A column of the target is open to the rows from its own place on. Either of the two is enough.",
            ),
            misconceptions=_known(_wrong_mask, {
                "source reads forwards": "a source position sees its past only; it may see the whole source.",
                "source sees target": "the source looks at the target, which is not written yet.",
                "target does not listen": "the target does not see the source.",
                "exchanged": "rows and columns have changed places: a row is a position that looks.",
                "blind to itself": "a position does not see itself.",
            }),
        ),
        Question(
            id="q3", title="What many blocks can see", kind="code", points=3, minutes=12, answer="influence",
            expects="True where the output (row) can depend on the token (column) after that number of blocks.",
            reference=influence, cases=_influence_cases,
            hints=(
                "After one block, whom has a position heard from? Do not forget that a block adds to what was there.",
                "In the next block it hears, from each position that it sees, all that this one has gathered so far.",
                "Put True on the diagonal of the mask. Then it is the question which places can be reached in so many "
                "steps: a product of matrices, in which any positive number means yes.",
            ),
            misconceptions=_known(_wrong_influence, {
                "one block": "one block only is taken into account: what travels over a third position is missing.",
                "own vector lost": "a position forgets its own vector; a block adds to it.",
                "one too many": "information travels one step too far.",
                "all that ever can": "information travels as far as any number of blocks could carry it.",
                "exchanged": "rows and columns have changed places: a row is a position that looks.",
            }),
        ),
        Question(
            id="q4", title="Find the bug: a square in many places", kind="find the bug",
            points=3, minutes=10, answer="cut",
            expects="one row for each patch, from left to right and then downwards; in it the numbers of a square.",
            reference=cut, cases=_cut_cases,
            hints=(
                "Cut torch.arange(16).view(1, 4, 4, 1) into patches of 2. What is in the first, and what should be?",
                "Reading the memory on and on gives strips of one row. A patch holds pieces of several rows.",
                "Part both axes in two, (rows, patch) and (columns, patch), then change the order of axes, then join: "
                "as in the chapter's ViT.",
            ),
            misconceptions=_known(_wrong_cut, {
                "the bug itself": "each 'patch' is a strip of successive pixels, not a square.",
                "columns first": "the patches are counted downwards first; count them from left to right first.",
                "turned": "the pixels of a patch are read downwards first; read each of its rows from left to right.",
                "channels first": "all pixels of one channel come first; the channels of a pixel stay together.",
            }),
        ),
        Question(
            id="q5", title="Counting a block of any make", kind="code", points=3, minutes=12, answer="block_parameters",
            expects="the exact number of parameters of one block, a whole number.",
            reference=block_parameters, cases=_block_cases, rtol=0.0, atol=0.0,
            hints=(
                "Write down the linear layers, each as (from, to): a * b numbers, and b more if there are biases.",
                "One head has width d / n_heads. All keys together are n_kv_heads of them wide; so are all values.",
                "The output layer goes from d to d, the gate from d to d_ff. The two norms have d numbers each, or 2d.",
            ),
            misconceptions=_known(_wrong_block, {
                "full keys": "keys and values get as many heads as queries.",
                "no gate": "the third matrix of a gated feed-forward layer is missing.",
                "times heads": "query and output matrix are counted for every head; the heads share them.",
                "no norms": "the norms are missing.",
                "no biases": "the biases are missing.",
            }),
        ),
        Question(
            id="q6", title="Size is not work", kind="code", points=2, minutes=10, answer="operations",
            expects="the exact number of multiplications in the matrix products of one pass, a whole number.",
            reference=operations, cases=_operations_cases, rtol=0.0, atol=0.0,
            hints=(
                "A matrix of a x b costs each vector a * b multiplications. Which matrices does every position pass?",
                "Attention has two more products, without parameters: queries with keys, weights with values.",
                "A score is a product of d numbers, over all heads together. How many pairs of positions are there?",
            ),
            misconceptions=_known(_wrong_operations, {
                "linear only": "the products without parameters are missing: scores, and the mixing of values.",
                "scores only": "one of the two products without parameters is missing: scores, or mixing of values.",
                "per position": "this is the number for one position; there are n of them.",
                "additions too": "additions are counted as well; count the multiplications.",
                "triangle": "only the past is looked at; here all positions see all.",
            }),
        ),
        Question(
            id="q7", title="The widest that fits", kind="code", points=4, minutes=15, answer="widest",
            expects="the largest multiple of 64 for which the whole model takes at most `budget` bytes.",
            reference=widest, cases=_width_cases, rtol=0.0, atol=0.0,
            hints=(
                "First write a function for the whole model: words, positions, blocks, the last norm. Try GPT-2 small.",
                "given.block_parameters(d, 4 * d, 1, 1, False, True) is one block; the head costs nothing.",
                "Make d larger by 64 as long as the *next* width still fits: its parameters times bytes each.",
            ),
            misconceptions=_known(_wrong_width, {
                "rule of thumb": "only 12 L d^2 is counted; here the tables matter.",
                "own head": "the table of words is counted twice; the head uses it again.",
                "numbers": "parameters are compared with bytes.",
                "too wide": "this is the first width that does not fit.",
                "below": "a model that fills the budget to the byte still fits.",
                "any width": "the width is not a multiple of 64.",
            }),
        ),
        Question(
            id="q8", title="Measure: one random look", kind="experiment", points=2, minutes=12, answer="blocks_needed",
            expects="the mean number of blocks until every output can depend on every token, over 400 random masks.",
            reference=7.32, accepts=lambda value: 7.02 <= value <= 7.63,
            hints=(
                "Begin with the three near places, the same for all masks; then set one random place in every row.",
                "For 1, 2, 3, ... blocks, ask which masks are True everywhere by now. The number that a mask needs is "
                "one more than the number of times that it was not.",
            ),
            misconceptions=(
                Misconception("counted from zero", 6.32, "the first block is not counted."),
                Misconception("mean of positions", 5.85, "this is when a position sees all, on average; wait for all."),
                Misconception("both ways", 5.02, "the random looks go both ways; to be looked at is not to look."),
                Misconception("neighbours only", 31.0, "the random looks are missing."),
            ),
        ),
    ),
)  # fmt: skip

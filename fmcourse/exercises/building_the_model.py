"""The exercise of `algorithm/building_the_model`: an encoder-decoder from its parts, and tests that notice mistakes."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

Weights = dict[str, Any]


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _add(x: Tensor, part: Callable[[Tensor], Tensor], style: str = "before") -> Tensor:
    if style == "after":
        return _norm(x + part(x))
    stream = {"before": x, "stream": _norm(x), "replace": torch.zeros_like(x)}[style]
    return stream + part(_norm(x))


# Below, what stands after the * is for mistakes; by itself it is right.


def attention_layer(
    x: Tensor, memory: Tensor, may_attend: Tensor, layer: Weights, n_heads: int, *,
    cut: Any = lambda x, h: rearrange(x, "b t (h d) -> b h t d", h=h),
    join: Any = lambda x: rearrange(x, "b h t d -> b t (h d)"), over: int = -1, scale: float = 0.5,
) -> Tensor:  # fmt: skip
    """Tokens (b, t, m) ask a memory (b, s, m), under a mask that broadcasts to (b, h, t, s); gives (b, t, m)."""
    asked = ((x, "query"), (memory, "key"), (memory, "value"))
    query, key, value = (cut(tokens @ layer[name], n_heads) for tokens, name in asked)
    scores = query @ key.mT / query.shape[-1] ** scale
    weights = scores.masked_fill(~may_attend, -1e9).softmax(dim=over)
    return join(weights @ value) @ layer["out"]


def encoder_block(x: Tensor, source_real: Tensor, block: Weights, n_heads: int) -> Tensor:
    """Everybody asks everybody but the padding, then each token works alone: (b, s, m) gives (b, s, m)."""
    x = _add(x, lambda y: attention_layer(y, y, source_real[:, None, None, :], block["self"], n_heads))
    return _add(x, lambda y: F.gelu(y @ block["up"]) @ block["down"])


def decoder_block(
    x: Tensor, memory: Tensor, source_real: Tensor, block: Weights, n_heads: int, *,
    style: str = "before", causal: bool = True, hide: bool = True,
) -> Tensor:  # fmt: skip
    """Tokens (b, t, m) ask each other, then the memory (b, s, m), then each works alone: (b, t, m)."""
    past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril(0 if causal else x.shape[1])
    real = source_real[:, None, None, :] | (not hide)
    x = _add(x, lambda y: attention_layer(y, y, past, block["self"], n_heads), style)
    x = _add(x, lambda y: attention_layer(y, memory, real, block["cross"], n_heads), style)
    return _add(x, lambda y: F.gelu(y @ block["up"]) @ block["down"], style)


def transformer(
    source: Tensor, answers: Tensor, source_real: Tensor, start: int, model: Weights, n_heads: int, *,
    scale: float = 0.5, norm: Any = _norm, places: int = 1, shift: int = 1,
) -> Tensor:  # fmt: skip
    """Source ids (b, s) and the ids to be answered (b, t) give logits (b, t, v) for the answers."""
    reads = F.pad(answers, (1, 0), value=start)[:, :-1] if shift else answers

    def embed(ids: Tensor) -> Tensor:
        vectors = model["table"][ids] * model["table"].shape[1] ** scale
        return vectors + places * model["places"][: ids.shape[1]]

    memory, x = embed(source), embed(reads)
    for block in model["encoder"]:
        memory = encoder_block(memory, source_real, block, n_heads)
    for block in model["decoder"]:
        x = decoder_block(x, norm(memory), source_real, block, n_heads)
    return norm(x) @ model["table"].mT


def loss(logits: Tensor, answers: Tensor, pad: int) -> float:
    """The mean cross-entropy of logits (b, t, v) over the answers (b, t) that are not padding."""
    real = answers != pad
    return F.cross_entropy(logits[real], answers[real].long()).item()


def two_tests(
    before: Tensor, after: Tensor, place: int, *, atol: float = 1e-5, own: int = 0, past: int = 1, some: Any = any
) -> tuple[bool, bool]:
    """Whether logits (t, v) before an exchanged token stayed as they were, and whether any after it did not."""
    changed = ((before - after).abs().amax(dim=-1) > atol).tolist()
    return not any(changed[: place + own]), some(changed[place + past :])


def _layer(draw: Draw, m: int) -> Weights:
    return {name: draw.normal(m, m) / m**0.5 for name in ("query", "key", "value", "out")}


def _block(draw: Draw, m: int, *attentions: str) -> Weights:
    up, down = draw.normal(m, 4 * m) / m**0.5, draw.normal(4 * m, m) / (2 * m**0.5)
    return {name: _layer(draw, m) for name in attentions} | {"up": up, "down": down}


def _real(draw: Draw, b: int, s: int) -> Tensor:
    """One sentence as long as the table, the others shorter."""
    lengths = torch.randint(1, s, (b, 1), generator=draw.generator)
    lengths[0] = s
    return torch.arange(s) < lengths


def _attention_cases(draw: Draw) -> list[Case]:
    b, h, d, t, s = draw.sizes((2, 3), (2, 3), (4, 5), (6, 7), (8, 9))
    m, (tokens, memory) = h * d, draw.normal(2, 2, 4, 4)
    past = torch.ones(5, 5, dtype=torch.bool).tril()
    return [
        Case("two tokens, one head, all visible", (
            tokens[:1, :2], memory[:1, :2], torch.ones(1, 1, 1, 2, dtype=torch.bool), _layer(draw, 4), 1)),
        Case("two heads, a memory of another length", (
            tokens, memory[:, :3], torch.ones(1, 1, 1, 3, dtype=torch.bool), _layer(draw, 4), 2)),
        Case("tokens ask each other, a causal mask", (
            *[2 * draw.normal(1, 5, 6)] * 2, past, _layer(draw, 6), 3)),
        Case("a padded memory", (
            2 * draw.normal(b, t, m), draw.normal(b, s, m), _real(draw, b, s)[:, None, None], _layer(draw, m), h)),
    ]  # fmt: skip


def _decoder_cases(draw: Draw) -> list[Case]:
    def case(about: str, b: int, t: int, s: int, h: int, d: int) -> Case:
        x, memory = 2 * draw.normal(b, t, h * d), draw.normal(b, s, h * d)
        return Case(about, (x, memory, _real(draw, b, s), _block(draw, h * d, "self", "cross"), h))

    b, t, s, h, d = draw.sizes((2, 3), (4, 5), (6, 7), (2, 3), (4, 5))
    return [
        case("two tokens, a source of three, one head", 1, 2, 3, 1, 4),
        case("as many sentences as tokens", 3, 3, 3, 2, 3),
        case("a padded source", b, t, s, h, d),
    ]


def _transformer_cases(draw: Draw) -> list[Case]:
    def case(about: str, b: int, t: int, s: int, h: int, m: int, v: int, layers: tuple[int, int]) -> Case:
        source, answers = (torch.randint(v - 1, (b, n), generator=draw.generator) for n in (s, t))
        model = {
            "table": draw.normal(v, m) / m**0.5,
            "places": draw.normal(9, m),
            "encoder": [_block(draw, m, "self") for _ in range(layers[0])],
            "decoder": [_block(draw, m, "self", "cross") for _ in range(layers[1])],
        }
        return Case(about, (source, answers, _real(draw, b, s), v - 1, model, h))

    b, t, s, v = draw.sizes((2, 3), (4, 5), (6, 8), (11, 20))
    return [
        case("one block on each side, one sentence", 1, 2, 3, 1, 4, 5, (1, 1)),
        case("two blocks read, three write, a padded source", b, t, s, 2, 10, v, (2, 3)),
        case("three blocks read, two write", b, t, s, 3, 12, v, (3, 2)),
    ]


def _loss_cases(draw: Draw) -> list[Case]:
    def case(about: str, real: Tensor, v: int, pad: int) -> Case:
        answers = (pad + torch.randint(1, v, real.shape, generator=draw.generator)) % v  # anything but padding
        return Case(about, (2 * draw.normal(*real.shape, v), answers.where(real, torch.tensor(pad)), pad))

    b, t, v = draw.sizes((3, 4), (5, 6), (7, 9))
    return [
        case("one sentence, one token and one padding", torch.tensor([[True, False]]), 3, 2),
        case("no padding", torch.ones(2, 3, dtype=torch.bool), 5, 0),
        case("sentences of different length", torch.arange(t) < torch.tensor([[t], [1], [2], [3]])[:b], v, v - 1),
    ]


def _test_cases(draw: Draw) -> list[Case]:
    def case(about: str, t: int, place: int, changed: list[int], noise: float = 0.0) -> Case:
        before, v = draw.normal(t, 4), torch.randint(4, (len(changed),), generator=draw.generator)
        after = before + noise * (torch.rand(t, 4, generator=draw.generator) - 0.5)
        after[changed, v] += 0.5
        return Case(about, (before, after, place))

    t, place = draw.sizes((6, 8), (2, 3))
    later = list(range(place, t))
    return [
        case("three places, the middle token changed, its own row and the next with it", 3, 1, [1, 2]),
        case("an earlier row changes", t, place, [place - 1, *later]),
        case("only the own row changes", t, place, [place]),
        case("earlier rows differ by rounding", t, place, later, noise=2e-6),
        case("later rows differ by rounding", t, place, [place], noise=2e-6),
        case("the own row and the last one change", t, place, [place, t - 1]),
    ]


EXERCISE = Exercise(
    name="building_the_model",
    chapter="algorithm/building_the_model",
    title="Building the model, and tests that notice mistakes",
    given={f.__name__: f for f in (attention_layer, encoder_block, decoder_block)},
    questions=(
        Question(
            id="q1",
            title="Count the scores",
            kind="recall",
            points=1,
            minutes=8,
            answer="number_of_scores",
            expects="the number of scores of all heads, blocks and sentences, in all three kinds of attention.",
            reference=2 * 3 * (2 * 5 * 5 + 3 * 4 * 4 + 3 * 4 * 5),
            hints=(
                "There are three kinds of attention in the model. Who asks whom in each, and in which blocks is it?",
                "A table of scores has a row for each token that asks and a column for each that is asked.",
                "Two tables of 5 x 5, three of one kind and three of another, for each head of each sentence.",
            ),
            misconceptions=(
                Misconception("no cross-attention", 588, "the cross-attention of the decoder is missing."),
                Misconception("square cross-attention", 1038, "in cross-attention the source asks; the target does."),
                Misconception("one head", 316, "one head is counted; every head has scores of its own."),
                Misconception("one sentence", 474, "one sentence is counted; there are two."),
                Misconception("causal halves", 840, "forbidden scores are left out; they are computed, too."),
            ),
        ),
        Question(
            id="q2",
            title="An attention layer",
            kind="code",
            points=3,
            minutes=12,
            answer="attention_layer",
            expects="(b, t, m): every head mixes values of the memory for each token; joined, and multiplied by out.",
            reference=attention_layer,
            cases=_attention_cases,
            hints=(
                "Predict the shape after every step: projected, cut into heads, compared, mixed, joined, projected.",
                "Queries come from x, keys and values from the memory. Forbidden scores become minus infinity.",
                "Both the cut and the joining change the order of axes. The scale is that of one head's width.",
            ),
            misconceptions=(
                Misconception(
                    "cut by reshape",
                    partial(attention_layer, cut=lambda x, h: x.reshape(x.shape[0], h, x.shape[1], -1)),
                    "heads are cut by a reshape alone, so that a row holds numbers of other tokens.",
                ),
                Misconception(
                    "joined by reshape",
                    partial(attention_layer, join=lambda x: x.reshape(x.shape[0], x.shape[2], -1)),
                    "heads are joined by a reshape alone, so that a row holds numbers of other tokens.",
                ),
                Misconception("over queries", partial(attention_layer, over=-2), "the softmax runs over the queries."),
                Misconception("not scaled", partial(attention_layer, scale=0), "the scores are not scaled."),
            ),
            forbidden=frozenset({"MultiheadAttention", "multi_head_attention_forward", "MultiHeadAttention"}),
        ),
        Question(
            id="q3",
            title="A block of the decoder",
            kind="code",
            points=3,
            minutes=15,
            answer="decoder_block",
            expects="(b, t, m): three parts, each of which reads the normalised stream and adds to the stream itself.",
            reference=decoder_block,
            cases=_decoder_cases,
            hints=(
                "Three lines of the same form: what is added to x, and what does the part read?",
                "Who may be seen? Among the target's tokens, nobody later; in the source, no padding.",
                "Masks of shapes (t, t) and (b, 1, 1, s). The memory is not normalised again.",
            ),
            misconceptions=(
                Misconception(
                    "normalised after", partial(decoder_block, style="after"), "the sum is normalised afterwards."
                ),
                Misconception(
                    "stream normalised",
                    partial(decoder_block, style="stream"),
                    "parts add to the normalised stream; the stream itself is never normalised here.",
                ),
                Misconception("nothing added", partial(decoder_block, style="replace"), "parts replace the stream."),
                Misconception("no causal mask", partial(decoder_block, causal=False), "tokens see later tokens."),
                Misconception(
                    "memory normalised",
                    lambda x, memory, *rest: decoder_block(x, _norm(memory), *rest),
                    "the memory is normalised here; it comes as it should be read.",
                ),
                Misconception("padding read", partial(decoder_block, hide=False), "the padding of the source is read."),
            ),
            forbidden=frozenset({"TransformerDecoderLayer", "TransformerBlock"}),
        ),
        Question(
            id="q4",
            title="Design: the whole model",
            kind="code",
            points=4,
            minutes=18,
            answer="transformer",
            expects="logits (b, t, v): the decoder's normalised vectors, each compared with every row of the table.",
            reference=transformer,
            cases=_transformer_cases,
            hints=(
                "From ids to vectors twice, with the same table; two loops over blocks; then back to the table.",
                "Each stack ends with a normalisation: the memory is normalised once, after the encoder's last block.",
                "A token's vector is its row times the root of m, plus the row of its place. No scale at the end.",
            ),
            misconceptions=(
                Misconception("not scaled", partial(transformer, scale=0), "the root of m is missing on the way in."),
                Misconception(
                    "no last normalisation",
                    partial(transformer, norm=lambda x: x),
                    "the stacks end without normalisation.",
                ),
                Misconception("places forgotten", partial(transformer, places=0), "the places are missing."),
                Misconception("not moved", partial(transformer, shift=0), "the decoder reads what it should answer."),
            ),
            forbidden=frozenset({"Transformer", "TransformerDecoder", "Seq2Seq"}),
        ),
        Question(
            id="q5",
            title="Find the bug: a loss that depends on the neighbours",
            kind="find the bug",
            points=3,
            minutes=10,
            answer="loss",
            expects="the sum of the cross-entropies of all answers that are not padding, divided by their number.",
            reference=loss,
            cases=_loss_cases,
            hints=(
                "Take one sentence of one token, and add padding to it. What happens to the number?",
                "Padding adds nothing to the sum. Does it add something to what the sum is divided by?",
            ),
            misconceptions=(
                Misconception(
                    "the bug itself",
                    lambda logits, answers, pad: loss(logits, answers, pad) * (answers != pad).float().mean(),
                    "the sum is still divided by the number of all places, with padding.",
                ),
                Misconception(
                    "padding learned",
                    lambda logits, answers, pad: F.cross_entropy(logits.mT, answers.long()),
                    "padding is treated as an answer like any other.",
                ),
                Misconception(
                    "mean of means",
                    lambda logits, answers, pad: sum(map(loss, logits, answers, [pad] * len(answers))) / len(answers),
                    "every sentence has the same weight; every token should have.",
                ),
                Misconception(
                    "sum",
                    lambda logits, answers, pad: loss(logits, answers, pad) * (answers != pad).sum(),
                    "nothing is divided: this is the sum.",
                ),
            ),
        ),
        Question(
            id="q6",
            title="A test with two halves",
            kind="code",
            points=2,
            minutes=10,
            answer="two_tests",
            expects="True or False, twice: no row before the place has changed; some row after it has.",
            reference=two_tests,
            cases=_test_cases,
            hints=(
                "For each row: does any number in it differ by more than rounding? That gives t times yes or no.",
                "Which rows may not change, which must, and which one says nothing either way?",
            ),
            misconceptions=(
                Misconception("own row leaks", partial(two_tests, own=1), "the own row counts as one before it."),
                Misconception("own row is past", partial(two_tests, past=0), "the own row counts as one after it."),
                Misconception("rounding", partial(two_tests, atol=0), "differences by rounding count as changes."),
                Misconception("all rows", partial(two_tests, some=all), "all later rows must change; one is enough."),
            ),
        ),
        Question(
            id="q7",
            title="Measure: the first loss",
            kind="experiment",
            points=2,
            minutes=12,
            answer="first_loss",
            expects="the mean cross-entropy of random answers when the table is standard normal, in nats.",
            reference=26.33,
            accepts=lambda value: 25.6 <= value <= 27.1,  # 10,000 positions: standard deviation 0.10
            hints=(
                "Vectors (n, 64), normalised; a table (1000, 64); logits are each vector with each row of the table.",
                "F.cross_entropy takes logits (n, 1000) and n answers drawn by torch.randint.",
            ),
            misconceptions=(
                Misconception("what it should be", math.log(1000), "this is the logarithm of the vocabulary."),
                Misconception("small table", 7.41, "the table or the logits are divided by the root of 64."),
                Misconception("bits", 26.33 / math.log(2), "this is in bits; nats are asked for."),
                Misconception("own answers", 0.406, "the answers are the likeliest tokens, not random ones."),
            ),
            rtol=0.02,
        ),
    ),
)

"""The exercise of `algorithm/building_the_model`: its references beside torch's modules, the package, loops."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fmcourse.exercises import load
from fmcourse.exercises.session import PUBLIC_SEEDS, Session, examine
from fmcourse.transformer import Seq2Seq, TransformerConfig

SEEDS = tuple(range(100, 120))
EXERCISE = load("building_the_model")
NAMES = ("query", "key", "value")
close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-5)


def drawn(question_id, seed):
    question = EXERCISE.question(question_id)
    for case in question.draw(seed):
        yield case.args, question.expected(case)


def torch_layer(layer, n_heads):
    """The same weights in torch's own attention layer."""
    theirs = nn.MultiheadAttention(len(layer["out"]), n_heads, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer[name].T for name in NAMES]))
        theirs.out_proj.weight.copy_(layer["out"].T)
    return theirs


def torch_decoder(block, n_heads):
    """The same weights in torch's own decoder layer; its normalisations have gain 1 and no bias."""
    m = len(block["up"])
    theirs = nn.TransformerDecoderLayer(
        m, n_heads, 4 * m, dropout=0, activation="gelu", batch_first=True, norm_first=True, bias=False
    )
    theirs.self_attn, theirs.multihead_attn = (torch_layer(block[name], n_heads) for name in ("self", "cross"))
    with torch.no_grad():
        theirs.linear1.weight.copy_(block["up"].T)
        theirs.linear2.weight.copy_(block["down"].T)
    return theirs


def test_the_scores_are_counted_in_a_running_model(monkeypatch):
    import fmcourse.attention as package

    shapes = []

    def watched(query, key, *rest, real=package.fused_attention):
        shapes.append((query @ key.mT).numel())
        return real(query, key, *rest)

    monkeypatch.setattr(package, "fused_attention", watched)
    model = Seq2Seq(TransformerConfig(vocab_size=9, context=9, d_model=12, n_layers=1, n_heads=3))
    model(torch.zeros(2, 5, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long))
    encoder, own, cross = shapes
    assert 2 * encoder + 3 * (own + cross) == EXERCISE.question("q1").reference


@pytest.mark.parametrize("seed", SEEDS)
def test_layer_and_block_equal_those_of_torch(seed):
    for (x, memory, may_attend, layer, n_heads), y in drawn("q2", seed):
        mask = ~may_attend.expand(len(x), n_heads, x.shape[1], memory.shape[1]).flatten(0, 1)
        close(torch_layer(layer, n_heads)(x, memory, memory, attn_mask=mask, need_weights=False)[0], y)
    for (x, memory, source_real, block, n_heads), y in drawn("q3", seed):
        future = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) < 0
        theirs = torch_decoder(block, n_heads)(x, memory, tgt_mask=future, memory_key_padding_mask=~source_real)
        close(theirs, y)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_equals_one_of_torchs_layers(seed):
    for (source, answers, source_real, start, model, n_heads), logits in drawn("q4", seed):
        table, places = model["table"], model["places"]
        m = table.shape[1]
        embedding = nn.Embedding.from_pretrained(table * m**0.5)
        memory, x = (
            embedding(ids) + places[None, : ids.shape[1]]
            for ids in (source, F.pad(answers[:, :-1], (1, 0), value=start))
        )
        for block in model["encoder"]:
            layer = nn.TransformerEncoderLayer(
                m, n_heads, 4 * m, dropout=0, activation="gelu", batch_first=True, norm_first=True, bias=False
            )
            layer.self_attn = torch_layer(block["self"], n_heads)
            layer.linear1.weight.data, layer.linear2.weight.data = block["up"].T, block["down"].T
            memory = layer(memory, src_key_padding_mask=~source_real)
        future = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        for block in model["decoder"]:
            x = torch_decoder(block, n_heads)(
                x, F.layer_norm(memory, (m,)), tgt_mask=future, memory_key_padding_mask=~source_real
            )
        close(F.linear(F.layer_norm(x, (m,)), table), logits)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_model_passes_the_tests_of_its_chapter(seed):
    transformer = EXERCISE.question("q4").reference
    for (source, answers, source_real, start, model, n_heads), logits in drawn("q4", seed):
        for i, real in enumerate(source_real):  # alone or in a batch
            alone = transformer(source[i : i + 1, real], answers[i : i + 1], real[None, real], start, model, n_heads)
            close(alone[0], logits[i])
        for place in range(answers.shape[1]):  # an answer is seen by what comes after it, and by nothing else
            other = answers.clone()
            other[:, place] = (other[:, place] + 1) % start
            changed = (transformer(source, other, source_real, start, model, n_heads) - logits).abs().amax(dim=(0, 2))
            assert changed[: place + 1].max() < 1e-5
            assert (changed[place + 1 :] > 1e-4).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_loss_equals_torchs_and_outcomes_are_those_by_hand(seed):
    for (logits, answers, pad), value in drawn("q5", seed):
        assert value == pytest.approx(F.cross_entropy(logits.mT, answers, ignore_index=pad).item(), rel=1e-5)
    outcomes = [(True, True), (False, True), (True, False), (True, True), (True, False), (True, True)]
    assert [outcome for _, outcome in drawn("q6", seed)] == outcomes


@pytest.mark.parametrize("seed", range(8))
def test_the_first_loss_is_accepted_with_room_to_spare(seed):
    draw = np.random.default_rng(seed)
    final = draw.normal(size=(10_000, 64))
    final = (final - final.mean(1, keepdims=True)) / final.std(1, keepdims=True)
    logits = final @ draw.normal(size=(1000, 64)).T
    largest = logits.max(axis=1)
    losses = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1)) - logits[:, 0]  # always token 0
    accepts = EXERCISE.question("q7").accepts
    assert accepts(losses.mean() - 0.35)
    assert accepts(losses.mean() + 0.35)
    assert not accepts(losses.mean() + 1.5)
    scaled = logits / 8
    assert not accepts(-(scaled - np.log(np.exp(scaled).sum(1, keepdims=True)))[:, 0].mean())


def test_weights_are_not_poured_out_in_feedback():
    said = repr(Session(EXERCISE)("q3", lambda x, memory, source_real, block, n_heads: x))
    assert "'up': <float32 (4, 16)>" in said
    assert len(said) < 900


def attention_in_double(x, memory, may_attend, layer, n_heads):
    """A head and a query at a time."""
    x, memory = x.double(), memory.double()
    wide = {name: w.double() for name, w in layer.items()}
    d, y = x.shape[-1] // n_heads, torch.zeros(x.shape, dtype=torch.float64)
    may_attend = may_attend.broadcast_to(len(x), n_heads, x.shape[1], memory.shape[1])
    for n, h, i in np.ndindex(len(x), n_heads, x.shape[1]):
        own, seen = slice(h * d, (h + 1) * d), may_attend[n, h, i]
        key, value = (memory[n, seen] @ wide[name][:, own] for name in ("key", "value"))
        weights = torch.softmax(key @ (x[n, i] @ wide["query"][:, own]) / math.sqrt(d), dim=0)
        y[n, i] += weights @ value @ wide["out"][own]
    return y


def block_by_hand(x, memory, source_real, block, n_heads):
    """Masks of numbers, a normalisation of one's own, and gelu by the error function."""

    def norm(y):
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()

    past = torch.arange(x.shape[1])[:, None] >= torch.arange(x.shape[1])
    x = x.double()
    x = x + attention_in_double(norm(x), norm(x), past, block["self"], n_heads)
    x = x + attention_in_double(norm(x), memory, source_real[:, None, None], block["cross"], n_heads)
    up = norm(x) @ block["up"].double()
    return x + 0.5 * up * (1 + torch.erf(up / math.sqrt(2))) @ block["down"].double()


def sentence_by_sentence(source, answers, source_real, start, model, n_heads):
    """Each sentence by itself, without its padding, and each place by a run of its own, as in writing."""
    given, m = EXERCISE.given, model["table"].shape[1]
    logits = torch.zeros(*answers.shape, len(model["table"]))
    for n, t in np.ndindex(*answers.shape):
        text = source[n][source_real[n]]
        real = torch.ones(1, len(text), dtype=torch.bool)
        memory, x = (
            F.embedding(ids, model["table"])[None] * m**0.5 + model["places"][: len(ids)]
            for ids in (text, torch.tensor([start, *answers[n, :t].tolist()]))
        )
        for block in model["encoder"]:
            memory = given["encoder_block"](memory, real, block, n_heads)
        for block in model["decoder"]:
            x = given["decoder_block"](x, F.layer_norm(memory, (m,)), real, block, n_heads)
        logits[n, t] = model["table"] @ F.layer_norm(x[0, -1], (m,))
    return logits


def loss_in_loops(logits, answers, pad):
    values = [
        -float(row.double().log_softmax(0)[token])
        for sentence, ids in zip(logits, answers.tolist(), strict=True)
        for row, token in zip(sentence, ids, strict=True)
        if token != pad
    ]
    return sum(values) / len(values)


def both_in_loops(before, after, place):
    changed = [
        any(abs(a - b) > 1e-5 for a, b in zip(*rows, strict=True))
        for rows in zip(before.tolist(), after.tolist(), strict=True)
    ]
    return [True not in changed[:place], True in changed[place + 1 :]]


UNUSUAL = {
    "q2": [
        attention_in_double,
        lambda x, memory, may_attend, layer, n_heads: torch_layer(layer, n_heads)(
            x, memory, memory,
            attn_mask=~may_attend.expand(len(x), n_heads, x.shape[1], memory.shape[1]).flatten(0, 1),
        )[0],
    ],
    "q3": [
        block_by_hand,
        lambda x, memory, source_real, block, n_heads: torch_decoder(block, n_heads)(
            x, memory, tgt_mask=torch.ones(x.shape[1], x.shape[1]).triu(1).bool(), memory_key_padding_mask=~source_real
        ),
    ],
    "q4": [
        sentence_by_sentence,
        lambda source, answers, source_real, start, model, n_heads: EXERCISE.question("q4").reference(
            source.roll(1, 0), answers.roll(1, 0), source_real.roll(1, 0), start, model, n_heads
        ).roll(-1, 0).double(),
    ],
    "q5": [
        loss_in_loops,
        lambda logits, answers, pad: F.cross_entropy(logits.flatten(0, 1), answers.flatten(), ignore_index=pad),
        lambda logits, answers, pad: F.nll_loss(logits.log_softmax(-1)[answers != pad], answers[answers != pad]),
    ],
    "q6": [
        both_in_loops,
        lambda before, after, place: (
            torch.allclose(before[:place], after[:place], atol=1e-5),
            torch.tensor(not torch.allclose(before[place + 1 :], after[place + 1 :], atol=1e-5)),
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, (*PUBLIC_SEEDS, *SEEDS)) is None

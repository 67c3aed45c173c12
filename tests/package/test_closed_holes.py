"""What mutation testing found unprotected (`benchmarks/mutation.py`), and is protected now."""

import math

import pytest
import torch
from builders import POSITIONS, assert_same, config, draw, ids, padding, random_mask, randomise

from fmcourse.attention import MultiHeadAttention, fused_attention
from fmcourse.cache import KVCache
from fmcourse.layers import TransformerBlock
from fmcourse.masks import causal_mask, visible
from fmcourse.positions import Rotary, SinusoidalPositions, sinusoidal
from fmcourse.transformer import BERT, GPT, Seq2Seq


@pytest.mark.usefixtures("float64")
def test_queries_and_keys_are_rotated_alike_and_values_are_not():
    attention, x = randomise(MultiHeadAttention(12, 3)), draw(2, 5, 12)
    rotate = Rotary(5, 4)(torch.arange(5))
    query, key, value = attention.heads(x)
    scores = rotate(query) @ rotate(key).mT / math.sqrt(4)
    mixed = scores.softmax(dim=-1) @ value
    assert_same(attention(x, rotate=rotate), attention.out(mixed.transpose(1, 2).reshape(2, 5, 12)))


def test_dropout_stands_after_every_sublayer():
    block, x = TransformerBlock(config(dropout=0.5)).train(), torch.zeros(50, 20, 24)
    torch.manual_seed(0)
    added = block.add(x, torch.ones_like, block.attention_norm)
    assert set(added.unique().tolist()) == {0.0, 2.0}
    assert (added == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert_same(block.eval().add(x, torch.ones_like, block.attention_norm), torch.ones_like(x), atol=0.0)


def test_dropout_stands_after_the_embedding():
    stack = GPT(config(dropout=0.5, position="none")).train().decoder
    torch.manual_seed(0)
    tokens = ids(23, 50, 17)
    vectors, dropped = stack.tokens(tokens), stack.embed(tokens, torch.arange(17))
    kept = dropped != 0
    assert kept.double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert_same(dropped[kept], 2 * vectors[kept], atol=1e-6)
    assert_same(stack.eval().embed(tokens, torch.arange(17)), vectors, atol=0.0)


def test_masks_and_positions_are_made_where_the_tokens_are():
    there = torch.device("meta")
    assert causal_mask(3, 5, there).device == there
    real = torch.ones(2, 5, dtype=torch.bool, device=there)
    assert visible(3, 5, causal=True, real=real, device=there).device == there
    tokens, seen = torch.zeros(2, 5, dtype=torch.long, device=there), []
    for position in ("learned", "sinusoidal", "rotary"):  # ALiBi's mask is looked at, and meta has no values
        model = GPT(config(position=position)).to(there)
        scheme = model.decoder.rotary if position == "rotary" else model.decoder.positions
        scheme.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].device))
        assert model(tokens).device == there
    assert seen == [there] * 3


def test_attention_under_cpu_autocast_keeps_masks_and_dropout():
    query, key, value = (draw(2, 3, 5, 8, seed=i).detach() for i in range(3))
    allowed, bias = random_mask(2, 3, 5, 5), draw(2, 3, 5, 5, seed=4).detach().bfloat16()
    for mask in (allowed, bias):
        exact = fused_attention(query, key, value, mask if mask is allowed else mask.float(), False, 0.0)
        with torch.autocast("cpu", torch.bfloat16):
            assert_same(fused_attention(query, key, value, mask, False, 0.0), exact, atol=1e-6)
            dropped = fused_attention(query, key, value, mask, False, 0.5)
        assert not torch.allclose(dropped, exact, atol=1e-3)


def test_causal_attention_refuses_a_bias():
    with pytest.raises(ValueError, match="causal=True is for t = s without mask or bias"):
        MultiHeadAttention(12, 4)(draw(2, 5, 12), causal=True, score_bias=draw(1, 4, 5, 5))


@pytest.mark.parametrize("position", POSITIONS)
def test_a_checkpoint_holds_what_was_learned_and_nothing_else(position):
    model = GPT(config(position=position))
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters(remove_duplicate=False)}


@pytest.mark.parametrize("init", ["normal", "zero_out"])
def test_cross_attention_starts_as_the_other_writers_do(init):
    torch.manual_seed(0)
    model = Seq2Seq(config(d_model=120, n_layers=8, d_ff=480, init=init))
    for block in model.decoder.blocks:
        for out in (block.attention.out, block.cross_attention.out, block.feed_forward.down):
            wanted = 0.0 if init == "zero_out" else 0.02 / math.sqrt(2 * 8)
            assert float(out.weight.detach().std()) == pytest.approx(wanted, rel=0.05)


@pytest.mark.usefixtures("float64")
def test_segments_are_added_and_none_given_means_the_first():
    model, tokens = randomise(BERT(config(n_segments=2, embedding_norm=True))), ids(23, 2, 7)
    segments = ids(2, 2, 7, seed=1)
    stack = model.encoder
    for given, meant in ((segments, segments), (None, torch.zeros_like(tokens))):
        total = stack.tokens(tokens) + stack.positions(torch.arange(7)) + stack.segments(meant)
        assert_same(stack.embed(tokens, torch.arange(7), given), stack.embedding_norm(total))
    assert_same(model(tokens), model(tokens, segments=torch.zeros_like(tokens)))
    assert not torch.allclose(model(tokens), model(tokens, segments=segments))
    assert_same(model(tokens, segments=segments, real=padding([7, 7], 7)), model(tokens, segments=segments))


def test_a_model_without_biases_has_none():
    for kind in (GPT, Seq2Seq):
        assert [name for name, _ in kind(config(bias=False)).named_parameters() if name.endswith("bias")] == []


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_bias_of_another_precision_is_brought_to_that_of_the_queries(kind):
    attention, x, bias = randomise(MultiHeadAttention(12, 4)), draw(2, 5, 12), draw(1, 4, 5, 5, seed=3).to(kind)
    assert_same(attention(x, score_bias=bias), attention(x, score_bias=bias.float()), atol=0.0)


def test_rotation_keeps_the_precision_of_what_it_turns():
    for kind in (torch.bfloat16, torch.float32, torch.float64):
        assert Rotary(9, 10)(torch.arange(9))(torch.ones(1, 2, 9, 10, dtype=kind)).dtype == kind


def test_tables_of_positions_have_the_precision_of_the_model():
    assert Rotary(9, 10).cos.dtype == Rotary(9, 10).sin.dtype == torch.float32
    assert SinusoidalPositions(9, 10).table.dtype == torch.float32


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("position", POSITIONS)
def test_reading_two_tokens_at_a_time_gives_the_logits_of_reading_at_once(position):
    model, tokens, cache = randomise(GPT(config(position=position))), ids(23, 2, 8), KVCache(2, 8)
    with torch.no_grad():
        read = [model(piece, cache=cache) for piece in tokens.split(2, dim=1)]
        assert_same(torch.cat(read, dim=1), model(tokens))


@pytest.mark.usefixtures("float64")
def test_berts_head_is_a_layer_a_gelu_a_norm_and_the_embedding():
    model, tokens = randomise(BERT(config())), ids(23, 2, 7)
    inner = model.hidden(tokens) @ model.transform.weight.T + model.transform.bias
    bent = inner * (1 + torch.erf(inner / math.sqrt(2))) / 2
    assert_same(model(tokens), model.transform_norm(bent) @ model.encoder.tokens.weight.T + model.head.bias)


def test_sinusoidal_angles_are_exact_far_out_in_float32():
    row = sinusoidal(8192, 64)[8191].double()
    angles = [8191 * 10_000.0 ** (-2 * i / 64) for i in range(32)]
    wanted = [side(angle) for angle in angles for side in (math.sin, math.cos)]
    assert_same(row, torch.tensor(wanted, dtype=torch.float64), atol=1e-7)


@pytest.mark.parametrize("kind", [BERT, Seq2Seq])
def test_every_model_starts_from_gpt2s_spread(kind):
    torch.manual_seed(0)
    for name, p in kind(config(d_model=120, n_layers=3, d_ff=480, vocab_size=500)).named_parameters():
        if p.ndim == 2 and not name.endswith(("attention.out.weight", "feed_forward.down.weight")):
            assert float(p.detach().std()) == pytest.approx(0.02, rel=0.05), name
        elif name.endswith("bias"):
            assert float(p.detach().abs().max()) == 0.0, name


def test_a_block_hands_every_choice_to_its_attentions():
    shape = config(qk_norm=True, dropout=0.25, n_kv_heads=2, bias=False)
    block = TransformerBlock(shape, cross_attention=True)
    for attention in (block.attention, block.cross_attention):
        found = attention.qk_norm, attention.dropout, attention.n_heads, attention.n_kv_heads, attention.query.bias
        assert found == (True, 0.25, 6, 2, None)


@pytest.mark.usefixtures("float64")
def test_a_model_of_one_block_reads_in_pieces():
    model, tokens, cache = randomise(GPT(config(n_layers=1))), ids(23, 2, 8), KVCache(1, 8)
    with torch.no_grad():
        read = [model(piece, cache=cache) for piece in tokens.split([5, 1, 2], dim=1)]
        assert_same(torch.cat(read, dim=1), model(tokens))

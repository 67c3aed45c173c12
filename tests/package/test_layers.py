"""Blocks equal torch's encoder and decoder layers, values and gradients, before and after normalisation."""

import pytest
import torch
from builders import assert_same, config, draw, gradients, padding, random_mask, randomise
from torch import nn
from transformers.activations import ACT2FN
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from fmcourse.layers import FeedForward, TransformerBlock, activate, make_norm
from fmcourse.masks import causal_mask

pytestmark = pytest.mark.usefixtures("float64")

# batch, t, s, d_model, heads, d_ff
SIZES = [(2, 5, 7, 12, 3, 19), (3, 1, 4, 10, 2, 11), (1, 7, 3, 14, 7, 5)]
KINDS = [(norm_first, activation) for norm_first in (True, False) for activation in ("relu", "gelu")]


def copy_attention(ours, theirs):
    """Give torch's attention our weights."""
    for kind in ("weight", "bias"):
        packed = torch.cat([getattr(part, kind) for part in (ours.query, ours.key, ours.value)])
        getattr(theirs, f"in_proj_{kind}").copy_(packed)
        getattr(theirs.out_proj, kind).copy_(getattr(ours.out, kind))


@torch.no_grad()
def copy_block(ours, theirs):
    """Give torch's layer the weights of our block; return its parameters that are laid out as ours, pair by pair."""
    copy_attention(ours.attention, theirs.self_attn)
    pairs = [(ours.feed_forward.up, theirs.linear1), (ours.feed_forward.down, theirs.linear2)]
    if ours.cross_attention is None:
        pairs += [(ours.attention_norm, theirs.norm1), (ours.feed_forward_norm, theirs.norm2)]
    else:
        copy_attention(ours.cross_attention, theirs.multihead_attn)
        pairs += [(ours.cross_attention.out, theirs.multihead_attn.out_proj), (ours.attention_norm, theirs.norm1)]
        pairs += [(ours.cross_attention_norm, theirs.norm2), (ours.feed_forward_norm, theirs.norm3)]
    pairs += [(ours.attention.out, theirs.self_attn.out_proj)]
    for a, b in pairs:
        b.weight.copy_(a.weight)
        b.bias.copy_(a.bias)
    both = [(getattr(a, kind), getattr(b, kind)) for a, b in pairs for kind in ("weight", "bias")]
    return [a for a, _ in both], [b for _, b in both]


def packed_gradients(attention, output):
    """Gradients of our query, key and value projections in torch's packed layout."""
    parts = (attention.query, attention.key, attention.value)
    return [torch.cat(gradients(output, [getattr(p, kind) for p in parts])) for kind in ("weight", "bias")]


def torch_options(m, h, f, norm_first, activation):
    return {
        "d_model": m,
        "nhead": h,
        "dim_feedforward": f,
        "dropout": 0.0,
        "activation": activation,
        "batch_first": True,
        "norm_first": norm_first,
    }


def block(m, h, f, norm_first, activation, *, cross_attention=False):
    shape = config(d_model=m, n_heads=h, d_ff=f, norm_first=norm_first, activation=activation)
    return randomise(TransformerBlock(shape, cross_attention=cross_attention))


@pytest.mark.parametrize("mask_kind", ["none", "causal", "padding"])
@pytest.mark.parametrize(("norm_first", "activation"), KINDS)
@pytest.mark.parametrize(("b", "t", "s", "m", "h", "f"), SIZES)
def test_block_equals_torchs_encoder_layer_with_gradients(b, t, s, m, h, f, norm_first, activation, mask_kind):
    ours = block(m, h, f, norm_first, activation)
    theirs = nn.TransformerEncoderLayer(**torch_options(m, h, f, norm_first, activation))  # training: no fast path
    mine, others = copy_block(ours, theirs)
    x, real = draw(b, t, m), padding([t, max(1, t // 2), 1][:b], t)
    given, wanted = {
        "none": lambda: (ours(x), theirs(x)),
        "causal": lambda: (ours(x, causal=True), theirs(x, src_mask=~causal_mask(t, t))),
        "padding": lambda: (ours(x, may_attend=real[:, None, None]), theirs(x, src_key_padding_mask=~real)),
    }[mask_kind]()
    assert_same(given, wanted)
    assert_same(gradients(given, [x, *mine]), gradients(wanted, [x, *others]))
    packed = [theirs.self_attn.in_proj_weight, theirs.self_attn.in_proj_bias]
    assert_same(packed_gradients(ours.attention, given), gradients(wanted, packed))


@pytest.mark.parametrize(("norm_first", "activation"), KINDS)
@pytest.mark.parametrize(("b", "t", "s", "m", "h", "f"), SIZES)
def test_block_with_cross_attention_equals_torchs_decoder_layer_with_gradients(
    b, t, s, m, h, f, norm_first, activation
):
    ours = block(m, h, f, norm_first, activation, cross_attention=True)
    theirs = nn.TransformerDecoderLayer(**torch_options(m, h, f, norm_first, activation))
    mine, others = copy_block(ours, theirs)
    x, memory, memory_real = draw(b, t, m), draw(b, s, m, seed=1), random_mask(b, s)
    given = ours(x, memory, causal=True, memory_may_attend=memory_real[:, None, None])
    wanted = theirs(x, memory, tgt_mask=~causal_mask(t, t), memory_key_padding_mask=~memory_real)
    assert_same(given, wanted)
    assert_same(gradients(given, [x, memory, *mine]), gradients(wanted, [x, memory, *others]))
    for our_part, their_part in ((ours.attention, theirs.self_attn), (ours.cross_attention, theirs.multihead_attn)):
        packed = [their_part.in_proj_weight, their_part.in_proj_bias]
        assert_same(packed_gradients(our_part, given), gradients(wanted, packed))


def test_cross_attention_without_memory_is_refused():
    with pytest.raises(ValueError, match="needs `memory`, the encoder's output; got None"):
        block(12, 3, 19, True, "relu", cross_attention=True)(draw(1, 2, 12))


@pytest.mark.parametrize(
    ("name", "theirs"), [("relu", "relu"), ("relu2", "relu2"), ("gelu", "gelu"), ("gelu_tanh", "gelu_new")]
)
def test_activations_equal_those_of_transformers(name, theirs):
    x = 3 * draw(5, 7)
    given, wanted = activate(x, name), ACT2FN[theirs](x)
    assert_same(given, wanted)
    assert_same(gradients(given, [x]), gradients(wanted, [x]))


def test_swiglu_is_a_swish_gate_times_a_value():
    x = draw(5, 14)
    gate, value = x[:, :7], x[:, 7:]
    assert_same(activate(x, "swiglu"), gate / (1 + torch.exp(-gate)) * value)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["relu", "relu2", "gelu", "gelu_tanh", "swiglu"])
def test_feed_forward_is_two_matrices_around_the_activation(activation, bias):
    layer, x = randomise(FeedForward(6, 11, activation=activation, bias=bias)), draw(2, 3, 6)
    before = x @ layer.up.weight.T + (layer.up.bias if bias else 0.0)
    wanted = activate(before, activation) @ layer.down.weight.T + (layer.down.bias if bias else 0.0)
    assert layer.up.weight.shape == ((22 if activation == "swiglu" else 11), 6)
    assert_same(layer(x), wanted)


@pytest.mark.parametrize("eps", [1e-6, 0.1])
def test_norms_equal_their_definitions(eps):
    x = draw(3, 24).detach()
    layer, rms = (randomise(make_norm(config(norm=norm, norm_eps=eps))) for norm in ("layer", "rms"))
    centred = x - x.mean(dim=1, keepdim=True)
    standard = centred / (centred.square().mean(dim=1, keepdim=True) + eps).sqrt()
    assert_same(layer(x), standard * layer.weight + layer.bias)
    assert_same(rms(x), x / (x.square().mean(dim=1, keepdim=True) + eps).sqrt() * rms.weight)
    llama = LlamaRMSNorm(24, eps)
    llama.load_state_dict(rms.state_dict())
    assert_same(rms(x), llama(x), atol=1e-6)  # theirs works in float32
    assert make_norm(config(bias=False)).bias is None


def test_dropout_acts_in_training_only():
    layer = randomise(TransformerBlock(config(dropout=0.5)))
    x = draw(2, 5, 24)
    assert_same(layer(x), layer(x), atol=0.0)
    layer.train()
    assert not torch.allclose(layer(x), layer(x))


def test_unknown_activation_names_the_choices():
    with pytest.raises(ValueError, match=r"activation='tanh' is not known; choose one of 'relu', 'relu2', 'gelu'"):
        FeedForward(6, 11, activation="tanh")

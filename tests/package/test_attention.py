"""Attention equals torch's, value by value and gradient by gradient, and equals three plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from builders import assert_same, draw, gradients, random_mask, randomise
from torch import nn

from fmcourse.attention import MultiHeadAttention, fused_attention, scaled_dot_product_attention
from fmcourse.masks import causal_mask

pytestmark = pytest.mark.usefixtures("float64")

# leading sizes, t, s, d, e
SHAPES = [((), 3, 5, 7, 2), ((2,), 5, 3, 4, 6), ((2, 3), 1, 11, 5, 8), ((3, 1, 2), 7, 4, 1, 9)]


def by_loops(query, key, value, may_attend):
    """Attention as the definition reads: for every query, every key, every coordinate."""
    t, s, e = len(query), len(key), value.shape[1]
    out, weights = torch.zeros(t, e), torch.zeros(t, s)
    for i in range(t):
        scores = []
        for j in range(s):
            similarity = sum(float(query[i, k] * key[j, k]) for k in range(query.shape[1]))
            scores.append(similarity / math.sqrt(query.shape[1]) if may_attend[i, j] else -math.inf)
        exponentials = [math.exp(score - max(scores)) for score in scores]
        for j in range(s):
            weights[i, j] = exponentials[j] / sum(exponentials)
            for k in range(e):
                out[i, k] += weights[i, j] * value[j, k]
    return out, weights


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("t", "s", "d", "e"), [(3, 5, 7, 2), (1, 6, 3, 4), (5, 1, 2, 3)])
def test_attention_equals_three_loops(t, s, d, e, masked):
    query, key, value = draw(t, d, seed=1), draw(s, d, seed=2), draw(s, e, seed=3)
    mask = random_mask(t, s) if masked else None
    with torch.no_grad():
        wanted = by_loops(query, key, value, torch.ones(t, s, dtype=torch.bool) if mask is None else mask)
    assert_same(scaled_dot_product_attention(query, key, value, mask), wanted)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("lead", "t", "s", "d", "e"), SHAPES)
def test_attention_equals_torchs_with_gradients(lead, t, s, d, e, masked):
    inputs = [draw(*lead, t, d, seed=1), draw(*lead, s, d, seed=2), draw(*lead, s, e, seed=3)]
    mask = random_mask(*lead, t, s) if masked else None
    ours, _ = scaled_dot_product_attention(*inputs, mask)
    theirs = F.scaled_dot_product_attention(*inputs, attn_mask=mask)
    assert_same(ours, theirs)
    assert_same(gradients(ours, inputs), gradients(theirs, inputs))


def test_weights_are_a_distribution_over_the_allowed_keys():
    mask = random_mask(4, 9)
    _, weights = scaled_dot_product_attention(draw(2, 4, 3, seed=1), draw(2, 9, 3, seed=2), draw(2, 9, 5), mask)
    assert_same(weights.sum(dim=-1), torch.ones(2, 4))
    assert bool((weights[:, ~mask] == 0).all())
    assert bool((weights[:, mask] > 0).all())


def test_a_forbidden_key_gets_nothing_however_well_it_matches():
    query, key, value = torch.ones(1, 4), torch.tensor([[-1e9] * 4, [1e9] * 4]), torch.tensor([[1.0], [7.0]])
    mask = torch.tensor([[True, False]])
    assert scaled_dot_product_attention(query, key, value, mask)[1].tolist() == [[1.0, 0.0]]
    attention = randomise(MultiHeadAttention(12, 4), scale=1e4)
    x = draw(1, 5, 12).detach()
    moved = x.clone()
    moved[0, 2] *= 1e4
    seen = torch.tensor([True, True, False, True, True])
    with torch.no_grad():
        given, wanted = (attention(x, side, may_attend=seen[None, :]) for side in (x, moved))
    assert_same(given, wanted, atol=0.0)


def test_attention_does_not_care_in_which_order_the_keys_come():
    query, key, value = draw(4, 3, seed=1), draw(9, 3, seed=2), draw(9, 5, seed=3)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    given, _ = scaled_dot_product_attention(query, key[order], value[order])
    assert_same(given, scaled_dot_product_attention(query, key, value)[0])


# batch, t, s, d_model, heads
SIZES = [(2, 5, 7, 12, 3), (3, 1, 4, 10, 2), (1, 6, 11, 21, 7), (2, 4, 3, 5, 1)]


def pair(d_model, n_heads, *, bias=True):
    """Our attention and torch's, with the same random weights; and their parameters in the same order."""
    ours = randomise(MultiHeadAttention(d_model, n_heads, bias=bias))
    theirs = nn.MultiheadAttention(d_model, n_heads, bias=bias, batch_first=True).eval()
    parts = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.out_proj.weight.copy_(ours.out.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            theirs.out_proj.bias.copy_(ours.out.bias)
    return ours, theirs


def parameter_gradients(ours, theirs, our_output, their_output, bias):
    """Gradients of both sides' parameters, ours brought into torch's packed layout."""
    kinds = ("weight", "bias") if bias else ("weight",)
    mine = [getattr(part, kind) for kind in kinds for part in (ours.query, ours.key, ours.value, ours.out)]
    grads = gradients(our_output, mine)
    packed = [g for i in range(0, len(grads), 4) for g in (torch.cat(grads[i : i + 3]), grads[i + 3])]
    wanted = [theirs.in_proj_weight, theirs.out_proj.weight]
    wanted += [theirs.in_proj_bias, theirs.out_proj.bias] if bias else []
    return packed, gradients(their_output, wanted)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("b", "t", "s", "m", "h"), SIZES)
def test_cross_attention_equals_torchs_with_gradients(b, t, s, m, h, masked, bias):
    ours, theirs = pair(m, h, bias=bias)
    x, memory = draw(b, t, m, seed=1), draw(b, s, m, seed=2)
    mask = random_mask(t, s) if masked else None
    given = ours(x, memory, may_attend=mask)
    wanted, _ = theirs(x, memory, memory, attn_mask=None if mask is None else ~mask, need_weights=False)
    assert_same(given, wanted)
    assert_same(gradients(given, [x, memory]), gradients(wanted, [x, memory]))
    assert_same(*parameter_gradients(ours, theirs, given, wanted, bias))


@pytest.mark.parametrize("mask_kind", ["none", "causal", "padding", "per head"])
@pytest.mark.parametrize(("b", "t", "s", "m", "h"), SIZES)
def test_self_attention_equals_torchs_with_gradients(b, t, s, m, h, mask_kind):
    ours, theirs = pair(m, h)
    x = draw(b, t, m)
    options = {
        "none": ({}, {}),
        "causal": ({"causal": True}, {"attn_mask": ~causal_mask(t, t)}),
        "padding": (
            {"may_attend": (real := random_mask(b, t))[:, None, None, :]},
            {"key_padding_mask": ~real},
        ),
        "per head": (
            {"may_attend": (mask := random_mask(b, h, t, t))},
            {"attn_mask": ~mask.flatten(0, 1)},
        ),
    }
    our_options, their_options = options[mask_kind]
    given = ours(x, **our_options)
    wanted, _ = theirs(x, x, x, need_weights=False, **their_options)
    assert_same(given, wanted)
    assert_same(gradients(given, [x]), gradients(wanted, [x]))
    assert_same(*parameter_gradients(ours, theirs, given, wanted, bias=True))


@pytest.mark.parametrize(("h", "kv"), [(6, 2), (6, 3), (4, 1), (5, 5)])
def test_grouped_query_attention_equals_torchs_with_gradients(h, kv):
    m = 3 * h
    attention = randomise(MultiHeadAttention(m, h, n_kv_heads=kv))
    x = draw(2, 7, m)
    given = attention(x, causal=True)
    query, key, value = attention.heads(x)
    mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
    wanted = attention.out(mixed.transpose(1, 2).reshape(2, 7, m))
    assert key.shape == value.shape == (2, kv, 7, 3)
    assert_same(given, wanted)
    parameters = [x, *attention.parameters()]
    assert_same(gradients(given, parameters), gradients(wanted, parameters))


def test_grouped_query_attention_equals_full_attention_with_repeated_heads():
    grouped, full = randomise(MultiHeadAttention(20, 10, n_kv_heads=2)), MultiHeadAttention(20, 10)
    weights = grouped.state_dict()
    for part in ("key", "value"):  # key head i serves queries 5 i to 5 i + 4
        weight, bias = weights[f"{part}.weight"].reshape(2, 2, 20), weights[f"{part}.bias"].reshape(2, 2)
        weights[f"{part}.weight"] = weight.repeat_interleave(5, dim=0).reshape(20, 20)
        weights[f"{part}.bias"] = bias.repeat_interleave(5, dim=0).reshape(20)
    full.load_state_dict(weights)
    x, mask = draw(3, 7, 20), random_mask(3, 1, 7, 7)
    assert_same(grouped(x, may_attend=mask), full(x, may_attend=mask))


def test_qk_norm_equals_dividing_every_head_by_its_root_mean_square():
    attention = randomise(MultiHeadAttention(15, 5, n_kv_heads=5, qk_norm=True))
    x = draw(2, 7, 15)
    wanted = torch.empty(2, 7, 15)
    for b in range(2):
        for h in range(5):
            rows = slice(3 * h, 3 * h + 3)
            query, key, value = (
                x[b] @ part.weight[rows].T + part.bias[rows]
                for part in (attention.query, attention.key, attention.value)
            )
            eps = torch.finfo(torch.float64).eps
            query, key = (side / (side.square().mean(dim=1, keepdim=True) + eps).sqrt() for side in (query, key))
            wanted[b, :, rows] = torch.softmax(query @ key.T / math.sqrt(3), dim=1) @ value
    wanted = wanted @ attention.out.weight.T + attention.out.bias
    given = attention(x)
    assert_same(given, wanted)
    assert_same(gradients(given, [x]), gradients(wanted, [x]))


def test_qk_norm_bounds_the_scores():
    attention = randomise(MultiHeadAttention(12, 3, qk_norm=True), scale=100.0)
    query, key, _ = attention.heads(1000 * draw(2, 9, 12).detach())
    assert float((query @ key.mT).detach().abs().max()) <= 4 + 1e-9  # Cauchy-Schwarz: both have norm sqrt(d) = 2


def test_score_bias_is_added_to_the_scaled_scores_and_respects_the_mask():
    attention = randomise(MultiHeadAttention(12, 4))
    x, bias, mask = draw(2, 5, 12), draw(1, 4, 5, 5, seed=3), random_mask(2, 1, 5, 5)
    query, key, value = attention.heads(x)
    scores = query @ key.mT / math.sqrt(3) + bias
    mixed = scores.masked_fill(~mask, -math.inf).softmax(dim=-1) @ value
    wanted = attention.out(mixed.transpose(1, 2).reshape(2, 5, 12))
    given = attention(x, score_bias=bias, may_attend=mask)
    assert_same(given, wanted)
    assert_same(gradients(given, [x, bias]), gradients(wanted, [x, bias]))


def test_attention_stays_in_float32_under_cpu_autocast():
    inputs = [draw(1, 2, 5, 8, seed=i).float().bfloat16() for i in range(3)]
    exact = F.scaled_dot_product_attention(*(side.float() for side in inputs), is_causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        given = fused_attention(*inputs, mask=None, causal=True, dropout=0.0)
    assert given.dtype == torch.float32
    assert_same(given, exact, atol=1e-6)


def test_dropout_acts_in_training_only():
    attention = randomise(MultiHeadAttention(12, 4, dropout=0.5))
    x = draw(2, 9, 12)
    assert_same(attention(x), attention(x), atol=0.0)
    attention.train()
    torch.manual_seed(0)
    assert not torch.allclose(attention(x), attention(x))


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(3, 4, dtype=torch.bool), ValueError, r"shape \(3, 4\).* does not broadcast to \(2, 3, 5\)"),
        (torch.ones(2, 2, 3, 5, dtype=torch.bool), ValueError, r"shape \(2, 2, 3, 5\).* to \(2, 3, 5\)"),
        (torch.ones(3, 5), TypeError, r"may_attend must be boolean \(True = may attend\); got torch.float"),
        (torch.tensor([True, False, True])[:, None].expand(3, 5), ValueError, r"leaves query \[1\] no key"),
    ],
)
def test_wrong_mask_is_refused_with_what_was_given_and_what_is_allowed(mask, error, message):
    with pytest.raises(error, match=message):
        scaled_dot_product_attention(draw(2, 3, 4), draw(2, 5, 4), draw(2, 5, 6), mask)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (
            torch.ones(2, 9, 9, dtype=torch.bool),
            ValueError,
            r"shape \(2, 9, 9\).* does not broadcast to \(2, 4, 9, 9\)",
        ),
        (torch.ones(9, 9), TypeError, "must be boolean"),
        (~torch.eye(9, dtype=torch.bool)[3:4].expand(9, 9) & False, ValueError, r"leaves query \[0\] no key"),
    ],
)
def test_multi_head_attention_refuses_the_same_masks(mask, error, message):
    with pytest.raises(error, match=message):
        MultiHeadAttention(12, 4)(draw(2, 9, 12), may_attend=mask)


def test_sizes_that_do_not_fit_are_refused_by_name():
    with pytest.raises(ValueError, match="query and key must have the same width; got 4 and 3"):
        scaled_dot_product_attention(draw(2, 4), draw(5, 3), draw(5, 6))
    with pytest.raises(ValueError, match="key and value must have the same length; got 5 and 7"):
        scaled_dot_product_attention(draw(2, 4), draw(5, 4), draw(7, 6))
    with pytest.raises(ValueError, match="n_heads=5 must divide d_model=12"):
        MultiHeadAttention(12, 5)
    with pytest.raises(ValueError, match="n_kv_heads=4 must divide n_heads=6"):
        MultiHeadAttention(12, 6, n_kv_heads=4)


def test_causal_attention_refuses_what_the_fast_path_cannot_do():
    attention = MultiHeadAttention(12, 4)
    with pytest.raises(ValueError, match="causal"):
        attention(draw(2, 5, 12), causal=True, may_attend=torch.ones(5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="causal"):
        attention(draw(2, 5, 12), draw(2, 7, 12), causal=True)

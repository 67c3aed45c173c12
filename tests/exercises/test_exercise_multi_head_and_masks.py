"""The exercise of `mathematics/multi_head_and_masks`: its references beside the package, torch and loops."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial import ConvexHull
from torch import nn

from fmcourse.attention import MultiHeadAttention
from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.masks import visible
from fmcourse.transformer import count_parameters

SEEDS = tuple(range(100, 120))
EXERCISE = load("multi_head_and_masks")


def drawn(question_id, seed):
    question = EXERCISE.question(question_id)
    for case in question.draw(seed):
        yield case.args, question.expected(case)


def test_the_numbers_by_hand_are_those_of_real_layers():
    parameters, weights, rank, shared = EXERCISE.question("q1").reference
    layer = MultiHeadAttention(64, 16, bias=False).double()
    assert parameters == count_parameters(layer)
    assert shared == count_parameters(MultiHeadAttention(64, 16, n_kv_heads=4, bias=False))
    query, key, _ = layer.heads(torch.randn(1, 10, 64, dtype=torch.float64))
    assert weights == (query @ key.mT).numel()
    assert (torch.linalg.matrix_rank(query @ key.mT) == rank).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_heads_are_cut_and_add_up_as_in_a_loop(seed):
    for (x, n_heads), heads in drawn("q2", seed):
        width = x.shape[-1] // n_heads
        for i in range(n_heads):
            assert torch.equal(heads[:, i], x[..., i * width : (i + 1) * width])
    for (mixed, w_out), terms in drawn("q3", seed):
        for i in range(mixed.shape[1]):
            alone = torch.zeros_like(mixed)
            alone[:, i] = mixed[:, i]
            torch.testing.assert_close(F.linear(alone.transpose(1, 2).flatten(2), w_out.T), terms[:, i])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_mask_is_that_of_the_package_and_leaves_no_row_empty(seed):
    for (real,), mask in drawn("q4", seed):
        b, s = real.shape
        assert torch.equal(mask, visible(s, s, causal=True, real=real, device=real.device))
        assert mask.any(dim=-1).all()
        for n, i, j in np.ndindex(b, s, s):
            assert mask[n, 0, i, j] == (i == j or (j < i and bool(real[n, j])))


@pytest.mark.parametrize("seed", SEEDS)
def test_heads_are_shared_as_in_torch(seed):
    generator = torch.Generator().manual_seed(seed)
    for (key, n_heads), shared in drawn("q5", seed):
        query = torch.randn(len(key), n_heads, 3, key.shape[-1], generator=generator)
        theirs = F.scaled_dot_product_attention(query, key, key, enable_gqa=True)
        torch.testing.assert_close(F.scaled_dot_product_attention(query, shared, shared), theirs)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_layer_is_that_of_the_package_and_padding_changes_nothing(seed):
    for (x, real, w_query, w_key, w_value, w_out, n_heads), y in drawn("q6", seed):
        width = w_query.shape[1] // n_heads
        layer = MultiHeadAttention(x.shape[-1], n_heads, n_kv_heads=w_key.shape[1] // width, bias=False)
        if w_query.shape[0] == w_query.shape[1]:
            parts = {"query": w_query, "key": w_key, "value": w_value, "out": w_out}
            layer.load_state_dict({f"{name}.weight": w.T for name, w in parts.items()})
            mask = visible(*real.shape[1:] * 2, causal=True, real=real, device=real.device)
            torch.testing.assert_close(layer(x, may_attend=mask), y, rtol=1e-4, atol=1e-5)
        for one, text, whole in zip(x, real, y, strict=True):
            only = one[None, text]
            everything = torch.ones(only.shape[:2], dtype=torch.bool)
            alone = EXERCISE.question("q6").reference(only, everything, w_query, w_key, w_value, w_out, n_heads)
            torch.testing.assert_close(alone[0], whole[text], rtol=1e-4, atol=1e-5)


def as_wide_as(scores, width):
    """The softmax of the nearest scores of that rank."""
    u, s, vh = torch.linalg.svd(scores)
    return (u[:, :width] * s[:width] @ vh[:width]).softmax(dim=-1)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_head_of_that_width_gives_the_weights_and_no_narrower_one_can(seed):
    for (weights,), width in drawn("q7", seed):
        logarithms = weights.log()
        centred = logarithms - logarithms.mean(dim=-1, keepdim=True)
        torch.testing.assert_close(as_wide_as(centred, width), weights, rtol=1e-9, atol=1e-12)
        # What softmax does not see is a multiple of the row of ones: the rest has this many dimensions, in any form.
        with_ones = np.vstack([logarithms.numpy(), np.ones((1, len(weights)))])
        assert np.linalg.matrix_rank(with_ones, tol=1e-9 * np.linalg.norm(with_ones)) - 1 == width
        values = torch.linalg.svdvals(centred)
        assert values[width - 1] > 1e-3 * values[0]  # no doubt about what is zero
        assert width == len(weights) or values[width] < 1e-11 * values[0]


@pytest.mark.parametrize("seed", range(8))
def test_winners_are_the_corners_of_a_polygon(seed):
    draw = np.random.default_rng(seed)
    corners = [len(ConvexHull(draw.normal(size=(64, 2))).vertices) for _ in range(500)]
    assert EXERCISE.question("q8").accepts(np.mean(corners))
    directions = np.exp(2j * math.pi * np.arange(1000) / 1000)  # a query all around, in place of random ones
    keys = draw.normal(size=(500, 64, 2)) @ np.array([1, 1j])
    found = [len(set(np.argmax((directions[:, None] * keys[i].conj()).real, axis=1))) for i in range(500)]
    assert EXERCISE.question("q8").accepts(np.mean(found))


@pytest.mark.parametrize("seed", range(8))
def test_the_measurement_is_accepted_with_room_to_spare(seed):
    generator = torch.Generator().manual_seed(seed)
    key, query = (torch.randn(500, n, 2, generator=generator) for n in (64, 1000))
    winners = F.one_hot((query @ key.mT).argmax(dim=-1), 64).amax(dim=1).sum(dim=-1).double()
    error = winners.std().item() / 500**0.5
    assert EXERCISE.question("q8").accepts(winners.mean().item() - 3.5 * error)
    assert EXERCISE.question("q8").accepts(winners.mean().item() + 3.5 * error)
    assert not EXERCISE.question("q8").accepts(winners.mean().item() + 12 * error)


def pairs_one_by_one(real):
    rows = [[[i == j or (j < i and r[j]) for j in range(len(r))] for i in range(len(r))] for r in real.tolist()]
    return torch.tensor(rows)[:, None]


def layer_in_double(x, real, w_query, w_key, w_value, w_out, n_heads):
    """A head and a query at a time."""
    x, *weights = (part.double() for part in (x, w_query, w_key, w_value, w_out))
    w_query, w_key, w_value, w_out = weights
    d, y = w_query.shape[1] // n_heads, torch.zeros(*x.shape[:2], w_out.shape[1], dtype=torch.float64)
    for n, i, h in np.ndindex(*x.shape[:2], n_heads):
        own, theirs = slice(h * d, (h + 1) * d), h // (n_heads * d // w_key.shape[1])
        seen = [j for j in range(i) if real[n, j]] + [i]
        key, value = (x[n, seen] @ w[:, theirs * d : (theirs + 1) * d] for w in (w_key, w_value))
        y[n, i] += torch.softmax(key @ (x[n, i] @ w_query[:, own]) / d**0.5, 0) @ value @ w_out[own]
    return y


def layer_of_torch(x, real, w_query, w_key, w_value, w_out, n_heads):
    """torch's own layer, its key heads repeated; heads so wide that they are not the model's width are left to it."""
    d = w_query.shape[1] // n_heads
    k = w_key.shape[1] // d
    wide = (w.unflatten(1, (k, d)).repeat_interleave(n_heads // k, 1).flatten(1) for w in (w_key, w_value))
    theirs = nn.MultiheadAttention(n_heads * d, n_heads, bias=False, batch_first=True)
    for p in theirs.parameters():
        nn.init.eye_(p) if p is theirs.out_proj.weight else p.data.copy_(torch.eye(n_heads * d).repeat(3, 1))
    mask = pairs_one_by_one(real).repeat(1, n_heads, 1, 1).flatten(0, 1)
    return theirs(x @ w_query, *(x @ w for w in wide), attn_mask=~mask, need_weights=False)[0] @ w_out


UNUSUAL = {
    "q2": [
        lambda x, n_heads: torch.stack(x.chunk(n_heads, dim=-1), dim=1),
        lambda x, n_heads: x.view(x.shape[0], x.shape[1], n_heads, -1).permute(0, 2, 1, 3),
        lambda x, n_heads: x.unflatten(-1, (n_heads, -1)).transpose(1, 2).double(),
    ],
    "q3": [
        lambda mixed, w_out: torch.einsum("bhtd,hdm->bhtm", mixed, w_out.unflatten(0, (mixed.shape[1], -1))),
        lambda mixed, w_out: torch.stack(
            [mixed[:, i].double() @ part.double() for i, part in enumerate(w_out.chunk(mixed.shape[1]))], dim=1
        ),
    ],
    "q4": [
        pairs_one_by_one,
        lambda real: (
            (real[:, None, None] * torch.ones(real.shape[1], real.shape[1]).tril(-1)).bool()
            | torch.eye(real.shape[1]).bool()
        ),
    ],
    "q5": [
        lambda key, n_heads: key[:, torch.arange(n_heads) * key.shape[1] // n_heads],
        lambda key, n_heads: key[:, :, None].expand(-1, -1, n_heads // key.shape[1], -1, -1).flatten(1, 2),
        lambda key, n_heads: torch.stack([key[:, i // (n_heads // key.shape[1])] for i in range(n_heads)], 1).double(),
    ],
    "q6": [layer_in_double, layer_of_torch],
    "q7": [
        lambda weights: torch.linalg.matrix_rank(weights.log() - weights.log()[:, :1]),
        lambda weights: sum(
            x > 1e-9 * torch.linalg.svdvals((weights / weights.log().mean(-1, keepdim=True).exp()).log())[0]
            for x in torch.linalg.svdvals((weights / weights.log().mean(-1, keepdim=True).exp()).log())
        ),
        lambda weights: int(np.linalg.matrix_rank(np.diff(np.log(weights.numpy()), axis=1))),
    ],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_right_but_unusual_answers_lose_nothing(question_id):
    question = EXERCISE.question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None

"""What mutation testing found unprotected (`benchmarks/mutation.py`), and is protected now."""

import math

import pytest
import torch
from builders import assert_same, config, draw, ids, randomise

from fmcourse.attention import MultiHeadAttention
from fmcourse.layers import TransformerBlock
from fmcourse.positions import Rotary
from fmcourse.transformer import GPT


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

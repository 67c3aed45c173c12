"""LoRA does what its formula says, changes nothing at first, trains nothing else, and can be taken out again."""

import copy

import pytest
import torch
from torch import nn

from fmcourse.cache import KVCache
from fmcourse.config import TransformerConfig
from fmcourse.lora import LoRALinear, add_lora, load_lora, lora_state, remove_lora
from fmcourse.transformer import BERT, GPT, count_parameters

ALL = ("query", "key", "value", "out", "up", "down")


@pytest.fixture
def bert():
    torch.manual_seed(0)
    config = TransformerConfig(vocab_size=11, context=9, d_model=12, n_layers=2, n_heads=3, d_ff=20)
    return BERT(config).double().eval()


def tokens(seed=1):
    return torch.randint(11, (4, 7), generator=torch.Generator().manual_seed(seed))


def disturb(model, seed=2):
    """Give A and B values as if they had been trained."""
    draw = torch.Generator().manual_seed(seed)
    for tensor in (p for p in model.parameters() if p.requires_grad):
        tensor.data = torch.randn(tensor.shape, generator=draw, dtype=tensor.dtype) / 3


def test_the_layer_computes_its_formula_by_brute_force():
    torch.manual_seed(3)
    layer = LoRALinear(nn.Linear(5, 7).double(), rank=2, alpha=6.0)
    layer.b.data.normal_()
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    expected = torch.zeros(3, 4, 7, dtype=torch.float64)
    for o in range(7):
        for i in range(5):
            w = layer.base.weight[o, i] + 6.0 / 2 * sum(layer.b[o, r] * layer.a[r, i] for r in range(2))
            expected[..., o] += w.detach() * x[..., i]
        expected[..., o] += layer.base.bias[o].detach()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    merged = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-12)


def test_at_the_start_nothing_has_changed(bert):
    before = bert(tokens())
    add_lora(bert, ALL, rank=3)
    assert torch.equal(bert(tokens()), before)


def test_only_a_and_b_receive_gradients(bert):
    add_lora(bert.encoder, ("query", "value"), rank=3)
    disturb(bert.encoder)
    bert.hidden(tokens()).square().sum().backward()
    with_gradient = {name for name, p in bert.encoder.named_parameters() if p.grad is not None}
    assert with_gradient == set(lora_state(bert.encoder))
    assert all(p.grad.abs().max() > 0 for name, p in bert.encoder.named_parameters() if name in with_gradient)


def test_the_gradients_are_those_of_the_product(bert):
    """Independent: differentiate by the whole matrix W, then apply the chain rule to B A by hand."""
    torch.manual_seed(4)
    layer = LoRALinear(nn.Linear(5, 7).double(), rank=2, alpha=6.0)
    layer.b.data.normal_()
    x = torch.randn(9, 5, dtype=torch.float64)
    layer(x).sin().sum().backward()
    w = layer.weight.detach().requires_grad_()
    nn.functional.linear(x, w, layer.bias).sin().sum().backward()
    torch.testing.assert_close(layer.b.grad, 3 * w.grad @ layer.a.T.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.a.grad, 3 * layer.b.T.detach() @ w.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("targets", [("query",), ("query", "value"), ALL, ("feed_forward.up", "attention.out")])
def test_parameters_are_rank_times_rows_plus_columns(bert, targets):
    wanted = sum(
        3 * sum(layer.weight.shape)
        for name, layer in bert.named_modules()
        if isinstance(layer, nn.Linear) and name.endswith(targets)
    )
    add_lora(bert, targets, rank=3)
    assert sum(p.numel() for p in bert.parameters() if p.requires_grad) == wanted
    assert sum(t.numel() for t in lora_state(bert).values()) == wanted


def test_merging_gives_the_same_model_without_extra_layers(bert):
    plain = count_parameters(bert)
    add_lora(bert, ALL, rank=3, alpha=5.0)
    disturb(bert)
    wanted = bert(tokens())
    remove_lora(bert, merge=True)
    torch.testing.assert_close(bert(tokens()), wanted, rtol=0, atol=1e-12)
    assert count_parameters(bert) == plain
    assert not any(isinstance(layer, LoRALinear) for layer in bert.modules())


def test_removing_gives_the_old_model_bit_for_bit(bert):
    before, weights = bert(tokens()), copy.deepcopy(bert.state_dict())
    add_lora(bert, ALL, rank=3)
    disturb(bert)
    assert not torch.allclose(bert(tokens()), before)
    remove_lora(bert)
    assert torch.equal(bert(tokens()), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in bert.state_dict().items())
    assert bert.state_dict().keys() == weights.keys()


def test_adapters_can_be_switched(bert):
    add_lora(bert, ("query", "up"), rank=2)
    disturb(bert, seed=5)
    first, said = lora_state(bert), bert(tokens())
    disturb(bert, seed=6)
    second = lora_state(bert)
    assert not torch.allclose(bert(tokens()), said)
    load_lora(bert, first)
    assert torch.equal(bert(tokens()), said)
    load_lora(bert, second)
    assert not torch.allclose(bert(tokens()), said)


def test_a_cached_step_uses_the_change_too():
    """The cache multiplies by the layers' weights itself."""
    torch.manual_seed(7)
    gpt = GPT(TransformerConfig(vocab_size=11, context=9, d_model=12, n_layers=2, n_heads=3)).double().eval()
    add_lora(gpt, ("query", "key", "value"), rank=2)
    disturb(gpt)
    with torch.inference_mode():
        whole, cache = gpt(tokens()), KVCache(2, 9)
        steps = [gpt(tokens()[:, t : t + 1], cache=cache) for t in range(7)]
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, rtol=0, atol=1e-10)


def test_a_layer_without_bias_stays_without(bert):
    layer = LoRALinear(nn.Linear(4, 3, bias=False), rank=1, alpha=1.0)
    assert layer.bias is None
    assert torch.equal(layer(torch.eye(4)), layer.base.weight.T)


def test_wrong_calls_say_what_is_wrong(bert):
    with pytest.raises(ValueError, match="no linear layer named 'gate'; only down, head, key"):
        add_lora(bert, ("query", "gate"))
    with pytest.raises(ValueError, match="rank=13 must be from 1 to 12"):
        add_lora(copy.deepcopy(bert), ("query",), rank=13)
    with pytest.raises(ValueError, match="alpha"):
        add_lora(bert, ("query",), alpha=0)
    with pytest.raises(ValueError, match="no linear layer named"):
        add_lora(nn.Linear(3, 3), ("",))
    state = lora_state(add_lora(copy.deepcopy(bert), ("key",), rank=2))
    add_lora(bert, ("query",), rank=2)
    with pytest.raises(ValueError, match="remove_lora first"):
        add_lora(bert, ("key",))
    with pytest.raises(ValueError, match="same targets"):
        load_lora(bert, state)
    with pytest.raises(ValueError, match=r"has shape \(1, 12\), the model \(2, 12\)"):
        load_lora(bert, {n: t[:1] if n.endswith(".a") else t for n, t in lora_state(bert).items()})

"""The mixture of writing and copying, against a loop over every token, and beam search with it against brute force."""

import math

import pytest
import torch

from fmcourse.beam_search import beam_search
from fmcourse.cache import KVCache
from fmcourse.config import TransformerConfig
from fmcourse.pointer import PointerSeq2Seq
from fmcourse.transformer import Seq2Seq

CONFIG = TransformerConfig(vocab_size=11, context=12, d_model=8, n_layers=2, n_heads=2, dropout=0.0)


@pytest.fixture
def model():
    torch.manual_seed(0)
    found = PointerSeq2Seq(CONFIG).double().eval()
    for p in found.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return found


def some(seed=1, n=5, t=4):
    torch.manual_seed(seed)
    source, target = torch.randint(CONFIG.vocab_size, (3, n)), torch.randint(CONFIG.vocab_size, (3, t))
    real = torch.ones(3, n, dtype=torch.bool)
    real[1, 3:] = real[2, 1:] = False
    return source, target, real


def test_each_probability_is_what_is_written_plus_what_is_copied(model):
    source, target, real = some()
    memory = model.encode(source, source_real=real)
    hidden = model.decoder(target, memory, memory_real=real)
    found = model(source, target, source_real=real).exp()
    plain = model.head(hidden).softmax(-1)
    for b in range(3):
        for t in range(target.shape[1]):
            gate = 1 / (1 + math.exp(-float(model.write(hidden[b, t]).detach())))
            places = [i for i in range(source.shape[1]) if real[b, i]]
            scores = torch.stack([model.point(hidden[b, t]) @ memory[b, i] for i in places]) / math.sqrt(8)
            expected = gate * plain[b, t]
            for weight, i in zip(scores.softmax(0), places, strict=True):
                expected[source[b, i]] += (1 - gate) * weight
            torch.testing.assert_close(found[b, t], expected, rtol=1e-10, atol=1e-11)


def test_what_comes_out_are_log_probabilities(model):
    source, target, real = some(2)
    total = model(source, target, source_real=real).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-10, atol=1e-11)


def test_padding_is_never_copied_and_changes_nothing(model):
    source, target, real = some(3)
    changed = source.clone()
    changed[~real] = (changed[~real] + 1) % CONFIG.vocab_size
    a, b = (model(ids, target, source_real=real) for ids in (source, changed))
    torch.testing.assert_close(a, b)


def test_a_closed_gate_is_the_plain_model_and_an_open_one_copies(model):
    source, target, real = some(4)
    plain = Seq2Seq(CONFIG).double().eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith(("point", "write"))})
    with torch.no_grad():
        model.write.weight.zero_()
        model.write.bias.fill_(40)
        wanted = plain(source, target, source_real=real).log_softmax(-1)
        torch.testing.assert_close(model(source, target, source_real=real), wanted, rtol=1e-10, atol=1e-10)
        model.write.bias.fill_(-40)
        copied = model(source, target, source_real=real).exp()
    for b in range(3):
        inside = set(source[b][real[b]].tolist())
        assert float(copied[b, :, sorted(inside)].sum(-1).min()) > 0.999


def test_gradients_are_finite_and_reach_every_weight(model):
    source, target, real = some(5)
    model(source, target, source_real=real).gather(-1, target[..., None]).mean().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
    assert float(model.point.weight.grad.abs().sum()) > 0


def test_the_cache_changes_nothing(model):
    source, target, real = some(6)
    whole = model(source, target, source_real=real)
    memory, cache = model.encode(source, source_real=real), KVCache(CONFIG.n_layers, 8)
    for t in range(target.shape[1]):
        step = model.decode(target[:, t : t + 1], memory, source=source, source_real=real, cache=cache)
        torch.testing.assert_close(step[:, 0], whole[:, t], rtol=1e-10, atol=1e-11)


def test_beam_search_finds_what_trying_everything_finds(model):
    """All outputs of up to two tokens and an end; a beam as wide as the vocabulary misses none of them."""
    start, end, sources = 9, 10, [[1, 2, 3], [4, 5]]
    found = beam_search(model, sources, start=start, end=end, max_new_tokens=3, beam_size=11, alpha=0.0)
    for source, best in zip(sources, found, strict=True):
        scores = {}
        for a in [None, *range(10)]:
            for b in [None, *range(10)] if a is not None else [None]:
                tokens = [x for x in (a, b) if x is not None]
                ids = torch.tensor([[start, *tokens]])
                logs = model(torch.tensor([source]), ids)[0]
                scores[tuple(tokens)] = float(sum(logs[i, x] for i, x in enumerate([*tokens, end])).detach())
        tokens, score = max(scores.items(), key=lambda item: item[1])
        finished = [one for one in best if len(one.tokens) <= 2]
        assert tuple(finished[0].tokens) == tokens
        assert finished[0].log_probability == pytest.approx(score, rel=1e-9)

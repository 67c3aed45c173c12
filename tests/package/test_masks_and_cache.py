"""Masks say who may attend to whom; caches hold what was read. Both equal their definitions."""

import pytest
import torch
from builders import POSITIONS, assert_same, config, draw, ids, padding, randomise

from fmcourse.cache import KVCache, LayerCache
from fmcourse.masks import causal_mask, check_may_attend, check_real
from fmcourse.transformer import GPT


@pytest.mark.parametrize(("t", "s"), [(1, 1), (1, 6), (4, 4), (3, 7)])
def test_causal_mask_lets_the_last_queries_see_themselves_and_what_came_before(t, s):
    wanted = [[key <= query + s - t for key in range(s)] for query in range(t)]
    assert causal_mask(t, s).tolist() == wanted


@pytest.mark.parametrize("shape", [(4, 7), (1, 7), (4, 1), (2, 1, 4, 7), (2, 3, 4, 7), (1, 1, 1, 1)])
def test_masks_that_broadcast_are_accepted(shape):
    check_may_attend(torch.ones(shape, dtype=torch.bool), (2, 3, 4, 7))


@pytest.mark.parametrize("shape", [(7, 4), (3, 4, 4), (5, 2, 3, 4, 7), (2, 4, 7)])
def test_masks_that_do_not_broadcast_are_refused(shape):
    with pytest.raises(ValueError, match=rf"shape {shape}".replace("(", r"\(").replace(")", r"\)")):
        check_may_attend(torch.ones(shape, dtype=torch.bool), (2, 3, 4, 7))


def test_the_row_that_sees_nothing_is_named():
    mask = torch.ones(2, 4, 7, dtype=torch.bool)
    mask[1, 2] = False
    with pytest.raises(ValueError, match=r"leaves query \[1, 2\] no key to attend to; every row needs at least one"):
        check_may_attend(mask, (2, 4, 7))


def test_real_must_be_a_boolean_row_for_every_sequence_with_some_text_in_it():
    check_real(padding([3, 5], 5), 2, 5)
    with pytest.raises(ValueError, match=r"real must be boolean of shape \(2, 5\).*got torch.int64 of shape \(2, 5\)"):
        check_real(torch.ones(2, 5, dtype=torch.long), 2, 5)
    with pytest.raises(ValueError, match=r"real must be boolean of shape \(2, 6\).*of shape \(2, 5\)"):
        check_real(padding([3, 5], 5), 2, 6)
    with pytest.raises(ValueError, match="real has no True in row 1"):
        check_real(padding([3, 0], 5), 2, 5)


def test_layer_cache_returns_everything_appended_so_far():
    cache, keys, values = LayerCache(capacity=11), draw(2, 3, 11, 5).detach(), draw(2, 3, 11, 5, seed=1).detach()
    read = 0
    for length in (4, 1, 1, 3, 2):
        piece = slice(read, read + length)
        key, value = cache.append(keys[:, :, piece], values[:, :, piece])
        read += length
        assert cache.length == read
        assert_same([key, value], [keys[:, :, :read], values[:, :, :read]], atol=0.0)


def test_a_full_cache_says_so():
    cache = LayerCache(capacity=4)
    cache.append(draw(1, 2, 3, 5).detach(), draw(1, 2, 3, 5).detach())
    with pytest.raises(ValueError, match="room for 4 positions; 5 were given"):
        cache.append(draw(1, 2, 2, 5).detach(), draw(1, 2, 2, 5).detach())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("position", POSITIONS)
def test_a_truncated_cache_goes_on_as_if_the_rest_had_never_been_read(position):
    model = randomise(GPT(config(position=position)))
    tokens, other, cache = ids(23, 2, 8), ids(23, 2, 5, seed=1), KVCache(2, 13)
    with torch.no_grad():
        model(tokens, cache=cache)
        cache.truncate(5)
        assert cache.length == 5
        given = model(other, cache=cache)
        wanted = model(torch.cat([tokens[:, :5], other], dim=1))[:, 5:]
    assert_same(given, wanted)


def test_a_cache_cannot_be_truncated_to_more_than_it_holds():
    cache = LayerCache(capacity=4)
    cache.append(draw(1, 2, 3, 5).detach(), draw(1, 2, 3, 5).detach())
    for length in (4, -1):
        with pytest.raises(ValueError, match=f"length={length} must be from 0 to the 3 positions"):
            cache.truncate(length)
    cache.truncate(0)
    assert cache.length == 0


@pytest.mark.usefixtures("float64")
def test_layers_without_a_weight_are_called_by_the_cache_as_they_are():
    """A quantised layer holds no float weight to be joined with others; torch's own has a method of that name."""

    class Doubled(torch.nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.inner = layer

        def weight(self):
            return self.inner.weight

        def forward(self, x):
            return 2 * self.inner(x)

    query, key = torch.nn.Linear(6, 4), torch.nn.Linear(6, 2)
    x = draw(3, 5, 6).detach()
    given = LayerCache().project(x, Doubled(query), Doubled(key))
    assert_same(given, 2 * torch.cat([query(x), key(x)], dim=-1).detach())
    model = randomise(GPT(config()))
    tokens, cache = ids(23, 2, 7), KVCache(2, 7)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, torch.nn.Linear) and name.endswith("query"):
            model.set_submodule(name, Doubled(layer))
    with torch.no_grad():
        pieces = [model(piece, cache=cache) for piece in tokens.split((3, 1, 3), dim=1)]
        assert_same(torch.cat(pieces, dim=1), model(tokens))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kv_heads", [6, 2])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("pieces", [(1,) * 13, (5, 1, 7), (6, 7), (12, 1)])
def test_reading_in_pieces_gives_the_logits_of_reading_at_once(pieces, position, kv_heads):
    model = randomise(GPT(config(position=position, n_kv_heads=kv_heads, tie_embeddings=False)))
    tokens, cache = ids(23, 3, 13), KVCache(2, 13)
    with torch.no_grad():
        whole = model(tokens)
        read = [model(piece, cache=cache) for piece in tokens.split(pieces, dim=1)]
    assert cache.length == 13
    assert_same(torch.cat(read, dim=1), whole)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("pieces", [(1,) * 4, (3, 1), (4,)])
def test_reading_padded_prompts_in_pieces_gives_the_logits_of_each_alone(pieces, position):
    model = randomise(GPT(config(position=position)))
    prompts, new = [ids(23, n, seed=n) for n in (2, 7, 5)], ids(23, 3, 4, seed=9)
    tokens = torch.stack([torch.cat([torch.zeros(7 - len(p), dtype=torch.long), p]) for p in prompts])
    real, cache = padding([2, 7, 5], 7, "left"), KVCache(2, 11)
    with torch.no_grad():
        given, read = [model(tokens, real=real, cache=cache)], 7
        for piece in new.split(pieces, dim=1):
            read += piece.shape[1]
            seen = torch.cat([real, torch.ones(3, read - 7, dtype=torch.bool)], dim=1)
            given.append(model(piece, real=seen, cache=cache))
        logits = torch.cat(given, dim=1)
        for row, prompt in enumerate(prompts):
            alone = model(torch.cat([prompt, new[row]])[None])[0]
            assert_same(logits[row, 7 - len(prompt) :], alone)

"""The models: compositions that equal torch's, respect time and padding, and refuse what they cannot do."""

import math

import pytest
import torch
import transformers
from builders import POSITIONS, assert_same, config, draw, ids, padding, randomise
from test_layers import copy_block
from torch import nn

from fmcourse.cache import KVCache
from fmcourse.masks import causal_mask
from fmcourse.transformer import BERT, GPT, Seq2Seq, TransformerConfig, count_parameters

# --------------------------------------------------------------------------------------------------- parity with torch


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # torch explains its own fast path
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_seq2seq_stacks_equal_torchs_transformer(activation):
    ours = randomise(Seq2Seq(config(activation=activation, n_layers=3, position="sinusoidal")))
    theirs = nn.Transformer(
        24, 6, 3, 3, dim_feedforward=40, dropout=0.0, activation=activation, batch_first=True, norm_first=True
    )
    for our_stack, their_stack in ((ours.encoder, theirs.encoder), (ours.decoder, theirs.decoder)):
        for our_block, their_block in zip(our_stack.blocks, their_stack.layers, strict=True):
            copy_block(our_block, their_block)
        their_stack.norm.load_state_dict(our_stack.norm.state_dict())
    source, target = ids(23, 3, 11), ids(23, 3, 7, seed=1)
    source_real, target_real = padding([11, 4, 6], 11), padding([7, 7, 3], 7)
    given = ours(source, target, source_real=source_real, target_real=target_real)
    hidden = theirs(
        ours.encoder.embed(source, torch.arange(11)),
        ours.decoder.embed(target, torch.arange(7)),
        tgt_mask=~causal_mask(7, 7),
        src_key_padding_mask=~source_real,
        tgt_key_padding_mask=~target_real,
        memory_key_padding_mask=~source_real,
    )
    assert_same(given[target_real], (hidden @ ours.head.weight.T)[target_real])


# ------------------------------------------------------------------------------------------------------ what sees what


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kv_heads", [6, 3])
@pytest.mark.parametrize("position", POSITIONS)
def test_gpt_never_sees_the_future_and_does_see_the_past(position, kv_heads):
    model = randomise(GPT(config(position=position, n_kv_heads=kv_heads)))
    tokens = ids(23, 2, 9)
    with torch.no_grad():
        before = model(tokens)
        for place in range(9):
            changed = tokens.clone()
            changed[:, place] = (changed[:, place] + 1) % 23
            moved = (model(changed) - before).abs().amax(dim=(0, 2))
            assert float(moved[:place].sum()) == 0.0
            assert bool((moved[place:] > 1e-4).all())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
def test_gradients_of_gpt_flow_from_every_past_position_and_from_no_future_one(position, padded):
    model = randomise(GPT(config(position=position)))
    vectors = []
    model.decoder.tokens.register_forward_hook(lambda _module, _inputs, output: vectors.append(output))
    real = padding([9], 9) if padded else None
    logits = model(ids(23, 1, 9), real=real)
    for place in range(9):
        weights = torch.randn(23, generator=torch.Generator().manual_seed(place))
        (flow,) = torch.autograd.grad((logits[0, place] * weights).sum(), vectors[0], retain_graph=True)
        reach = flow[0].abs().amax(dim=1)
        assert bool((reach[: place + 1] > 1e-6).all())
        assert float(reach[place + 1 :].sum()) == 0.0


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("position", POSITIONS)
def test_bert_sees_both_sides(position):
    model = randomise(BERT(config(position=position)))
    tokens = ids(23, 1, 9)
    changed = tokens.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 23
    with torch.no_grad():
        moved = (model(changed) - model(tokens)).abs().amax(dim=(0, 2))
    assert bool((moved > 1e-4).all())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("position", POSITIONS)
def test_seq2seq_target_sees_all_the_source_and_only_its_own_past(position):
    model = randomise(Seq2Seq(config(position=position)))
    source, target = ids(23, 1, 11), ids(23, 1, 7, seed=1)
    with torch.no_grad():
        before = model(source, target)
        for place in range(11):
            changed = source.clone()
            changed[0, place] = (changed[0, place] + 1) % 23
            assert bool(((model(changed, target) - before).abs().amax(dim=(0, 2)) > 1e-6).all())
        for place in range(7):
            changed = target.clone()
            changed[0, place] = (changed[0, place] + 1) % 23
            moved = (model(source, changed) - before).abs().amax(dim=(0, 2))
            assert float(moved[:place].sum()) == 0.0
            assert bool((moved[place:] > 1e-6).all())


# ------------------------------------------------------------------------------------------------------------- padding


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", [GPT, BERT])
def test_padding_changes_nothing_on_either_side(kind, position, side):
    model = randomise(kind(config(position=position)))
    texts = [ids(23, n, seed=n) for n in (3, 11, 1, 6)]
    real, tokens = padding([3, 11, 1, 6], 11, side), ids(23, 4, 11, seed=5)  # the padding ids are arbitrary
    tokens[real] = torch.cat(texts)
    with torch.no_grad():
        together = model(tokens, real=real)
        for row, text in enumerate(texts):
            assert_same(together[row, real[row]], model(text[None])[0])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("position", POSITIONS)
def test_seq2seq_ignores_the_padding_of_source_and_target(position):
    model = randomise(Seq2Seq(config(position=position)))
    sources, targets = [ids(23, n, seed=n) for n in (3, 11, 6)], [ids(23, n, seed=20 + n) for n in (7, 2, 5)]
    source_real, target_real = padding([3, 11, 6], 11), padding([7, 2, 5], 7)
    source, target = ids(23, 3, 11, seed=5), ids(23, 3, 7, seed=6)
    source[source_real], target[target_real] = torch.cat(sources), torch.cat(targets)
    with torch.no_grad():
        together = model(source, target, source_real=source_real, target_real=target_real)
        for row in range(3):
            assert_same(together[row, target_real[row]], model(sources[row][None], targets[row][None])[0])


# --------------------------------------------------------------------------------------------------------------- cache


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("capacity", [7, 11, 15])
@pytest.mark.parametrize("kv_heads", [6, 2])
@pytest.mark.parametrize("position", POSITIONS)
def test_seq2seq_decoding_with_a_cache_equals_teacher_forcing(position, kv_heads, capacity):
    model = randomise(Seq2Seq(config(position=position, n_kv_heads=kv_heads, qk_norm=True)))
    source, target, source_real = ids(23, 3, 11), ids(23, 3, 7, seed=1), padding([11, 4, 6], 11)
    cache = KVCache(n_layers=2, capacity=capacity)
    with torch.no_grad():
        wanted = model(source, target, source_real=source_real)
        memory = model.encode(source, source_real=source_real)
        steps = [model.decode(piece, memory, source_real=source_real, cache=cache) for piece in target.split(1, dim=1)]
    assert_same(torch.cat(steps, dim=1), wanted)


# --------------------------------------------------------------------------------------- parameters and initialisation


def published(changes: str):
    """Parameters of a published model, counted by `transformers` without allocating them."""
    with torch.device("meta"):
        if changes == "gpt2":
            return transformers.GPT2LMHeadModel(transformers.GPT2Config()).num_parameters()
        return transformers.BertForMaskedLM(transformers.BertConfig()).num_parameters()


def test_gpt2_has_124_million_parameters():
    with torch.device("meta"):
        ours = GPT(TransformerConfig(vocab_size=50_257, context=1024, d_model=768, n_layers=12, n_heads=12))
    assert count_parameters(ours) == published("gpt2") == 124_439_808


def test_bert_base_has_as_many_parameters_as_published():
    shape = TransformerConfig(
        vocab_size=30_522,
        context=512,
        d_model=768,
        n_layers=12,
        n_heads=12,
        norm_first=False,
        embedding_norm=True,
        n_segments=2,
    )
    with torch.device("meta"):
        assert count_parameters(BERT(shape)) == published("bert")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", [GPT, BERT, Seq2Seq])
def test_tied_models_share_one_embedding_matrix(kind, tied):
    model = kind(config(tie_embeddings=tied))
    embedding = (model.encoder if kind is not GPT else model.decoder).tokens.weight
    assert (model.head.weight is embedding) == tied
    if kind is Seq2Seq:
        assert (model.decoder.tokens.weight is embedding) == tied


def test_initial_weights_have_gpt2s_spread():
    torch.manual_seed(0)
    model = GPT(config(d_model=120, n_layers=8, d_ff=480, vocab_size=500))
    spread = {name: float(p.detach().std()) for name, p in model.named_parameters() if p.ndim == 2}
    residual = 0.02 / math.sqrt(2 * 8)
    for name, found in spread.items():
        wanted = residual if name.endswith(("attention.out.weight", "feed_forward.down.weight")) else 0.02
        assert found == pytest.approx(wanted, rel=0.05), name
    assert all(float(p.detach().abs().max()) == 0.0 for name, p in model.named_parameters() if name.endswith(".bias"))


def test_zero_out_starts_every_block_as_the_identity():
    torch.manual_seed(0)
    model = GPT(config(init="zero_out"))
    x = draw(2, 5, 24)
    for block in model.decoder.blocks:
        assert_same(block(x, causal=True), x, atol=0.0)


def test_the_seed_alone_decides_the_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in GPT(config()).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_a_new_model_guesses_every_token_with_about_the_same_probability():
    torch.manual_seed(0)
    tokens = ids(23, 8, 17)
    loss = nn.functional.cross_entropy(GPT(config())(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(23), abs=0.05)


# ----------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 25}, "n_heads=6 must divide d_model=25"),
        ({"n_kv_heads": 4}, "n_kv_heads=4 must divide n_heads=6"),
        ({"n_kv_heads": 0}, "n_kv_heads must be positive; got 0"),
        ({"vocab_size": 0}, "vocab_size must be positive; got 0"),
        ({"context": -3}, "context must be positive; got -3"),
        ({"n_layers": 0}, "n_layers must be positive; got 0"),
        ({"d_ff": 0}, "d_ff must be positive; got 0"),
        ({"n_segments": -1}, "n_segments must be 0 or more; got -1"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\); got 1.0"),
        ({"position": "relative"}, "position='relative' is not known; choose one of 'none', 'learned', 'sinusoidal'"),
        ({"norm": "batch"}, "norm='batch' is not known; choose one of 'layer', 'rms'"),
        ({"activation": "tanh"}, "activation='tanh' is not known; choose one of 'relu'"),
        ({"init": "zero"}, "init='zero' is not known; choose one of 'normal', 'zero_out'"),
        ({"position": "rotary", "d_model": 30}, "'rotary' needs an even head width; d_model / n_heads is 5"),
        ({"position": "sinusoidal", "d_model": 15, "n_heads": 5}, "'sinusoidal' needs an even d_model; got 15"),
    ],
)
def test_impossible_configurations_say_what_to_change(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


@pytest.mark.parametrize("wrong", [-1, 23, 400])
@pytest.mark.parametrize("kind", [GPT, BERT])
def test_token_ids_out_of_range_are_named(kind, wrong):
    tokens = ids(23, 2, 5)
    tokens[1, 3] = wrong
    with pytest.raises(ValueError, match=f"token id {wrong} is out of range; vocab_size=23 allows 0 to 22"):
        kind(config())(tokens)


def test_segment_ids_out_of_range_are_named():
    with pytest.raises(ValueError, match="segment id 2 is out of range; n_segments=2 allows 0 to 1"):
        BERT(config(n_segments=2))(ids(23, 1, 3), segments=torch.tensor([[0, 1, 2]]))


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", [GPT, BERT])
def test_sequences_longer_than_the_context_are_refused(kind, position):
    model = kind(config(position=position))
    model(ids(23, 1, 17))
    with pytest.raises(ValueError, match="the sequence has 18 tokens; this model's context is 17"):
        model(ids(23, 1, 18))


def test_a_cached_sequence_longer_than_the_context_is_refused():
    model, cache = GPT(config()), KVCache(2, 30)
    model(ids(23, 1, 15), cache=cache)
    with pytest.raises(ValueError, match="the sequence has 18 tokens; this model's context is 17"):
        model(ids(23, 1, 3), cache=cache)


@pytest.mark.parametrize("kind", [GPT, BERT])
def test_malformed_padding_masks_are_refused(kind):
    model = kind(config())
    with pytest.raises(ValueError, match=r"real must be boolean of shape \(2, 5\).*got torch.int64"):
        model(ids(23, 2, 5), real=torch.ones(2, 5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"got torch.bool of shape \(2, 4\)"):
        model(ids(23, 2, 5), real=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="real has no True in row 1"):
        model(ids(23, 2, 5), real=padding([5, 0], 5))


def test_a_source_padding_mask_of_the_wrong_shape_is_refused():
    model = Seq2Seq(config())
    memory = model.encode(ids(23, 2, 5))
    with pytest.raises(ValueError, match=r"real must be boolean of shape \(2, 5\).*of shape \(2, 6\)"):
        model.decode(ids(23, 2, 3), memory, source_real=padding([5, 5], 6))

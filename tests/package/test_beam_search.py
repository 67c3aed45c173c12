"""Beam search finds what exhaustive search finds, and what the beam search of transformers finds."""

from itertools import product

import pytest
import torch
from builders import config, randomise
from transformers import BartConfig, BartForConditionalGeneration

from fmcourse.beam_search import Beams, beam_search, length_penalty
from fmcourse.transformer import Seq2Seq

START, END = 21, 22
SOURCES = [[1, 2, 3, 4, 5, END], [7, 7, END], [9, 3, 12, 1, 0, 18, 4, 20, END]]


def translator(scale=0.5, **changes):
    return randomise(Seq2Seq(config(position="sinusoidal", **changes)), scale=scale)


def log_probability(model, source, target):
    """Of the target and the end after it, in one pass of teacher forcing."""
    logits = model(torch.tensor([source]), torch.tensor([[START, *target]]))[0]
    following = torch.tensor([*target, END])
    return float(logits.double().log_softmax(dim=-1).gather(1, following[:, None]).sum())


@torch.no_grad()
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.usefixtures("float64")
def test_a_beam_that_holds_everything_finds_what_trying_everything_finds(alpha):
    model = translator(vocab_size=6)
    source, start, end, longest = [1, 2, 0, 5], 4, 5, 3

    def score(target, finished):
        logits = model(torch.tensor([source]), torch.tensor([[start, *target]]))[0]
        following = torch.tensor([*target, end] if finished else target)
        each = logits[: len(following)].log_softmax(dim=-1).gather(1, following[:, None])
        return float(each.sum()) / ((5 + len(following)) / 6) ** alpha

    every = {t: score(t, finished=n < longest) for n in range(longest + 1) for t in product(range(5), repeat=n)}
    (found,) = beam_search(model, [source], start=start, end=end, max_new_tokens=longest, beam_size=200, alpha=alpha)
    assert len(found) == len(every) == 156
    assert [f.score for f in found] == pytest.approx(sorted(every.values(), reverse=True))
    assert {tuple(f.tokens): f.score for f in found} == pytest.approx(every)
    narrow = beam_search(model, [source], start=start, end=end, max_new_tokens=longest, beam_size=3, alpha=alpha)[0]
    assert narrow[0].score <= found[0].score + 1e-12


@torch.no_grad()
@pytest.mark.usefixtures("float64")
def test_every_hypothesis_has_the_probability_that_teacher_forcing_gives_it():
    model = translator()
    for source, found in zip(
        SOURCES, beam_search(model, SOURCES, start=START, end=END, max_new_tokens=12, beam_size=4), strict=True
    ):
        assert [f.score for f in found] == sorted((f.score for f in found), reverse=True)
        assert len({tuple(f.tokens) for f in found}) == len(found) == 4
        for f in found:
            if len(f.tokens) < 12:
                assert f.log_probability == pytest.approx(log_probability(model, source, f.tokens), abs=1e-9)
                assert f.score == pytest.approx(f.log_probability / length_penalty(len(f.tokens) + 1, 0.6))


@torch.no_grad()
def test_a_single_beam_without_penalty_is_greedy():
    model = translator()
    for source in SOURCES:
        target = []
        while len(target) < 12:
            logits = model(torch.tensor([source]), torch.tensor([[START, *target]]))[0, -1]
            if int(logits.argmax()) == END:
                break
            target.append(int(logits.argmax()))
        ((found,),) = beam_search(model, [source], start=START, end=END, max_new_tokens=12, beam_size=1, alpha=0.0)
        assert found.tokens == target


@pytest.mark.usefixtures("float64")
def test_sources_of_different_lengths_do_not_disturb_each_other():
    model = translator()
    options = {"start": START, "end": END, "max_new_tokens": 10, "beam_size": 3}
    together = beam_search(model, SOURCES, **options)
    alone = [beam_search(model, [source], **options)[0] for source in SOURCES]
    assert [[f.tokens for f in row] for row in together] == [[f.tokens for f in row] for row in alone]


def bart_and_ours(seed):
    """A random BART and our module with its weights: post-norm, learned positions, biases, shared embeddings."""
    sizes = config(d_model=24, n_heads=6, n_layers=2, d_ff=40, context=30)
    torch.manual_seed(seed)
    theirs = (
        BartForConditionalGeneration(
            BartConfig(
                vocab_size=sizes.vocab_size,
                d_model=24,
                encoder_layers=2,
                decoder_layers=2,
                encoder_attention_heads=6,
                decoder_attention_heads=6,
                encoder_ffn_dim=40,
                decoder_ffn_dim=40,
                max_position_embeddings=30,
                init_std=0.5,
                pad_token_id=0,
                bos_token_id=START,
                decoder_start_token_id=START,
                eos_token_id=END,
                forced_eos_token_id=None,
            )
        )
        .double()
        .eval()
    )
    ours = (
        Seq2Seq(config(context=30, position="learned", norm_first=False, embedding_norm=True, activation="gelu"))
        .double()
        .eval()
    )
    own = ours.state_dict()
    given = theirs.model.state_dict()
    names = {"attention": "self_attn", "cross_attention": "encoder_attn"}
    for side in ("encoder", "decoder"):
        own[f"{side}.tokens.weight"] = given["shared.weight"]
        own[f"{side}.positions.weight"] = given[f"{side}.embed_positions.weight"][2:]
        pairs = {"embedding_norm": "layernorm_embedding"}
        for i in range(2):
            block, layer = f"blocks.{i}", f"layers.{i}"
            for mine, other in names.items():
                if mine == "cross_attention" and side == "encoder":
                    continue
                pairs |= {
                    f"{block}.{mine}.{a}": f"{layer}.{other}.{b}"
                    for a, b in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj"))
                }
                pairs[f"{block}.{mine}_norm"] = f"{layer}.{other}_layer_norm"
            pairs |= {f"{block}.feed_forward.up": f"{layer}.fc1", f"{block}.feed_forward.down": f"{layer}.fc2"}
            pairs[f"{block}.feed_forward_norm"] = f"{layer}.final_layer_norm"
        for mine, other in pairs.items():
            for kind in ("weight", "bias"):
                own[f"{side}.{mine}.{kind}"] = given[f"{side}.{other}.{kind}"]
    own["head.weight"] = given["shared.weight"]
    ours.load_state_dict(own)
    return theirs, ours


@torch.no_grad()
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beam_size", [1, 2, 4])
def test_the_same_outputs_as_the_beam_search_of_transformers(seed, beam_size):
    theirs, ours = bart_and_ours(seed)
    source = [[3, 5, 2, 9, 14, END], [6, 11, 4, 8, 1, END]]
    tokens = torch.tensor(source)
    target = torch.tensor([[START, 4, 7], [START, 2, 2]])
    difference = theirs(input_ids=tokens, decoder_input_ids=target).logits - ours(tokens, target)
    assert difference.abs().max() < 1e-10
    reference = theirs.generate(
        tokens,
        num_beams=beam_size,
        max_new_tokens=14,
        length_penalty=0.0,
        early_stopping="never" if beam_size > 1 else False,
        do_sample=False,
    )
    found = beam_search(ours, source, start=START, end=END, max_new_tokens=14, beam_size=beam_size, alpha=0.0)
    for row, best in zip(reference.tolist(), found, strict=True):
        row = row[1:]
        assert best[0].tokens == (row[: row.index(END)] if END in row else row)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, "every source needs at least one token; got lengths"),
        ({"sources": [[1], []]}, r"got lengths \[1, 0\]"),
        ({"sources": [[23]]}, "token id 23 is out of range; vocab_size=23 allows 0 to 22"),
        ({"beam_size": 0}, "beam_size must be positive; got 0"),
        ({"max_new_tokens": 18}, "max_new_tokens=18 is more than this model's context of 17"),
        ({"alpha": -1.0}, "alpha must be 0 or more; got -1.0"),
    ],
)
def test_bad_input_is_refused_with_what_is_allowed(changes, message):
    options = {"sources": [[1, 2]], "start": START, "end": END, "max_new_tokens": 4, **changes}
    with pytest.raises(ValueError, match=message):
        beam_search(translator(), options.pop("sources"), **options)


def test_the_training_mode_comes_back():
    model = translator().train()
    beam_search(model, [[1, 2]], start=START, end=END, max_new_tokens=3)
    assert model.training


@torch.no_grad()
@pytest.mark.usefixtures("float64")
def test_each_step_is_reported_with_what_the_search_knew():
    """From the reports alone the search can be done again, and they are the model's own log-probabilities."""
    model = translator()
    again = [Beams(3, 0.6, 10, END) for _ in SOURCES]

    def report(i, partials, log_probabilities):
        assert partials == again[i].running
        assert len(partials) == len(log_probabilities)
        prefix = partials[-1][0]
        logits = model(torch.tensor([SOURCES[i]]), torch.tensor([[START, *prefix]]))[0, -1]
        assert (logits.log_softmax(dim=-1) - log_probabilities[-1]).abs().max() < 1e-9
        every = [
            (so_far + float(value), beam, token)
            for beam, ((_, so_far), row) in enumerate(zip(partials, log_probabilities, strict=True))
            for token, value in enumerate(row)
        ]
        again[i].grow(sorted(every, key=lambda candidate: -candidate[0])[:6])

    options = {"start": START, "end": END, "max_new_tokens": 10, "beam_size": 3, "alpha": 0.6}
    found = beam_search(model, SOURCES, **options, on_step=report)
    for one, other in zip(found, again, strict=True):
        assert [h.tokens for h in one] == [h.tokens for h in other.close()]

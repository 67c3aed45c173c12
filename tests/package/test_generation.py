"""Generation draws from the stated distribution, and neither cache nor batch changes a single token."""

import math

import pytest
import torch
from builders import POSITIONS, assert_same, config, draw, ids, randomise
from hypothesis import given
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from fmcourse.generation import generate, next_token_probabilities, pad_left
from fmcourse.transformer import GPT

# ------------------------------------------------------------------------------------------------------- distributions

OPTIONS = [
    {"temperature": 0.5},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 4},
    {"top_k": 99},
    {"top_p": 0.3},
    {"top_p": 0.9},
    {"top_p": 1.0},
    {"temperature": 0.7, "top_k": 7, "top_p": 0.8},
    {"temperature": 3.0, "top_k": 3, "top_p": 0.5},
]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("options", OPTIONS)
def test_distribution_equals_that_of_transformers(options):
    logits = 3 * draw(5, 23).detach()
    scores = TemperatureLogitsWarper(float(options.get("temperature", 1.0)))(None, logits.clone())
    if "top_k" in options:
        scores = TopKLogitsWarper(options["top_k"])(None, scores)
    if "top_p" in options:
        scores = TopPLogitsWarper(options["top_p"])(None, scores)
    assert_same(next_token_probabilities(logits, **options), scores.softmax(dim=-1))


@given(
    st.lists(st.floats(-20, 20), min_size=1, max_size=12),
    st.floats(0.05, 5),
    st.none() | st.integers(1, 14),
    st.none() | st.floats(0.01, 1),
)
def test_distribution_keeps_the_likeliest_tokens_and_sums_to_one(logits, temperature, top_k, top_p):
    scores = torch.tensor(logits, dtype=torch.float64)
    kept = next_token_probabilities(scores, temperature=temperature, top_k=top_k, top_p=top_p)
    full = torch.softmax(scores / temperature, dim=0)
    assert float(kept.sum()) == pytest.approx(1.0)
    assert int((kept > 0).sum()) <= (top_k or len(logits))
    assert float(kept[full.argmax()]) > 0
    if int((kept == 0).sum()) and int((kept > 0).sum()):
        assert float(full[kept > 0].min()) >= float(full[kept == 0].max()) - 1e-12
    if top_p is not None and top_k is None:
        assert float(full[kept > 0].sum()) >= top_p - 1e-9  # enough, and without the last one too little
        assert float(full[kept > 0].sum() - full[kept > 0].min()) < top_p + 1e-9


def test_zero_temperature_is_greedy_and_the_limit_of_low_temperatures():
    logits = draw(4, 9).detach()
    greedy = next_token_probabilities(logits, temperature=0)
    assert greedy.argmax(dim=-1).tolist() == logits.argmax(dim=-1).tolist()
    assert greedy.sum(dim=-1).tolist() == [1.0] * 4
    assert_same(next_token_probabilities(logits, temperature=1e-4), greedy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or more; got -0.1"),
        ({"temperature": math.nan}, "temperature must be 0 or more; got nan"),
        ({"top_k": 0}, "top_k must be 1 or more; got 0"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]; got 0.0"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\]; got 1.5"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        next_token_probabilities(draw(3, 9), **options)
    with pytest.raises(ValueError, match=message):
        generate(GPT(config()), [[1, 2]], max_new_tokens=2, **options)


# ------------------------------------------------------------------------------------------------------------- drawing


class Fixed(GPT):
    """A model whose next-token distribution is the same everywhere."""

    def __init__(self, logits):
        super().__init__(config(vocab_size=len(logits)))
        self.logits = torch.tensor(logits)

    def forward(self, tokens, *, real=None, cache=None):
        return self.logits.expand(*tokens.shape, -1)


def test_draws_follow_the_distribution():
    logits = [0.0, 1.0, -1.0, 2.0]
    rows = generate(Fixed(logits), [[0]] * 4000, max_new_tokens=2, temperature=0.9, top_k=3, seed=1)
    found = torch.bincount(torch.tensor(rows).flatten(), minlength=4) / 8000
    wanted = next_token_probabilities(torch.tensor(logits), temperature=0.9, top_k=3)
    assert_same(found, wanted, atol=4 * 0.5 / 8000**0.5)  # four standard deviations
    assert found[2] == 0


def peaked(position="learned", **changes):
    """A random model whose choices vary from place to place and from text to text."""
    model = randomise(GPT(config(position=position, tie_embeddings=False, **changes)), scale=0.6)
    with torch.no_grad():
        model.decoder.tokens.weight.mul_(3)
        for name, p in model.named_parameters():
            if name.endswith("bias"):
                p.zero_()  # a large constant would choose the same token everywhere
    return model


def test_the_seed_alone_decides_the_draws():
    model, prompts = peaked(), [[1, 2, 3], [4]]
    one = generate(model, prompts, max_new_tokens=12, seed=1)
    torch.manual_seed(99)
    assert generate(model, prompts, max_new_tokens=12, seed=1) == one
    assert generate(model, prompts, max_new_tokens=12, seed=2) != one


def test_generation_leaves_the_global_generator_and_the_training_mode_alone():
    model = peaked(dropout=0.5).train()
    before = torch.get_rng_state()
    one = generate(model, [[1, 2]], max_new_tokens=9)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert one == generate(model.eval(), [[1, 2]], max_new_tokens=9)
    assert not model.training


def test_the_training_mode_comes_back_after_an_error():
    model = peaked().train()
    with pytest.raises(ValueError, match="top_k"):
        generate(model, [[1]], max_new_tokens=2, top_k=0)
    assert model.training


# ------------------------------------------------------------------------------------------ cache, batches, long texts


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("kv_heads", [6, 2])
@pytest.mark.parametrize("position", POSITIONS)
def test_cached_generation_equals_uncached_token_for_token_beyond_the_context(position, kv_heads, temperature):
    model = peaked(position, n_kv_heads=kv_heads)
    prompts = [ids(23, n, seed=n).tolist() for n in (3, 17, 1, 8)]
    options = {"max_new_tokens": 45, "temperature": temperature, "seed": 4}  # the context is 17
    cached = generate(model, prompts, **options)
    assert cached == generate(model, prompts, **options, use_cache=False)
    assert len({token for row in cached for token in row}) > 3


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("position", POSITIONS)
def test_padded_batches_equal_single_prompts(position, use_cache):
    model = peaked(position)
    prompts = [ids(23, n, seed=n).tolist() for n in (3, 7, 1, 5)]
    options = {"max_new_tokens": 10, "temperature": 0, "use_cache": use_cache}  # up to the end of the context, 17
    together = generate(model, prompts, **options)
    assert together == [generate(model, [prompt], **options)[0] for prompt in prompts]


@pytest.mark.parametrize("position", POSITIONS)
def test_greedy_generation_equals_reading_everything_again_for_every_token(position):
    model, text = peaked(position), ids(23, 4, seed=8).tolist()
    given = generate(model, [text], max_new_tokens=13, temperature=0)[0]
    for _ in range(13):
        with torch.no_grad():
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert given == text[4:]


def with_window(model, text, n, *, full, kept):
    """Greedy continuation by rereading; a window that outgrows `full` tokens is cut to its last `kept`."""
    window, new = list(text), []
    for _ in range(n):
        if len(window) > full:
            window = window[-kept:]
        with torch.no_grad():
            new.append(int(model(torch.tensor([window]))[0, -1].argmax()))
        window.append(new[-1])
    return new


@pytest.mark.parametrize("context", [8, 9])
def test_beyond_the_context_generation_goes_on_from_the_later_half(context):
    model, texts = peaked(context=context), [ids(23, 3, seed=seed).tolist() for seed in range(12)]
    given = [generate(model, [text], max_new_tokens=30, temperature=0)[0] for text in texts]
    assert given == [with_window(model, text, 30, full=context, kept=4) for text in texts]
    for kept in (2, 3, 5):  # another window would have shown
        assert given != [with_window(model, text, 30, full=context, kept=kept) for text in texts]


def test_every_row_ends_with_its_own_stop_token():
    model, prompts = peaked(), [[1, 2, 3], [4], [5, 6], [7, 8]]
    free = generate(model, prompts, max_new_tokens=14, seed=3)
    stop = free[0][2]
    stopped = generate(model, prompts, max_new_tokens=14, seed=3, stop=stop)
    assert stopped == [row[: row.index(stop) + 1] if stop in row else row for row in free]
    assert len(stopped[0]) <= 3


def test_left_padding_keeps_the_prompts_and_marks_them():
    tokens, real = pad_left([[3, 4, 5], [6], [7, 8]])
    assert tokens.tolist() == [[3, 4, 5], [0, 0, 6], [0, 7, 8]]
    assert real.tolist() == [[True, True, True], [False, False, True], [False, True, True]]


@pytest.mark.parametrize(
    ("prompts", "changes", "message"),
    [
        ([], {}, r"every prompt needs at least one token; got lengths \[\]"),
        ([[1], []], {}, r"every prompt needs at least one token; got lengths \[1, 0\]"),
        ([[1], [2, 23]], {}, "token id 23 is out of range; vocab_size=23 allows 0 to 22"),
        ([[-4]], {}, "token id -4 is out of range"),
        ([[1] * 18, [1]], {}, "the longest prompt has 18 tokens; this model's context is 17"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens must be 1 or more; got 0"),
    ],
)
def test_bad_prompts_are_refused_with_what_was_given_and_what_is_allowed(prompts, changes, message):
    with pytest.raises(ValueError, match=message):
        generate(GPT(config()), prompts, **{"max_new_tokens": 3, **changes})

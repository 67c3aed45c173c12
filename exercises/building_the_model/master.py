# %% [markdown]
# # Exercise: building the model, and tests that notice mistakes
#
# You will count by hand how many scores a model computes, write an attention layer and a block of the decoder, put a
# whole encoder-decoder together, repair a loss, and write a test that catches what no loss shows. At the end you
# measure the one number that can be known before any training. The chapter
# [Building the model](chapter:algorithm/building_the_model) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: `b` sentences, `t` tokens that ask, `s` tokens that are asked, `h` heads of width
#   `d`, `m = h·d` the width of the model, `v` the vocabulary. Predict every shape before you run.
# - Models are plain dicts of matrices here, without biases. A matrix multiplies from the right: `x @ w`. To normalise
#   means `F.layer_norm(x, (m,))`, without trained numbers. In masks, True means "may attend".

# %%
import math

import torch
import torch.nn.functional as F
from einops import rearrange

from fmcourse.exercises import start

check = start("building_the_model")
given = check.given

# %% [markdown] question="q1"
# An encoder-decoder of 2 encoder blocks and 3 decoder blocks, with 3 heads in every attention, works on 2 sentences at
# once. The source has 5 tokens, the decoder reads 4. How many **scores** (query times key, one number each) are
# computed in one pass through the whole model? Count those that a mask forbids, too: they are computed and then thrown
# away.

# %% question="q1"
# BEGIN SOLUTION
# Encoder: source asks source. Decoder: target asks target, and target asks source.
# For each sentence and head.
number_of_scores = 2 * 3 * (2 * 5 * 5 + 3 * 4 * 4 + 3 * 4 * 5)
# END SOLUTION
check("q1", number_of_scores)

# %% [markdown] question="q2"
# Write an attention layer with all its heads. The tokens `x` ask, the tokens `memory` are asked (for self-attention the
# same tensor comes twice). `layer` is a dict of four matrices (m, m) with the names `"query"`, `"key"`, `"value"` and
# `"out"`. Head 0 works with the first d numbers of every query, key and value, head 1 with the next d, and so on; side
# by side again, in that order, they are multiplied by `"out"`. Scores are scaled as in the chapter. The mask broadcasts
# to them, (b, h, t, s), and leaves every query at least one key. `F.scaled_dot_product_attention` may be used,
# ready-made layers may not.


# %% question="q2"
def attention_layer(x, memory, may_attend, layer, n_heads):
    """Tokens x (b, t, m) ask memory (b, s, m); gives (b, t, m)."""
    # BEGIN SOLUTION
    query = rearrange(x @ layer["query"], "b t (h d) -> b h t d", h=n_heads)
    key, value = (
        rearrange(memory @ layer[name], "b s (h d) -> b h s d", h=n_heads)
        for name in ("key", "value")
    )
    scores = query @ key.mT / math.sqrt(query.shape[-1])  # b h t s
    weights = scores.masked_fill(~may_attend, -math.inf).softmax(dim=-1)
    return rearrange(weights @ value, "b h t d -> b t (h d)") @ layer["out"]
    # END SOLUTION


check("q2", attention_layer)

# %% [markdown] question="q3"
# Write a block of the decoder. `block` is a dict with `"self"` and `"cross"` (the layers of question 2), `"up"` (m, 4m)
# and `"down"` (4m, m). Three parts follow one another, each of the form *stream plus part of the normalised stream*:
#
# 1. the tokens ask each other, and none sees a later one;
# 2. the tokens ask the memory, of which `source_real` (b, s) says what is text (True) and what is padding;
# 3. each token alone goes up, through `F.gelu`, and down.
#
# The memory is not normalised here: it comes from an encoder that has done so. `given.attention_layer` is there.


# %% question="q3"
def decoder_block(x, memory, source_real, block, n_heads):
    """The stream x (b, t, m) and the memory (b, s, m) give the stream (b, t, m)."""

    # BEGIN SOLUTION
    # Every part reads a normalised copy and adds to the stream itself, which
    # nothing ever replaces.
    def norm(y):
        return F.layer_norm(y, y.shape[-1:])

    past = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    # It says something about keys, the last axis; the same for heads and queries.
    real = source_real[:, None, None, :]
    x = x + given.attention_layer(norm(x), norm(x), past, block["self"], n_heads)
    x = x + given.attention_layer(norm(x), memory, real, block["cross"], n_heads)
    return x + F.gelu(norm(x) @ block["up"]) @ block["down"]
    # END SOLUTION


check("q3", decoder_block)

# %% [markdown] question="q4"
# The whole model, from ids to logits. `model` is a dict:
#
# - `"table"` (v, m) serves both sides and both ends. A token's vector is its row of the table **times** $\sqrt m$, plus
#   its row of `"places"` (the first place has row 0; there are more rows than needed). The logits are the decoder's
#   final vectors times the table transposed, so that every token is compared with its own row.
# - `"encoder"` and `"decoder"` are lists of blocks, to be gone through in order. Both stacks **end with a
#   normalisation**. `given.decoder_block` is there, and so is `given.encoder_block(x, source_real, block, n_heads)`,
#   in which the tokens see everything but padding, and there is no memory.
#
# `answers` (b, t) are the tokens that the model should answer, place by place. The decoder *reads* the id `start` at
# its first place, and at every other place the answer of the place before. Source padding is marked by `source_real`;
# answers need no mask, for the causal one hides from each place what stands after it.


# %% question="q4"
def transformer(source, answers, source_real, start, model, n_heads):
    """Source ids (b, s), of which `source_real` are text, and answers (b, t) give
    logits (b, t, v).
    """
    # BEGIN SOLUTION
    table, places = model["table"], model["places"]
    m = table.shape[1]
    memory = table[source] * math.sqrt(m) + places[: source.shape[1]]
    for block in model["encoder"]:
        memory = given.encoder_block(memory, source_real, block, n_heads)
    memory = F.layer_norm(memory, (m,))

    # At each place the decoder knows what came before, not what it is asked for.
    reads = torch.cat(
        [torch.full_like(answers[:, :1], start), answers[:, :-1]], dim=1
    )
    x = table[reads] * math.sqrt(m) + places[: reads.shape[1]]
    for block in model["decoder"]:
        x = given.decoder_block(x, memory, source_real, block, n_heads)
    return F.layer_norm(x, (m,)) @ table.mT
    # END SOLUTION


check("q4", transformer)

# %% [markdown] question="q5"
# This should be the mean loss per token, and padding should not count. A colleague takes one and the same model and the
# same sentences, and only puts them into batches in another way: sorted by length, so that the sentences of a batch are
# about equally long. Suddenly the mean loss is higher. Find the bug and repair it. At least one answer of a batch is no
# padding.


# %% question="q5"
def loss(logits, answers, pad):
    """Logits (b, t, v) and answers (b, t), ids, some of them `pad`, give one
    number: the mean over real answers.
    """
    each = F.cross_entropy(
        rearrange(logits, "b t v -> b v t"), answers, reduction="none"
    )
    # BEGIN SOLUTION
    # The sum was right, what it was divided by was not: a padded place counted as
    # an answer with loss 0.
    real = answers != pad
    return (each * real).sum() / real.sum()
    # INSTEAD
    # return (each * (answers != pad)).mean()
    # END SOLUTION


check("q5", loss)

# %% [markdown] question="q6"
# The loss does not tell whether a decoder cheats; a test does, and it needs two halves. Somebody has computed the
# logits of one sentence twice: `before`, and `after` the token that the decoder reads at `place` was exchanged for
# another. In a right decoder the logits at a place are computed from the tokens up to that place. Return two values,
# True or False each:
#
# 1. **the future is hidden**: at no place before `place` have the logits changed;
# 2. **the past matters**: at one place after it, or more, they have changed.
#
# The logits at `place` itself prove nothing: every token sees itself. Logits have changed if any of their numbers
# differs by more than $10^{-5}$; less than that is rounding. There is at least one place before and one after.


# %% question="q6"
def two_tests(before, after, place):
    """Logits (t, v), twice, and the place of the exchanged token: is the future
    hidden, does the past matter?
    """
    # BEGIN SOLUTION
    changed = ((before - after).abs() > 1e-5).any(dim=-1)
    # Without the second half a model would pass that reads nothing at all.
    return not changed[:place].any(), bool(changed[place + 1 :].any())
    # END SOLUTION


check("q6", two_tests)

# %% [markdown] question="q7"
# An experiment. A model that knows nothing should give all $v$ tokens the same probability; its loss is then $\ln v$,
# about 6.9 for $v=1000$. So the loss before the first step can be known, and looking at it finds mistakes. Here is one:
# `nn.Embedding` fills its table with standard normal numbers. Use such a table for the logits, as in question 4. Take
# $v=1000$ and $m=64$, at least 10,000 final vectors (standard normal, then normalised), and answers drawn at random.
# What is the mean cross-entropy, in nats? Then find how small the numbers of the table must be for the loss to come
# within 0.1 of $\ln v$, and say to yourself why question 4 multiplies by $\sqrt m$ on the way in.

# %% question="q7"
# BEGIN SOLUTION
final = F.layer_norm(torch.randn(10_000, 64), (64,))
table = torch.randn(1000, 64)
# A logit is a sum of 64 products, of spread 8. The largest of 1000 is far from 0,
# and seldom that of the answer.
first_loss = F.cross_entropy(
    final @ table.mT, torch.randint(1000, (10_000,))
).item()
# END SOLUTION
check("q7", first_loss)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

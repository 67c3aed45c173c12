# %% [markdown]
# # Exercise: writing, from four probabilities by hand to a text from a cache
#
# You will score a model with pencil and paper, turn its numbers into a distribution, repair a top-p that falls silent
# when the model is sure, draw tokens, keep keys and values in a cache, and put all of it together into a program that
# writes. At the end you measure how often the likeliest next token leads to the likeliest text. The chapter
# [Training a GPT from scratch](chapter:practice/train_gpt) has what you need about sampling,
# [The mathematics of attention](chapter:mathematics/attention) what you need about attention.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: `v` tokens in the vocabulary, `s` positions in the cache, width `d` of queries
#   and keys, width `e` of values; `...` stands for any dimensions before them (none, a batch, a batch of heads). A
#   token is its number, from 0 to `v` - 1.

# %%
import torch

from fmcourse.exercises import start

check = start("train_gpt")
given = check.given

# %% [markdown] question="q1"
# A model of characters reads *tree*, and gives the four characters that really come the probabilities 1/2, 1/8, 1/4 and
# 1/4. Its *perplexity* is the exponential of the mean loss in nats: the number of equally likely characters among which
# it might as well have been guessing. Compute it by hand, to two digits.

# %% question="q1"
# BEGIN SOLUTION
# In bits the losses are 1, 3, 2 and 2. Their mean is 2 bits, and 2 to the power of
# 2 is what exp gives for nats.
perplexity = 2.0 ** ((1 + 3 + 2 + 2) / 4)
# END SOLUTION
check("q1", perplexity)

# %% [markdown] question="q2"
# From the logits to the distribution of the next token, with two controls. **Top-k**: only the `k` largest logits of
# each row take part; all of them when there are fewer than `k`. **Temperature**: divides these logits before the
# softmax. All other tokens get exactly 0, and every row sums to one. At temperature 0 the writer is greedy: the largest
# logit gets 1. No two logits of a row are equal. torch's softmax is allowed, the package's function for this is not.


# %% question="q2"
def next_probabilities(logits, temperature, k):
    """Logits (..., v), a number that is not negative, a whole number from 1:
    probabilities (..., v).
    """
    # BEGIN SOLUTION
    if temperature == 0:
        # The limit of ever lower temperatures; dividing by 0 would give nan.
        temperature, k = 1.0, 1
    kept, ids = logits.topk(min(k, logits.shape[-1]), dim=-1)
    # What is cut must be absent from the sum: softmax over the kept ones alone,
    # then back to their places.
    return torch.zeros_like(logits).scatter(
        -1, ids, (kept / temperature).softmax(dim=-1)
    )
    # END SOLUTION


check("q2", next_probabilities)

# %% [markdown] question="q3"
# Top-p should keep the smallest set of likeliest tokens whose probabilities sum to **at least** `p`, and scale them to
# sum to one; all others get 0. A colleague writes with `p = 0.9`. Her texts are oddly dull, she says, and now and then
# the program stops with *probability tensor contains nan*, always where the next letter is obvious: after "To be, or
# not to b", for example. Find the bug and repair it.


# %% question="q3"
def top_p(probabilities, p):
    """Probabilities (..., v) and a number, greater than 0 and at most 1, give
    probabilities (..., v).
    """
    ordered, ids = probabilities.sort(dim=-1, descending=True)
    # BEGIN SOLUTION
    # A token is needed as long as the likelier ones do not reach p without it. The
    # cumulative sum holds the token itself: the one that crosses p was dropped, and
    # when one token held more than p, nothing was left to divide by.
    before = ordered.cumsum(dim=-1) - ordered
    ordered = ordered.masked_fill(before >= p, 0.0)
    # INSTEAD
    # ordered = ordered.masked_fill(ordered.cumsum(dim=-1) > p, 0.0)
    # END SOLUTION
    kept = torch.zeros_like(probabilities).scatter(-1, ids, ordered)
    return kept / kept.sum(dim=-1, keepdim=True)


check("q3", top_p)

# %% [markdown] question="q4"
# Now draw. So that a draw can be repeated, its random number comes from outside: one number for each row, at least 0
# and smaller than 1. Sum the probabilities up in the order of the tokens' numbers. The token drawn is the **first one
# whose cumulative sum is greater than the number**. A token of probability 0 can never be drawn.


# %% question="q4"
def draw(probabilities, uniform):
    """Probabilities (..., v) and numbers (...) give a tensor of whole numbers
    (...), the tokens.
    """
    # BEGIN SOLUTION
    # As many tokens lie wholly at or below the number as there are sums that are
    # not greater than it.
    return (probabilities.cumsum(dim=-1) <= uniform[..., None]).sum(dim=-1)
    # END SOLUTION


check("q4", draw)

# %% [markdown] question="q5"
# A model that has read `s` tokens and reads one more need not start again: the keys and values of the old positions do
# not change, since no position looks at later ones. A *cache* keeps them. One step gets the query, key and value of the
# new position, and the cache. The new position attends to all old ones **and to itself** (scores divided by the square
# root of `d`, as always). Give its output, and the cache with the new key and value at its end. The cache may be empty
# (`s` = 0). Any way of computing attention is allowed.


# %% question="q5"
def cache_step(query, key, value, keys, values):
    """Query and key (..., d), value (..., e), cache (..., s, d) and (..., s, e).

    They give the output (..., e), keys (..., s + 1, d), values (..., s + 1, e).
    """
    # BEGIN SOLUTION
    # First lengthen the cache; then the new position finds itself in it. No mask is
    # needed: nothing in it is later.
    keys = torch.cat([keys, key[..., None, :]], dim=-2)
    values = torch.cat([values, value[..., None, :]], dim=-2)
    scores = (keys @ query[..., None])[..., 0] / query.shape[-1] ** 0.5
    output = (scores.softmax(dim=-1)[..., None, :] @ values)[..., 0, :]
    return output, keys, values
    # END SOLUTION


check("q5", cache_step)

# %% [markdown] question="q6"
# What does it cost? A model has 24 layers, each with a cache of its own. It has 16 heads of queries, each of width 64.
# Its heads of keys and values are *grouped*: there are only 4 of them, of the same width, and each serves four heads of
# queries. Numbers take 2 bytes. How much memory does the cache of one text of 2048 tokens take, in MiB
# (1 MiB is $2^{20}$ bytes)? Powers of two make it easy by hand.

# %% question="q6"
# BEGIN SOLUTION
# Keys and values, layers, heads that have their own, width, positions, bytes. With
# 16 such heads it would be 192.
mebibytes = 2 * 24 * 4 * 64 * 2048 * 2 / 2**20
# END SOLUTION
check("q6", mebibytes)

# %% [markdown] question="q7"
# Write a text. The model is the smallest there can be, one head of attention. The vector $x$ of a token is its row of
# `embedding` (`v`, `m`). `projections` (3, `m`, `m`) holds the matrices that make its query, key and value, in this
# order, each as $x W$. The output of attention times the transposed `embedding` gives the logits of the next token.
# (There are no positions in this model.)
#
# Read the prompt (a list of tokens), token by token, into a cache that is empty at first. Then, for each number in
# `uniforms`: make the distribution with `temperature` and `k`, apply top-p with `p` to it, draw with the number, and
# note the token. Each new token is read in its turn, **once**, before the next one is drawn. The last one is drawn but
# not read: nobody asks what follows it. Give the new tokens, and the cache, so that others can go on from there. All
# that you need from above is in `given`: `next_probabilities`, `top_p`, `draw` and `cache_step`.


# %% question="q7"
def generate(prompt, uniforms, embedding, projections, temperature, k, p):
    """The list of new tokens, then the keys and values (s, m) of all that was read,
    in the order of reading.
    """
    # BEGIN SOLUTION
    keys = values = embedding[:0]
    unread, new = list(prompt), []
    for uniform in uniforms:
        # The whole prompt at first, later the one token that was drawn last.
        for token in unread:
            query, key, value = embedding[token] @ projections
            output, keys, values = given.cache_step(query, key, value, keys, values)
        probabilities = given.top_p(
            given.next_probabilities(output @ embedding.mT, temperature, k), p
        )
        unread = [int(given.draw(probabilities, uniform))]
        new += unread
    return new, keys, values
    # END SOLUTION


check("q7", generate)

# %% [markdown] question="q8"
# An experiment. Greedy writing takes the likeliest next token, every time. Is the text that comes out the likeliest
# text? Let a model be made at random: a vocabulary of 6 tokens, logits for the first token, and for each token logits
# for the one that follows it, all drawn from a standard normal distribution. A text has **4 tokens**; its probability
# is the product of theirs. There are $6^4 = 1296$ texts. Make at least 3000 such models. In which share of them is the
# greedy text the most probable one? Then try texts of 2 and of 6 tokens, and say to yourself why the share changes.

# %% question="q8"
# BEGIN SOLUTION
n = 3000
first = torch.randn(n, 6).softmax(dim=-1)
after = torch.randn(n, 6, 6).softmax(dim=-1)
texts = torch.einsum("na,nab,nbc,ncd->nabcd", first, after, after, after)
greedy, last = first.amax(dim=-1), first.argmax(dim=-1)
for _ in range(3):
    following = after[torch.arange(n), last]
    greedy, last = greedy * following.amax(dim=-1), following.argmax(dim=-1)
# Equal but for rounding: two different texts are hardly ever that close.
greedy_is_best = (
    (greedy > texts.flatten(1).amax(dim=-1) * (1 - 1e-5)).double().mean().item()
)
# END SOLUTION
check("q8", greedy_is_best)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

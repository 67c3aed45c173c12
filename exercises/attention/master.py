# %% [markdown]
# # Exercise: attention, from two numbers by hand to a window
#
# You will compute one attention weight by hand, write attention in four small steps, find a bug in a mask, and measure
# what the scaling by $\sqrt{d}$ is good for. The chapter
# [The mathematics of attention](chapter:mathematics/attention) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: `t` queries, `s` keys, width `d` of queries and keys, width `e` of values; `...`
#   stands for any dimensions before them (none, a batch, a batch of heads).

# %%
import torch

from fmcourse.exercises import start

check = start("attention")
given = check.given

# %% [markdown] question="q1"
# A query $(1, 1, 1, 1)$ meets two keys: $(1, 1, 1, 1)$ and $(1, 1, 0, 0)$. Both may be attended to. Which weight does
# the **first** key get? Compute it with pencil and paper (an exponential may need a calculator), to two digits.

# %% question="q1"
# BEGIN SOLUTION
import math

# The width is 4: the scores are 4 / 2 = 2 and 2 / 2 = 1.
weight_of_first_key = math.exp(2) / (math.exp(2) + math.exp(1))
# END SOLUTION
check("q1", weight_of_first_key)

# %% [markdown] question="q2"
# Write the scores: every query with every key, scaled. There may be any number of dimensions before the last two.


# %% question="q2"
def scores(query, key):
    """Queries (..., t, d) and keys (..., s, d) give scores (..., t, s)."""
    # BEGIN SOLUTION
    return query @ key.mT / query.shape[-1] ** 0.5
    # END SOLUTION


check("q2", scores)

# %% [markdown] question="q3"
# Write softmax over the last dimension, without torch's own softmax (nor `logsumexp`). It must also work for scores
# near 1000, and for a score of minus infinity, which gets weight 0. At least one score of each row is finite.


# %% question="q3"
def softmax(x):
    """Scores (..., s) give weights (..., s), positive, with sum 1 over the last
    dimension.
    """
    # BEGIN SOLUTION
    # Taking the same number from a whole row changes nothing: it cancels in
    # numerator and denominator.
    powers = (x - x.amax(dim=-1, keepdim=True)).exp()
    return powers / powers.sum(dim=-1, keepdim=True)
    # END SOLUTION


check("q3", softmax)

# %% [markdown] question="q4"
# Turn scores into weights when not every query may see every key. Every query may see at least one. `given.softmax`
# is there if yours is not ready.


# %% question="q4"
def masked_weights(scores, may_attend):
    """Scores (..., t, s) and a mask (t, s), True where a query may attend, give
    weights (..., t, s).
    """
    # BEGIN SOLUTION
    return given.softmax(scores.masked_fill(~may_attend, float("-inf")))
    # END SOLUTION


check("q4", masked_weights)

# %% [markdown] question="q5"
# Put it together: attention. torch's fused function is not allowed here; it would know the answer.


# %% question="q5"
def attention(query, key, value, may_attend):
    """(..., t, d), (..., s, d), (..., s, e) and a mask (t, s) give (..., t, e)."""
    # BEGIN SOLUTION
    weights = given.masked_weights(given.scores(query, key), may_attend)
    return weights @ value
    # END SOLUTION


check("q5", attention)

# %% [markdown] question="q6"
# This mask should let each position see itself and the `width - 1` positions before it, as in models that attend to a
# sliding window. A colleague says that the model trains to a suspiciously low loss and then writes nonsense. Find the
# bug and repair it.


# %% question="q6"
def window_mask(length, width):
    """A mask (length, length): True where a query (row) may attend to a key
    (column).
    """
    distance = torch.arange(length)[:, None] - torch.arange(length)
    # BEGIN SOLUTION
    # A negative distance is a key in the future: its absolute value hid it. The
    # model saw the words it had to guess.
    return (distance >= 0) & (distance < width)
    # INSTEAD
    # return distance.abs() < width
    # END SOLUTION


check("q6", window_mask)

# %% [markdown] question="q7"
# How sharply does a query look? The entropy of its weights, $-\sum_i w_i \ln w_i$, is 0 when one key gets everything
# and $\ln s$ when all $s$ keys get the same. Count $0 \ln 0$ as 0.


# %% question="q7"
def entropy(weights):
    """Weights (..., s) give entropies (...), in nats."""
    # BEGIN SOLUTION
    return -torch.xlogy(weights, weights).sum(dim=-1)
    # END SOLUTION


check("q7", entropy)

# %% [markdown] question="q8"
# An experiment. Draw queries and keys of width 64 from a standard normal distribution, 16 keys for each query. When
# the scores are **not** divided by $\sqrt{d}$, how large is the largest weight of a query on average? Use at least 1000
# queries, each with keys of its own. Then look at the same number with scaling, and say to yourself what a gradient
# would do in each case.

# %% question="q8"
# BEGIN SOLUTION
query, key = torch.randn(4000, 1, 64), torch.randn(4000, 16, 64)
sharpness = (query @ key.mT).softmax(dim=-1).amax(dim=-1).mean().item()
# END SOLUTION
check("q8", sharpness)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

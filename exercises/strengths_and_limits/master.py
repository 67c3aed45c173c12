# %% [markdown]
# # Exercise: the price of keeping everything, and maps that explain nothing
#
# You will weigh the memory of a Transformer, count its operations and find where attention becomes the larger part;
# write the other kind of memory, which never grows, and overfill it; put a price on dirty data; and repair one way of
# reading reasons off attention, and deceive another. The chapter
# [Strengths and limits](chapter:algorithm/strengths_and_limits) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: `given.operations` and `given.read_state` are right answers to questions 2
#   and 4, so that an early mistake is not paid for twice.
# - Shapes are written as in the book: `t` positions, width `d` of queries and keys (and of the model, where operations
#   are counted), width `e` of values, `n` tokens or keys.

# %%
import torch

from fmcourse.exercises import start

check = start("strengths_and_limits")
given = check.given

# %% [markdown] question="q1"
# To write one token after the other, a Transformer keeps the key and the value of every token that it has read, in
# every block: its KV cache. A model has 24 blocks. In each, 32 heads of queries share 8 heads of keys and values, all
# heads have width 128, and numbers are stored in 16 bits. How many MiB (1 MiB is $2^{20}=1{,}048{,}576$ bytes) does the
# cache of **one** text of 8,192 tokens take? Pencil and paper will do; the powers of two are kind.

# %% question="q1"
# BEGIN SOLUTION
# Keys and values, in 24 blocks, 8 heads of 128 numbers, 2 bytes each; queries are
# used once and forgotten.
bytes_per_token = 2 * 24 * 8 * 128 * 2
cache_mib = bytes_per_token * 8192 / 2**20
# END SOLUTION
check("q1", cache_mib)

# %% [markdown] question="q2"
# How many operations does it take to read a text of `n` tokens? Count a multiplication together with its addition as
# two, and count only two things:
#
# - **matrices**: every block has four $d\times d$ matrices in attention and two in the feed-forward layer, $d\times4d$
#   and $4d\times d$. Every token goes through all of them.
# - **attention**: every pair of a query and a key that it *may* see costs a score (a dot product of `d` numbers) and a
#   share of a mixture (a value of `d` numbers, times its weight, added up). The softmax itself is left aside.
#
# Attention is causal, and each block has a window: a token sees itself and the tokens before it, at most `window` of
# them, itself included. A window may be wider than the text; then it is no limit.


# %% question="q2"
def operations(n, d, windows):
    """For n tokens, width d, and a list with the window of each block: {"matrices":
    number, "attention": number}.
    """
    # BEGIN SOLUTION
    # 12 d^2 weights in a block, two operations for each of them and each token.
    matrices = len(windows) * n * 2 * (4 + 8) * d**2
    # The first tokens have fewer than a window of tokens before them.
    pairs = sum(min(i + 1, window) for window in windows for i in range(n))
    return {"matrices": matrices, "attention": pairs * (2 * d + 2 * d)}
    # END SOLUTION


check("q2", operations)

# %% [markdown] question="q3"
# "Attention is quadratic", they say, and want to know when that hurts. From which length on does attention cost **at
# least as much** as the matrices, in the sense of question 2? Find the smallest whole number of tokens between 1 and
# `limit`, and give 0 if there is none: with narrow windows it may never happen. (Attention's share of the cost never
# falls with `n`.) `given.operations(n, d, windows)` is there if yours is not ready; it is not free, so do not ask it
# thousands of times.


# %% question="q3"
def crossover(d, windows, limit):
    """Width d, the window of each block, and a limit give the smallest such number
    of tokens, or 0.
    """

    # BEGIN SOLUTION
    def half(n):
        cost = given.operations(n, d, windows)
        return cost["attention"] >= cost["matrices"]

    if not half(limit):
        return 0
    # The share never falls, so the answer lies between a length with less than half
    # and one with half or more.
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if half(middle) else (middle, high)
    return high
    # END SOLUTION


check("q3", crossover)

# %% [markdown] question="q4"
# The other kind of memory never grows. A recurrent layer keeps a table $S$ with $d$ rows and $e$ columns, which is zero
# at first. At each step $i$ it
#
# 1. multiplies the whole table by $g_i$, a number from 0 (forget everything) to 1 (keep everything), its forget gate;
# 2. adds to it the outer product of its key and its value, $k_i v_i^\top$;
# 3. reads from it with its query: $o_i=S^\top q_i$.
#
# Write it. No softmax, no scaling.


# %% question="q4"
def read_state(q, k, v, keep):
    """q and k (t, d), v (t, e), the gates (t) give what each step reads (t, e)."""
    # BEGIN SOLUTION
    state, read = torch.zeros(k.shape[1], v.shape[1], dtype=v.dtype), []
    for i in range(len(q)):
        state = keep[i] * state + torch.outer(k[i], v[i])
        read.append(q[i] @ state)
    return torch.stack(read)
    # END SOLUTION


check("q4", read_state)

# %% [markdown] question="q5"
# You trained one model several times on clean text, longer and longer, and know its loss for each number of tokens:
# `losses[i]` after `tokens[i]`. Tokens rise, losses fall. Then you trained it with `spent` tokens of a dirty text (old
# books, say, read by a bad scanner), and it ended with `loss`. With how many clean tokens would it have reached the
# same? Draw straight lines between neighbouring points, with the loss on one axis and the **logarithm** of the tokens
# on the other. A loss that is worse or better than all of the scale counts as the end of the scale. The answer is the
# worth of a dirty token: those clean tokens, divided by the tokens spent.


# %% question="q5"
def worth(tokens, losses, spent, loss):
    """Two lists of numbers of the same length (two or more), and two numbers, give
    a number.
    """
    # BEGIN SOLUTION
    import numpy as np

    # np.interp wants its x rising, and stays at the ends outside; losses fall, so
    # both lists are turned round.
    log_tokens = np.interp(loss, losses[::-1], np.log(tokens)[::-1])
    return float(np.exp(log_tokens)) / spent
    # END SOLUTION


check("q5", worth)

# %% [markdown] question="q6"
# Attention rollout follows information through all blocks. A block takes half of its output from attention and half
# from the residual connection, so its effect on the places of a text is $(W+I)/2$ for a map $W$ of weights (rows are
# queries, columns keys). Rolled out over all blocks, row $i$ should say how much of each *input* has arrived at place
# $i$. This code does it, and for a network with one block it is right. Then a student builds a network of which she
# knows the truth. In the first block, place 2 looks only at place 1; in the second, place 0 looks only at place 2; all
# other places look at themselves. So something of input 1 must have arrived at place 0, by way of place 2. The code
# says: nothing at all. Find the bug and repair it.


# %% question="q6"
def rollout(maps):
    """The maps of all blocks (blocks, t, t), first block first, give (t, t); its
    rows sum to 1.
    """
    identity = torch.eye(maps.shape[-1], dtype=maps.dtype)
    rolled = identity
    for weights in maps:
        # BEGIN SOLUTION
        # The output of a block is its own map times what the blocks before it gave:
        # the newest stands on the left.
        rolled = (weights + identity) / 2 @ rolled
        # INSTEAD
        # rolled = rolled @ (weights + identity) / 2
        # END SOLUTION
    return rolled


check("q6", rollout)

# %% [markdown] question="q7"
# A query has weights $w$ (positive, with sum 1) over $n$ keys, and its output is $\sum_jw_jv_j$. A colleague shows the
# weights as a heat map and tells what the model "looked at". Show that another map would have done. Somebody gives you
# a **wish** $z$, a number for each key: positive where there should be more weight, negative where less.
#
# - Let $u$ be the part of the wish that changes nothing: what is left of $z$ when its orthogonal projection on the span
#   of the columns of `values` and a column of ones is taken off, so that $\sum_ju_j=0$ and $\sum_ju_jv_j=0$.
# - Move along it as far as possible: $w+\tau u$, with the largest $\tau$ at which no weight is negative.
#
# An example: weights $(\frac14,\frac12,\frac14)$ over the values $0,1,3$ give $1.25$. With the wish $(0,-1,0)$ they
# become $(\frac7{12},0,\frac5{12})$, which look at the second key no more, and give $1.25$. There are always more keys
# than conditions, $n>d+1$, the columns are independent, and numbers are in double precision.


# %% question="q7"
def other_weights(weights, values, wish):
    """Weights (n), values (n, d) and a wish (n) give other weights (n)."""
    # BEGIN SOLUTION
    fixed = torch.cat([values, torch.ones_like(wish)[:, None]], dim=1)
    # The best approximation of the wish by these columns; what it leaves over is
    # orthogonal to all of them.
    u = wish - fixed @ torch.linalg.lstsq(fixed, wish[:, None]).solution[:, 0]
    # A falling weight reaches 0 after w / -u; the first one to do so ends the walk.
    falling = u < 0
    return weights + (weights[falling] / -u[falling]).min() * u
    # END SOLUTION


check("q7", other_weights)

# %% [markdown] question="q8"
# An experiment: the waiter of the chapter, with the memory of question 4 for a head. Each of 64 guests has a key of his
# own, 32 numbers drawn from a standard normal distribution and divided by their length, so that the key has length 1.
# Each orders one of 8 dishes, at random; the value is a row of 8 numbers, 1 for this dish and 0 for the others. The
# state is the sum of all outer products of keys and values; nothing is forgotten. Then each guest is asked about once:
# his key reads the state, and the largest of the 8 numbers is the answer. Which share of the answers is right? Take at
# least 200 evenings with new keys and dishes.
#
# Before you measure, count: 64 guests with 8 dishes are $64\cdot3=192$ bits, and the state has $32\cdot8=256$ numbers
# of 32 bits each. Is there room? Afterwards try 16 guests, and 128, and say to yourself what attention would answer.

# %% question="q8"
# BEGIN SOLUTION
keys = torch.randn(500, 64, 32)
keys = keys / keys.norm(dim=-1, keepdim=True)
dishes = torch.randint(8, (500, 64))
state = keys.mT @ torch.nn.functional.one_hot(dishes, 8).float()
# There is room enough, but not for this way of writing: 64 directions among 32
# dimensions disturb one another.
right_answers = ((keys @ state).argmax(dim=-1) == dishes).float().mean().item()
# END SOLUTION
check("q8", right_answers)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

# %% [markdown]
# # Exercise: positions, from a score by hand to distances beyond training
#
# You will compute a rotary score by hand, turn the hands of the sinusoidal clock without knowing the time, write rotary
# positions and ALiBi, convert weights from one layout to another, find a bug in a cache, measure what a rotation takes
# away, and design a way to read further than training went. The chapter
# [Where is a word? Positions](chapter:mathematics/positions) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: `given.rotate` is a right answer to question 3, for use in the questions
#   after it, so that an early mistake is not paid for twice.
# - Shapes are written as in the book: `t` queries, `s` keys, `h` heads, width `d` of a head (always even); `...` stands
#   for any dimensions before them (none, a batch, a batch of heads).
# - There are $d/2$ pairs, $i=0,\dots,\tfrac d2-1$. **In this exercise a pair is two neighbours**, entries $2i$ and
#   $2i+1$, and per position pair $i$ turns by the angle $\theta_i=10{,}000^{-2i/d}$ (in radians).

# %%
import torch

from fmcourse.exercises import start

check = start("positions")
given = check.given

# %% [markdown] question="q1"
# Vectors have two entries, and every position turns them by 30° anticlockwise. The query $(2,0)$ stands at position
# 1009, the key $(0,1)$ at position 1007. What is the dot product of the turned query with the turned key (not divided
# by anything), to two digits after the point? Pencil and paper are enough; the large numbers are there to be outwitted.

# %% question="q1"
# BEGIN SOLUTION
# Only the difference of the positions counts: put the key at 0 and the query at 2.
# The query points to 60°, the key to 90°, so the angle between them is 30°. The
# lengths are 2 and 1.
score = 2 * 1 * 3**0.5 / 2
# END SOLUTION
check("q1", score)

# %% [markdown] question="q2"
# Somebody hands you rows of a sinusoidal table, $\sin(\theta_ip)$ in column $2i$ and $\cos(\theta_ip)$ in column
# $2i+1$, but has forgotten to say which positions $p$ they belong to. Give the rows that stand $k$ positions later
# (earlier, if $k$ is negative). You do not need to find out the positions: one and the same turn is right for all.
# The package's own table is not allowed in the answer, but you may try yours on it:
# `from fmcourse.positions import sinusoidal` in a cell of its own, then `shift(sinusoidal(50, 8)[:40], 10)`.


# %% question="q2"
def shift(codes, k):
    """Rows (t, d) of a sinusoidal table and a whole number k give the rows (t, d)
    that stand k positions later.
    """
    # BEGIN SOLUTION
    angle = k * 10_000 ** (-torch.arange(0, codes.shape[-1], 2) / codes.shape[-1])
    sine, cosine = codes[:, 0::2], codes[:, 1::2]
    # The addition formulas: sin(a + w) and cos(a + w). The position itself does not
    # occur in them.
    later_sine = sine * angle.cos() + cosine * angle.sin()
    later_cosine = cosine * angle.cos() - sine * angle.sin()
    return torch.stack([later_sine, later_cosine], dim=-1).flatten(-2)
    # END SOLUTION


check("q2", shift)

# %% [markdown] question="q3"
# Now turn the word itself. Write rotary positions: a vector at position $p$ has its pair $i$ turned anticlockwise by
# $\theta_ip$, so that $(1,0)$ moves towards $(0,1)$. The positions may be any numbers, in any order, and fractions too.
# The package's `Rotary` and `rotate_pairs` are not allowed.


# %% question="q3"
def rotate(x, positions):
    """Vectors (..., t, d) and their positions (t) give the turned vectors
    (..., t, d).
    """
    # BEGIN SOLUTION
    theta = 10_000 ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
    angle = positions[:, None] * theta
    first, second = x[..., 0::2], x[..., 1::2]
    # Stacking in a new last dimension and flattening it puts the two entries of a
    # pair side by side again.
    turned = (
        first * angle.cos() - second * angle.sin(),
        first * angle.sin() + second * angle.cos(),
    )
    return torch.stack(turned, dim=-1).flatten(-2)
    # END SOLUTION


check("q3", rotate)

# %% [markdown] question="q4"
# Another program pairs halves: entry $i$ with entry $i+\tfrac d2$. You want to use its weights with your neighbours.
# Its query (or key) matrix has one row for each entry of each head, head after head: rows 0 to $d-1$ belong to the
# first head, rows $d$ to $2d-1$ to the second, and so on. Put the rows in another order, so that in every head the two
# rows of pair $i$ come to the places $2i$ and $2i+1$, the one from the first half before the other.


# %% question="q4"
def to_neighbours(weight, n_heads):
    """A matrix (n_heads * d, m) for pairs of halves gives the matrix
    (n_heads * d, m) for pairs of neighbours.
    """
    # BEGIN SOLUTION
    d = len(weight) // n_heads
    # In one head: row 0, row d/2, row 1, row d/2 + 1, ... All other heads are the
    # same, d rows further down.
    order = torch.arange(d).reshape(2, d // 2).T.flatten()
    rows = torch.cat([head * d + order for head in range(n_heads)])
    return weight[rows]
    # END SOLUTION


check("q4", to_neighbours)

# %% [markdown] question="q5"
# A colleague's chat model answers well when it reads the whole text again for every new token. To make it faster she
# keeps the keys of the tokens already read in a cache. They are stored turned, as they were when their tokens came, at
# positions 0 to $s-1$. Now every answer begins with the right token, and soon loses the thread. Here is how she
# computes the scores of $t$ new tokens, which follow directly after the $s$ tokens in the cache ($s$ may be 0, and a
# mask comes later). Find the bug and repair it. `given.rotate` is right.


# %% question="q5"
def cached_scores(query, key, cached):
    """New queries and keys (..., t, d), not yet turned, and turned keys
    (..., s, d): scores (..., t, s + t).
    """
    # BEGIN SOLUTION
    # The new tokens do not stand at the beginning of the text. With an empty cache
    # they do: so the first answer was right, and each later token looked at the
    # text as if it stood at its very first word.
    positions = cached.shape[-2] + torch.arange(query.shape[-2])
    # INSTEAD
    # positions = torch.arange(query.shape[-2])
    # END SOLUTION
    query, key = given.rotate(query, positions), given.rotate(key, positions)
    keys = torch.cat([cached, key], dim=-2)
    return query @ keys.mT / query.shape[-1] ** 0.5


check("q5", cached_scores)

# %% [markdown] question="q6"
# ALiBi adds to the score of a query at position $m$ with a key at position $n$ the bias $-\lambda_j\lvert m-n\rvert$ in
# head $j$. For $h$ heads, $h$ a power of two, the slopes are $\lambda_j=2^{-8j/h}$, where $j$ counts **from 1** to $h$.
# Write the biases for given positions of queries and keys: with a cache, the queries do not begin at zero. A key may
# stand after the query. The package's `alibi_bias` and `alibi_slopes` are not allowed.


# %% question="q6"
def alibi(query_positions, key_positions, n_heads):
    """Positions of queries (t) and of keys (s), whole numbers, give the biases
    (h, t, s).
    """
    # BEGIN SOLUTION
    distance = (query_positions[:, None] - key_positions).abs()
    slopes = torch.tensor([2 ** (-8 * j / n_heads) for j in range(1, n_heads + 1)])
    return -slopes[:, None, None] * distance
    # END SOLUTION


check("q6", alibi)

# %% [markdown] question="q7"
# An experiment. Query and key are *the same* vector of width 64, drawn from a standard normal distribution: a word that
# meets itself again, 100 positions further on. At distance 0 its score with itself is the square of its length. What
# part of that is left at distance 100, on average, when both are turned (question 3)? Take at least 1000 vectors. Then
# measure other distances, and the scores of two vectors drawn independently of each other: do *they* fade with
# distance?

# %% question="q7"
# BEGIN SOLUTION
x = torch.randn(4000, 64)
here, there = torch.zeros(4000), torch.full((4000,), 100)
met = (given.rotate(x, here) * given.rotate(x, there)).sum(dim=-1)
# Two independent vectors have mean score 0 and the same spread, 8, at every
# distance: nothing fades for them.
share_left = (met / x.square().sum(dim=-1)).mean().item()
# END SOLUTION
check("q7", share_left)

# %% [markdown] question="q8"
# Design a repair. A rotary model was trained on short texts, and no key was ever more than `furthest` positions behind
# its query. In a long text, distances occur that it has never met. A window would hide those keys; interpolation would
# squeeze all distances, the near ones too. You want a third way: near keys keep their exact distance, and every key
# that is more than `furthest` behind is treated **as if it were exactly `furthest` behind**. So everything stays in
# sight, and nothing looks new.
#
# Write the scores, divided by $\sqrt d$, for queries and keys (not yet turned) at positions $0,\dots,t-1$. A key
# *after* its query keeps its usual rotary score; a mask may hide it later. `furthest` is at least 1, and may be larger
# than the text is long. Mind that no single turn of each vector does it: the position that a key would need depends on
# who asks.


# %% question="q8"
def clipped_scores(query, key, furthest):
    """Queries and keys (..., t, d) and a whole number give scores (..., t, t)."""
    # BEGIN SOLUTION
    places = torch.arange(query.shape[-2])
    near = given.rotate(query, places) @ given.rotate(key, places).mT
    # The score depends on the distance alone: with all keys at 0 and all queries at
    # `furthest`, every pair of them is exactly that far apart.
    far = given.rotate(query, torch.full_like(places, furthest)) @ key.mT
    distance = places[:, None] - places
    return torch.where(distance > furthest, far, near) / query.shape[-1] ** 0.5
    # END SOLUTION


check("q8", clipped_scores)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

# %% [markdown]
# # Exercise: many heads and masks, from one cut to a whole layer
#
# You will count what a layer costs by hand, cut vectors into heads, show that heads add up, build the mask of a
# decoder, find out whose keys a head was given, and put all of it into one layer as large models have it. At the end
# you will see how narrow a head can be. The chapter
# [Many heads, and masks](chapter:mathematics/multi_head_and_masks) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: `b` sentences, `t` queries, `s` keys, `h` heads of width `d`, `k` heads of keys
#   and values, `m` the width of the model. A matrix multiplies from the right, `x @ w`, as in the formulas.
# - In every mask and in `real`, True means yes: "may attend", "is text".

# %%
import torch
import torch.nn.functional as F
from einops import rearrange, repeat

from fmcourse.exercises import start

check = start("multi_head_and_masks")
given = check.given

# %% [markdown] question="q1"
# A layer of self-attention has $d_\text{model}=64$ and 16 heads, which share that width. It has no biases. It reads a
# text of 10 tokens, without any mask. Give a list of four whole numbers, with pencil and paper:
#
# 1. How many parameters has the layer?
# 2. How many attention weights does it compute for this text, over all heads?
# 3. What is the largest rank that one head's $10\times10$ table of scores can have?
# 4. Now the 16 query heads share 4 heads of keys and 4 of values, each as wide as a query head. How many parameters
#    has the layer then?

# %% question="q1"
# BEGIN SOLUTION
# Queries, keys, values, output: four matrices of 64 x 64. Each head has a table of
# 10 x 10 and a width of 64 / 16 = 4. Shared: the matrices of keys and of values
# make only 4 heads of width 4.
four_numbers = [4 * 64 * 64, 16 * 10 * 10, 4, 2 * 64 * 64 + 2 * 64 * 16]
# END SOLUTION
check("q1", four_numbers)

# %% [markdown] question="q2"
# Cut vectors of width $m=h\cdot d$ into $h$ heads. Head 0 gets the first $d$ numbers of every token, head 1 the next
# $d$, and so on. The heads then stand beside the batch, so that a matrix product treats them as more batch.


# %% question="q2"
def split_heads(x, n_heads):
    """Vectors (b, t, m) give heads (b, h, t, d)."""
    # BEGIN SOLUTION
    # The pattern names every axis; a plain reshape to the same shape would cut
    # across tokens.
    return rearrange(x, "b t (h d) -> b h t d", h=n_heads)
    # END SOLUTION


check("q2", split_heads)

# %% [markdown] question="q3"
# Usually the heads' answers are put side by side, (b, t, h·d), and multiplied by a matrix `w_out` of shape (h·d, m).
# Do it another way: give for each head by itself what it adds, so that the **sum** over heads is that product. Then one
# can ask what a single head does, or take it out.


# %% question="q3"
def head_terms(mixed, w_out):
    """What the heads found (b, h, t, d), and w_out (h·d, m), give what each head
    adds (b, h, t, m).
    """
    # BEGIN SOLUTION
    # Side by side times one under the other is a sum of products: head i meets only
    # its own d rows of w_out.
    return mixed @ rearrange(w_out, "(h d) m -> h d m", h=mixed.shape[1])
    # END SOLUTION


check("q3", head_terms)

# %% [markdown] question="q4"
# Write the mask of a decoder for sentences of different length. `real` (b, s) is True where a token is text and False
# where it is padding; padding may stand on the right, on the left, or between. The rule: **a position sees the text
# that stands before it, and itself.** It holds for positions that are padding, too: what they find is thrown away, but
# no row may be empty. A sentence may consist of padding only. The axis of size 1 is for the heads, which all get the
# same mask.


# %% question="q4"
def decoder_mask(real):
    """`real` (b, s) gives a mask (b, 1, s, s): True where a query (row) may attend
    to a key (column).
    """
    # BEGIN SOLUTION
    s = real.shape[1]
    # `real` speaks of keys, so it goes to the last axis. The diagonal is added
    # last: nobody is left with nothing.
    past = torch.ones(s, s, dtype=torch.bool).tril()
    return past & real[:, None, None, :] | torch.eye(s, dtype=torch.bool)
    # END SOLUTION


check("q4", decoder_mask)

# %% [markdown] question="q5"
# With grouped queries, $h$ query heads share $k<h$ heads of keys: the first $h/k$ query heads use key head 0, the next
# $h/k$ use key head 1, and so on. This function hands the key heads out, so that afterwards there is one for each query
# head. A colleague loads the weights of a published model into code that uses it. Everything runs. A model with one key
# head for all, and one with a key head for each, give the published numbers; all the others write nonsense. Find the
# bug and repair it.


# %% question="q5"
def share_heads(key, n_heads):
    """Key heads (b, k, s, d) give one for each of h = n_heads query heads
    (b, h, s, d); k divides h.
    """
    # BEGIN SOLUTION
    # `repeat` of torch sets the whole row of heads down again: 0 1 0 1. Neighbours
    # need 0 0 1 1.
    return key.repeat_interleave(n_heads // key.shape[1], dim=1)
    # INSTEAD
    # return key.repeat(1, n_heads // key.shape[1], 1, 1)
    # END SOLUTION


check("q5", share_heads)

# %% [markdown] question="q6"
# Now a whole layer, as a decoder of today has it: self-attention with `n_heads` query heads and fewer (or as many)
# heads of keys and values, under the mask of question 4, scaled as usual, without biases. The matrices are `w_query`
# (m, h·d), `w_key` and `w_value` (m, k·d), and `w_out` (h·d, m); how wide a head is, and how many heads of keys there
# are, follows from their shapes. Query heads share keys and values as in question 5. `given` has `split_heads`,
# `head_terms`, `decoder_mask` and `share_heads`. `F.scaled_dot_product_attention` may be used, ready-made layers of
# multi-head attention may not.


# %% question="q6"
def grouped_attention(x, real, w_query, w_key, w_value, w_out, n_heads):
    """Vectors x (b, t, m), of which `real` (b, t) are text, give (b, t, m)."""
    # BEGIN SOLUTION
    width = w_query.shape[1] // n_heads
    query = given.split_heads(x @ w_query, n_heads)
    # A key head is as wide as a query head, so the number of key heads follows from
    # their matrix.
    key, value = (
        given.share_heads(given.split_heads(x @ w, w.shape[1] // width), n_heads)
        for w in (w_key, w_value)
    )
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=given.decoder_mask(real)
    )
    return rearrange(mixed, "b h t d -> b t (h d)") @ w_out
    # END SOLUTION


check("q6", grouped_attention)

# %% [markdown] question="q7"
# A head of width $d$ makes scores $QK^\top/\sqrt d$, where $Q$ and $K$ have $d$ columns and otherwise may hold any
# numbers, and the softmax of each row makes weights. Turn the question around: given a table of weights, all of them
# positive and every row with sum 1, **how wide must a head be that gives exactly these weights?** Return the smallest
# $d$ as a whole number. (The table is in double precision; leave it so. Count singular values below $10^{-9}$ times
# the largest as zero.)


# %% question="q7"
def width_needed(weights):
    """Weights (n, n) give the smallest width of a head that can have them."""
    # BEGIN SOLUTION
    # Scores are the logarithms, up to one number for each row, which softmax does
    # not see. With a row mean of 0 the rank is the smallest: taking the mean away
    # is a projection, and that never raises a rank.
    logarithms = weights.log()
    return int(
        torch.linalg.matrix_rank(
            logarithms - logarithms.mean(dim=-1, keepdim=True), rtol=1e-9
        )
    )
    # END SOLUTION


check("q7", width_needed)

# %% [markdown] question="q8"
# An experiment. Each query has a winner: the key with the largest score. Draw 64 keys of width **2** from a standard
# normal distribution, and very many queries of the same kind. How many of the 64 keys win for at least one query? Give
# the mean over at least 500 sets of keys, with at least 1000 queries for each set. Then look at widths 1, 4 and 16, and
# say to yourself where on the plane the keys lie that no query of width 2 can ever prefer.

# %% question="q8"
# BEGIN SOLUTION
key, query = torch.randn(500, 64, 2), torch.randn(500, 1000, 2)
winner = (query @ key.mT).argmax(dim=-1)  # sets, queries
# The winners are the corners of the polygon around all keys; whatever lies inside
# loses to a corner in any direction.
winners = sum(len(one_set.unique()) for one_set in winner) / len(winner)
# END SOLUTION
check("q8", winners)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

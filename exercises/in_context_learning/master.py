# %% [markdown]
# # Exercise: in-context learning, from a vote by hand to a longer memory
#
# You will work out with a pencil what an induction head says, write it for any text, find out why all heads seem
# equally important when somebody switches them off, score heads, weigh examples against what the weights believe, and
# build a head with a longer memory. At the end you measure how far looking up is from learning. The chapter [In-context
# learning](chapter:practice/in_context_learning) has what you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: `t` places in a text, `h` heads, `v` tokens in the vocabulary; `...` stands for
#   any dimensions before them, also none. A token is its number, from 0 to `v` - 1. Places are counted from 0.

# %%
import math

import torch

from fmcourse.exercises import start

check = start("in_context_learning")
given = check.given

# %% [markdown] question="q1"
# A model has read these eleven tokens:
#
# > dax red wug blue dax red wug red dax blue dax
#
# It stands on the last one. Its induction head gives a score of $\ln 10$ to every place that comes **just after a
# *dax***, and 0 to every other place; it sees all eleven. Softmax makes weights of the scores, and the head hands over
# what stands at these places. How much weight does *red* get **in all**? A pencil is enough, since $e^{\ln 10}=10$.
# Give a fraction, or two digits.

# %% question="q1"
# BEGIN SOLUTION
# Three matches of weight 10 (red, red, blue) and eight other places of weight 1.
# One of these eight is a red, too: it follows a wug.
says_red = (10 + 10 + 1) / (3 * 10 + 8)
# END SOLUTION
check("q1", says_red)

# %% [markdown] question="q2"
# Write this head for every place of any text. At place $t$ it sees the places $s\le t$. The score of place $s$ is
# `beta` if the token **before** it, at $s-1$, is equal to the token at $t$, and 0 otherwise. (Place 0 has nothing
# before it: its score is 0. Place $t$ itself may match, when a token stands twice in a row.) Softmax turns the scores
# into weights, and the head gives each token of the vocabulary the sum of the weights of the places where it stands.
#
# You may build it as in the chapter, from what each token *is* and what it stands *after*.


# %% question="q2"
def vote(tokens, v, beta):
    """Texts (..., t), the size of the vocabulary and a number give shares
    (..., t, v).
    """
    # BEGIN SOLUTION
    is_ = torch.nn.functional.one_hot(tokens.long(), v).double()
    # The note that a previous-token head writes. Rolling instead of shifting would
    # put the first token after the last.
    after = torch.zeros_like(is_)
    after[..., 1:, :] = is_[..., :-1, :]
    scores = beta * is_ @ after.mT
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -math.inf).softmax(dim=-1) @ is_
    # END SOLUTION


check("q2", vote)

# %% [markdown] question="q3"
# Which heads does a model need? Switch some off and look what is lost. The heads of a layer hand over their outputs
# **side by side**: of the last dimension, `m` wide, head 0 has the first `m / n_heads` columns, head 1 the next ones,
# and so on. What a silent head hands over is zeros; the others are untouched.
#
# "I switched them off one by one", reports a colleague, "and each of them costs the same, a little. Even the
# previous-token head is like all others. So the ability does not sit in certain heads, it is everywhere." Find the bug
# and repair it.


# %% question="q3"
def silence(mixed, n_heads, off):
    """Outputs (..., t, m), the number of heads, and a list of heads to switch off
    give (..., t, m).
    """
    # BEGIN SOLUTION
    # With the width before the heads, "head 0" was every n_heads-th column: a piece
    # of each head, and so all of them seemed equally important.
    by_head = mixed.reshape(*mixed.shape[:-1], n_heads, -1).clone()
    by_head[..., off, :] = 0
    # INSTEAD
    # by_head = mixed.reshape(*mixed.shape[:-1], -1, n_heads).clone()
    # by_head[..., off] = 0
    # END SOLUTION
    return by_head.reshape(mixed.shape)


check("q3", silence)

# %% [markdown] question="q4"
# Which heads might be induction heads? Given are the attention maps of some heads on one text: `maps[h, t, s]` is the
# weight that head `h` gives to place `s` when it stands at place `t`. They are causal: 0 where $s>t$.
#
# The followers of place $t$ are the places $s$ with $1\le s\le t$ whose token before, at $s-1$, is equal to the token
# at $t$. At each place, sum the head's attention to all followers. The score of a head is the mean of this sum over
# those places that **have** a follower. At least one does.


# %% question="q4"
def induction_score(maps, tokens):
    """Maps (h, t, t) and one text (t) give a score for each head (h)."""
    # BEGIN SOLUTION
    same = tokens[:, None] == tokens
    follows = torch.zeros_like(same)
    # Place s follows place s - 1: the table of equal tokens, moved by one column.
    follows[:, 1:] = same[:, :-1]
    # Without this, places would count whose copies only come later.
    follows = follows.tril()
    sums = (maps * follows).sum(dim=-1)
    return sums[:, follows.any(dim=-1)].mean(dim=-1)
    # END SOLUTION


check("q4", induction_score)

# %% [markdown] question="q5"
# The shares of a vote are not yet probabilities. A word has one true colour among `c`. The weights of a model have a
# belief about it before any example, `prior`. Each example tells the true colour with probability `trust`; otherwise it
# tells one of the other `c` - 1 colours, all equally likely. Examples lie independently of each other. `counts` says
# how often each colour was told. How probable is each colour now?
#
# `trust` is greater than 0 and smaller than 1. A colour whose prior is 0 keeps probability 0. It must also work for a
# thousand examples: a product of a thousand small numbers is 0 in a computer.


# %% question="q5"
def posterior(counts, trust, prior):
    """Whole numbers (..., c), a number, and probabilities (c) give probabilities
    (..., c).
    """
    # BEGIN SOLUTION
    lie = (1 - trust) / (counts.shape[-1] - 1)
    # One example speaks for its colour by the factor trust / lie. What all colours
    # share, lie to the power of all examples, cancels in softmax.
    return (prior.log() + counts.double() * math.log(trust / lie)).softmax(dim=-1)
    # END SOLUTION


check("q5", posterior)

# %% [markdown] question="q6"
# A head that compares one token confuses contexts: after *the* it votes among everything that ever followed a *the*.
# Design one with a longer memory. Stand at place $t$ and look at a place $s\le t$. Compare the token at $t$ with the
# one at $s-1$, then the one at $t-1$ with that at $s-2$, and so on backwards. Count how many agree **before the first
# pair that does not**; stop at `k`, and when the text begins. The score of $s$ is `beta` times this count; the rest is
# as in question 2. With `k` = 1 it is the same head.
#
# For example, in the text `0 1 2 3 1 4 0 1` with `k` = 2, the last place gives the token 2 a score of 2 `beta` (both 1
# and 0 agree) and the token 4 a score of `beta`.


# %% question="q6"
def long_vote(tokens, v, beta, k):
    """One text (t), the size of the vocabulary, a number and a whole number give
    shares (t, v).
    """
    # BEGIN SOLUTION
    length = len(tokens)
    counts = torch.zeros(length, length, dtype=torch.float64)
    for t in range(length):
        for s in range(1, t + 1):
            # s <= t, so the earlier of the two texts ends first: after s steps.
            for i in range(min(k, s)):
                if tokens[t - i] != tokens[s - 1 - i]:
                    break
                counts[t, s] += 1
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = (beta * counts).masked_fill(later, -math.inf).softmax(dim=-1)
    return weights @ torch.nn.functional.one_hot(tokens.long(), v).double()
    # END SOLUTION


check("q6", long_vote)

# %% [markdown] question="q7"
# An experiment. In the chapter a model solves look-ups, but does not learn from examples to tell reviews apart. What
# can a head do that looks up the *most similar* example? Let a review be a vector of 64 numbers, all standard normal;
# its label, $+1$ or $-1$, is in one direction only: **1.5 times the label is added to the first number**. A prompt has
# 16 examples, 8 of each label, and then a question, made in the same way, with a label drawn at random.
#
# The head takes the example whose **dot product** with the question is **largest**, and answers with its label. In what
# share of the questions is it right? Use at least 20000, each with a prompt of its own. Then let all examples vote: add
# up label times dot product, and answer with the sign. Say to yourself what the sum has learned that the look-up has
# not.

# %% question="q7"
# BEGIN SOLUTION
label = torch.tensor([1.0, -1.0]).repeat(8)
wanted = torch.randint(0, 2, (20000,)) * 2.0 - 1
examples, question = torch.randn(20000, 16, 64), torch.randn(20000, 64)
examples[:, :, 0] += 1.5 * label
question[:, 0] += 1.5 * wanted
# 63 of the 64 numbers are noise, and the largest of 16 dot products is often large
# by noise. A sum over all examples averages much of it away.
similar = torch.einsum("nsd,nd->ns", examples, question)
voted = ((similar @ label).sign() == wanted).double().mean().item()
looked_up = (label[similar.argmax(dim=-1)] == wanted).double().mean().item()
# END SOLUTION
check("q7", looked_up)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

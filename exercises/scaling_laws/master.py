# %% [markdown]
# # Exercise: scaling laws, from a pencil to a bet and its error
#
# You will find out what the last tenths of a loss cost, count the operations of a training run, learn why somebody's
# largest model always wins, spend a budget when text is scarce, fit a law without an optimiser, and choose a model for
# its whole life. At the end you measure how often an interval "of 90 per cent" is right. The chapter [Scaling
# laws](chapter:practice/scaling_laws) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - As in the book, $N$ is the size of a model (its number of parameters), $D$ the number of tokens that it reads in
#   training, $C=6ND$ the compute that this takes, and $L(N,D)=E+\frac{A}{N^{\alpha}}+\frac{B}{D^{\beta}}$ the law. In
#   code a law is a dict with the keys `"E"`, `"A"`, `"B"`, `"alpha"` and `"beta"`.

# %%
import math

import numpy as np
import torch

from fmcourse.exercises import start

check = start("scaling_laws")
given = check.given

# %% [markdown] question="q1"
# No model can predict a certain text with a loss below 1.4 nats: so much of it is chance. With one unit of compute your
# best model reaches a loss of 3.0, with four units 2.2. What lies **above 1.4** falls as a power of the compute. How
# many units does a loss of 1.6 take? A pencil is enough.

# %% question="q1"
# BEGIN SOLUTION
# Above the floor 1.6 became 0.8: four times the compute halves it. From 1.6 to 0.2
# there are three halvings.
units = 4.0**3
# END SOLUTION
check("q1", units)

# %% [markdown] question="q2"
# What does training cost **for one token**? $6N$ is the rule of thumb; now count exactly, for a model as they are built
# today. A multiplication is one operation, an addition another, so that a weight of a matrix costs two on the way
# forward. The way back costs twice the way forward. Each of the `blocks` blocks has
#
# - for queries and for the output of attention one matrix each, `width` by `width`; for keys and for values one each,
#   `width` by `kv_width`. (Several heads of queries share a narrow head of keys and values.)
# - attention itself. Its heads of queries are `width` wide together. A position is compared with `context` keys (all of
#   them, whatever the mask says), head by head, and then averages as many values.
# - a gated feed-forward layer: **three** matrices of `width` times `hidden` weights.
#
# After the blocks there is one matrix `width` by `vocabulary` that makes the logits. The table of embeddings at the
# input is looked up and not multiplied: it costs nothing. Neglect norms, biases, softmax, activations and the
# optimiser.


# %% question="q2"
def operations(blocks, width, context, vocabulary, hidden, kv_width):
    """Six whole numbers give the operations for one token in training."""
    # BEGIN SOLUTION
    weights = 2 * width**2 + 2 * width * kv_width + 3 * width * hidden
    # Scores: `context` dot products of `width` numbers in all heads together; the
    # average costs as much again. Sharing keys saves none of this.
    attention = 2 * 2 * context * width
    forward = blocks * (2 * weights + attention) + 2 * width * vocabulary
    return 3 * forward
    # END SOLUTION


check("q2", operations)

# %% [markdown] question="q3"
# Which size is best for a budget of compute? A colleague reads it off his runs. `curves` is a dict: for each size a
# list of runs (tokens, loss), with more and more tokens. For a budget $C$, each size would read $D=C/6N$ tokens, and
# its loss is read off between its runs, along a straight line over $\ln D$. The result is a dict from sizes to losses.
#
# "It's odd", he says. "At small budgets the largest model wins. At large budgets the largest model wins. The budget
# does not matter at all! Let us always train the largest." Find the bug and repair it. A size that has not been
# measured at this budget must be left out: its `wanted` tokens must lie between those of its first and of its last run,
# both included. If no size is left, the dict is empty.


# %% question="q3"
def iso_flop(curves, budget):
    """A dict {size: [(tokens, loss), ...]} and a number give a dict
    {size: loss}.
    """
    found = {}
    for size, runs in curves.items():
        tokens, losses = zip(*runs, strict=True)
        wanted = budget / (6 * size)
        loss = float(np.interp(math.log(wanted), np.log(tokens), losses))
        # BEGIN SOLUTION
        # Beyond its points np.interp repeats the last one. Large models were judged
        # by runs that had cost more than the budget, small ones by runs that had
        # cost less.
        if tokens[0] <= wanted <= tokens[-1]:
            found[size] = loss
        # INSTEAD
        # found[size] = loss
        # END SOLUTION
    return found


check("q3", iso_flop)

# %% [markdown] question="q4"
# Now with a law. Give the size $N$ and the tokens $D$ with the lowest loss among all that spend the budget, $6ND=C$.
# But there are only `text` tokens in the world, and none is read twice: $D$ may not be larger. (`text` can be
# `math.inf`.) $N$ and $D$ need not be whole numbers. The functions of the package's explorer are not allowed.


# %% question="q4"
def best_split(law, budget, text):
    """A dict and two numbers give size and tokens, two numbers."""
    # BEGIN SOLUTION
    alpha, beta = law["alpha"], law["beta"]
    # Without a limit: alpha A / N^alpha = beta B / D^beta, with N = C / 6D.
    ratio = alpha * law["A"] / (beta * law["B"])
    tokens = ((budget / 6) ** alpha / ratio) ** (1 / (alpha + beta))
    # The loss has one valley. Short of its bottom more text is always better. What
    # compute is left without text goes into size.
    tokens = min(tokens, text)
    return budget / 6 / tokens, tokens
    # END SOLUTION


check("q4", best_split)

# %% [markdown] question="q5"
# Fit the law to runs. The chapter needed an optimiser, and many starts. There is another way: if $\alpha$ and $\beta$
# were known, the law would be **linear** in what remains, $E$, $A$ and $B$, and the best three would come from one
# linear least-squares problem, exactly. So go through all pairs of exponents, both from the list `exponents` (they need
# not be equal), solve for the other three, and keep the pair whose **sum of squared errors of the loss** is smallest.
# Ties do not occur. The tensors are float64; stay with that.


# %% question="q5"
def fit(sizes, tokens, losses, exponents):
    """Three tensors (k) and a list of numbers give a law, a dict with the keys "E",
    "A", "B", "alpha" and "beta".
    """
    # BEGIN SOLUTION
    best, smallest = None, math.inf
    for alpha in exponents:
        for beta in exponents:
            columns = [torch.ones_like(sizes), sizes**-alpha, tokens**-beta]
            table = torch.stack(columns, dim=1)
            found = torch.linalg.lstsq(table, losses[:, None]).solution
            # The solver's own residuals are not given in every case; ours are.
            error = (table @ found - losses[:, None]).square().sum().item()
            if error < smallest:
                e, a, b = found[:, 0].tolist()
                best = {"E": e, "A": a, "B": b, "alpha": alpha, "beta": beta}
                smallest = error
    return best
    # END SOLUTION


check("q5", fit)

# %% [markdown] question="q6"
# A model that is used costs $2N$ for each of the `served` tokens that it reads and writes after training; its life
# costs $6ND+2N\cdot\text{served}$. You want a model **exactly as good** as the best one that `budget` could train
# (without a limit of text). A smaller one that reads more can be as good, and is cheaper to use. How cheap can a life
# be? Give the smallest cost, right to a thousandth; search in any way you like. `given.best_split(law, budget, text)`
# and `given.loss_of(law, size, tokens)` are there; the functions of the package's explorer are not allowed.
#
# Careful: call functions of `given` a few times, not thousands of times. In the grader each call takes a moment.


# %% question="q6"
def cheapest_life(law, budget, served):
    """A dict and two numbers give a number, the operations of the cheapest life."""
    # BEGIN SOLUTION
    largest, tokens = given.best_split(law, budget, math.inf)
    lacking = given.loss_of(law, largest, tokens) - law["E"]
    # A model of this size would need endless text; a larger one than the best for
    # training would be dearer in training and in use.
    smallest = (law["A"] / lacking) ** (1 / law["alpha"])
    sizes = np.geomspace(smallest, largest, 5000)[1:]
    # What size does not explain of the shortage, text must.
    rest = lacking - law["A"] / sizes ** law["alpha"]
    tokens = (law["B"] / rest) ** (1 / law["beta"])
    return float((6 * sizes * tokens + 2 * sizes * served).min())
    # END SOLUTION


check("q6", cheapest_life)

# %% [markdown] question="q7"
# An experiment. In the chapter the interval of 90 per cent from the bootstrap alone missed the larger run. Bad luck, or
# the rule? Try it where you know the truth. The law is $y=-0.2\,x$, say the logarithm of a loss over that of compute.
# Each repetition has **8 runs** at $x=0,1,\dots,7$, each with normal noise of standard deviation 0.05. The bet is on
# $x=14$:
#
# 1. Draw 8 of the 8 runs with replacement, put a straight line through them (least squares, slope and intercept), and
#    note its value at 14; do this **200 times**. (Should all 8 be the same run, leave them out: no line goes through
#    one point.)
# 2. The interval reaches from the 5th to the 95th percentile of the 200 values.
# 3. Does it hold the law's value at 14, which is $-2.8$?
#
# In what share of at least 5000 repetitions does it? Then try 20 runs, or 5, and say to yourself what the name of such
# an interval promises, and for how many runs.

# %% question="q7"
# BEGIN SOLUTION
rng, held = np.random.default_rng(), []
x = np.arange(8.0)
for _ in range(5000):
    y = -0.2 * x + 0.05 * rng.normal(size=8)
    pick = rng.integers(8, size=(200, 8))
    pick = pick[(pick != pick[:, :1]).any(axis=1)]
    # One row of places picks x and y together: a run is drawn as a whole.
    x_off = x[pick] - x[pick].mean(axis=1, keepdims=True)
    slope = (x_off * y[pick]).sum(axis=1) / (x_off**2).sum(axis=1)
    bets = y[pick].mean(axis=1) + slope * (14 - x[pick].mean(axis=1))
    low, high = np.percentile(bets, [5, 95])
    held.append(low <= -2.8 <= high)
coverage = float(np.mean(held))
# END SOLUTION
check("q7", coverage)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

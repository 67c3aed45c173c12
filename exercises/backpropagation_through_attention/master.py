# %% [markdown]
# # Exercise: backward passes with a pencil, and attention in tiles
#
# You will find gradients by hand, for a softmax, for the last layer of a language model, for keys of length one and for
# attention whose heads share keys; find a bug that starves the commonest words; compute attention a tile at a time; and
# measure how small a step is too small. The chapter
# [Backpropagation through attention](chapter:mathematics/backpropagation_through_attention) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: `given.softmax_backward` is a right answer to question 2, so that an early
#   mistake is not paid for twice.
# - `dX` (in code `dx`) is the gradient of the loss with respect to `X`, and has the shape of `X`. Shapes are written as
#   in the book: `b` texts, `h` heads, `t` queries or positions, `s` keys, widths `d` and `e` of keys and values, model
#   width `m`, `v` words; `...` stands for any dimensions before the others, or none.
# - Your answers may not use automatic differentiation (`autograd`, `backward`, `requires_grad`, `torch.func`), nor
#   torch's own backward passes. *Beside* your answers it is welcome: as a witness, or try a small step of one number.

# %%
import torch

from fmcourse.exercises import start

check = start("backpropagation_through_attention")
given = check.given

# %% [markdown] question="q1"
# A model reads four positions, and its loss is the **mean** of their four cross-entropies. At one of them, it gives the
# three words of its vocabulary the probabilities $(0.5,\,0.3,\,0.2)$, and the **second** word is the right one. What is
# the gradient of the loss with respect to the three logits of this position? Compute it with pencil and paper; answer
# with a list of three numbers.

# %% question="q1"
# BEGIN SOLUTION
# What the model said minus what was true, and this position is a quarter of the
# mean.
said, true = [0.5, 0.3, 0.2], [0, 1, 0]
dlogits = [(p - right) / 4 for p, right in zip(said, true, strict=True)]
# END SOLUTION
check("q1", dlogits)

# %% [markdown] question="q2"
# Scores $s$ are divided by a temperature $T$ (a number) before they go through a softmax:
# $p=\operatorname{softmax}(s/T)$ along the last dimension. You know the weights $p$ and the gradient $dp$ of the loss
# with respect to them. Find $ds$. Some weights may be exactly 0 (keys that a mask forbids); you do not need the scores.


# %% question="q2"
def softmax_backward(dp, p, temperature):
    """Gradients dp and weights p (..., s), and a number, give the gradient of the
    scores (..., s).
    """
    # BEGIN SOLUTION
    # Weights sum to one, so a score is judged against the average of its row, taken
    # with these very weights.
    average = (p * dp).sum(dim=-1, keepdim=True)
    return p * (dp - average) / temperature
    # END SOLUTION


check("q2", softmax_backward)

# %% [markdown] question="q3"
# The last layer of a language model has a table with a row for each word. It turns a vector $x$ of a position into
# logits, `x @ table.mT`, and the loss is the **mean** cross-entropy over all positions that count. Padding does not
# count: its target is $-100$, a convention of torch. At least one position counts. Find the gradients of `x` and of the
# table. Logits may be as large as 1000.


# %% question="q3"
def head_backward(x, table, targets):
    """Vectors (t, m), a table (v, m) and targets (t), word numbers or -100, give dx
    (t, m) and dtable (v, m).
    """
    # BEGIN SOLUTION
    counts = targets != -100
    # torch's softmax takes the largest logit off first, so that nothing overflows.
    dlogits = (x @ table.mT).softmax(dim=-1)
    rows = counts.nonzero()[:, 0]
    dlogits[rows, targets[rows]] -= 1
    # A position that does not count has no gradient at all, and no share in the
    # mean.
    dlogits = dlogits * counts[:, None] / counts.sum()
    return dlogits @ table, dlogits.mT @ x
    # END SOLUTION


check("q3", head_backward)

# %% [markdown] question="q4"
# To keep scores from growing, some models give every query and every key the length 1, and then a learned gain to each
# coordinate:
#
# $$
# y=g\odot\frac{x}{|x|},\qquad |x|=\sqrt{\textstyle\sum_i x_i^2},
# $$
#
# where $\odot$ multiplies entry by entry. There is one gain $g$ for all vectors. No $x$ is zero. Find $dx$ and $dg$.
# (Before you compute: what should $\langle x,dx\rangle$ be, if the length of $x$ makes no difference?)


# %% question="q4"
def unit_backward(dy, x, gain):
    """Gradients dy and vectors x (..., d), and the gain (d), give dx (..., d) and
    dgain (d).
    """
    # BEGIN SOLUTION
    length = x.norm(dim=-1, keepdim=True)
    unit = x / length
    dunit = gain * dy
    # What points along x is taken off: y does not change when x only becomes
    # longer.
    along = unit * (unit * dunit).sum(dim=-1, keepdim=True)
    # Every vector has used the same gain, so their gradients add up.
    return (dunit - along) / length, (unit * dy).reshape(-1, len(gain)).sum(dim=0)
    # END SOLUTION


check("q4", unit_backward)

# %% [markdown] question="q5"
# An embedding looks up a row of a table for each token; this is its backward pass. Its author checked it against
# automatic differentiation, on one sentence of five different words, and it agreed to the last digit. But in training,
# a colleague notices, rare words learn well and the commonest ones hardly move, although they come in every text. Find
# the bug and repair it. (A word that is in no text gets a row of zeros.)


# %% question="q5"
def embedding_backward(dx, tokens, n_rows):
    """Gradients (b, t, m) of the rows that tokens (b, t) have looked up give the
    table's gradient (n_rows, m).
    """
    table = torch.zeros(n_rows, dx.shape[-1], dtype=dx.dtype)
    # BEGIN SOLUTION
    # Indexing with += reads every row once, adds, and writes back: where two tokens
    # are the same word, the later one overwrites the earlier. index_add adds them
    # one after the other.
    return table.index_add(0, tokens.flatten(), dx.flatten(0, 1))
    # INSTEAD
    # table[tokens] += dx
    # return table
    # END SOLUTION


check("q5", embedding_backward)

# %% [markdown] question="q6"
# Put it together: attention, backwards. To save memory, large models have fewer heads of keys and values than of
# queries. Here $h$ query heads meet $g$ heads of keys and values, and $h/g$ **neighbouring** query heads share one:
# with $h=4$ and $g=2$, query heads 0 and 1 use keys and values 0, query heads 2 and 3 use keys and values 1. The
# forward pass of each query head was
#
# $$
# S=\frac{QK^\top}{\sqrt d},\qquad P=\operatorname{softmax}(S)\text{ row by row},\qquad O=PV,
# $$
#
# and $P$ was kept. Some pairs were forbidden by a mask, and $P$ is 0 there. You get no mask; do you see why you need
# none? `given.softmax_backward` is there if yours is not ready.


# %% question="q6"
def attention_backward(do, q, k, v, p):
    """do (h, t, e), q (h, t, d), k (g, s, d), v (g, s, e), p (h, t, s) give dq, dk,
    dv, shaped like q, k, v.
    """
    # BEGIN SOLUTION
    h, g = len(q), len(k)
    # Give each query head a copy of its keys and values, go back, then add up what
    # came back to the copies.
    keys, values = (
        k.repeat_interleave(h // g, dim=0),
        v.repeat_interleave(h // g, dim=0),
    )
    dv = p.mT @ do
    # The square root of d acts as a temperature. A forbidden pair has p = 0, and so
    # no gradient.
    ds = given.softmax_backward(do @ values.mT, p, q.shape[-1] ** 0.5)
    dq, dk = ds @ keys, ds.mT @ q
    return (
        dq,
        dk.unflatten(0, (g, h // g)).sum(dim=1),
        dv.unflatten(0, (g, h // g)).sum(dim=1),
    )
    # END SOLUTION


check("q6", attention_backward)

# %% [markdown] question="q7"
# The other half of the trick that lets models read long texts: attention without ever holding a whole row of scores.
# Keys and values come a tile at a time. Of all tiles so far, only two things are kept for each query:
#
# - `output` (t, e): what attention over all keys so far gives, a finished average of their values;
# - `lse` (t): the logarithm of $\sum_j e^{s_j}$ over these keys, where $s_j$ is the scaled score $q\cdot k_j/\sqrt d$.
#
# Now a tile with `c` more keys arrives. Give `output` and `lse` for the old and the new keys together. `may_attend` is
# True where a query may see a key of the tile. Scores may be as large as 200. A query that has seen no key yet has
# output 0 and `lse` $-\infty$; if it may see none in this tile either, that stays so.
#
# (When it works, start with nothing, add the keys two at a time, and compare with the softmax of all of them at once.)


# %% question="q7"
def add_tile(output, lse, q, k, v, may_attend):
    """State (t, e) and (t), queries (t, d), a tile (c, d), (c, e), a mask (t, c):
    the new state (t, e) and (t).
    """
    # BEGIN SOLUTION
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~may_attend, -torch.inf)
    new = torch.logaddexp(lse, scores.logsumexp(dim=-1))
    # Minus infinity cannot be taken off minus infinity. Where nothing was seen, all
    # exponentials are 0 anyway.
    safe = new.masked_fill(new == -torch.inf, 0.0)
    # Every weight is exp(score - lse). As lse grows, the old weights, and so the
    # old output, shrink by one factor.
    shrink = (lse - safe).exp()
    return shrink[:, None] * output + (scores - safe[:, None]).exp() @ v, new
    # END SOLUTION


check("q7", add_tile)

# %% [markdown] question="q8"
# An experiment. The chapter checks gradients by a difference on both sides, $\big(L(z+hu)-L(z-hu)\big)/2h$. A colleague
# saves half of the runs: $\big(L(z+hu)-L(z)\big)/h$. With which step $h$ is the error of *this* difference smallest in
# **double** precision? First say what you expect: which error grows with $h$, and which with $1/h$?
#
# Take the cross-entropy $L(z)=\ln\sum_je^{z_j}-z_1$ of ten logits $z$, drawn from a standard normal distribution, and
# a direction $u$ drawn in the same way. You know the exact slope: $\langle dz,u\rangle$. Try steps from $10^{-14}$ to
# $10^{-1}$, a full or half power of ten apart, each on the same 500 draws or more, and take the step whose typical
# (median) error is smallest. Answer with its exponent, $\log_{10}h$. Then do the same for the difference on both sides,
# and in single precision, and see whether the chapter's rule holds.

# %% question="q8"
# BEGIN SOLUTION
z, u = torch.randn(2, 1000, 10, dtype=torch.float64)
dz = z.softmax(dim=-1)
dz[:, 0] -= 1
exact = (dz * u).sum(dim=-1)


def loss(z):
    return z.logsumexp(dim=-1) - z[:, 0]


def error(exponent):
    h = 10.0**exponent
    return ((loss(z + h * u) - loss(z)) / h - exact).abs().median().item()


# Taylor's error is about h |f''| / 2, rounding about 1e-16 |f| / h: equal near the
# square root of 1e-16.
best_exponent = min([-14 + i / 2 for i in range(27)], key=error)
# END SOLUTION
check("q8", best_exponent)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

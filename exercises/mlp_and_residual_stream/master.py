# %% [markdown]
# # Exercise: MLP and residual stream, from weights by hand to who wrote a prediction
#
# You will normalise a vector in your head, set the weights of a small network by hand, write a gated layer, find two
# bugs that no error message tells of, work out how large random weights must be, measure how a residual stream grows,
# and take a prediction apart into what each layer wrote. The chapter
# [The MLP and the residual stream](chapter:mathematics/mlp_and_residual_stream) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: `given.gated` and `given.layer_norm` are right answers to questions 3 and 4,
#   for use in the questions after them, so that an early mistake is not paid for twice.
# - Shapes are written as in the book: width `d` of the stream, `k` hidden units, `v` tokens in the vocabulary; `...`
#   stands for any dimensions before the last (tokens, a batch of texts). A weight matrix is (outputs, inputs), as in
#   torch's `nn.Linear`, and there are no biases.
# - Under the root of a normalisation stands a small $\varepsilon=10^{-5}$.

# %%
import torch

from fmcourse.exercises import start

check = start("mlp_and_residual_stream")
given = check.given

# %% [markdown] question="q1"
# What does LayerNorm (gain 1, shift 0) make of the **last** entry of $(5,5,5,1005)$? Give two digits after the point.
# It is a sum for pencil and paper, if you first think of what LayerNorm does not notice. (And what does RMSNorm make
# of it?)

# %% question="q1"
# BEGIN SOLUTION
# LayerNorm does not notice that 5 is added to all entries, nor that all are
# multiplied by 1000: think of (0, 0, 0, 1). Mean 1/4; the squares of what is left
# are 1/16, 1/16, 1/16 and 9/16, their mean is 3/16. (RMSNorm notices the 5. It
# gives 2.00, and from (0, 0, 0, 1) exactly 2.)
last_entry = (3 / 4) / (3 / 16) ** 0.5
# END SOLUTION
check("q1", last_entry)

# %% [markdown] question="q2"
# A weighted sum cannot find the larger of two numbers; three hidden units with a ReLU can. Set their weights by hand,
# so that the pair $(a,b)$ gives $\max(a,b)$, whatever the signs of $a$ and $b$. Leave the last line as it is: it is
# the feed-forward layer. (`max`, `maximum`, `amax`, `fmax`, `where`, `topk` and `sort` are not allowed.)


# %% question="q2"
def larger(x):
    """Pairs of numbers (..., 2) give the larger one of each, (..., 1)."""
    # BEGIN SOLUTION
    # max(a, b) = a + max(0, b - a), and a = max(0, a) - max(0, -a): a ReLU passes
    # on one sign only, so a needs two.
    up = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-1.0, 1.0]])
    down = torch.tensor([[1.0, -1.0, 1.0]])
    # INSTEAD
    # up = torch.zeros(3, 2)  # a row a hidden unit: what it takes of a and of b
    # down = torch.zeros(1, 3)  # what each hidden unit adds to the result
    # END SOLUTION
    return (x @ up.T).clamp(min=0) @ down.T


check("q2", larger)

# %% [markdown] question="q3"
# Write a feed-forward layer with a gate, SwiGLU: two vectors of $k$ hidden units, one through
# $\operatorname{SiLU}(z)=z/(1+e^{-z})$ (the gate's), multiplied entry by entry with the other (that of `up`), and then
# down to width $d$. It has three matrices. To have as many weights as a plain layer with two matrices and $4d$ hidden
# units, how large may $k$ be? One of the cases is of that kind. (The package's `FeedForward` and `activate` are not
# allowed, torch's functions are.)


# %% question="q3"
def gated(x, gate, up, down):
    """Tokens (..., d), weights gate (k, d), up (k, d) and down (d, k) give
    (..., d).
    """
    # BEGIN SOLUTION
    z = x @ gate.T
    # 3 d k weights instead of 2 d * 4 d: equal for k = 8 d / 3, so 8 hidden units
    # for width 3.
    return (z * torch.sigmoid(z) * (x @ up.T)) @ down.T
    # END SOLUTION


check("q3", gated)

# %% [markdown] question="q4"
# A colleague trains a GPT. Its loss is suspiciously low, and yet it writes badly. She changes the *last* token of a
# text, and the model's output at the *first* token changes, too. The causal mask of its attention is right, she
# has tested it. What is left is her LayerNorm. Find the bug and repair it, without calling torch's own `layer_norm`.


# %% question="q4"
def layer_norm(x, gain, shift):
    """Tokens (..., d), gain (d) and shift (d) give normalised tokens (..., d)."""
    # BEGIN SOLUTION
    # The statistics of a token are its own. Taken over the positions as well, they
    # tell the first token of the last.
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    # INSTEAD
    # centred = x - x.mean(dim=(-2, -1), keepdim=True)
    # variance = centred.square().mean(dim=(-2, -1), keepdim=True)
    # END SOLUTION
    return gain * centred / (variance + 1e-5).sqrt() + shift


check("q4", layer_norm)

# %% [markdown] question="q5"
# How large should random weights be? A layer receives $h$, bends it and multiplies: $W\sigma(h)$. The bend is
# $\sigma(z)=z$ for $z>0$ and $\sigma(z)=az$ for $z\le0$, with a slope $a$ on the left: $a=0$ is ReLU, $a=1$ no bend at
# all, $a=-1$ the absolute value, $a=0.1$ a leaky ReLU. Each entry of $h$ is as likely to be $z$ as $-z$, and has mean
# square $q$. You are given noise, independent and standard normal. Make weights of it by multiplying it by *one*
# number, so that the entries of $W\sigma(h)$ have mean square $q$ again, on average over the noise. (torch's
# `calculate_gain` and its `kaiming` functions are not allowed.)


# %% question="q5"
def weights(noise, slope):
    """Noise (outputs, inputs) and the slope, a number, give weights
    (outputs, inputs).
    """
    # BEGIN SOLUTION
    # Half of the entries keep their square, the other half have it multiplied by
    # the slope squared.
    kept = (1 + slope**2) / 2
    return noise / (kept * noise.shape[1]) ** 0.5
    # END SOLUTION


check("q5", weights)

# %% [markdown] question="q6"
# In a pre-norm model every layer *adds* to the residual stream, and nobody else touches it: after 24 layers the
# embedding should still be in there, as one term of a sum. A colleague looks for it in his model. After the first layer
# already, what has changed in the stream is not what that layer wrote, and however deep the model, its stream hardly
# grows. This is his feed-forward half of a block. Find the bug and repair it. `given.layer_norm` and `given.gated` are
# right.


# %% question="q6"
def block(x, gain, shift, gate, up, down):
    """The stream (..., d), gain and shift (d), weights as in question 3 give the
    stream (..., d) after the layer.
    """
    # BEGIN SOLUTION
    # Only what the layer reads is normalised. With x = layer_norm(x) the stream
    # itself was replaced before the sum.
    read = given.layer_norm(x, gain, shift)
    return x + given.gated(read, gate, up, down)
    # INSTEAD
    # x = given.layer_norm(x, gain, shift)
    # return x + given.gated(x, gate, up, down)
    # END SOLUTION


check("q6", block)

# %% [markdown] question="q7"
# An experiment. Let 100 tokens of width 128 (standard normal) run through 32 random layers, each of which adds
#
# $$
# x\leftarrow x+W_2\operatorname{GELU}\big(W_1\operatorname{RMSNorm}(x)\big)
# $$
#
# to the stream, with 512 hidden units. Every layer has weights of its own: independent, normal, with standard deviation
# $1/\sqrt{\text{inputs}}$, so $1/\sqrt{128}$ in $W_1$ and $1/\sqrt{512}$ in $W_2$. RMSNorm has no gain. How many times
# as large as at the beginning is the stream at the end? Size is the root of the mean square of all entries. Give the
# mean over 20 networks. Before you run it, guess; for ReLU you could calculate it. Then divide every $W_2$ by
# $\sqrt{32}$, and look again.

# %% question="q7"
# BEGIN SOLUTION
from torch.nn.functional import gelu, rms_norm


def grown():
    first = x = torch.randn(100, 128)
    for _ in range(32):
        up, down = (
            torch.randn(512, 128) / 128**0.5,
            torch.randn(128, 512) / 512**0.5,
        )
        x = x + gelu(rms_norm(x, (128,)) @ up.T) @ down.T
    return (x.square().mean() / first.square().mean()).sqrt().item()


# GELU leaves 0.425 of the mean square (ReLU: 0.5). Writes are independent, so
# squares add up: 1 + 32 * 0.425 is about 14.6, and its root 3.8. With the division
# the writes add 0.425 all together, whatever the depth.
growth = sum(grown() for _ in range(20)) / 20
# END SOLUTION
check("q7", growth)

# %% [markdown] question="q8"
# Design a tool that tells who wrote a prediction. At one position, the stream begins as the embedding (`start`), and
# every layer writes something to it (`writes`, one row a layer). At the end the model reads out: it takes the RMSNorm
# of the sum of all that, multiplies it entry by entry by `gain`, and takes the dot product with each row of `rows`, one
# for every token of the vocabulary. That gives `v` logits.
#
# Say what part of each logit comes from the embedding, and what part from each layer. There are three conditions.
#
# 1. The parts of a logit add up to it, exactly.
# 2. All are treated alike: two layers that write the same have the same part, and if one layer writes twice what
#    another does, its part is twice as large.
# 3. The order in which the layers wrote does not matter.


# %% question="q8"
def credit(start, writes, gain, rows):
    """Embedding (d), writes (n, d), gain (d), rows (v, d): parts (n + 1, v), the
    embedding's first.
    """
    # BEGIN SOLUTION
    parts = torch.cat([start[None], writes])
    # The normalisation divides by one number, the size of the finished stream. With
    # that number held fixed, everything else is linear, and a sum of parts is the
    # part of the sum.
    size = (parts.sum(dim=0).square().mean() + 1e-5).sqrt()
    return (parts / size * gain) @ rows.T
    # END SOLUTION


check("q8", credit)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

# %% [markdown]
# # Exercise: architectures, from a mask to the widest model that fits
#
# You will write one mask for three families of models, work out what many blocks can see through a mask, find out why a
# vision model is no better than a simple one, count parameters and multiplications exactly, choose the widest model for
# a budget, and measure what a single look at random is worth. The chapter
# [Architectures: one block, four models](chapter:concepts/architectures) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - A row of a mask is a position that *looks*, a column one that can be *looked at*; True means that it may. Width $d$
#   is the length of a position's vector (`d_model`).

# %%
import torch

from fmcourse.exercises import start

check = start("architectures")
given = check.given

# %% [markdown] question="q1"
# A decoder has 100 blocks of width $d = 1000$, made as in GPT-2: attention with four matrices, and a feed-forward layer
# that is $4d$ wide inside. How much memory do the weights of the blocks take, when each number has 2 bytes? Leave
# biases and norms aside, count a gigabyte as $10^9$ bytes, and use no computer.

# %% question="q1"
# BEGIN SOLUTION
# 4 d^2 in attention and 8 d^2 in the feed-forward layer: 12 million numbers in each
# block.
gigabytes = 100 * 12 * 1000**2 * 2 / 1e9
# END SOLUTION
check("q1", gigabytes)

# %% [markdown] question="q2"
# Put a source and a target in one row, source first, as in the chapter's third table. A position of the source may look
# at the whole source and at nothing of the target. A position of the target may look at the whole source, at itself and
# at the target before it. Write this mask. Without a source it is a decoder's triangle, without a target an encoder's
# full square: one function for three families (and for the prefix language model, which uses it in a single stack).


# %% question="q2"
def joint_mask(n_source, n_target):
    """Two numbers of positions give a mask (n, n) of True and False, n = n_source +
    n_target. Either may be 0.
    """
    # BEGIN SOLUTION
    place = torch.arange(n_source + n_target)
    # A column of the source is open to all; for one of the target, the row must not
    # stand before it.
    return (place < n_source) | (place <= place[:, None])
    # END SOLUTION


check("q2", joint_mask)

# %% [markdown] question="q3"
# A mask speaks of one block. Which tokens can an output depend on after **several** blocks with the same mask? In
# every block a position reads the vectors of all positions that its row allows, *as they are after the block before*,
# and adds something to its own vector, $x \leftarrow x + \dots$ So it always keeps what it has, even where its row does
# not allow itself. A row may be empty.


# %% question="q3"
def influence(may_attend, n_blocks):
    """A mask (n, n) and a number of blocks, at least 1, give True and False (n, n):
    output (row), token (column).
    """
    # BEGIN SOLUTION
    # One step: to itself, because of the residual stream, and wherever the mask
    # allows. Several steps: a power.
    own = torch.eye(may_attend.shape[-1], dtype=torch.bool)
    step = (may_attend | own).float()
    reached = step
    for _ in range(n_blocks - 1):
        reached = (step @ reached > 0).float()
    return reached > 0
    # END SOLUTION


check("q3", influence)

# %% [markdown] question="q4"
# This function cuts pictures into square patches for a vision Transformer: one row of numbers for each patch. Patches
# go from left to right, then downwards; within a patch the pixels do the same, and the channels of a pixel stay
# together. The sides of a picture are multiples of `patch`.
#
# A colleague trained a model on it. It runs, no shape is wrong, the loss falls; but it is no better than logistic
# regression, however long she trains. Then she paints one patch of a black picture white, and finds traces of it in
# several rows. Find the bug and repair it.


# %% question="q4"
def cut(pictures, patch):
    """Pictures (b, rows, columns, channels) give patches
    (b, n, patch * patch * channels).
    """
    # BEGIN SOLUTION
    from einops import rearrange

    # The memory holds the picture row by row: reading it on and on gives strips.
    # Both axes must be parted in two, and the inner half of the rows moved behind
    # the outer half of the columns.
    names = "b (rows p) (columns q) channels -> b (rows columns) (p q channels)"
    return rearrange(pictures, names, p=patch, q=patch)
    # INSTEAD
    # b, rows, columns, channels = pictures.shape
    # n = (rows // patch) * (columns // patch)
    # return torch.reshape(pictures, (b, n, patch * patch * channels))
    # END SOLUTION


check("q4", cut)

# %% [markdown] question="q5"
# The chapter's formula $12d^2+13d$ is one kind of block. Count any of these, to the last parameter:
#
# - Four linear layers in attention. Queries and the output layer go from $d$ to $d$. Keys and values may have **fewer
#   heads** than queries: `n_kv_heads` of them. Every head, of whatever kind, has width `d // n_heads`.
# - A feed-forward layer from $d$ to `d_ff` and back from `d_ff` to $d$. If it is `gated`, there is one more layer from
#   $d$ to `d_ff`.
# - Two norms, each with a gain for each of the $d$ numbers.
# - If `bias` is True, every linear layer has a bias for each number that it gives, and each norm has a bias as long as
#   its gain. If it is False, nothing has.


# %% question="q5"
def block_parameters(d, d_ff, n_heads, n_kv_heads, gated, bias):
    """Four whole numbers and two truth values give a whole number."""
    # BEGIN SOLUTION
    # The width of all keys together, and of all values.
    shared = n_kv_heads * (d // n_heads)
    layers = [(d, d), (d, shared), (d, shared), (d, d), (d, d_ff), (d_ff, d)]
    if gated:
        layers.append((d, d_ff))
    norms = 2 * (2 * d if bias else d)
    return sum(a * b + (b if bias else 0) for a, b in layers) + norms
    # END SOLUTION


check("q5", block_parameters)

# %% [markdown] question="q6"
# Parameters say what must be stored, not what must be computed. Count the **multiplications** in all matrix products
# when an encoder reads $n$ positions once: `n_blocks` blocks with four matrices $d \times d$ in attention and two in
# the feed-forward layer ($d$ to `d_ff`, and back), where all positions look at all. Do not forget the two products of
# attention that have no parameters: queries with keys, and weights with values. Biases, norms, softmax and the
# activation do not count.
#
# Afterwards, ask your function: from which $n$ on do those two products cost more than all matrices together? And what
# becomes of a vision model's work when its patches are 32 pixels wide instead of 16?


# %% question="q6"
def operations(n, d, d_ff, n_blocks):
    """Four whole numbers give a whole number."""
    # BEGIN SOLUTION
    matrices = n * (4 * d * d + 2 * d * d_ff)  # each position passes each of them
    # n * n scores of d products each, over all heads together; and as much again to
    # mix the values. So from n = 2 d + d_ff on, that is 6 d in GPT-2, they cost
    # more than the matrices.
    return n_blocks * (matrices + 2 * n * n * d)
    # END SOLUTION


check("q6", operations)

# %% [markdown] question="q7"
# A budget decides. Which is the **widest** model of GPT-2's form whose parameters take at most `budget` bytes, with
# `size` bytes for each? A model that fills the budget to the byte fits. It has
#
# - a table of words, `vocabulary` $\times\ d$, and a table of positions, `context` $\times\ d$;
# - `n_blocks` blocks with $d_\text{ff}=4d$, with biases, without a gate, and with keys and values for every head
#   (`given.block_parameters` counts one; how many heads does not matter then);
# - one last norm, gain and bias. The head is the table of words once more and costs nothing.
#
# Widths are multiples of 64. A width of 64 always fits.


# %% question="q7"
def widest(budget, size, n_blocks, vocabulary, context):
    """Five whole numbers give a whole number, the width."""

    # BEGIN SOLUTION
    def memory(d):
        block = given.block_parameters(d, 4 * d, d // 64, d // 64, False, True)
        return size * ((vocabulary + context) * d + n_blocks * block + 2 * d)

    d = 64
    while memory(d + 64) <= budget:
        d += 64
    return d
    # END SOLUTION


check("q7", widest)

# %% [markdown] question="q8"
# An experiment. Looking at everything costs $n^2$ scores. If each of 32 positions in a line sees only itself, its left
# and its right neighbour, the ends can hear of each other after 31 blocks at the earliest. Now let each position also
# look at **one more position, drawn at random from all 32** (it may hit one that it sees anyway). All blocks of a model
# have the same mask.
#
# How many blocks does such a model need until **every** output can depend on **every** token, on average over 400
# random masks? `given.influence` also takes all masks at once, (400, 32, 32), and gives as many answers. Call it so,
# once for each number of blocks: thousands of calls of a `given` function take the grader too long.

# %% question="q8"
# BEGIN SOLUTION
torch.manual_seed(0)
place = torch.arange(32)
near = (place[:, None] - place).abs() <= 1
at_random = torch.randint(32, (400, 32, 1))
masks = near.expand(400, 32, 32).scatter(2, at_random, True)
needed = torch.ones(400)
for depth in range(1, 32):
    complete = given.influence(masks, depth).flatten(1).all(dim=1)
    needed += ~complete  # one more for those that are not there yet
    if complete.all():
        break
blocks_needed = needed.mean().item()
# END SOLUTION
check("q8", blocks_needed)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

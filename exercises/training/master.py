# %% [markdown]
# # Exercise: training, from a ravine with a pencil to a loop of your own
#
# You will find the largest safe learning rate with a pencil, write the parts of a training loop one by one (a loss,
# clipping, AdamW, the core of Muon), find a bug that shows only when texts differ in length, put the parts together,
# and measure what Adam does when there is nothing to learn. The chapter [Training](chapter:algorithm/training) has all
# that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice. They give plain numbers: no gradient flows back through them.
# - Shapes are written as in the book: batch `b`, position `t`, classes (or vocabulary) `v`; `n` examples of width `d`.
# - A target of `-100` is padding: it stands where there is nothing to predict, and must not count.

# %%
import torch
import torch.nn.functional as F

from fmcourse.exercises import start

torch.set_printoptions(precision=4, sci_mode=False)
check = start("training")
given = check.given

# %% [markdown] question="q1"
# You stand in the ravine
#
# $$L(x, y) = x^2 + 25\,y^2$$
#
# and take steps of plain gradient descent, $w \leftarrow w - \eta\,\partial L/\partial w$, for both coordinates with
# the same rate $\eta$. Below a certain rate you reach the bottom from every start; above it you are thrown out from
# nearly every start. Which rate is it? Use pencil and paper. (Not quite the ravine of the chapter: look where the
# halves are.)

# %% question="q1"
# BEGIN SOLUTION
# The slope across is 50 y, so a step multiplies y by 1 - 50 * rate: its size is 1
# when 50 * rate is 2.
largest_rate = 2 / 50
# END SOLUTION
check("q1", largest_rate)

# %% [markdown] question="q2"
# Write the cross-entropy of a batch of texts, with padding and label smoothing, without torch's ready-made losses.
#
# With smoothing $s$ the answer is not "class $y$ for certain". Every one of the $v$ classes has the share $s/v$, and
# the right one has $1-s$ more. The loss of a position is the sum over all classes of share times $-\ln p$, where $p$ is
# the softmax of the logits. Return the mean over all real targets of the batch, each counting the same, whether its
# text is long or short. Logits may be as large as some hundreds. At least one target is real.


# %% question="q2"
def sequence_loss(logits, targets, smoothing):
    """Logits (b, t, v), targets (b, t), of which -100 is padding, and a number from
    0 to 1 give one number.
    """
    # BEGIN SOLUTION
    # log_softmax never takes the logarithm of a probability that was rounded to
    # zero.
    log_p, real = logits.log_softmax(dim=-1), targets != -100
    right = log_p.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    losses = -(1 - smoothing) * right - smoothing * log_p.mean(dim=-1)
    return losses[real].mean()
    # END SOLUTION


check("q2", sequence_loss)

# %% [markdown] question="q3"
# A model has many weight tensors, each with a gradient. Clipping takes all of them as **one** long vector: if that is
# longer than `limit`, all gradients are shortened by the same factor, so that the vector has the length `limit` and the
# direction it had. Return the list of gradients and, for the logbook, the length *before*. Do not change the tensors
# that you were given, and do not use torch's clipping functions. All gradients may be zero.


# %% question="q3"
def clip_all(gradients, limit):
    """A list of tensors of any shapes and a positive number give (list of tensors,
    length before clipping).
    """
    # BEGIN SOLUTION
    length = sum(g.square().sum() for g in gradients).sqrt()
    # A length of zero makes the quotient infinite, which the clamp turns into 1:
    # zeros stay zeros.
    factor = (limit / length).clamp(max=1)
    return [g * factor for g in gradients], length
    # END SOLUTION


check("q3", clip_all)

# %% [markdown] question="q4"
# A batch does not fit into memory, so it is cut into pieces, and the gradients of the pieces are accumulated. The model
# here is one linear layer with softmax. A piece is a pair of inputs `(n, d)` and targets `(n,)`; `n` may differ, and
# some targets are padding. The result should be the gradient of the mean loss over all real targets of all pieces, as
# if the batch had never been cut.
#
# A colleague has tested this function: with pieces of equal size and no padding it agrees with the whole batch to the
# last digit. Then she trains on real texts, and the same batch gives another model for every way of cutting it. Her
# model also cares strangely much for texts that are short. Find the bug and repair it. A piece may hold nothing but
# padding, which then adds nothing; not all pieces do.


# %% question="q4"
def accumulated_gradient(weight, bias, pieces):
    """Weight (d, v), bias (v,) and a list of pairs (inputs, targets) give the two
    gradients, [(d, v), (v,)].
    """
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    # BEGIN SOLUTION
    # A mean of means weighs every piece alike, so each target of a short piece
    # more. Sums can be added up.
    count = sum((targets != -100).sum() for _, targets in pieces)
    # INSTEAD
    # count = len(pieces)
    # END SOLUTION
    for inputs, targets in pieces:
        logits = inputs @ weight + bias
        # BEGIN SOLUTION
        loss = F.cross_entropy(logits, targets, ignore_index=-100, reduction="sum")
        # INSTEAD
        # loss = F.cross_entropy(logits, targets, ignore_index=-100)
        # END SOLUTION
        (loss / count).backward()
    return [weight.grad, bias.grad]


check("q4", accumulated_gradient)

# %% [markdown] question="q5"
# One step of AdamW for a whole model, that is, for lists of tensors. For each weight tensor $w$ with gradient $g$:
#
# $$
# m \leftarrow 0.9\,m + 0.1\,g,\qquad v \leftarrow 0.95\,v + 0.05\,g^2,\qquad
# w \leftarrow w - \eta\lambda\,w - \eta\,\frac{\hat m}{\sqrt{\hat v}+10^{-8}},
# $$
#
# where $\hat m$ and $\hat v$ are $m$ and $v$ with the bias correction for step $t$ (the chapter derives it: $m$ and $v$
# began at zero, and are too small by a factor that you can compute from $t$). Two things to take care of: the decay
# $\lambda$ acts on the *old* weight, and only in tensors with two or more dimensions. Do not change your arguments.
# torch's own optimisers are not allowed.


# %% question="q5"
def adamw_step(weights, gradients, means, squares, t, rate, decay):
    """Lists of tensors w, g, m, v, the number of this step (1, 2, ...), eta,
    lambda; gives three lists (w, m, v).
    """
    # BEGIN SOLUTION
    new_weights, new_means, new_squares = [], [], []
    for w, g, m, v in zip(weights, gradients, means, squares, strict=True):
        m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
        # The uncorrected means are what is remembered: the correction depends on t
        # and is made afresh.
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.95**t)
        shrink = rate * decay if w.ndim >= 2 else 0.0
        new_weights.append(w - shrink * w - rate * m_hat / (v_hat.sqrt() + 1e-8))
        new_means.append(m)
        new_squares.append(v)
    return new_weights, new_means, new_squares
    # END SOLUTION


check("q5", adamw_step)

# %% [markdown] question="q6"
# Muon wants all singular values of a step near 1, without computing a single one. An odd polynomial of matrix products,
#
# $$p(X) = c_0\,X + c_1\,XX^\top X + c_2\,XX^\top XX^\top X + \dots,$$
#
# applies $c_0\sigma + c_1\sigma^3 + c_2\sigma^5 + \dots$ to each singular value $\sigma$, and leaves the directions
# alone. Divide the matrix by its length (the root of the sum of its squared entries), so that no singular value is
# above 1; then apply $p$ once in each round. There may be any number of coefficients, from one; the matrix may be wide
# or tall; a matrix of zeros must come back as zeros. Singular value and eigenvalue decompositions are not allowed.
#
# When it is right, try `orthogonalise(torch.randn(4, 6), [1.5, -0.5], 20)` and look at its singular values.


# %% question="q6"
def orthogonalise(matrix, coefficients, rounds):
    """A matrix, a list of numbers [c0, c1, ...] and a number of rounds give a
    matrix of the same shape.
    """
    # BEGIN SOLUTION
    x = matrix / matrix.norm().clamp(min=1e-12)
    for _ in range(rounds):
        gram, product, total = x @ x.mT, x, 0
        for c in coefficients:
            total = total + c * product
            product = gram @ product
        x = total
    return x
    # END SOLUTION


check("q6", orthogonalise)

# %% [markdown] question="q7"
# Now the whole loop. Train the linear layer of question 4 (logits are `inputs @ weight + bias`, the loss is the plain
# cross-entropy) for a number of steps, and return the final `[weight, bias]`. In step $k = 0, 1, 2, \dots$:
#
# 1. *Batch.* The next `batch` examples in order. After the last example comes the first again, also within a batch.
# 2. *Gradient* of the mean loss over the real targets of the batch (every batch has some).
# 3. *Clip* weight and bias together to length 1.
# 4. *Rate.* $0.05$ times $\frac{k+1}{w+1}$ during warm-up, that is for $k < w$ (`warmup`), then times
#    $\frac12\bigl(1+\cos\pi\frac{k-w}{n-w}\bigr)$, where $n$ is the number of steps.
# 5. *Step* of AdamW with decay 0.1, for the weight but not for the bias.
#
# `given.accumulated_gradient`, `given.clip_all` and `given.adamw_step` are there for you. torch's own optimisers are
# not allowed.


# %% question="q7"
def train(inputs, targets, weight, bias, batch, steps, warmup):
    """Inputs (n, d), targets (n,), start (d, v) and (v,), three whole numbers;
    gives [weight, bias].
    """
    # BEGIN SOLUTION
    import math

    weights = [weight, bias]
    means, squares = [[torch.zeros_like(w) for w in weights] for _ in range(2)]
    for k in range(steps):
        rows = torch.arange(k * batch, (k + 1) * batch) % len(inputs)
        gradients = given.accumulated_gradient(
            *weights, [(inputs[rows], targets[rows])]
        )
        gradients, _ = given.clip_all(gradients, 1.0)
        factor = (k + 1) / (warmup + 1)
        if k >= warmup:
            factor = (1 + math.cos(math.pi * (k - warmup) / (steps - warmup))) / 2
        # AdamW counts from 1, the loop from 0: with t = 0 the bias correction would
        # divide by zero.
        weights, means, squares = given.adamw_step(
            weights, gradients, means, squares, k + 1, 0.05 * factor, 0.1
        )
    return weights
    # END SOLUTION


check("q7", train)

# %% [markdown] question="q8"
# An experiment. Some weights have nothing to learn: their gradient is nothing but noise, a new number from a standard
# normal distribution in every step. How far does Adam move such a weight in one step? (Guess first. With a gradient
# that is the same in every step, it moves by exactly the learning rate.)
#
# Take 2,000 such weights, do 100 steps of question 5's Adam (with its 0.9 and 0.95, no decay, a constant rate), and
# measure steps 51 to 100: the root of the mean square over all weights and these steps, divided by the rate.
# `given.adamw_step` is there for you. (If you want more weights, write Adam's lines here yourself: what is handed to a
# `given` function goes through a narrow pipe when the notebook is graded.) Then say to yourself: which of the two
# running means makes the difference, and what would plain SGD do?

# %% question="q8"
# BEGIN SOLUTION
zeros = torch.zeros(2000)
weights, means, squares = [zeros], [zeros], [zeros]
steps = []
for t in range(1, 101):
    before, noise = weights, [torch.randn(2000)]
    weights, means, squares = given.adamw_step(
        weights, noise, means, squares, t, 0.01, 0.0
    )
    steps.append((weights[0] - before[0]) / 0.01)
# The mean of the gradients averages the noise away, by a factor of about (0.1 /
# 1.9) ** 0.5; the root of v does not.
step_size = torch.stack(steps[50:]).square().mean().sqrt().item()
# END SOLUTION
check("q8", step_size)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

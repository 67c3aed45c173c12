# %% [markdown]
# # Exercise: pretraining and fine-tuning, from hidden words to a fair verdict
#
# You will count what LoRA trains, hide words as BERT's pretraining does, repair a mean that depends on the neighbours,
# let one model serve many customers, fit a linear probe without a training loop, and then do what decides whether any
# of it was worth it: compare methods fairly, measure what was forgotten, and see how far luck alone can carry a winner.
# The chapter [Pretraining and fine-tuning](chapter:concepts/pretraining_and_finetuning) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: batch `b`, position `t`, width `d`; `n` texts or rows.

# %%
import torch

from fmcourse.exercises import start

torch.set_printoptions(precision=4, sci_mode=False)
check = start("pretraining_and_finetuning")
given = check.given

# %% [markdown] question="q1"
# Two questions for pencil and paper.
#
# **How many?** An encoder has 12 blocks. In each block LoRA of rank 4 stands beside two matrices, those of queries and
# values, both 768 × 768. How many numbers does LoRA train (the head not counted)?
#
# **Which starts?** A layer gives $Wx + \frac\alpha r BAx$; gradient descent changes $A$ and $B$, nothing else. Here are
# five ways to start. Which of them leave the model's answers unchanged at first **and** can learn something?
#
# - (a) $A$ random, $B = 0$
# - (b) $A = 0$, $B$ random
# - (c) $A = 0$, $B = 0$
# - (d) $A$ and $B$ random, $\alpha = 0$
# - (e) $A$ and $B$ random, $\alpha = r$, and in place of the pretrained matrix $W$ the frozen matrix $W - BA$
#
# Answer with a list of two: the number, and a string of the letters in alphabetical order, such as `[1000, "cd"]`.

# %% question="q1"
# BEGIN SOLUTION
# A and B of one matrix hold 4 * (768 + 768) numbers. (a), (b), (e) start as W and
# have a gradient. In (c) there is none: each gradient is a multiple of the other
# matrix. In (d) both are multiples of alpha.
lora_by_hand = [12 * 2 * 4 * (768 + 768), "abe"]
# END SOLUTION
check("q1", lora_by_hand)

# %% [markdown] question="q2"
# Masked language modelling makes its own questions. The usual recipe: each token that may be hidden is *chosen* with
# probability 0.15. A chosen token becomes the mask token with probability 0.8, a random other token ("a stranger") with
# probability 0.1, and stays as it is with probability 0.1. The target is the true token wherever one was chosen, also
# where it stayed; everywhere else it is `-100`, which the loss ignores.
#
# So that the result can be checked, the random numbers are given, all of shape `(b, t)`: a token that may be hidden is
# chosen if its `lot` is below 0.15. If its `fate` is below 0.8, it becomes the mask; from 0.8 to below 0.9, the token
# at its place in `stranger`; from 0.9 on, it stays. Do not change your arguments.


# %% question="q2"
def hide_words(tokens, may_hide, lot, fate, stranger, mask_id):
    """Whole numbers (b, t), True/False (b, t), numbers from 0 to 1 (twice), whole
    numbers; gives (inputs, targets).
    """
    # BEGIN SOLUTION
    chosen = may_hide & (lot < 0.15)
    inputs = torch.where(chosen & (fate < 0.8), mask_id, tokens)
    inputs = torch.where(chosen & (fate >= 0.8) & (fate < 0.9), stranger, inputs)
    # Tokens that stay are asked for, too: else the model could be sure that what it
    # sees is right.
    targets = torch.where(chosen, tokens, -100)
    return inputs, targets
    # END SOLUTION


check("q2", hide_words)

# %% [markdown] question="q3"
# This function should turn the token vectors of a batch of texts into one vector for each text: the mean over its real
# tokens. A colleague uses it for two things. Her search, which compares the *directions* of vectors, works perfectly.
# Her linear head, with the same vectors, gives a review one score when it is alone, and another when a longer review is
# in the same batch. And since she took a faster attention, which leaves anything at all at padding, `nan` turns up in
# both now and then. There are two bugs. Find and repair both. Each text has at least one real token.


# %% question="q3"
def pooled(vectors, real):
    """Vectors (b, t, d) and a mask (b, t), True at real tokens and False at
    padding, give vectors (b, d).
    """
    # BEGIN SOLUTION
    # Zero times nan is nan, so padding is replaced, not multiplied away.
    kept = vectors.masked_fill(~real[..., None], 0)
    # Dividing by the padded length makes vectors shorter without turning them: a
    # search does not see it, a head does.
    return kept.sum(dim=1) / real.sum(dim=1, keepdim=True)
    # INSTEAD
    # kept = vectors * real[..., None]
    # return kept.sum(dim=1) / vectors.shape[1]
    # END SOLUTION


check("q3", pooled)

# %% [markdown] question="q4"
# A server holds one encoder and, for each of `k` customers, a LoRA adapter of its own. In a batch, every row may belong
# to another customer. Write one linear layer of that server: row $i$ of $x$ goes through the frozen matrix and bias,
# and gets the change $\frac\alpha r B A x_i$ of the adapter number `task[i]`. Where `task[i]` is `-1`, the customer
# wants the encoder as it was: no change. All adapters have the same rank $r$. A loop over rows is fine.


# %% question="q4"
def served(x, weight, bias, a, b, task, alpha):
    """x (n, d_in), weight (d_out, d_in), bias (d_out,), a (k, r, d_in), b
    (k, d_out, r), task (n,) give (n, d_out).
    """
    # BEGIN SOLUTION
    # Index -1 would fetch the last customer's adapter without a word. Any will do
    # there, if it then counts zero.
    adapter, wanted = task.clamp(min=0), (task >= 0)[:, None]
    inside = torch.einsum("nri,ni->nr", a[adapter], x)
    change = torch.einsum("nor,nr->no", b[adapter], inside)
    return x @ weight.mT + bias + alpha / a.shape[1] * change * wanted
    # END SOLUTION


check("q4", served)

# %% [markdown] question="q5"
# A linear probe asks what can be read off the vectors of a frozen encoder. With squares as loss it needs no training
# loop. Let $y_i = +1$ for label 1 and $-1$ for label 0. Find the weight $w$ and the bias $c$ that make
#
# $$\sum_i \bigl(w\cdot x_i + c - y_i\bigr)^2 + \lambda\,\lVert w\rVert^2$$
#
# smallest. The penalty $\lambda > 0$ acts on the weight, not on the bias. There may be fewer texts than numbers in a
# vector, and all labels may be alike. scikit-learn is not allowed.


# %% question="q5"
def probe(x, labels, penalty):
    """Vectors (n, d), labels 0 or 1 (n,) and a positive number give (weight (d,),
    bias).
    """
    # BEGIN SOLUTION
    y = 2.0 * labels - 1
    # The best bias makes the mean error zero, so centred x and y need none; it is
    # put back at the end.
    x_mean, y_mean = x.mean(dim=0), y.mean()
    centred = x - x_mean
    gram = centred.mT @ centred + penalty * torch.eye(x.shape[1])
    weight = torch.linalg.solve(gram, centred.mT @ (y - y_mean))
    return weight, y_mean - x_mean @ weight
    # END SOLUTION


check("q5", probe)

# %% [markdown] question="q6"
# Somebody has fine-tuned with two methods, a and b, each with several settings (learning rates, say; not the same for
# both, and not equally many), on the same draws of labelled texts. You get four tables of accuracies in per cent, of
# shape `(settings, draws)`: validation and test of a, validation and test of b. Give a verdict that you would defend:
#
# 1. For each method choose **one** setting for all draws, the one with the best mean accuracy on validation. (No two
#    are equally good.)
# 2. Take the chosen settings' test accuracies. Draw $k$ gave both methods the same labels: subtract b from a, draw by
#    draw.
# 3. Return the mean of these differences and its standard error, the standard deviation (with $n-1$) over $\sqrt n$.


# %% question="q6"
def verdict(validation_a, test_a, validation_b, test_b):
    """Four tables (settings, draws) give (mean difference, its standard error)."""
    # BEGIN SOLUTION
    chosen_a, chosen_b = (
        validation_a.mean(dim=1).argmax(),
        validation_b.mean(dim=1).argmax(),
    )
    # What a draw does to both methods alike cancels in the difference, so the error
    # is smaller than that of two means.
    difference = test_a[chosen_a] - test_b[chosen_b]
    return difference.mean(), difference.std() / len(difference) ** 0.5
    # END SOLUTION


check("q6", verdict)

# %% [markdown] question="q7"
# What has fine-tuning cost? An encoder was fine-tuned for a new task, and you want to know how much of an *old* task
# can still be read off its vectors. You have the token vectors of the same $n$ texts `before` and `after`, the mask of
# real tokens, the labels of the old task, and a few random orders of the texts.
#
# For each order, the first `size` texts are there to learn from and all the others to judge by. Fit a fresh probe (with
# the given `penalty`) on the pooled vectors of the encoder before, and another one on those of the encoder after. Each
# judges the other texts, by vectors of its own encoder: a score above 0 says label 1. The loss of this order is the
# accuracy before minus the accuracy after, in points (per cent).
#
# Return the mean loss over the orders and its standard error, as in question 6. `given.pooled` and `given.probe` are
# there for you.


# %% question="q7"
def forgetting(before, after, real, labels, orders, size, penalty):
    """Two of (n, t, d), mask (n, t), labels (n,), orders (draws, n), two numbers;
    gives (mean loss, standard error).
    """
    # BEGIN SOLUTION
    losses = []
    encoders = given.pooled(before, real), given.pooled(after, real)
    for order in orders:
        learn, judge = order[:size], order[size:]
        accuracy = []
        for x in encoders:
            weight, bias = given.probe(x[learn], labels[learn], penalty)
            guess = (x[judge] @ weight + bias) > 0
            accuracy.append(100 * (guess == labels[judge]).float().mean())
        losses.append(accuracy[0] - accuracy[1])
    losses = torch.stack(losses)
    return losses.mean(), losses.std() / len(losses) ** 0.5
    # END SOLUTION


check("q7", forgetting)

# %% [markdown] question="q8"
# An experiment on honesty. Ten settings of a method are, in truth, equally good: each gets every text right with
# probability 0.75, independently of the others. Somebody tries all ten on the same number of test texts, 500 each, and
# reports the best. How many points (per cent) above 75 is this best accuracy on average? Guess first; then play it at
# least 1,000 times.
#
# Then play one thing more, for yourself: choose the best of ten on 500 validation texts and report *its* accuracy on
# 500 others. What is left of the luck?

# %% question="q8"
# BEGIN SOLUTION
best = torch.stack(
    [(torch.rand(10, 500) < 0.75).float().mean(dim=1).max() for _ in range(4000)]
)
# Nearly three points, from luck alone; on other texts nothing of it is left.
luck = 100 * best.mean().item() - 75
# END SOLUTION
check("q8", luck)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

# %% [markdown]
# # Exercise: foundation models, from frozen vectors to an honest comparison
#
# You will make one vector of a text's tokens, classify without any training, find out why somebody's word counts behave
# differently in operation, say how surely one method is ahead of another, find where counting catches up with
# pretraining, run an honest trial, and measure what a single label is worth. The chapter
# [What is a foundation model?](chapter:concepts/what_is_a_foundation_model) has all that you need. Nothing is
# downloaded: the vectors are drawn at random, and stand for those of a frozen encoder.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: `b` texts, `t` tokens, width `m` of a vector.

# %%
import math

import torch
import torch.nn.functional as F

from fmcourse.exercises import start

check = start("what_is_a_foundation_model")
given = check.given

# %% [markdown] question="q1"
# The largest of a family of models grew from a hundred million parameters to a hundred billion in five years. If it
# grew by the same factor every month, how many months did it take to **double**? A pencil will do: $2^{10}$ is about
# 1000.

# %% question="q1"
# BEGIN SOLUTION
# A factor of 1000 is about ten doublings, in 60 months.
months_to_double = 60 / math.log2(1000)
# END SOLUTION
check("q1", months_to_double)

# %% [markdown] question="q2"
# An encoder gives a vector for every token. In a batch, short texts are filled up with padding, whose vectors mean
# nothing. Make one vector for each text: the mean over its **real** tokens, brought to length 1. Every text has at
# least one real token.


# %% question="q2"
def embed(vectors, real):
    """Vectors (b, t, m), True for real tokens (b, t): unit vectors (b, m)."""
    # BEGIN SOLUTION
    real = real[:, :, None]
    mean = (vectors * real).sum(dim=1) / real.sum(dim=1)
    return mean / mean.norm(dim=-1, keepdim=True)
    # END SOLUTION


check("q2", embed)

# %% [markdown] question="q3"
# With a handful of labels there is little to train. So train nothing: average the vectors of each class, bring each
# mean to length 1, and give every query the class whose mean has the **largest dot product** with it. `labels` are
# whole numbers from 0 to `n_classes - 1`, and each of them occurs.


# %% question="q3"
def nearest_mean(vectors, labels, queries, n_classes):
    """Unit vectors (n, m), their labels (n), queries (q, m) and a number of classes
    give whole numbers (q).
    """
    # BEGIN SOLUTION
    means = torch.stack(
        [vectors[labels == k].mean(dim=0) for k in range(n_classes)]
    )
    # Without this, a class whose texts agree with each other would have a longer
    # mean, and win too often.
    means = means / means.norm(dim=-1, keepdim=True)
    return (queries @ means.mT).argmax(dim=-1)
    # END SOLUTION


check("q3", nearest_mean)

# %% [markdown] question="q4"
# The rival is TF-IDF: count the words of a text, and give rare words more weight. With $n$ texts to learn from, $n_w$
# of which contain the word $w$, the weight of $w$ is $\ln\frac{1+n}{1+n_w}+1$. The vector of a text holds count times
# weight for each word of the texts to learn from, in alphabetical order, and is brought to length 1. Other words are
# left out; a text of nothing but such words gets zeros.
#
# A colleague sorts tickets with this and a linear head. In her test all went well, with all test tickets at once. In
# operation tickets come one at a time, and now and then a ticket *from the test* gets another answer than it got there.
# Nothing in the program is random. Find the bug and repair it.


# %% question="q4"
def tfidf(train, texts):
    """A list of strings to learn from and a list of strings to represent give
    (texts, words of `train`).
    """
    words = sorted({word for text in train for word in text.split()})
    # BEGIN SOLUTION
    # The test's own texts took part in weighing the words: a leak. So a vector
    # depended on what else was in the list.
    known = train
    # INSTEAD
    # known = train + texts
    # END SOLUTION
    n_with = [sum(word in text.split() for text in known) for word in words]
    weights = torch.tensor(
        [math.log((1 + len(known)) / (1 + n)) + 1 for n in n_with]
    )
    counts = torch.tensor(
        [[text.split().count(word) for word in words] for text in texts]
    )
    return F.normalize(counts * weights, dim=-1)


check("q4", tfidf)

# %% [markdown] question="q5"
# Two methods answered the same $n$ test texts. By how much is the first ahead, and how sure is that? The **lead** is
# the accuracy of the first minus that of the second. As for its standard error, remember that both sat the *same*
# examination: a text that both get right, or both get wrong, does not tell them apart. So write the lead as a mean over
# texts. The standard error of a mean of $n$ numbers is their standard deviation over $\sqrt{n}$; for the standard
# deviation, too, divide by $n$, not by $n-1$.


# %% question="q5"
def lead(truth, first, second):
    """Right answers and those of two methods, whole numbers (n), give two numbers:
    the lead and its standard error.
    """
    # BEGIN SOLUTION
    # 1 where only the first is right, -1 where only the second is, 0 where the text
    # cannot tell them apart.
    gain = (first == truth).double() - (second == truth).double()
    return gain.mean(), gain.std(correction=0) / len(gain) ** 0.5
    # END SOLUTION


check("q5", lead)

# %% [markdown] question="q6"
# Two learning curves: the accuracy of a frozen encoder (`first`) and of counting words (`second`), measured at the same
# numbers of labels (`sizes`, growing). The first is ahead at the smallest size. At some size the second has overtaken
# it, and stays ahead from there on. Join neighbouring points by straight lines **on a logarithmic axis of labels**. At
# how many labels do the two lines cross? Do not round.


# %% question="q6"
def crossing(sizes, first, second):
    """Three lists of numbers, of the same length, give a number of labels."""
    # BEGIN SOLUTION
    leads = [a - b for a, b in zip(first, second, strict=True)]
    after = next(i for i, ahead in enumerate(leads) if ahead < 0)
    before = after - 1
    share = leads[before] / (leads[before] - leads[after])
    # On a logarithmic axis a share of the way is a power of the ratio.
    return sizes[before] * (sizes[after] / sizes[before]) ** share
    # END SOLUTION


check("q6", crossing)

# %% [markdown] question="q7"
# Put it together, with the chapter's two safeguards: a floor, and a broken encoder. The **last** `n_test` texts are the
# test; all texts before them are there to learn from. Classes are 0, 1, ..., and each occurs among the texts to learn
# from. Give a dict of three accuracies, each the share of right answers on the test:
#
# - `"guess"`: everybody gets the class that is most frequent *among the texts to learn from* (there is only one).
# - `"encoder"`: nearest means of the vectors (`given.nearest_mean`).
# - `"broken"`: the same, when the vectors have been dealt to the wrong texts: text `i` gets the vector of text
#   `order[i]`, for **all** texts, and keeps its own label.


# %% question="q7"
def trial(vectors, labels, n_test, order):
    """Unit vectors (n, m), labels (n), a number of texts and an order (n) give
    {"guess": ..., ...}.
    """
    # BEGIN SOLUTION
    known, truth = labels[:-n_test], labels[-n_test:]

    def accuracy(answers):
        return (answers == truth).double().mean().item()

    def by_means(x):
        return given.nearest_mean(
            x[:-n_test], known, x[-n_test:], int(known.max()) + 1
        )

    return {
        "guess": accuracy(known.mode().values),
        "encoder": accuracy(by_means(vectors)),
        # Same numbers, same labels, but they no longer belong together: what is
        # left is what luck or a leak can do.
        "broken": accuracy(by_means(vectors[order])),
    }
    # END SOLUTION


check("q7", trial)

# %% [markdown] question="q8"
# An experiment. What is one label worth? Let a text have a vector of 100 standard normal numbers, plus 0.2 each if it
# is of class 0, minus 0.2 each if it is of class 1. (Lengths are not 1 here, and need not be.) Whoever knows the two
# means gets about 97.7 % of all texts right. You get **one** labelled text of each class, and classify 20 new texts of
# each by nearest means, as in question 3. Draw everything anew 400 times. What is the mean accuracy?
#
# `given.nearest_mean` also takes all draws at once: vectors (400, 2, 100), labels (400, 2) and queries (400, 40, 100)
# give (400, 40). Afterwards look at how much the accuracy varies from draw to draw, and at two, five and ten labels of
# each class.

# %% question="q8"
# BEGIN SOLUTION
torch.manual_seed(0)


def texts_of_each(k, draws=400):
    classes = torch.arange(2).repeat_interleave(k).expand(draws, -1)
    return torch.randn(draws, 2 * k, 100) + torch.where(classes == 0, 0.2, -0.2)[
        :, :, None
    ], classes


(labelled, their_classes), (new, right_classes) = (
    texts_of_each(1),
    texts_of_each(20),
)
found = given.nearest_mean(labelled, their_classes, new, 2)
# From draw to draw it varies by about 0.09: with one label, it is luck which label
# one has.
one_shot = (found == right_classes).double().mean().item()
# END SOLUTION
check("q8", one_shot)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

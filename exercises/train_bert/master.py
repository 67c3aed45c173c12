# %% [markdown]
# # Exercise: hidden words, from a stain to a reader that doubts its eyes
#
# You will find a word under a stain with pencil and paper, let both neighbours of a gap speak, hide whole words, work
# out how far a reader should believe what it sees, and repair a control that flatters a probe. Then you put it
# together: a reader for texts with gaps and wrong words. At the end you measure what the right-hand side is worth. The
# chapter [Training a BERT](chapter:practice/train_bert) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: batch `b`, position `t`, vocabulary `v`; `n` gaps or places. A token is its
#   number, from 0 to `v` - 1. The mask has the number `v`: no table and no distribution has an entry for it.

# %%
import torch

from fmcourse.exercises import start

check = start("train_bert")
given = check.given

# %% [markdown] question="q1"
# Seven notes of three words:
#
# > a small house · a small house · a small tree · a tall house · the tall tree · the tall tree · the small house
#
# On an eighth there is a stain: *a ▇ tree*. Suppose that each word depends on the word before it alone. Then the
# chances of a word under the stain go with the product of two shares: how often it comes after *a*, and how often
# *tree* comes after it. How likely is *tall*, when *small* and *tall* are the only candidates? Use pencil and paper;
# two digits will do. Then look whether *a tall tree* was ever among the notes.

# %% question="q1"
# BEGIN SOLUTION
# After a (4 times): small 3, tall 1. Tree after small (4 times): 1; after tall (3
# times): 2. The whole note never came, and yet it is nearly as likely as the other.
small, tall = 3 / 4 * 1 / 4, 1 / 4 * 2 / 3
share_of_tall = tall / (small + tall)
# END SOLUTION
check("q1", share_of_tall)

# %% [markdown] question="q2"
# The same for any tables and for many gaps at once. `to_gap[l, w]` is the probability that `w` stands in the gap when
# `l` stands left of it; `from_gap[w, r]` is the probability that `r` stands right of the gap when `w` is in it. (In
# question 1 the two are one table; a gap whose neighbours are farther away needs two.) For each gap its left and its
# right neighbour are known. How likely is each word in the gap, given both? At least one word is possible in each gap;
# impossible ones get 0.


# %% question="q2"
def both_sides(to_gap, from_gap, left, right):
    """Two tables (v, v) and two rows of whole numbers (n,) give (n, v); each row of
    the result sums to one.
    """
    # BEGIN SOLUTION
    # The left neighbour picks a row, the right one a column: it is the word that
    # follows.
    products = to_gap[left] * from_gap[:, right].mT
    return products / products.sum(dim=-1, keepdim=True)
    # END SOLUTION


check("q2", both_sides)

# %% [markdown] question="q3"
# A word may be several tokens: *dino ##saur ##s*. If only *##saur* is hidden, the other two give it away. So hide whole
# words. Each row is handled by itself:
#
# - A word is a token and all tokens right after it for which `continues` is True. A row may begin in the middle of a
#   word; what is there of it counts as a word. `special` tokens belong to no word and are never hidden; after a special
#   token no word continues.
# - A word's draw is the number in `draws` at its **first token**. Numbers at other tokens do not matter. No two numbers
#   of a row are equal.
# - Take words in the order of their draws, the smallest first, as long as the tokens of all the words taken are at most
#   `n`. **Stop at the first word that does not fit**: if shorter words could slip in after it, long words would be
#   hidden too seldom.
#
# The package's own function is not allowed. Loops are fine.


# %% question="q3"
def choose_words(continues, special, draws, n):
    """True/False (b, t), True/False (b, t), numbers from 0 to 1 (b, t) and a whole
    number give True/False (b, t): which tokens to hide.
    """
    # BEGIN SOLUTION
    chosen = torch.zeros_like(special)
    for row in range(len(special)):
        words = []
        for i in range(special.shape[1]):
            if special[row, i]:
                continue
            if continues[row, i] and words:
                words[-1].append(i)
            else:
                words.append([i])
        words.sort(key=lambda word: draws[row, word[0]].item())
        used = 0
        for word in words:
            used += len(word)
            if used > n:
                break
            chosen[row, word] = True
    return chosen
    # END SOLUTION


check("q3", choose_words)

# %% [markdown] question="q4"
# BERT does not always show a mask at a chosen place. With probability `keep` the token stays as it is. With probability
# `replace` a token takes its place that is drawn evenly from all `v` tokens (it may happen to be the same one).
# Otherwise the mask is shown.
#
# You see `n` places that were **all chosen**. For each you know `context`, the probability of every token there given
# the rest of the text, as if the place were hidden; and `shown`, what stands there: a token, or the mask, which has the
# number `v`. How likely is each token to be the original, now that you have seen what is shown? Whether a mask comes
# does not depend on the word. Every token that is shown could come about.


# %% question="q4"
def believe(context, shown, keep, replace):
    """Probabilities (n, v), whole numbers from 0 to v (n,) and two numbers give
    probabilities (n, v).
    """
    # BEGIN SOLUTION
    v = context.shape[-1]
    # If the original is y, the place shows a by keeping (only if y is a) or by a
    # hit of the random draw (whatever y is).
    eyes = keep * (shown[:, None] == torch.arange(v)) + replace / v
    # A mask comes equally often for every word: it tells nothing.
    eyes = torch.where(shown[:, None] == v, 1.0, eyes)
    joint = context * eyes
    return joint / joint.sum(dim=-1, keepdim=True)
    # END SOLUTION


check("q4", believe)

# %% [markdown] question="q5"
# A linear probe can learn things by heart. A *control task* shows how much: every word gets a label by the toss of a
# coin, the same wherever the word stands. The probe learns from the places in `learn` and is judged by those in `judge`
# (the numbers of the words at these places). `coins` has as many coins as there are different words in both parts
# **together**, and coin $k$ belongs to the $k$-th smallest of these numbers, counted from 0.
#
# A colleague is delighted. On the places it learns from, her probe gets 95 % of the coins right; on new places 50 %, as
# if it had never seen the words. "It cannot learn words by heart," she says, "so all that it knows is meaning." But
# nearly all words of `judge` occur in `learn` too. Find the bug and repair it.


# %% question="q5"
def control(learn, judge, coins):
    """Whole numbers (n,), whole numbers (m,) and True/False, one for each different
    word, give the labels (n,) and (m,).
    """
    # BEGIN SOLUTION
    # Ranked in each part alone, a word had one rank in learn and another in judge
    # as soon as a smaller word was missing from one of them.
    words = torch.cat([learn, judge])
    rank = words.unique(return_inverse=True)[1]
    return coins[rank[: len(learn)]], coins[rank[len(learn) :]]
    # INSTEAD
    # labels = []
    # for part in (learn, judge):
    #     _, rank = part.unique(return_inverse=True)
    #     labels.append(coins[rank])
    # return tuple(labels)
    # END SOLUTION


check("q5", control)

# %% [markdown] question="q6"
# Now a reader. The text was written by a `table` (`v`, `v`): `table[i, j]` is the probability that token `j` comes
# right after token `i`, whatever stood before. In `row` the tokens are shown as in question 4: true ones, wrong ones,
# and masks (number `v`), also several masks side by side. The first and the last token are visible and true.
#
# For each place between them say how likely each token is to be the original:
#
# 1. **The context.** Look left and right for the nearest places that do not show a mask. Take what stands there as
#    true, and forget what stands at the place itself. How likely is each token here? Such a neighbour may be several
#    steps away, with masks between, about which nothing is known.
# 2. **The eyes.** Treat the place as one that was chosen, and take into account what is shown there, with `keep` and
#    `replace`, as in question 4.
#
# `given.both_sides` and `given.believe` are there.


# %% question="q6"
def read(table, row, keep, replace):
    """A table (v, v), whole numbers from 0 to v (t,) and two numbers give
    probabilities (t - 2, v).
    """
    # BEGIN SOLUTION
    v, contexts = len(table), []
    visible = [i for i in range(len(row)) if row[i] != v]
    for i in range(1, len(row) - 1):
        left = max(j for j in visible if j < i)
        right = min(j for j in visible if j > i)
        # n steps at once: the sum over everything between is a matrix product.
        to_gap = torch.linalg.matrix_power(table, i - left)
        from_gap = torch.linalg.matrix_power(table, right - i)
        contexts.append(
            given.both_sides(to_gap, from_gap, row[left][None], row[right][None])
        )
    return given.believe(torch.cat(contexts), row[1:-1], keep, replace)
    # END SOLUTION


check("q6", read)

# %% [markdown] question="q7"
# An experiment. How much is the right-hand side worth? Make at least 10,000 notes of three words, each with a table of
# its own: a vocabulary of 8 words, and each row of the table is the softmax of **2 times** a standard normal number for
# each word. Draw the left word evenly, the middle one from the left one's row, the right one from the middle one's row.
# Hide the middle word, and guess the likeliest one, knowing the table and both neighbours. In which share of the notes
# is the guess right? Then guess from the left neighbour alone, compare, and say to yourself what would happen to the
# difference if every word had only one that can follow it.

# %% question="q7"
# BEGIN SOLUTION
n, v = 20_000, 8
table, each = (2 * torch.randn(n, v, v)).softmax(dim=-1), torch.arange(n)
left = torch.randint(v, (n,))
middle = torch.multinomial(table[each, left], 1)[:, 0]
right = torch.multinomial(table[each, middle], 1)[:, 0]
# The left word picks a row of each table, the right word a column.
product = table[each, left] * table[each, :, right]
found = (product.argmax(dim=-1) == middle).double().mean().item()
# END SOLUTION
check("q7", found)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

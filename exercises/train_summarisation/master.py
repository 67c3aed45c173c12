# %% [markdown]
# # Exercise: headlines, from three scores by hand to a copier on a leash
#
# You will score a headline with pencil and paper, write the score, and look for the best that cutting could ever reach.
# You will repair a network that forgets what a text says twice, find out which of its words were copied, and let it
# write headlines on a leash that keeps it near the text and from going in circles. At the end you measure how much of
# a ceiling is luck. The chapter [Training a summariser](chapter:practice/train_summarisation) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Shapes are written as in the book: `t` steps (tokens of the headline), `s` places of the text, `v` tokens in the
#   vocabulary. A token is its number. Where a text is a list of words, take them as they are: no stems, nothing left
#   out.

# %%
import torch

from fmcourse.exercises import start

check = start("train_summarisation")
given = check.given

# %% [markdown] question="q1"
# A person wrote the headline *a fast editor for xml files*, a program *fast xml files viewer for fast files*. What are
# ROUGE-1 (words), ROUGE-2 (pairs of neighbouring words) and ROUGE-L (the longest row of words that stands in both in
# the same order, gaps allowed) of the program's headline? Each is the harmonic mean of precision and recall, between 0
# and 1. Give a list of three numbers, to two digits; fractions such as `1 / 3` are welcome.

# %% question="q1"
# BEGIN SOLUTION
# 7 words and 6; shared are fast, xml, files and for, each once, since the person
# said them once. 6 pairs and 5; shared is "xml files". In order: fast, for, files.
rouge_by_hand = [2 * 4 / (7 + 6), 2 * 1 / (6 + 5), 2 * 3 / (7 + 6)]
# END SOLUTION
check("q1", rouge_by_hand)

# %% [markdown] question="q2"
# Now ROUGE-n for any `n`: the items are groups of `n` neighbouring words. A group is shared as often as it stands in
# **both**. With $c$ shared groups, $m$ in the output and $k$ in the reference, the score is $2c/(m+k)$; if neither has
# a group, it is 0. Libraries for ROUGE are not allowed.


# %% question="q2"
def rouge_n(output, reference, n):
    """Two lists of words (they may be empty) and a whole number from 1 give a
    number from 0 to 1.
    """
    # BEGIN SOLUTION
    from collections import Counter

    said, wanted = (
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        for words in (output, reference)
    )
    # The intersection of two Counters keeps the smaller number of each group.
    shared = (said & wanted).total()
    return 2 * shared / max(1, said.total() + wanted.total())
    # END SOLUTION


check("q2", rouge_n)

# %% [markdown] question="q3"
# How good could a headline be that is cut out of the text in one piece? Look for it with the answer in hand: of all
# runs of at most `longest` neighbouring words of `text`, give the one with the highest ROUGE-1 against `headline`, as a
# list of words. There is always exactly one best run. `given.rouge_n` is there.


# %% question="q3"
def best_span(text, headline, longest):
    """Two lists of words and a whole number from 1 give a list of words."""
    # BEGIN SOLUTION
    spans = [
        text[i:j]
        for i in range(len(text))
        for j in range(i + 1, min(i + longest, len(text)) + 1)
    ]
    return max(spans, key=lambda span: given.rouge_n(span, headline, 1))
    # END SOLUTION


check("q3", best_span)

# %% [markdown] question="q4"
# A pointer-generator writes the next token with probability $g$, drawn from `write`; otherwise it copies: it points at
# one place of the text, with the probabilities `weights` over the places, and takes the token that stands there. This
# function gives the probability of every token, for `t` steps at once.
#
# A colleague has trained with it. On short texts all is well, she says. On long ones copying helps less and less, and
# just those words that a text says again and again, the best candidates for its headline, hardly ever come. Find the
# bug and repair it.


# %% question="q4"
def mixture(write, weights, gate, source):
    """Probabilities of tokens (t, v) and of places (t, s), g of each step (t,), the
    text's tokens (s,); gives (t, v).
    """
    copied = torch.zeros_like(write)
    # BEGIN SOLUTION
    # A token may stand at several places, and the ways to it add up. An assignment
    # keeps only one of them; the rest of the probability was lost.
    copied = copied.index_add(1, source, weights)
    # INSTEAD
    # copied[:, source] = weights
    # END SOLUTION
    return gate[:, None] * write + (1 - gate[:, None]) * copied


check("q4", mixture)

# %% [markdown] question="q5"
# Nobody tells such a network which tokens to copy. But once a token has come, we can ask who wrote it. For each of `t`
# steps you get what question 4 had, and the token that came. Give two things:
#
# 1. its **copied share**: the probability that it was copied, given that it is this token;
# 2. the **slope** $\partial L/\partial z$ of its loss $L=-\ln p$ by the number $z$ behind the gate, $g=\sigma(z)$. A
#    positive slope means that training will lower $z$: less writing, more copying.
#
# Find a formula for the slope; automatic differentiation is not needed. `given.mixture` is there.


# %% question="q5"
def who_wrote(write, weights, gate, source, tokens):
    """As for the mixture, and whole numbers (t,); gives (copied shares (t,), slopes
    (t,)).
    """
    # BEGIN SOLUTION
    p = given.mixture(write, weights, gate, source)
    p = p.gather(1, tokens[:, None])[:, 0]
    # All places at which the token stands.
    pointed = (weights * (source == tokens[:, None])).sum(dim=1)
    copied = (1 - gate) * pointed / p
    # What the gate expected minus what turned out: the written share.
    return copied, gate - (1 - copied)
    # END SOLUTION


check("q5", who_wrote)

# %% [markdown] question="q6"
# Now let it write. In this small network all depends on the token said last. After token `a` it writes with the
# probabilities `write[a]`, with $g$ = `gate[a]`; place `i` of the text gets the score `point[a, source[i]]`, and the
# weights of the places are the softmax of these scores over the places. Token `v` - 1 is both the **start**, after
# which the first token comes, and the **end**. It is never in the text.
#
# Be greedy, on a leash. At each step take the most probable token (by the mixture of question 4) among those allowed:
#
# 1. The end is always allowed. Of the others only tokens that stand in the text, and the `free` ones (`free[a]` is
#    True for them: the function words).
# 2. So that it cannot go in circles, no **pair** of neighbouring tokens may come twice in the headline. A token would
#    not be allowed if with the last one it made a pair that is there already. (A token may come twice.)
#
# Stop when the end is taken, or when the headline has `longest` tokens. Give the tokens, without start and end, and
# for each its copied share, as in question 5. What the leash forbids does not change the shares. `given.mixture` and
# `given.who_wrote` are there; they want one row for each step, and one row is enough.


# %% question="q6"
def write_headline(write, point, gate, source, free, longest):
    """Probabilities (v, v), scores (v, v), numbers (v,), tokens (s,), True/False
    (v,) and a whole number from 1; gives (list of tokens, list of shares).
    """
    # BEGIN SOLUTION
    end = len(gate) - 1
    said, shares = [end], []
    while len(said) <= longest:
        last = said[-1]
        weights = point[last, source].softmax(dim=-1)[None]
        step = write[last][None], weights, gate[last][None], source
        allowed = free.clone()
        allowed[source] = True
        # What followed the last token earlier would now repeat a pair.
        for i in range(len(said) - 1):
            if said[i] == last:
                allowed[said[i + 1]] = False
        allowed[end] = True
        token = int(given.mixture(*step)[0].masked_fill(~allowed, -1).argmax())
        if token == end:
            break
        said.append(token)
        shares.append(float(given.who_wrote(*step, torch.tensor([token]))[0]))
    return said[1:], shares
    # END SOLUTION


check("q6", write_headline)

# %% [markdown] question="q7"
# An experiment. A ceiling such as that of question 3 chooses with the answer in hand. How much of it is luck? Make
# texts of 40 words and headlines of 6 words that have **nothing to do with each other**: every word of both is drawn by
# itself from 500 words, of which word number $k$ ($k=1,\dots,500$) has a probability in proportion to $1/k$; in real
# texts, too, a few words are very frequent and most are rare. For each text find the best run of at most 10 words, by
# ROUGE-1 against its headline. How high is this best ROUGE-1 on average? Use at least 500 texts. (Call functions of
# your own here: `given` would be slow in so long a loop, and so are tensors of one number.)
#
# Then score the first 6 words of each text instead, and leave the ten most frequent words out of both. Say to yourself
# what a ceiling of 0.6 means.

# %% question="q7"
# BEGIN SOLUTION
from collections import Counter

frequency = 1 / torch.arange(1, 501)


def luckiest(text, headline):
    wanted, best = Counter(headline), 0
    for i in range(40):
        said, shared = Counter(), 0
        for j in range(i, min(i + 10, 40)):
            # One word more: it is shared if the headline still wants one of it.
            said[text[j]] += 1
            shared += said[text[j]] <= wanted[text[j]]
            best = max(best, 2 * shared / (j + 1 - i + 6))
    return best


words = frequency.expand(1000, -1).multinomial(46, replacement=True).tolist()
luck = sum(luckiest(row[:40], row[40:]) for row in words) / len(words)
# END SOLUTION
check("q7", luck)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

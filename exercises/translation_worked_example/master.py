# %% [markdown]
# # Exercise: translation, from a pencil to the best of all sentences
#
# You will learn word links from sentence pairs, find out why somebody's attention "does not align", search for the best
# sentence with a beam and then without any doubt, write BLEU, and measure how often greedy search is wrong. The chapter
# [A translation, number by number](chapter:mathematics/translation_worked_example) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - Logarithms are natural. Words are numbers, and a sentence is a list of them.

# %%
import torch

from fmcourse.exercises import start

check = start("translation_worked_example")
given = check.given

# %% [markdown] question="q1"
# You are given two headings and their translations: *house* is *Haus*, and *the house* is *das Haus*. You do not know
# which word belongs to which. Do **one round** of IBM model 1 with a pencil, beginning with everything equally likely:
# share each German word out among the English words of its pair, count, and divide. What is $P(\text{Haus}\mid
# \text{house})$ now?

# %% question="q1"
# BEGIN SOLUTION
# house has received 1 of Haus in the first pair, 1/2 of das and 1/2 of Haus in the
# second.
haus_given_house = (1 + 1 / 2) / (1 + 1 / 2 + 1 / 2)
# END SOLUTION
check("q1", haus_given_house)

# %% [markdown] question="q2"
# Now for any pairs: one round, from one table to the next. `table[a, b]` is the probability of target word `b` given
# source word `a`. `pairs` is a list of pairs (source words, target words), each a list of whole numbers. Share every
# target word of a pair out among the source words **of that pair**, in proportion to `table`; add the shares up over
# all pairs; make a new table whose rows sum to 1.
#
# A word may stand twice in a sentence; then each of its places gets a share. Every source word of the table occurs in
# some pair.


# %% question="q2"
def em_step(table, pairs):
    """A table (source words, target words) and a list of pairs give the next table,
    of the same shape.
    """
    # BEGIN SOLUTION
    counts = torch.zeros_like(table)
    for source, target in pairs:
        for word in target:
            whole = table[source, word].sum()
            # A loop, because `counts[source, word] += ...` would change equal
            # places only once.
            for owner in source:
                counts[owner, word] += table[owner, word] / whole
    return counts / counts.sum(dim=1, keepdim=True)
    # END SOLUTION


check("q2", em_step)

# %% [markdown] question="q3"
# Which source word does a head of cross-attention look at *while a target word is written*? A decoder reads
# *start, word 0, word 1, ...* and is one step ahead with its pen: the row that reads *start* writes word 0, the row
# that reads word 0 writes word 1, and the last row writes the end. So for $t$ target words there are $t+1$ rows.
#
# A link (`i`, `j`) says that source place `i` and target place `j` belong together. A head finds it when, in the row
# that **writes** word `j`, its largest weight is on source place `i`. A colleague wrote this function, and reports that
# the model translates well but that no head of it aligns better than chance: "attention is no explanation". Find the
# bug before the paper goes out.


# %% question="q3"
def links_found(weights, links):
    """Weights (h, t + 1, s) and a list of links (source place, target place) give
    the share found by each head (h).
    """
    largest = weights.argmax(dim=-1)
    # BEGIN SOLUTION
    # Row j + 1 has word j as its input: there the word is read, and the model is
    # busy with the next one.
    found = [largest[:, j] == i for i, j in links]
    # INSTEAD
    # found = [largest[:, j + 1] == i for i, j in links]
    # END SOLUTION
    return torch.stack(found).float().mean(dim=0)


check("q3", links_found)

# %% [markdown] question="q4"
# For the rest we need a translator that is small enough to know everything about it. Ours has one sentence to
# translate, and chooses each word by looking at the previous one only. `table[a, b]` is $\ln P(b \mid a)$, the
# log-probability that `b` follows `a`. The words are 1, 2, 3, ... The number 0 is no word: **as a row it is the start,
# as a column it is the end**.
#
# The sentence `[2, 1]` has three factors: 2 after the start, 1 after 2, the end after 1. Write the score by which beam
# search ranks sentences: their log-probability, divided by the length penalty
# $\left(\frac{5+|y|}{6}\right)^{\alpha}$, where $|y|$ counts the words *and the end*. The list may be empty: silence is
# a sentence, too.


# %% question="q4"
def score(sentence, table, alpha):
    """A list of words, a table (v, v) of log-probabilities and a number alpha give
    a number.
    """
    # BEGIN SOLUTION
    previous, following = [0, *sentence], [*sentence, 0]
    return table[previous, following].sum() / ((5 + len(following)) / 6) ** alpha
    # END SOLUTION


check("q4", score)

# %% [markdown] question="q5"
# Search with a beam. Begin with one empty beginning, of log-probability 0. At each step
#
# 1. continue every beginning in all possible ways: by every word and by the end. A beginning that has `longest` words
#    already can only be continued by the end.
# 2. Of **all** these continuations together, keep the `size` most probable (all of them, if there are fewer).
# 3. Those that have just ended are finished and leave the beam; the others are the beginnings of the next step.
#
# When no beginning is left, return the finished sentence with the best `given.score(sentence, table, alpha)`, without
# the 0 of its end. In the checks there are no ties.
#
# Try it on `torch.tensor([[0.1, 0.5, 0.4], [0.34, 0.33, 0.33], [0.9, 0.05, 0.05]]).log()`, with at most two words and
# without a penalty: a beam of one takes the bait and says `[1]`, a beam of two says `[2]`.


# %% question="q5"
def beam_search(table, size, longest, alpha):
    """A table (v, v), the size of the beam, the largest number of words, and alpha
    give a list of words.
    """
    # BEGIN SOLUTION
    running, finished = [([], 0.0)], []
    while running:
        grown = []
        for words, total in running:
            follows = table[words[-1] if words else 0].tolist()
            for word in range(len(follows)) if len(words) < longest else [0]:
                grown.append(([*words, word], total + follows[word]))
        # All continuations compete, those that end too: so a beam of 1 is greedy
        # search.
        best = sorted(grown, key=lambda pair: pair[1], reverse=True)[:size]
        finished += [words[:-1] for words, _ in best if words[-1] == 0]
        running = [pair for pair in best if pair[0][-1] != 0]
    return max(finished, key=lambda words: given.score(words, table, alpha))
    # END SOLUTION


check("q5", beam_search)

# %% [markdown] question="q6"
# A beam promises nothing. What *is* the log-probability of the most probable of all sentences with at most `longest`
# words, the factor of the end included, without penalty? There may be more such sentences than you can try: 20 words
# out of a dozen, for instance. But this translator looks at the previous word only, and that helps. (For a
# Transformer, which looks at all words before, it does not; there one can only throw away what is already less probable
# than some finished sentence. That also works here, if you prefer it.)


# %% question="q6"
def best_log_probability(table, longest):
    """A table (v, v) and the largest number of words give the largest
    log-probability of a sentence, a number.
    """
    # BEGIN SOLUTION
    # The best beginning that ends in each word. What follows depends on that word
    # alone, so no other can overtake it.
    reached = table[0]
    best = reached[0]
    for _ in range(longest):
        reached = (reached[1:, None] + table[1:]).amax(dim=0)
        best = torch.maximum(best, reached[0])
    return best
    # END SOLUTION


check("q6", best_log_probability)

# %% [markdown] question="q7"
# More probable is not yet better, so translations are compared with what people wrote. Write BLEU (without the help of
# a library that has it), for a list of outputs and a list of references, one reference for each output; words are
# separated by spaces.
#
# - For $n = 1, 2, 3, 4$ the *precision* is the share of groups of $n$ successive words of the outputs that are also in
#   their reference. A group counts at most as often as its own reference has it. Hits and groups are added up over all
#   sentences **before** the one is divided by the other.
# - The *brevity penalty* is $e^{1-r/c}$ when all outputs together have fewer words ($c$) than all references ($r$),
#   else 1.
# - BLEU is 100 times the brevity penalty times the geometric mean of the four precisions; 0 if a precision is 0.


# %% question="q7"
def bleu(outputs, references):
    """Two lists of strings, of the same length, give a number from 0 to 100."""
    # BEGIN SOLUTION
    from collections import Counter
    from math import exp

    def groups(text, n):
        words = text.split()
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    product = 1.0
    for n in (1, 2, 3, 4):
        sides = [
            (groups(a, n), groups(b, n))
            for a, b in zip(outputs, references, strict=True)
        ]
        # The intersection of two Counters keeps the smaller number of each group:
        # that is the clipping.
        hits = sum((said & wanted).total() for said, wanted in sides)
        product *= hits / max(1, sum(said.total() for said, _ in sides))
    c, r = (
        sum(len(text.split()) for text in side) for side in (outputs, references)
    )
    return 100 * min(1, exp(1 - r / c)) * product**0.25
    # END SOLUTION


check("q7", bleu)

# %% [markdown] question="q8"
# An experiment. How often does greedy search miss the most probable sentence? Draw 3000 tables or more:
# `(2 * torch.randn(3000, 6, 6)).log_softmax(dim=-1)`, that is five words, start and end. Sentences have at most five
# words. For each table, let greedy search (a beam of one, no penalty) find its sentence, and compare the
# log-probability of that sentence with the optimum. Which share of the tables does greedy search get wrong?
#
# `given.best_log_probability` also takes all tables at once, (n, 6, 6), and gives n numbers. Call it in this way, and
# write greedy search yourself, it is a short loop: 3000 calls of a `given` function take the grader too long.
#
# Then try beams of two, four and eight, and say to yourself whether such *search errors* are bad for a translation.

# %% question="q8"
# BEGIN SOLUTION
logits = 2 * torch.randn(3000, 6, 6, generator=torch.Generator().manual_seed(0))
tables = logits.log_softmax(dim=-1)
optimum = given.best_log_probability(tables, 5)
found = []
for table in tables:
    words = []  # the likeliest word, until the end is likelier than any word
    while len(words) < 5 and (
        word := int(table[words[-1] if words else 0].argmax())
    ):
        words.append(word)
    found.append(table[[0, *words], [*words, 0]].sum())
# The same sum in another order may differ in the last digit; that is no miss.
missed = (torch.stack(found) < optimum - 1e-4).float().mean().item()
# END SOLUTION
check("q8", missed)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

# %% [markdown]
# # Exercise: tokens, from two merges by hand to the price of a vocabulary
#
# You will find two merges with a pencil, write byte-pair encoding in three small steps, repair an encoder that is too
# fast, turn bytes back into text, work out what a vocabulary costs, and measure how often a fingerprint finds a copy.
# The chapter [From text to tokens](chapter:algorithm/data_preprocessing) has all that you need.
#
# - After each question run `check(...)`. It says what is wrong in words, with the smallest case that fails, and gives
#   one more hint with each attempt. It works offline and never shows a solution.
# - Questions can be answered in any order: the functions in `given` are right answers to the earlier ones, so that an
#   early mistake is not paid for twice.
# - A *symbol* is a string: a letter at first, later a longer piece. A *word* is a tuple of symbols, a *pair* a tuple of
#   two. A text is a dict from each different word to how often it occurs: `{("s", "e", "a"): 4, ("t", "e", "a"): 3}`.
#   Pairs are sought within words, never across the border between two.

# %%
from fmcourse.exercises import start

check = start("data_preprocessing")
given = check.given

# %% [markdown] question="q1"
# This is a whole text:
#
# | word | how often |
# |---|---|
# | n o s e | 3 |
# | s n o w | 1 |
# | o n e | 6 |
# | n o o n | 1 |
#
# Do the first **two** merges of byte-pair encoding with pencil and paper. Which two symbols do they make? Give the
# joined strings in order; had *s* and *e* been joined first, then *se* and *t*, it would be `["se", "set"]`.

# %% question="q1"
# BEGIN SOLUTION
# First count: o n 6 + 1 = 7, n e 6, n o 3 + 1 + 1 = 5. Then, with the new symbol:
# on e 6, n o 5.
first_two = ["on", "one"]
# END SOLUTION
check("q1", first_two)

# %% [markdown] question="q2"
# Count all pairs of neighbouring symbols in a text. A pair may stand in a word several times, and `a a a` holds the
# pair `a a` twice. Pairs that do not occur are not in the dict.


# %% question="q2"
def count_pairs(words):
    """A dict from words (tuples of symbols) to counts gives a dict from pairs
    (tuples of two symbols) to counts.
    """
    # BEGIN SOLUTION
    pairs = {}
    for symbols, count in words.items():
        for i in range(len(symbols) - 1):
            pair = symbols[i], symbols[i + 1]
            # Not 1 but the count: the pair stands there in every occurrence of the
            # word.
            pairs[pair] = pairs.get(pair, 0) + count
    return pairs
    # END SOLUTION


check("q2", count_pairs)

# %% [markdown] question="q3"
# Join one pair in one word, wherever it stands: at the end too, several times, or nowhere. Go from left to right; a
# symbol is used only once, so that `a a a` with the pair `a a` becomes `aa a`. Symbols may have several letters, and
# only whole symbols count.


# %% question="q3"
def merge_pair(symbols, pair):
    """A tuple of symbols and a tuple of two give the list of symbols after the
    merge.
    """
    # BEGIN SOLUTION
    joined, i = [], 0
    while i < len(symbols):
        # After a join both symbols are used up: go on by two.
        width = 2 if tuple(symbols[i : i + 2]) == pair else 1
        joined.append("".join(symbols[i : i + width]))
        i += width
    return joined
    # END SOLUTION


check("q3", merge_pair)

# %% [markdown] question="q4"
# Now learn. Again and again, join the most frequent pair in all words, and note it. Stop after `n_merges` merges, or
# earlier when no pair is left. In the texts of this question every symbol is one letter at first.
#
# Equal counts need a rule, and it is the chapter's: **the pair of the older symbols wins**. Letters are older than all
# joined symbols, and among letters the one that comes first in the alphabet is older. A joined symbol is as old as the
# merge that first made it. Compare the left symbols of the pairs; if these are the same, the right ones.
#
# `given.count_pairs` and `given.merge_pair` are there if yours are not ready. The package has this function, too; do
# not call that one, nor a library's trainer.


# %% question="q4"
def learn_merges(words, n_merges):
    """A dict from words to counts, and a number, give the list of pairs in the
    order in which they are joined.
    """
    # BEGIN SOLUTION
    age = {
        letter: i
        for i, letter in enumerate(
            sorted({letter for word in words for letter in word})
        )
    }
    merges = []
    while len(merges) < n_merges and (pairs := given.count_pairs(words)):
        # The most frequent first, then the older left, then the older right symbol.
        best = min(
            pairs, key=lambda pair: (-pairs[pair], age[pair[0]], age[pair[1]])
        )
        merges.append(best)
        age.setdefault("".join(best), len(age))
        words = {
            tuple(given.merge_pair(symbols, best)): count
            for symbols, count in words.items()
        }
    return merges
    # END SOLUTION


check("q4", learn_merges)

# %% [markdown] question="q5"
# A model was trained with one encoder and now runs with another: a colleague has rewritten it, because going through
# all merges for every word was slow. All looks well. Every word comes back whole when its symbols are joined, and every
# symbol is in the vocabulary. But the model's loss on the very same text is suddenly higher. Find out what this encoder
# does differently, and repair it: it must cut a word as learning would have cut it, every merge in its turn. Speed does
# not matter here. `merges` are in the order in which they were learned; a letter that is in no merge stays as it is.


# %% question="q5"
def encode(word, merges):
    """A word (a string) and a list of pairs, in the order in which they were
    learned, give a list of symbols.
    """
    # BEGIN SOLUTION
    # The order of the merges is a part of the tokeniser: an early merge takes its
    # letters before a later one can.
    symbols = list(word)
    for pair in merges:
        symbols = given.merge_pair(tuple(symbols), pair)
    return symbols
    # INSTEAD
    # known = set(merges)
    # symbols, i = list(word), 0
    # while i < len(symbols) - 1:
    #     if (symbols[i], symbols[i + 1]) in known:
    #         symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    #         i = max(i - 1, 0)  # the new symbol may fit the one before it
    #     else:
    #         i += 1
    # return symbols
    # END SOLUTION


check("q5", encode)

# %% [markdown] question="q6"
# Real tokenisers start from bytes. `pieces[i]` holds the bytes of token `i` as numbers from 0 to 255, and a text comes
# as a list of such `i`. Give the text that the bytes spell in UTF-8. A model may write anything: where the bytes are no
# UTF-8, put the character U+FFFD, just as Python's own `bytes.decode` does with `errors="replace"`.


# %% question="q6"
def decode(ids, pieces):
    """A list of token numbers, and a list with the bytes of every token
    (lists of numbers), give a string.
    """
    # BEGIN SOLUTION
    # A character may be spread over several tokens, so all bytes come together
    # before they are read.
    together = bytes(byte for i in ids for byte in pieces[i])
    return together.decode("utf-8", errors="replace")
    # END SOLUTION


check("q6", decode)

# %% [markdown] question="q7"
# How many merges shall a tokeniser have? More merges make fewer tokens, but each entry of the vocabulary costs
# something for every token. Reading one token takes a GPT of $L$ layers of width $d$ with $v$ entries about
# $2 (12 L d^2 + v d)$ operations.
#
# Write a function that compares tokenisers by the operations **per character** of a test text. For every number in
# `sizes`: take so many merges, learned from the words of `train`; encode the words of `test`, each as often as it
# occurs; and divide the operations for all these tokens by the characters of all these words. The vocabulary holds
# every letter of `train` and one entry for each merge. The words of both are tuples of letters; no letter is new in
# `test`, and `sizes` never asks for more merges than can be learned. `given.learn_merges` and `given.encode` are there.


# %% question="q7"
def prices(train, test, sizes, n_layers, width):
    """Two dicts from words to counts, a list of numbers of merges, L and d: a list
    with one price for each number.
    """
    # BEGIN SOLUTION
    # The first merges are the same for every size.
    merges = given.learn_merges(train, max(sizes))
    letters = len({letter for word in train for letter in word})
    characters = sum(count * len(word) for word, count in test.items())
    costs = []
    for size in sizes:
        tokens = sum(
            count * len(given.encode("".join(word), merges[:size]))
            for word, count in test.items()
        )
        costs.append(
            tokens
            * 2
            * (12 * n_layers * width**2 + (letters + size) * width)
            / characters
        )
    return costs
    # END SOLUTION


check("q7", prices)

# %% [markdown] question="q8"
# An experiment. Of 60 different shingles, document A holds the numbers 0 to 44 and document B the numbers 15 to 59:
# their Jaccard similarity is 30/60, one half. Give every shingle a random number; that is one hash function, the same
# for both documents. With 64 such functions make the MinHash signatures of A and B (64 numbers each), and cut them into
# **16 bands of 4**. Do the two agree on at least one whole band? Repeat all of it at least 2000 times, with new random
# numbers each time. In which share of the repetitions do they? Then try 4 bands of 16, or documents that have less in
# common, and compare with the S-curve of the chapter.

# %% question="q8"
# BEGIN SOLUTION
import torch

repeats = 0
for _ in range(2000):
    hashes = torch.rand(64, 60)
    equal = hashes[:, :45].amin(dim=1) == hashes[:, 15:].amin(dim=1)
    repeats += bool(equal.view(16, 4).all(dim=1).any())
found = repeats / 2000
# END SOLUTION
check("q8", found)

# %% [markdown]
# ## Your progress
#
# The table shows these checks; the mark comes from the grader, which tries your functions on other inputs. Save the
# notebook and hand it in together with the receipt.

# %%
check.progress()

# %%
check.receipt().name

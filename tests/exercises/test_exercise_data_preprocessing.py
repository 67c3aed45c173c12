"""The exercise of `algorithm/data_preprocessing`: its references beside a library and brute force, unusual answers."""

import codecs
import json
import random
import re
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from fmcourse.exercises import load
from fmcourse.exercises.session import examine
from fmcourse.tokenizers import apply_merge
from fmcourse.tokenizers import learn_merges as learn_merges_of_the_package

SEEDS = tuple(range(100, 120))


def text_of(words):
    return " ".join("".join(word) for word, count in words.items() for _ in range(count))


def library_merges(words, n_merges):
    """What the `tokenizers` library learns from the text written out."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=len(set(text_of(words)) - {" "}) + n_merges, show_progress=False)
    library.train_from_iterator([text_of(words)], trainer)
    return [tuple(merge) for merge in json.loads(library.to_str())["model"]["merges"]]


def library_encode(word, merges):
    """The `tokenizers` library, given the merges."""
    letters = sorted({*word, *"".join(left + right for left, right in merges)})
    vocabulary = dict.fromkeys([*letters, *(left + right for left, right in merges)])
    vocabulary = {symbol: i for i, symbol in enumerate(vocabulary)}
    return Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(merge) for merge in merges])).encode(word).tokens


def count_by_hand(words):
    """Every position of the text written out, one after the other."""
    found = defaultdict(int)
    for word, count in words.items():
        for _ in range(count):
            for i in range(len(word) - 1):
                found[word[i], word[i + 1]] += 1
    return found


def prices_by_hand(train, test, sizes, n_layers, width):
    """The chapter's formula, the library's merges and tokens, the test text written out."""
    found = []
    for size in sizes:
        merges = library_merges(train, size)
        n_tokens = sum(len(library_encode(word, merges)) for word in text_of(test).split())
        entries = len(set(text_of(train)) - {" "}) + size
        cost = n_tokens * (24 * n_layers * width * width + 2 * entries * width)
        found.append(cost / len(text_of(test).replace(" ", "")))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_data_preprocessing_references_equal_a_library_and_brute_force(seed):
    exercise = load("data_preprocessing")
    for case in exercise.question("q2").draw(seed):
        assert exercise.given["count_pairs"](*case.args) == count_by_hand(*case.args)
    for case in exercise.question("q3").draw(seed):
        assert exercise.given["merge_pair"](*case.args) == apply_merge(*case.args)
    for case in exercise.question("q4").draw(seed):
        learned = exercise.given["learn_merges"](*case.args)
        assert learned == library_merges(*case.args) == learn_merges_of_the_package(*case.args)
    for case in exercise.question("q5").draw(seed):
        assert exercise.given["encode"](*case.args) == library_encode(*case.args)
    for case in exercise.question("q6").draw(seed):
        ids, pieces = case.args
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        text = "".join(decoder.decode(bytes(pieces[i])) for i in ids) + decoder.decode(b"", True)
        assert exercise.question("q6").reference(*case.args) == text
    for case in exercise.question("q7").draw(seed):
        assert exercise.question("q7").reference(*case.args) == pytest.approx(prices_by_hand(*case.args))


def test_data_preprocessing_by_hand():
    words = {tuple("nose"): 3, tuple("snow"): 1, tuple("one"): 6, tuple("noon"): 1}
    assert ["".join(merge) for merge in library_merges(words, 2)] == load("data_preprocessing").question("q1").reference
    first, second = (sorted(count_by_hand(words).values())[i] for i in (-1, -2))
    assert first > second, "no tie may decide what is found by hand"


@pytest.mark.parametrize("seed", range(3))
def test_data_preprocessing_by_measurement(seed):
    """Random orders instead of random numbers, and Python's sets instead of tensors."""
    chance, found = random.Random(seed), 0
    a, b, shingles = set(range(45)), set(range(15, 60)), list(range(60))
    for _ in range(2000):
        bands = []
        for _ in range(16):
            orders = [chance.sample(shingles, 60) for _ in range(4)] if not bands or not bands[-1] else []
            same = [next(s for s in order if s in a) == next(s for s in order if s in b) for order in orders]
            bands.append(all(same))
        found += any(bands)
    assert load("data_preprocessing").question("q8").accepts(found / 2000)


@pytest.mark.parametrize("seed", range(6))
def test_data_preprocessing_measured_as_in_the_chapter(seed):
    """Multiplicative hashing of 64-bit integers, whose orders are not equally likely, is good enough too."""
    chance = np.random.default_rng(seed)
    codes = chance.integers(0, 2**32, (2000, 1, 60), dtype=np.uint64)
    factor = chance.integers(1, 2**63, (2000, 64, 1), dtype=np.uint64) * 2 + 1
    hashes = (factor * codes + chance.integers(0, 2**63, (2000, 64, 1), dtype=np.uint64)) >> np.uint64(32)
    equal = hashes[..., :45].min(axis=-1) == hashes[..., 15:].min(axis=-1)
    found = equal.reshape(2000, 16, 4).all(axis=-1).any(axis=-1).mean()
    assert load("data_preprocessing").question("q8").accepts(float(found))


def merge_backwards_over_a_list(symbols, pair):
    """Joins in place, from places that were found before."""
    symbols, places, i = list(symbols), [], 0
    while i < len(symbols) - 1:
        if symbols[i] == pair[0] and symbols[i + 1] == pair[1]:
            places.append(i)
            i += 1
        i += 1
    for i in reversed(places):
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    return symbols


def merge_with_a_pattern(symbols, pair):
    """A regular expression that minds the borders of symbols."""
    left, right = map(re.escape, pair)
    text = re.sub(rf"(?<!\S){left} {right}(?!\S)", "".join(pair), " ".join(symbols))
    return tuple(text.split())


def merge_by_recursion(symbols, pair):
    if len(symbols) < 2:
        return list(symbols)
    if tuple(symbols[:2]) == tuple(pair):
        return ["".join(pair), *merge_by_recursion(symbols[2:], pair)]
    return [symbols[0], *merge_by_recursion(symbols[1:], pair)]


def learn_by_sorting(words, n_merges):
    """A list of symbols in order of age; all pairs sorted; a text of lists."""
    spelled, merges = [[list(word), count] for word, count in words.items()], []
    symbols = sorted(set("".join("".join(word) for word in words)))
    for _ in range(n_merges):
        pairs = Counter()
        for word, count in spelled:
            pairs.update({pair: n * count for pair, n in Counter(pairwise(word)).items()})
        if not pairs:
            break
        in_order = sorted(pairs, key=lambda pair: (symbols.index(pair[0]), symbols.index(pair[1])))
        best = max(in_order, key=pairs.__getitem__)  # the first of equal ones
        merges.append(list(best))
        if "".join(best) not in symbols:
            symbols.append("".join(best))
        for entry in spelled:
            entry[0] = merge_by_recursion(entry[0], best)
    return merges


def encode_by_rank(word, merges):
    """The pair of the lowest rank, one place at a time, as published encoders do it."""
    rank, symbols = {tuple(pair): i for i, pair in enumerate(merges)}, list(word)
    while places := [(rank[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in rank]:
        _, i = min(places)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    return symbols


def decode_by_hand(ids, pieces):
    data = bytearray()
    for i in ids:
        data.extend(pieces[i])
    return str(data, "utf-8", "replace")


UNUSUAL = {
    "q2": [count_by_hand, lambda words: Counter(p for w, n in words.items() for p in list(pairwise(w)) * n)],
    "q3": [merge_backwards_over_a_list, merge_by_recursion, merge_with_a_pattern],
    "q4": [learn_by_sorting, library_merges],
    "q5": [encode_by_rank, library_encode],
    "q6": [decode_by_hand, lambda ids, pieces: b"".join(bytes(pieces[i]) for i in ids).decode(errors="replace")],
    "q7": [prices_by_hand, lambda *args: [np.float64(price).item() for price in prices_by_hand(*args)]],
}


@pytest.mark.parametrize("question_id", UNUSUAL)
def test_data_preprocessing_right_but_unusual_answers_lose_nothing(question_id):
    question = load("data_preprocessing").question(question_id)
    for answer in UNUSUAL[question_id]:
        assert examine(question, answer, SEEDS) is None

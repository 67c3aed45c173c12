"""The exercise of `algorithm/data_preprocessing`: byte-pair encoding step by step, its price, and a fingerprint."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

from fmcourse.exercises.spec import Case, Draw, Exercise, Misconception, Question

Pair = tuple[str, str]
Words = dict[tuple[str, ...], int]  # the symbols of each different word, and how often it occurs


def count_pairs(words: Words) -> dict[Pair, int]:
    """How often each pair of neighbours occurs in the text."""
    pairs: Counter[Pair] = Counter()
    for symbols, count in words.items():
        for pair in pairwise(symbols):
            pairs[pair] += count
    return dict(pairs)


def merge_pair(symbols: tuple[str, ...], pair: Pair) -> list[str]:
    """Join the pair wherever it stands, from left to right."""
    joined, i = [], 0
    while i < len(symbols):
        width = 2 if tuple(symbols[i : i + 2]) == tuple(pair) else 1
        joined.append("".join(symbols[i : i + width]))
        i += width
    return joined


def learn_merges(words: Words, n_merges: int) -> list[Pair]:
    """The first merges of byte-pair encoding; among equally frequent pairs the one of the older symbols wins."""
    return _learn(words, n_merges, lambda pair, age: (age[pair[0]], age[pair[1]]))


def _learn(words: Words, n_merges: int, rank: Callable[[Pair, dict[str, int]], tuple[object, ...]]) -> list[Pair]:
    age = {letter: i for i, letter in enumerate(sorted({letter for word in words for letter in word}))}
    merges: list[Pair] = []
    while len(merges) < n_merges and (pairs := count_pairs(words)):
        best = min(pairs, key=lambda pair: (-pairs[pair], *rank(pair, age)))
        merges.append(best)
        age.setdefault("".join(best), len(age))
        words = {tuple(merge_pair(symbols, best)): count for symbols, count in words.items()}
    return merges


def encode(word: str, merges: list[Pair]) -> list[str]:
    """The symbols of a word: every merge in turn, in the order in which they were learned."""
    symbols = list(word)
    for pair in merges:
        symbols = merge_pair(tuple(symbols), pair)
    return symbols


def decode(ids: list[int], pieces: list[list[int]]) -> str:
    """The text of the ids: all bytes first, then the characters that they spell."""
    return bytes(byte for i in ids for byte in pieces[i]).decode("utf-8", errors="replace")


def prices(train: Words, test: Words, sizes: list[int], n_layers: int, width: int) -> list[float]:
    """Operations per character of the test text, for each number of merges learned from the training text."""
    merges = learn_merges(train, max(sizes))
    letters = len({letter for word in train for letter in word})
    characters = sum(count * len(word) for word, count in test.items())
    tokens = [sum(n * len(encode("".join(word), merges[:size])) for word, n in test.items()) for size in sizes]
    each = [2 * (12 * n_layers * width**2 + (letters + size) * width) for size in sizes]
    return [n * cost / characters for n, cost in zip(tokens, each, strict=True)]


def _word(draw: Draw, symbols: str, low: int, high: int) -> tuple[str, ...]:
    return tuple(symbols[i] for i in draw.sizes(*[(0, len(symbols) - 1)] * draw.sizes((low, high))[0]))


def _words(draw: Draw, letters: str, n: int, low: int = 2, high: int = 6) -> Words:
    """`n` different words; the first holds every letter."""
    words = {tuple(letters): 1}
    while len(words) < n:
        words.setdefault(_word(draw, letters, low, high), draw.sizes((2, 9))[0])
    return words


def _count_cases(draw: Draw) -> list[Case]:
    words = _words(draw, "abcd", draw.sizes((5, 8))[0])
    return [
        Case("one word that occurs twice", ({("n", "o"): 2},)),
        Case("three equal letters", ({("a", "a", "a"): 2, ("b", "a"): 3},)),
        Case("a word of one letter", ({("a",): 4, ("a", "b"): 3, ("b", "a"): 1},)),
        Case("more words", (words,)),
        Case("longer symbols", ({tuple(merge_pair(word, ("a", "b"))): n for word, n in words.items()},)),
    ]


def _merge_cases(draw: Draw) -> list[Case]:
    return [
        Case("one pair in a short word", (("a", "b", "c"), ("b", "c"))),
        Case("the pair occurs twice", (("a", "b", "c", "a", "b"), ("a", "b"))),
        Case("three equal symbols", (("a", "a", "a"), ("a", "a"))),
        Case("a longer symbol with the same end", (("xa", "b", "a", "b", "c"), ("a", "b"))),
        Case("only the other way round", (("b", "a"), ("a", "b"))),
        Case("a longer word", (_word(draw, "ab", 8, 12), ("a", "b"))),
    ]


def _learn_cases(draw: Draw) -> list[Case]:
    n, m = draw.sizes((5, 6), (7, 9))
    return [
        Case("one merge", ({("n", "o"): 3, ("s", "o"): 2, ("s", "o", "s"): 2}, 1)),
        Case("a tie after the first merge", ({("r", "a", "r", "e"): 2}, 2)),
        Case("fewer pairs than merges asked for", ({("a", "b", "c"): 2}, 5)),
        Case("a rare word of many pairs", ({("a", "b", "a", "b", "a", "b"): 1, ("b", "c"): 5, ("a", "c"): 4}, 3)),
        Case("more words", (_words(draw, "abc", n), 6)),
        Case("many merges", (_words(draw, "abcd", m), 8)),
    ]


def _encode_cases(draw: Draw) -> list[Case]:
    merges, unseen = learn_merges(_words(draw, "abcd", 9), 8), _words(draw, "abcd", 3, 5, 8)
    return [
        Case("two merges want the same letter", ("abc", [("b", "c"), ("a", "b")])),
        Case("a long symbol that rank does not build", ("abcd", [("a", "b"), ("c", "d"), ("ab", "c")])),
        Case("a symbol of three letters", ("abcab", [("b", "c"), ("a", "bc"), ("a", "b")])),
        Case("a letter without a merge", ("aba?ab", [("a", "b"), ("ab", "a")])),
        *(Case("merges learned from more words", ("".join(word), merges)) for word in unseen),
    ]


def _cut(draw: Draw, text: str) -> tuple[list[int], list[list[int]]]:
    """Ids and pieces of a text whose bytes are cut at random places."""
    data, cut = list(text.encode()), list[list[int]]()
    while data:
        cut.append([data.pop(0) for _ in range(min(len(data), draw.sizes((1, 3))[0]))])
    pieces = [list(piece) for piece in sorted(set(map(tuple, cut)))]
    return [pieces.index(piece) for piece in cut], pieces


def _decode_cases(draw: Draw) -> list[Case]:
    text = "".join(_word(draw, "aé好😀ñ語 z€", 6, 10))
    return [
        Case("two letters", ([1, 0], [[105], [104]])),
        Case("a letter of two bytes in two tokens", ([0, 1, 2], [[110], [195], [169]])),
        Case("a text that ends inside a character", ([0, 1], [[104, 105], [226, 130]])),
        Case("a longer text", _cut(draw, text)),
        Case("tokens in any order", (draw.sizes(*[(0, 3)] * 6), [[229, 165], [189], [97], [98, 195]])),
    ]


def _price_cases(draw: Draw) -> list[Case]:
    n, m, size, width = draw.sizes((9, 10), (3, 5), (2, 4), (5, 9))
    test = {("a", "b", "c"): 4, **_words(draw, "abc", m)}
    return [
        Case("one word, no merge or one", ({("n", "o"): 3}, {("n", "o"): 1, ("o", "n"): 2}, [0, 1], 1, 2)),
        Case("other words in the test", (_words(draw, "abc", n), test, [0, size, 8], 1, width)),
        Case("a deeper model", (_words(draw, "abcd", n), _words(draw, "abcd", m), [8, size], 3, width + 1)),
    ]


def _once_a_word(words: Words) -> dict[Pair, int]:
    return dict(Counter(pair for word, n in words.items() for pair in set(pairwise(word)) for _ in range(n)))


def _across_words(words: Words) -> dict[Pair, int]:
    return count_pairs({tuple(symbol for word, n in words.items() for symbol in word * n): 1})


def _in_a_string(symbols: tuple[str, ...], pair: Pair) -> list[str]:
    return " ".join(symbols).replace(" ".join(pair), "".join(pair)).split(" ")


def _overlapping(symbols: tuple[str, ...], pair: Pair) -> list[str]:
    here = [found == pair for found in pairwise(symbols)]
    used = zip(symbols, [*here, False], [False, *here], strict=True)
    return ["".join(pair) if first else symbol for symbol, first, second in used if first or not second]


def _first_only(symbols: tuple[str, ...], pair: Pair) -> list[str]:
    i = [*pairwise(symbols), pair].index(pair)
    return [*symbols[:i], *["".join(pair)][: len(symbols) - i - 1], *symbols[i + 2 :]]


def _stale(words: Words, n_merges: int) -> list[Pair]:
    pairs = count_pairs(words)
    return sorted(pairs, key=lambda pair: (-pairs[pair], pair))[:n_merges]


def _by_position(word: str, merges: list[Pair]) -> list[str]:
    symbols, i = list(word), 0
    while i < len(symbols) - 1:
        if (symbols[i], symbols[i + 1]) in merges:
            symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
            i = max(i - 1, 0)
        else:
            i += 1
    return symbols


def _longest(word: str, merges: list[Pair]) -> list[str]:
    known, found = {"".join(pair) for pair in merges}, list[str]()
    while word:
        n = next(n for n in range(len(word), 0, -1) if n == 1 or word[:n] in known)
        found, word = [*found, word[:n]], word[n:]
    return found


def _latin(ids: list[int], pieces: list[list[int]]) -> str:
    return "".join(chr(byte) for i in ids for byte in pieces[i])


EXERCISE = Exercise(
    name="data_preprocessing",
    chapter="algorithm/data_preprocessing",
    title="Tokens, from two merges by hand to the price of a vocabulary",
    given={"count_pairs": count_pairs, "merge_pair": merge_pair, "learn_merges": learn_merges, "encode": encode},
    questions=(
        Question(
            id="q1",
            title="By hand",
            kind="recall",
            points=1,
            minutes=6,
            answer="first_two",
            expects="a list of two strings: the symbol that the first merge makes, then that of the second.",
            reference=["on", "one"],
            hints=(
                "A pair counts once for every time it stands in the text: in a word that occurs 6 times, 6 times.",
                "After the first merge write every word with the new symbol and count again: some old pairs are gone.",
            ),
            misconceptions=(
                Misconception("unweighted", ["no", "on"], "each word is counted once, however often it occurs."),
                Misconception("not counted again", ["on", "ne"], "the second pair comes from the first count."),
                Misconception("letters only", ["on", "no"], "only letters are joined; a new symbol takes part, too."),
            ),
        ),
        Question(
            id="q2",
            title="Count the pairs",
            kind="code",
            points=2,
            minutes=8,
            answer="count_pairs",
            expects="a dict from each pair of neighbouring symbols to how often it occurs in the whole text.",
            reference=count_pairs,
            cases=_count_cases,
            hints=(
                "Which pairs does one word hold? Its symbols 0 and 1, then 1 and 2, and so on.",
                "A word that occurs n times brings each of its pairs n times; one that stands in it twice, 2n times.",
            ),
            misconceptions=(
                Misconception("unweighted", lambda w: count_pairs(dict.fromkeys(w, 1)), "each word counts only once."),
                Misconception("once a word", _once_a_word, "a pair that stands in a word twice is counted once there."),
                Misconception("across words", _across_words, "the end of a word is paired with the start of the next."),
            ),
        ),
        Question(
            id="q3",
            title="Merge one pair",
            kind="code",
            points=2,
            minutes=8,
            answer="merge_pair",
            expects="the list of symbols, the pair joined wherever it stands, from left to right; none is used twice.",
            reference=merge_pair,
            cases=_merge_cases,
            hints=(
                "Walk from left to right and write a new list. How far do you move on after a join, how far otherwise?",
                "Compare whole symbols: xa and b are not the pair (a, b), though an a stands before a b.",
                "A while loop whose index grows by two or by one will do; the last symbol has no neighbour.",
            ),
            misconceptions=(
                Misconception("in a string", _in_a_string, "a string is searched, where xa b looks as if it held a b."),
                Misconception("used twice", _overlapping, "one symbol is used in two joins."),
                Misconception("only the first", _first_only, "only the first place is joined."),
            ),
            forbidden=frozenset({"apply_merge"}),
        ),
        Question(
            id="q4",
            title="Learn the merges",
            kind="code",
            points=3,
            minutes=15,
            answer="learn_merges",
            expects="the list of merged pairs, in order; the one of the older symbols where counts are equal.",
            reference=learn_merges,
            cases=_learn_cases,
            hints=(
                "Count, choose, merge in every word, and count again. Stop early when no word has a pair left.",
                "Keep a dict with the age of every symbol: the sorted letters get 0, 1, 2, ..., a new symbol the next.",
                "The best pair is a minimum over three numbers: minus its count, the age of its left, of its right.",
            ),
            misconceptions=(
                Misconception(
                    "unweighted",
                    lambda words, n: learn_merges(dict.fromkeys(words, 1), n),
                    "each word counts once, however often it occurs.",
                ),
                Misconception("not counted again", _stale, "pairs are counted only once, before the first merge."),
                Misconception(
                    "ties by spelling",
                    lambda words, n: _learn(words, n, lambda pair, age: pair),
                    "ties go by spelling; age decides, and a joined symbol is younger than every letter.",
                ),
                Misconception(
                    "ties by chance",
                    lambda words, n: _learn(words, n, lambda pair, age: ()),
                    "among equally frequent pairs the first one found wins, not the one of the older symbols.",
                ),
            ),
            forbidden=frozenset({"learn_merges", "apply_merge", "BPETokenizer", "BpeTrainer"}),
        ),
        Question(
            id="q5",
            title="Find the bug: an encoder in a hurry",
            kind="find the bug",
            points=3,
            minutes=12,
            answer="encode",
            expects="the symbols of the word after every merge, in the order in which the merges were learned.",
            reference=encode,
            cases=_encode_cases,
            hints=(
                "Encode abc by hand with the merges (b, c) and (a, b), in this order. Then let the code do it.",
                "A set forgets something that a list of merges knows. When two pairs want the same letter, who wins?",
                "The merge learned first is done first, wherever in the word it stands; then the next one.",
            ),
            misconceptions=(
                Misconception("the bug itself", _by_position, "the leftmost pair wins, not the one learned first."),
                Misconception("longest first", _longest, "the longest known symbol is taken; the order is not used."),
                Misconception("backwards", lambda word, m: encode(word, m[::-1]), "the last merge is done first."),
            ),
            forbidden=frozenset({"BPETokenizer", "BPE"}),
        ),
        Question(
            id="q6",
            title="Bytes back to text",
            kind="code",
            points=2,
            minutes=8,
            answer="decode",
            expects="the text that the bytes of all tokens spell together, with U+FFFD where they are no UTF-8.",
            reference=decode,
            cases=_decode_cases,
            hints=(
                "The letter é is two bytes in UTF-8. What happens if they are in two tokens?",
                "First put the bytes of all tokens into one row, then ask which characters they spell.",
            ),
            misconceptions=(
                Misconception(
                    "alone", lambda ids, p: "".join(decode([i], p) for i in ids), "tokens are decoded alone."
                ),
                Misconception("a character a byte", _latin, "every byte became a character; this is mojibake."),
                Misconception("silent", lambda *a: decode(*a).replace("\ufffd", ""), "what is no UTF-8 is left out."),
            ),
        ),
        Question(
            id="q7",
            title="Design: what does a vocabulary cost?",
            kind="code",
            points=4,
            minutes=15,
            answer="prices",
            expects="for each number of merges the operations per character of the test text, a list of numbers.",
            reference=prices,
            cases=_price_cases,
            hints=(
                "One step at a time: learn, encode the test words, count tokens and characters, then the formula.",
                "One learning run is enough: the first n merges are the same, however many follow.",
                "A word that occurs five times has five times its tokens, and five times its characters.",
            ),
            misconceptions=(
                Misconception("per token", lambda a, b, *c: prices(a, {("?",): 1}, *c), "this is the cost of a token."),
                Misconception("a leak", lambda a, b, *c: prices(b, b, *c), "the merges come from the test words."),
                Misconception("once", lambda a, b, *c: prices(a, dict.fromkeys(b, 1), *c), "test words count once."),
            ),
        ),
        Question(
            id="q8",
            title="Measure: found by its fingerprint",
            kind="experiment",
            points=3,
            minutes=16,
            answer="found",
            expects="the share of repetitions in which the two agree on a whole band (16 bands of 4 numbers).",
            reference=1 - (1 - 0.5**4) ** 16,
            accepts=lambda value: 0.575 <= value <= 0.713,
            hints=(
                "A random number for each of the 60 shingles is one hash function; both documents use the same one.",
                "A signature: for each of 64 hash functions the smallest number among the document's own shingles.",
                "A band agrees when all four of its numbers do. A repetition counts once, when any band agrees.",
            ),
            misconceptions=(
                Misconception("equal numbers", 0.5, "this is the share of equal numbers in the two signatures."),
                Misconception("one band", 0.5**4, "this is the chance of one given band; any of the 16 will do."),
                Misconception("any number", 1.0, "one equal number is enough here; a band needs four."),
                Misconception("4 bands of 16", 1 - (1 - 0.5**16) ** 4, "bands are too long, or no hash is shared."),
            ),
            atol=0.03,
        ),
    ),
)

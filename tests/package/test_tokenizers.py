"""Tokenizers lose nothing; byte-pair encoding learns and applies the merges of the `tokenizers` library."""

import json
import random
from collections import Counter
from itertools import pairwise

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers.models.gpt2.tokenization_gpt2 import GPT2Tokenizer

from fmcourse.data.text import shakespeare_works
from fmcourse.tokenizers import (
    BPETokenizer,
    CharacterTokenizer,
    apply_merge,
    byte_symbols,
    from_state,
    learn_merges,
    split_words,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates included
CHINESE = "春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"
MIXED = "naïve café, don't! 你好 世界 😀👩‍👩‍👧 2024年 ½ ١٢٣ \t\n  x²  \u200b\ufeff\x00 ａｂｃ"


def random_text(seed, alphabet, words):
    """Short random words of few letters: many pairs are equally frequent."""
    draw = random.Random(seed)
    return " ".join("".join(draw.choices(alphabet, k=draw.randint(1, 9))) for _ in range(words))


CORPORA = {
    "sonnets": (lambda: shakespeare_works()["sonnets"], 700),
    "a play": (lambda: shakespeare_works()["macbeth"][:60_000], 500),
    "ties": (lambda: "ab cd ef gh ba dc fe hg abab cdcd efef", 30),
    "repeats": (lambda: "aaaaaaa aaaa aaa aabaabaab bbbbbbbbbbb bababab", 20),
    "random ab": (lambda: random_text(1, "ab", 300), 120),
    "random letters": (lambda: random_text(2, "abcdefgh", 400), 250),
    "Chinese": (lambda: CHINESE * 3, 120),
    "emoji": (lambda: "😀😃😄 🎉🎉 👩‍👩‍👧‍👦 🇨🇳🇫🇷 😀😃 " * 2, 60),
    "mixed": (lambda: MIXED * 2 + CHINESE, 150),
}


def library(text, vocab_size):
    """Byte-pair encoding trained by the `tokenizers` library."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


@pytest.fixture(scope="module", params=CORPORA)
def corpus(request):
    """A text, and the tokenizers that the library and we learn from it."""
    make, merges = CORPORA[request.param]
    text = make()
    theirs = library(text, 256 + merges)
    learned = theirs.get_vocab_size() - 256  # a small text may run out of pairs
    assert learned >= min(merges, 9)
    return text, theirs, BPETokenizer.train(text, 256 + learned)


def test_merges_equal_the_librarys_in_order(corpus):
    _, theirs, ours = corpus
    wanted = [tuple(merge) for merge in json.loads(theirs.to_str())["model"]["merges"]]
    assert ours.merges == wanted
    assert ours.vocab == theirs.get_vocab()


def test_encodings_equal_the_librarys(corpus):
    text, theirs, ours = corpus
    for sample in (text, text[7:207], text[::-1], MIXED, CHINESE, shakespeare_works()["hamlet"][:5000], "", " "):
        assert ours.encode(sample) == theirs.encode(sample).ids
        assert ours.symbols(sample) == theirs.encode(sample).tokens
        assert ours.decode(ours.encode(sample)) == sample == theirs.decode(theirs.encode(sample).ids)


def test_learning_equals_counting_every_pair_anew_after_each_merge():
    text = random_text(3, "abcd", 200)
    words = Counter(split_words(text))
    spelled, wanted = {word: list(word) for word in words}, []
    age = {symbol: i for i, symbol in enumerate(sorted(set("".join(words))))}
    for _ in range(60):
        pairs = Counter()
        for word, symbols in spelled.items():
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], age[pair[0]], age[pair[1]]))
        wanted.append(best)
        age["".join(best)] = len(age)
        spelled = {word: apply_merge(symbols, best) for word, symbols in spelled.items()}
    assert learn_merges({tuple(word): n for word, n in words.items()}, 60) == wanted


@pytest.mark.parametrize(
    ("word", "merge", "wanted"),
    [
        ("abcab", ("a", "b"), ["ab", "c", "ab"]),
        ("aaaaa", ("a", "a"), ["aa", "aa", "a"]),
        ("aba", ("b", "a"), ["a", "ba"]),
        ("", ("a", "b"), []),
        ("abc", ("x", "y"), ["a", "b", "c"]),
    ],
)
def test_a_merge_joins_from_left_to_right(word, merge, wanted):
    assert apply_merge(list(word), merge) == wanted


def test_byte_symbols_equal_gpt2s_table():
    bytes_to_unicode = GPT2Tokenizer.__init__.__globals__.get("bytes_to_unicode")
    if bytes_to_unicode is None:
        from transformers.convert_slow_tokenizer import bytes_to_unicode
    assert byte_symbols() == bytes_to_unicode()


GPT2_WORDS = regex.compile(r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+""")


@given(st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=60))  # assigned: libraries differ on the rest
def test_words_are_those_of_gpt2s_pattern(text):
    symbols = byte_symbols()
    wanted = ["".join(symbols[byte] for byte in word.encode()) for word in GPT2_WORDS.findall(text)]
    assert split_words(text) == wanted


SMALL_BPE = BPETokenizer.train(MIXED * 3 + CHINESE, 300)


@given(ANY_TEXT)
def test_bpe_round_trip_loses_nothing(text):
    assert SMALL_BPE.decode(SMALL_BPE.encode(text)) == text
    assert all(0 <= i < SMALL_BPE.vocab_size for i in SMALL_BPE.encode(text))


@given(ANY_TEXT, ANY_TEXT)
def test_character_round_trip_loses_nothing(alphabet, text):
    tokenizer = CharacterTokenizer(alphabet)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    exact = CharacterTokenizer(alphabet + "x", byte_fallback=False)
    assert exact.decode(exact.encode(alphabet)) == alphabet
    assert len(exact.encode(alphabet)) == len(alphabet)


@given(ANY_TEXT)
def test_a_tokenizer_trained_on_any_text_reads_any_text(text):
    tokenizer = BPETokenizer.train(text, 256)
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text", ["\ud800", "a\udfffb", "\ud83d\ude00", "😀\ud83d", "\ud83d\ude00 \ud83d \ude00", "\udc80" * 9]
)
def test_lone_surrogates_survive(text):
    for tokenizer in (SMALL_BPE, CharacterTokenizer("ab"), CharacterTokenizer("")):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.lists(st.integers(0, SMALL_BPE.vocab_size - 1), max_size=30))
def test_any_ids_decode_to_some_text(tokens):
    assert isinstance(SMALL_BPE.decode(tokens), str)
    characters = CharacterTokenizer("".join(map(chr, range(300, 300 + SMALL_BPE.vocab_size - 256))))
    assert isinstance(characters.decode(tokens), str)


def test_bytes_that_are_no_text_decode_to_the_replacement_character():
    start_of_emoji = SMALL_BPE.encode("🦖")[:1]
    assert SMALL_BPE.decode(start_of_emoji) == "\N{REPLACEMENT CHARACTER}"
    assert CharacterTokenizer("ab").decode([0, 2 + 0xF0, 1]) == "a\N{REPLACEMENT CHARACTER}b"


def test_character_ids_are_the_alphabet_in_code_point_order():
    tokenizer = CharacterTokenizer("hello, wörld")
    assert tokenizer.alphabet == " ,dehlorwö"
    assert tokenizer.vocab_size == 10 + 256
    assert tokenizer.encode("deö") == [2, 3, 9]
    assert tokenizer.encode("é") == [10 + 0xC3, 10 + 0xA9]
    assert CharacterTokenizer("hello", byte_fallback=False).vocab_size == 4


@pytest.mark.parametrize(
    "tokenizer",
    [SMALL_BPE, BPETokenizer([]), CharacterTokenizer("héllo"), CharacterTokenizer("ab", byte_fallback=False)],
)
def test_state_survives_json(tokenizer):
    again = from_state(json.loads(json.dumps(tokenizer.state())))
    assert type(again) is type(tokenizer)
    assert again.vocab_size == tokenizer.vocab_size
    assert again.encode("abba" * 3) == tokenizer.encode("abba" * 3) if tokenizer.state()["kind"] == "bpe" else True
    assert again.state() == tokenizer.state()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BPETokenizer.train("text", 255), "vocab_size must be at least 256, one id for each byte; got 255"),
        (lambda: BPETokenizer.train("", 257), "needs 1 merges; this text of 0 characters has only 0"),
        (lambda: BPETokenizer.train("ab", 300), "needs 44 merges; this text of 2 characters has only 1"),
        (lambda: BPETokenizer([("ab", "c")]), "merge 0 joins 'ab' and 'c', which earlier merges have not made"),
        (lambda: CharacterTokenizer("", byte_fallback=False), "text is empty"),
        (
            lambda: CharacterTokenizer("ab", byte_fallback=False).encode("abc"),
            "character 'c' at position 2 is not in the alphabet of 2 characters; .*byte_fallback=True",
        ),
        (
            lambda: CharacterTokenizer("ab").decode([258]),
            "token id 258 is out of range; vocab_size=258 allows 0 to 257",
        ),
        (lambda: SMALL_BPE.decode([5, -1]), "token id -1 is out of range; vocab_size=300 allows 0 to 299"),
        (lambda: from_state({"kind": "words"}), "kind='words' is not known; choose one of 'characters', 'bpe'"),
        (lambda: from_state({}), "kind=None is not known; choose one of 'characters', 'bpe'"),
    ],
)
def test_bad_input_is_refused_with_what_was_given_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()

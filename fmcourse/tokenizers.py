"""Tokenizers: text to integer ids and back, without loss.

All tokenizers share one interface (`Tokenizer`). With our own two, any Python string survives the round trip, lone
surrogates included.
Taught in `algorithm/data_preprocessing`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol, Self

from fmcourse.checks import check_choice

Merge = tuple[str, str]


class Tokenizer(Protocol):
    """What every tokenizer of the course can do."""

    @property
    def vocab_size(self) -> int:
        """Number of ids; ids run from 0 to vocab_size - 1."""

    def encode(self, text: str) -> list[int]:
        """Ids of the text."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids."""

    def state(self) -> dict[str, Any]:
        """Everything needed to make the tokenizer again, as JSON values (see `from_state`)."""


def from_state(state: dict[str, Any]) -> Tokenizer:
    """The tokenizer that `Tokenizer.state` described. Raises ValueError for an unknown kind."""
    kinds: dict[str, Any] = {"characters": CharacterTokenizer, "bpe": BPETokenizer, "library": LibraryTokenizer}
    check_choice("tokenizer kind", state.get("kind"), kinds)
    tokenizer: Tokenizer = kinds[state["kind"]].from_state(state)
    return tokenizer


def _check_ids(ids: Sequence[int], vocab_size: int) -> None:
    for i in ids:
        if not 0 <= i < vocab_size:
            raise ValueError(f"token id {i} is out of range; vocab_size={vocab_size} allows 0 to {vocab_size - 1}")


def _bytes_to_text(data: bytes) -> str:
    """Text of bytes; what is no UTF-8 (a model may write anything) becomes U+FFFD, a surrogate survives."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "replace")


class CharacterTokenizer:
    """One id per character of an alphabet, in code point order.

    Args:
        text: its characters are the alphabet.
        byte_fallback: 256 more ids spell any other character in UTF-8 bytes, so that every string can be encoded.

    Taught in `algorithm/data_preprocessing`.
    """

    def __init__(self, text: str, *, byte_fallback: bool = True) -> None:
        self.alphabet = "".join(sorted(set(text)))
        if not self.alphabet and not byte_fallback:
            raise ValueError("text is empty: an alphabet without byte_fallback needs at least one character")
        self.byte_fallback = byte_fallback
        self._ids = {character: i for i, character in enumerate(self.alphabet)}

    @property
    def vocab_size(self) -> int:
        """Size of the alphabet, and 256 when bytes are the fallback."""
        return len(self.alphabet) + 256 * self.byte_fallback

    def encode(self, text: str) -> list[int]:
        """Ids of the text. Raises ValueError for a character outside the alphabet when there is no fallback."""
        ids = []
        for place, character in enumerate(text):
            if character in self._ids:
                ids.append(self._ids[character])
            elif self.byte_fallback:
                ids += [len(self.alphabet) + byte for byte in character.encode("utf-8", "surrogatepass")]
            else:
                raise ValueError(
                    f"character {character!r} at position {place} is not in the alphabet of {len(self.alphabet)} "
                    "characters; leave it out or use byte_fallback=True"
                )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids. Raises ValueError for an id out of range."""
        _check_ids(ids, self.vocab_size)
        n, out, pending = len(self.alphabet), [], bytearray()
        for i in ids:
            if i >= n:
                pending.append(i - n)
            else:
                out += [_bytes_to_text(bytes(pending)), self.alphabet[i]]
                pending.clear()
        return "".join([*out, _bytes_to_text(bytes(pending))])

    def state(self) -> dict[str, Any]:
        """The alphabet and the choice of fallback."""
        return {"kind": "characters", "alphabet": self.alphabet, "byte_fallback": self.byte_fallback}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The tokenizer that `state` described."""
        return cls(state["alphabet"], byte_fallback=state["byte_fallback"])


@lru_cache(maxsize=1)
def byte_symbols() -> dict[int, str]:
    """A printable character for every byte: itself where it prints, else one from U+0100 on (GPT-2's table).

    Taught in `algorithm/data_preprocessing`. Source: Radford et al. 2019, section 2.2, and its released code.
    """
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def apply_merge(word: Sequence[str], merge: Merge) -> list[str]:
    """Join every occurrence of the pair `merge` in `word`, from left to right."""
    out: list[str] = []
    for symbol in word:
        # `out[-1]` may itself be a fresh join; it is longer than merge[0], so it cannot be taken twice.
        if out and (out[-1], symbol) == merge:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def learn_merges(word_counts: dict[tuple[str, ...], int], n_merges: int) -> list[Merge]:
    """Byte-pair encoding: repeatedly join the most frequent neighbours, and remember in which order.

    Among equally frequent pairs the one of the oldest symbols wins (alphabet first, in code point order). Only words
    that hold the winning pair are counted again, so a merge costs what it changes.

    Args:
        word_counts: symbols of each distinct word, and how often the word occurs.
        n_merges: stop after so many merges, or when no pair is left.

    Taught in `algorithm/data_preprocessing`. Source: Sennrich et al. 2016, algorithm 1.
    """
    words = [list(word) for word in word_counts]
    counts = list(word_counts.values())
    alphabet = sorted({symbol for word in words for symbol in word})
    age = {symbol: i for i, symbol in enumerate(alphabet)}
    pairs: Counter[Merge] = Counter()
    holders: defaultdict[Merge, set[int]] = defaultdict(set)
    for i, word in enumerate(words):
        for pair in pairwise(word):
            pairs[pair] += counts[i]
            holders[pair].add(i)
    merges: list[Merge] = []
    while len(merges) < n_merges and pairs:
        best = min(pairs, key=lambda p: (-pairs[p], age[p[0]], age[p[1]]))
        merges.append(best)
        age.setdefault(best[0] + best[1], len(age))
        for i in list(holders[best]):
            old, new = words[i], apply_merge(words[i], best)
            for pair in pairwise(old):
                pairs[pair] -= counts[i]
                holders[pair].discard(i)
                if not pairs[pair]:
                    del pairs[pair], holders[pair]
            for pair in pairwise(new):
                pairs[pair] += counts[i]
                holders[pair].add(i)
            words[i] = new
    return merges


def split_words(text: str) -> list[str]:
    """GPT-2's words (letters, digits or other signs, each with one space before it), spelled in byte symbols."""
    from tokenizers import pre_tokenizers

    symbols = byte_symbols()
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # The library takes no lone surrogates: cut the text there and spell them by hand.
    out: list[str] = []
    for surrogate, run in _runs(text):
        if surrogate:
            out += ["".join(symbols[byte] for byte in run.encode("utf-8", "surrogatepass"))]
        else:
            out += [word for word, _ in words.pre_tokenize_str(run)]
    return out


def _runs(text: str) -> Iterable[tuple[bool, str]]:
    """Maximal pieces of the text, each with whether it is made of lone surrogates."""
    start = 0
    for end in range(1, len(text) + 1):
        is_surrogate = "\ud800" <= text[start] <= "\udfff"
        if end == len(text) or ("\ud800" <= text[end] <= "\udfff") != is_surrogate:
            yield is_surrogate, text[start:end]
            start = end


class BPETokenizer:
    """Byte-level byte-pair encoding: starts from bytes, so nothing is ever unknown, and joins what is frequent.

    Training is written out in `learn_merges`; encoding runs in the `tokenizers` library, on the same merges.

    Args:
        merges: pairs in the order in which they were learned.

    Taught in `algorithm/data_preprocessing`. Source: Sennrich et al. 2016; Radford et al. 2019, section 2.2.
    """

    def __init__(self, merges: Sequence[Merge]) -> None:
        from tokenizers import Tokenizer as Library
        from tokenizers import decoders, models, pre_tokenizers

        self.merges = [(left, right) for left, right in merges]
        symbols = sorted(byte_symbols().values())
        self.vocab = {symbol: i for i, symbol in enumerate(symbols)}
        for i, (left, right) in enumerate(self.merges):
            if left not in self.vocab or right not in self.vocab:
                raise ValueError(f"merge {i} joins {left!r} and {right!r}, which earlier merges have not made")
            self.vocab.setdefault(left + right, len(self.vocab))
        self._library = Library(models.BPE(vocab=self.vocab, merges=self.merges))
        self._library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        self._library.decoder = decoders.ByteLevel()
        self._symbols = list(self.vocab)
        self._bytes = {symbol: byte for byte, symbol in byte_symbols().items()}

    @classmethod
    def train(cls, text: str, vocab_size: int) -> Self:
        """Learn vocab_size - 256 merges from the text.

        Raises ValueError when vocab_size is under 256, or the text too small to learn that many.
        """
        if vocab_size < 256:
            raise ValueError(f"vocab_size must be at least 256, one id for each byte; got {vocab_size}")
        words = Counter(split_words(text))
        merges = learn_merges({tuple(word): n for word, n in words.items()}, vocab_size - 256)
        if len(merges) < vocab_size - 256:
            raise ValueError(
                f"vocab_size={vocab_size} needs {vocab_size - 256} merges; this text of {len(text)} characters "
                f"has only {len(merges)}"
            )
        return cls(merges)

    @property
    def vocab_size(self) -> int:
        """256 bytes and one id for each merge."""
        return len(self.vocab)

    def encode(self, text: str) -> list[int]:
        """Ids of the text."""
        ids: list[int] = []
        for surrogate, run in _runs(text):
            if surrogate:
                ids += [self.vocab[byte_symbols()[byte]] for byte in run.encode("utf-8", "surrogatepass")]
            else:
                ids += self._library.encode(run).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids. Raises ValueError for an id out of range."""
        _check_ids(ids, self.vocab_size)
        return _bytes_to_text(bytes(self._bytes[s] for i in ids for s in self._symbols[i]))

    def symbols(self, text: str) -> list[str]:
        """The pieces of the text as readable byte symbols (a space shows as Ġ)."""
        return [self._symbols[i] for i in self.encode(text)]

    def state(self) -> dict[str, Any]:
        """The merges."""
        return {"kind": "bpe", "merges": [list(merge) for merge in self.merges]}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The tokenizer that `state` described."""
        return cls([(left, right) for left, right in state["merges"]])


class LibraryTokenizer:
    """A tokenizer of the `tokenizers` library, such as a published one, behind the course's interface.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; whether it loses anything is up to its rules.

    Used in `practice/train_gpt`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return int(self.tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """Ids of the text, without special tokens around it."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the ids. Raises ValueError for an id out of range."""
        _check_ids(ids, self.vocab_size)
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def state(self) -> dict[str, Any]:
        """The library's own description."""
        return {"kind": "library", "json": self.tokenizer.to_str()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The tokenizer that `state` described; needs no network."""
        from tokenizers import Tokenizer as Library

        return cls(Library.from_str(state["json"]))

"""Sentence pairs in two languages, and the batches that an encoder-decoder is trained on.

Used in `mathematics/translation_worked_example`.
"""

import hashlib
import html
import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from fmcourse.checks import check_choice, check_positive
from fmcourse.data.batch import IGNORE, Batch
from fmcourse.data.debian import debian_folder
from fmcourse.tokenizers import Tokenizer

Language = Literal["de", "zh"]
_PACKAGE = {"en": "en-us", "de": "de", "zh": "zh-cn"}
_TEXT = re.compile(r'<(p|h[1-6]) id="([^"]+)"(?: class="([^"]*)")?[^>]*>(.*?)</\1>', re.DOTALL)
_HELD_OUT = 20  # one page in so many is for validation, another one for the test


@dataclass(frozen=True)
class Pairs:
    """Sentences and, in the same order, their translations."""

    source: tuple[str, ...]
    target: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class ParallelSplits:
    """Pairs to learn from, to choose by, and to judge by; no sentence of either language is in two of them."""

    train: Pairs
    validation: Pairs
    test: Pairs


def _page(path: Path) -> dict[str, str]:
    """Paragraph id -> text of one help page; program code is left out."""
    found = {}
    for _, key, kind, inner in _TEXT.findall(path.read_text(encoding="utf-8")):
        if "code" not in kind:
            found[key] = " ".join(html.unescape(re.sub(r"<[^>]+>", "", inner)).split())
    return found


def _usable(source: str, target: str, language: Language) -> bool:
    """A sentence or a phrase, and a translation of it: not the same text, no fragment, no mismatched lengths."""
    if language == "zh" and not re.search(r"[\u4e00-\u9fff]", target):
        return False  # some paragraphs were never translated and differ in a space only
    if source == target or not re.search(r"[a-z]{2}", source) or not 2 <= len(source.split()) <= 40:
        return False
    # Bytes, not characters: a Chinese sentence has a third of the characters, and about as many bytes.
    return 0.4 < len(target.encode()) / len(source.encode()) < 2.5


@cache
def help_pages(language: Language) -> ParallelSplits:
    """LibreOffice's help in English and another language, paragraph by paragraph, each pair once.

    Whole pages are held out. A sentence that stands on several pages goes where the page held out first says, and
    training loses every pair that shares a side with a held-out one.

    Raises:
        ValueError: an unknown language.
        MissingDataError: the pages are not here; the message has the command that fetches them.

    Used in `mathematics/translation_worked_example`. Source: LibreOffice 7.4 help, MPL-2.0.
    """
    check_choice("language", language, Language)
    ours, theirs = (debian_folder(f"libreoffice-help-{_PACKAGE[name]}") for name in ("en", language))
    pages = sorted(path.relative_to(ours).as_posix() for path in ours.rglob("*.html"))
    random.Random(0).shuffle(pages)  # related pages have related names
    count = len(pages) // _HELD_OUT
    parts: dict[str, dict[str, str]] = {"test": {}, "validation": {}, "train": {}}
    taken: set[str] = set()
    for name, some in {
        "test": pages[:count],
        "validation": pages[count : 2 * count],
        "train": pages[2 * count :],
    }.items():
        for page in some:
            if not (theirs / page).exists():
                continue
            translated = _page(theirs / page)
            for key, source in _page(ours / page).items():
                target = translated.get(key, "")
                if not _usable(source, target, language) or {source.casefold(), target.casefold()} & taken:
                    continue
                parts[name].setdefault(source, target)
        taken |= {side.casefold() for pair in parts[name].items() for side in pair}
    return ParallelSplits(**{name: Pairs(tuple(found), tuple(found.values())) for name, found in parts.items()})


def digest(splits: ParallelSplits) -> str:
    """SHA-256 of every sentence in order: says whether two machines, or two years, have the same data.

    Used in `mathematics/translation_worked_example`.
    """
    parts = (splits.train, splits.validation, splits.test)
    return hashlib.sha256(json.dumps([asdict(part) for part in parts], ensure_ascii=False).encode()).hexdigest()


def pad_right(rows: Sequence[Sequence[int]], fill: int) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Rows of different lengths as one tensor, filled up on the right, and what of it is real."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])
    real = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return ids, real


class TranslationData:
    """Batches of sentence pairs for `Seq2Seq`: a `DataSource`.

    Two ids follow the tokenizer's own: `start`, which the decoder reads first, and `end`, which it writes last. Pairs
    of like length share a batch, so that little is padded; each epoch draws them anew from the seed.

    Args:
        tokenizer: of both languages.
        max_tokens: pairs with a side of so many tokens or more are left out.
        max_target: the same for targets alone, where they are meant to be shorter (`max_tokens` when None).

    Raises ValueError when no pair is short enough. Used in `mathematics/translation_worked_example`.
    """

    def __init__(
        self,
        splits: ParallelSplits,
        *,
        tokenizer: Tokenizer,
        max_tokens: int = 64,
        max_target: int | None = None,
        seed: int = 0,
    ) -> None:
        check_positive("max_tokens", max_tokens)
        self.max_target = max_tokens if max_target is None else max_target
        self.tokenizer, self.max_tokens, self.seed = tokenizer, max_tokens, seed
        self.start, self.end, self.vocab_size = tokenizer.vocab_size, tokenizer.vocab_size + 1, tokenizer.vocab_size + 2
        self.train_pairs, self.validation_pairs = self._encode(splits.train), self._encode(splits.validation)
        self._order: tuple[tuple[int, int], list[list[int]]] = ((-1, 0), [])

    def _encode(self, pairs: Pairs) -> list[tuple[list[int], list[int]]]:
        rows = [
            ([*self.tokenizer.encode(a), self.end], self.tokenizer.encode(b))
            for a, b in zip(pairs.source, pairs.target, strict=True)
        ]
        kept = [row for row in rows if max(map(len, row)) < self.max_tokens and len(row[1]) < self.max_target]
        if not kept:
            raise ValueError(f"max_tokens={self.max_tokens} leaves no pair; the shortest has {min(map(_longer, rows))}")
        return kept

    def make_batch(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Batch:
        """Encoded pairs as the model reads them: the decoder gets `start` and the target, and says what follows."""
        source, real = pad_right([a for a, _ in pairs], self.end)
        target, _ = pad_right([[self.start, *b] for _, b in pairs], self.end)
        following, _ = pad_right([[*b, self.end] for _, b in pairs], IGNORE)
        # Padding stands behind the target, where a causal decoder cannot see it, so it needs no mask.
        return Batch({"source": source, "target": target, "source_real": real}, following)

    def batch(self, step: int, size: int) -> Batch:
        """`size` pairs of like length, the same at every call with the same step."""
        per_epoch = len(self.train_pairs) // size
        if not per_epoch:
            raise ValueError(f"size={size} is more than the {len(self.train_pairs)} pairs there are")
        epoch, place = divmod(step, per_epoch)
        if self._order[0] != (epoch, size):
            draw = random.Random(self.seed * 1_000_003 + epoch)
            rows = draw.sample(range(len(self.train_pairs)), per_epoch * size)
            pool = 50 * size  # sort within pools: lengths alike, neighbours still at random
            rows = [
                i
                for k in range(0, len(rows), pool)
                for i in sorted(rows[k : k + pool], key=lambda i: _longer(self.train_pairs[i]))
            ]
            batches = [rows[k : k + size] for k in range(0, len(rows), size)]
            draw.shuffle(batches)
            self._order = (epoch, size), batches
        return self.make_batch([self.train_pairs[i] for i in self._order[1][place]])

    def validation(self, size: int, limit: int | None = None) -> Iterator[Batch]:
        """Batches of validation pairs, `limit` in all (every one when None), spread evenly."""
        count = len(self.validation_pairs) if limit is None else min(limit, len(self.validation_pairs))
        chosen = [self.validation_pairs[i * len(self.validation_pairs) // count] for i in range(count)]
        chosen.sort(key=_longer)
        for k in range(0, count, size):
            yield self.make_batch(chosen[k : k + size])


def _longer(pair: tuple[list[int], list[int]]) -> int:
    return max(map(len, pair))

"""Texts and their headlines: what Debian's packages say about themselves, at length and in a line.

Taught in `practice/train_summarisation`.
"""

import bz2
import random
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache

from fmcourse.data.debian import debian_folder
from fmcourse.data.translation import Pairs, ParallelSplits

_HELD_OUT = {"test": 0.05, "validation": 0.05}  # of the groups; the rest is for training
_BOILERPLATE = 25  # a paragraph of so many packages says nothing about one of them
_WORDS = {"text": range(15, 121), "headline": range(3, 13)}


def _descriptions() -> Iterator[tuple[str, list[str]]]:
    """Headline and paragraphs of each package; lists and tables, which are indented, are left out."""
    file = debian_folder("package-descriptions") / "Translation-en.bz2"
    for entry in bz2.decompress(file.read_bytes()).decode("utf-8").split("\n\n"):
        headline, *lines = entry.partition("Description-en: ")[2].split("\n")
        paragraphs: list[list[str]] = [[]]
        for line in lines:
            if line.strip() in {"", "."}:
                paragraphs.append([])
            elif not re.match(r"  | [-*o+] ", line):
                paragraphs[-1].append(line.strip())
        if headline:
            yield " ".join(headline.split()), [" ".join(part) for part in paragraphs if part]


def _plain(text: str) -> str:
    """Letters alone: equal for texts that differ in numbers, case or punctuation only."""
    return " ".join(re.findall(r"[a-z]+", text.casefold()))


class _Groups:
    """Things that belong together because they share something, or are linked by others that do (union-find)."""

    def __init__(self, count: int) -> None:
        self.parent = list(range(count))

    def root(self, i: int) -> int:
        while self.parent[i] != i:
            self.parent[i] = self.parent[self.parent[i]]
            i = self.parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        self.parent[self.root(i)] = self.root(j)


@cache
def package_summaries() -> ParallelSplits:
    """Descriptions of Debian's packages, each with its headline: `source` is the text, `target` the summary.

    The packages of one program share paragraphs and headlines, so they form a group, and only one pair of a group is
    kept. Paragraphs that many packages share ("This package holds the documentation") are left out. Texts have 15 to
    120 words, headlines 3 to 12. Groups go to training, validation and test at random but always in the same way.

    Raises MissingDataError, with the command that fetches the file, when it is not here.
    Taught in `practice/train_summarisation`. Source: Debian 11, package descriptions.
    """
    found = list(_descriptions())
    times = Counter(_plain(part) for _, parts in found for part in set(parts))
    groups = _Groups(len(found))
    first: dict[str, int] = {}
    for i, (headline, parts) in enumerate(found):
        own = [_plain(part) for part in parts if len(part.split()) >= 6 and times[_plain(part)] < _BOILERPLATE]
        # "libfoo - development files" and "libfoo (documentation)" are of one program.
        for key in [*own, "headline: " + _plain(re.split(r" - | \(", headline)[0])]:
            groups.join(i, first.setdefault(key, i))
    pairs: dict[int, tuple[str, str]] = {}
    for i, (headline, parts) in enumerate(found):
        text = " ".join(part for part in parts if times[_plain(part)] < _BOILERPLATE)
        if len(text.split()) in _WORDS["text"] and len(headline.split()) in _WORDS["headline"]:
            pairs.setdefault(groups.root(i), (text, headline))
    rows = sorted(pairs.values())
    random.Random(0).shuffle(rows)
    parts_of: dict[str, list[tuple[str, str]]] = {}
    for name, share in _HELD_OUT.items():
        size = round(share * len(pairs))
        parts_of[name], rows = rows[:size], rows[size:]
    parts_of["train"] = rows
    sides = {name: tuple(zip(*some, strict=True)) for name, some in parts_of.items()}
    return ParallelSplits(**{name: Pairs(text, headline) for name, (text, headline) in sides.items()})

"""The same sentences in many languages, aligned, cleaned and split without leaks.

Taught in `algorithm/data_preprocessing`.
"""

import json
import random
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, overload

from fmcourse.checks import check_choice, check_positive
from fmcourse.data.registry import DATASETS, MissingDataError, package_folder

Key = tuple[str, ...]  # the component that a string belongs to, then its path in that component's file
# Variables, links between strings, mark-up, code, addresses, several paragraphs: no plain sentences.
_MARKED = re.compile(r"[{}<>`|*\\\n\r]|\[%|\]\(|https?:|www\.")
_SHARES = {"test": 0.1, "validation": 0.1}  # of the components; the rest is for training


@dataclass(frozen=True)
class ParallelSentences:
    """Sentences, each in several languages.

    Args:
        languages: codes, in the order of the columns.
        rows: one tuple for each sentence, with its text in every language.
        components: the part of the software that each sentence comes from.
    """

    languages: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    components: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter(self.rows)

    @overload
    def __getitem__(self, which: str) -> tuple[str, ...]: ...

    @overload
    def __getitem__(self, which: slice) -> "ParallelSentences": ...

    def __getitem__(self, which: str | slice) -> Any:
        """All sentences of one language, or some of the rows in all languages."""
        if isinstance(which, slice):
            return ParallelSentences(self.languages, self.rows[which], self.components[which])
        check_choice("language", which, self.languages)
        column = self.languages.index(which)
        return tuple(row[column] for row in self.rows)


@dataclass(frozen=True)
class ParallelSplits:
    """Sentences to train on, to choose by (validation) and to judge by (test); none is in two of them."""

    train: ParallelSentences
    validation: ParallelSentences
    test: ParallelSentences


@cache
def interface_languages() -> tuple[str, ...]:
    """Codes of the languages that there are, English first, then those with the most files."""
    files: dict[str, int] = {}
    for path in package_folder("home_assistant").glob("components/*/translations/*.json"):
        if "." not in path.stem:  # sensor.de.json and its like hold lists of states
            files[path.stem] = files.get(path.stem, 0) + 1
    if "en" not in files:
        raise MissingDataError(
            "the data set 'home_assistant' holds no translations; install it again: pip install --no-deps "
            f"--force-reinstall {DATASETS['home_assistant'].package}"
        )
    return tuple(sorted(files, key=lambda code: (code != "en", -files[code], code)))


def _strings(node: dict[str, Any], path: Key) -> Iterator[tuple[Key, str]]:
    for name, value in node.items():
        if isinstance(value, dict):
            yield from _strings(value, (*path, name))
        elif isinstance(value, str):
            yield (*path, name), value


@cache
def interface_strings(language: str) -> dict[Key, str]:
    """Every string of Home Assistant's interface in that language, exactly as its translators left it.

    The key says where it stands: component, then the path in the component's file. It is the same in all languages.

    Raises:
        ValueError: there is no such language; the message names those there are.
        MissingDataError: the data package is not installed.
    """
    check_choice("language", language, interface_languages())
    found: dict[Key, str] = {}
    for path in sorted(package_folder("home_assistant").glob(f"components/*/translations/{language}.json")):
        found.update(_strings(json.loads(path.read_text("utf-8")), (path.parts[-3],)))
    return found


def same_sentence(text: str) -> str:
    """What stays of a text without case, digits, punctuation and spaces: equal for trivial variants."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(character for character in plain if unicodedata.category(character)[0] in "LM")  # letters, marks


@cache
def _part_of_component() -> dict[str, str]:
    """Every component, in a random but fixed order, with the part that it belongs to: the same for all languages."""
    components = sorted({key[0] for key in interface_strings("en")})
    random.Random(0).shuffle(components)
    parts = dict.fromkeys(components, "train")
    start = 0
    for part, share in _SHARES.items():
        end = start + round(share * len(components))
        parts.update(dict.fromkeys(components[start:end], part))
        start = end
    return parts


def interface_sentences(languages: Sequence[str] = ("en", "zh-Hans"), *, min_words: int = 1) -> ParallelSplits:
    """Sentences and terms of Home Assistant's interface in all of `languages`, written by volunteers.

    Cleaned: white space is made even; strings with variables, mark-up, addresses or several paragraphs are left out,
    and so are those that a translation leaves as they are in English. Deduplicated *before* splitting: texts that
    differ in case, digits, spaces or punctuation only are one. Whole components (about 770 of them, such as the code
    for one brand of lamps) go to one part, the same whichever languages are asked for: about 80 / 10 / 10 %. What would
    stand in two parts in any of the languages is taken out of training first, then out of validation.

    Args:
        languages: codes of `interface_languages`, in the order of the columns; English need not be among them.
        min_words: leave out what has fewer words in English.

    Raises:
        ValueError: a language is not there, or named twice.
        MissingDataError: the data package is not installed.
    """
    languages = tuple(languages)
    check_positive("min_words", min_words)
    check_positive("number of languages", len(languages))
    if len(set(languages)) < len(languages):
        raise ValueError(f"languages={languages} names a language twice")
    texts = [interface_strings(language) for language in languages]
    # Test first: a sentence that occurs in several parts belongs to the one that must not leak.
    order = ("test", "validation", "train")
    part_of = _part_of_component()
    english = sorted(interface_strings("en").items(), key=lambda item: order.index(part_of[item[0][0]]))
    home: dict[str, str] = {}
    seen: list[dict[str, str]] = [{} for _ in languages]
    rows: dict[str, list[tuple[tuple[str, ...], str]]] = {part: [] for part in order}
    done: set[str] = set()
    for key, source in english:
        part, name = part_of[key[0]], same_sentence(source)
        if home.setdefault(name, part) != part or name in done:
            continue
        row = tuple(" ".join(text.get(key, "").split()) for text in texts)
        if len(source.split()) < min_words or not _is_clean(" ".join(source.split()), source, row, languages):
            continue
        names = [same_sentence(text) for text in row]
        if all(before.setdefault(one, part) == part for before, one in zip(seen, names, strict=True)):
            done.add(name)
            rows[part].append((row, key[0]))
    return ParallelSplits(**{part: _shuffled(languages, rows[part]) for part in ("train", "validation", "test")})


def _is_clean(english: str, raw: str, row: tuple[str, ...], languages: tuple[str, ...]) -> bool:
    """Whether the texts are plain, there in every language, and translated."""
    if _MARKED.search(raw) or not same_sentence(english):
        return False
    for text, language in zip(row, languages, strict=True):
        if _MARKED.search(text) or not same_sentence(text):
            return False
        if language != "en" and same_sentence(text) == same_sentence(english):
            return False
    return True


def _shuffled(languages: tuple[str, ...], found: list[tuple[tuple[str, ...], str]]) -> ParallelSentences:
    random.Random(1).shuffle(found)
    return ParallelSentences(languages, tuple(row for row, _ in found), tuple(component for _, component in found))

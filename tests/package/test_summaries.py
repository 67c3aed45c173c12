"""Texts and headlines of Debian's packages: clean, each program once, nothing in two parts."""

import bz2
import re

import pytest

from fmcourse.data import summaries
from fmcourse.data.registry import MissingDataError
from fmcourse.data.summaries import package_summaries


def letters(text):
    return " ".join(re.findall("[a-z]+", text.lower()))


def every(splits):
    for part in (splits.train, splits.validation, splits.test):
        yield from zip(part.source, part.target, strict=True)


def test_there_are_many_pairs_and_the_parts_have_their_shares():
    splits = package_summaries()
    total = len(splits.train) + len(splits.validation) + len(splits.test)
    assert total > 25_000
    assert len(splits.validation) / total == pytest.approx(0.05, abs=1e-3)
    assert len(splits.test) / total == pytest.approx(0.05, abs=1e-3)


def test_texts_are_longer_than_headlines_and_hold_no_mark_up():
    for text, headline in every(package_summaries()):
        assert 15 <= len(text.split()) <= 120
        assert 3 <= len(headline.split()) <= 12
        assert "\n" not in text + headline
        assert not text.startswith((" ", "."))


def test_no_text_and_no_headline_stands_twice_in_any_part():
    texts, headlines = zip(*every(package_summaries()), strict=True)
    assert len(set(map(letters, texts))) == len(texts)
    stems = [letters(re.split(r" - | \(", headline)[0]) for headline in headlines]
    assert len(set(stems)) == len(stems)


def test_held_out_texts_share_no_long_run_of_words_with_training_but_stock_phrases():
    """Brute force: runs of 20 words. Some templates go through Debian; whole texts must not."""
    splits = package_summaries()

    def runs(text):
        words = letters(text).split()
        return {" ".join(words[i : i + 20]) for i in range(len(words) - 19)}

    known = set().union(*map(runs, splits.train.source))
    shared = [len(runs(text) & known) / max(1, len(runs(text))) for text in splits.test.source]
    assert sum(share > 0.5 for share in shared) / len(shared) < 0.03


FILE = """Package: tool
Description-md5: 1
Description-en: makes a thing of another thing
 This tool makes a thing of another thing, and it does so with {0} words in all.
 .
  * a list
 - another list
 .
 It is fast.

Package: tool-doc
Description-md5: 2
Description-en: makes a thing of another thing (documentation)
 This tool makes a thing of another thing, and it does so with {0} words in all.

Package: short
Description-md5: 3
Description-en: says too little here
 Too few words to need a summary.
"""


def test_one_pair_for_each_program_without_lists(tmp_path, monkeypatch):
    body = "\n\n".join(
        FILE.format(word).strip().replace("thing", word) for word in ("rope", "saw", "lamp", "boat", "tent") * 4
    )
    (tmp_path / "Translation-en.bz2").write_bytes(bz2.compress(body.encode()))
    monkeypatch.setattr(summaries, "debian_folder", lambda name: tmp_path)
    package_summaries.cache_clear()
    try:
        monkeypatch.setattr(summaries, "_HELD_OUT", {"test": 0.2, "validation": 0.2})
        found = dict(every(package_summaries()))
    finally:
        package_summaries.cache_clear()
    assert found == {
        f"This tool makes a {word} of another {word}, and it does so with {word} words in all. It is fast.": (
            f"makes a {word} of another {word}"
        )
        for word in ("rope", "saw", "lamp", "boat", "tent")
    }


def test_a_missing_file_is_named_with_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr("fmcourse.data.debian.DEBIAN_FOLDER", tmp_path)
    package_summaries.cache_clear()
    with pytest.raises(MissingDataError, match="python -m fmcourse.data.debian package-descriptions"):
        package_summaries()
    package_summaries.cache_clear()

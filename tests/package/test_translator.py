"""The translator that the book ships: from the data that are here, whole, and far better than doing nothing."""

import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from fmcourse.beam_search import beam_search
from fmcourse.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fmcourse.data.translation import TranslationData, digest, help_pages
from fmcourse.results import load_result
from fmcourse.training import evaluate
from fmcourse.translator import FOLDER, TIED, load_translation

FILE = FOLDER / "translation_de.safetensors"


@pytest.fixture(scope="module")
def translator():
    return load_translation("de")


@pytest.fixture(scope="module")
def splits():
    help_pages.cache_clear()
    return help_pages("de")


def test_the_file_is_small_and_says_how_it_was_made(translator):
    assert FILE.stat().st_size < 10e6
    about = translator.about
    assert about["command"].startswith("python -m benchmarks.translation_checkpoint")
    assert about["seed"] == 0
    steps = [row["step"] for row in about["history"]]
    assert steps == sorted(steps)
    assert steps[-1] == about["train_config"]["steps"]
    assert about["history"][-1]["val_loss"] < about["history"][0]["val_loss"]


def test_it_was_trained_on_the_data_that_are_here(translator, splits):
    assert translator.about["data_sha256"] == digest(splits)
    assert load_result("translation_quality")["data_sha256"] == digest(splits)
    data = TranslationData(splits, tokenizer=translator.tokenizer, max_tokens=translator.longest)
    assert translator.about["pairs"] == len(data.train_pairs)
    assert (translator.start, translator.end) == (data.start, data.end)


def test_the_committed_table_is_about_these_weights(translator, splits):
    data = TranslationData(splits, tokenizer=translator.tokenizer, max_tokens=translator.longest)
    table = load_result("translation_quality")
    assert evaluate(translator.model, data.validation(64, 256)) == pytest.approx(table["validation_loss"], abs=0.15)


def test_held_out_sentences_are_translated_far_better_than_by_copying_them(translator, splits):
    pairs = list(zip(splits.test.source, splits.test.target, strict=True))[::25]
    pairs = [(a, b) for a, b in pairs if len(translator.tokenizer.encode(a)) < 40]
    sources, references = ([pair[i] for pair in pairs] for i in (0, 1))
    outputs = translator.translate(sources, beam_size=2)
    for metric, factor in ((BLEU(), 3), (CHRF(), 2)):
        ours, copied = (metric.corpus_score(texts, [references]).score for texts in (outputs, sources))
        assert ours > factor * copied


def test_a_sentence_is_searched_alone_or_among_others_with_the_same_result(translator):
    texts = ["Click OK.", "Opens the dialog.", "Choose Insert - Frame - Frame - Options tab."]
    seen = []
    found = translator.search(texts, beam_size=3, batch_size=2, on_step=lambda i, partials, _: seen.append(i))
    assert set(seen) == {0, 1, 2}
    for text, hypotheses in zip(texts, found, strict=True):
        source = [*translator.tokenizer.encode(text), translator.end]
        options = {"start": translator.start, "end": translator.end, "max_new_tokens": 64, "beam_size": 3}
        (alone,) = beam_search(translator.model, [source], **options)
        assert [h.tokens for h in hypotheses] == [h.tokens for h in alone]
    assert translator.translate(texts, beam_size=3) == [translator.decode(h[0].tokens) for h in found]
    (short,) = translator.search(texts[:1], max_new_tokens=1)
    assert max(len(h.tokens) for h in short) <= 1


def test_marks_have_no_text(translator):
    ids = translator.encode("Click OK.")
    assert ids[-1] == translator.end
    assert translator.decode([translator.start, *ids]) == "Click OK."


def test_the_embedding_is_stored_once_and_used_three_times(translator):
    tensors, _ = load_checkpoint(FILE)
    assert not set(TIED) & set(tensors)
    model = translator.model
    assert model.head.weight is model.encoder.tokens.weight is model.decoder.tokens.weight
    assert torch.equal(model.head.weight, tensors["encoder.tokens.weight"].float())


def test_what_cannot_be_translated_is_refused(translator):
    with pytest.raises(ValueError, match="the sentence is empty"):
        translator.translate([""])
    with pytest.raises(ValueError, match="the sentence has 200 tokens; at most 63 can be translated"):
        translator.encode("\x01" * 200)


def test_the_chinese_one_is_as_small_and_as_well_documented():
    file = FOLDER / "translation_zh.safetensors"
    assert file.stat().st_size < 10e6
    translator, splits = load_translation("zh"), help_pages("zh")
    about = translator.about
    assert about["command"] == "python -m benchmarks.translation_checkpoint zh"
    assert about["data_sha256"] == digest(splits)
    assert about["history"][-1]["step"] == about["train_config"]["steps"]
    assert translator.translate(["Click OK."]) == ["点击「确定」。"]
    pairs = list(zip(splits.test.source, splits.test.target, strict=True))[::25]
    pairs = [(a, b) for a, b in pairs if len(translator.tokenizer.encode(a)) < 40]
    sources, references = ([pair[i] for pair in pairs] for i in (0, 1))
    ours, copied = (
        BLEU(tokenize="zh").corpus_score(texts, [references]).score
        for texts in (translator.translate(sources, beam_size=2), sources)
    )
    assert ours > 3 * copied


def test_an_unknown_language_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="language='fr' is not known; choose one of 'de', 'zh'"):
        load_translation("fr")
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        load_translation("de", tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    data = bytearray(FILE.read_bytes())
    broken.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="is not a whole safetensors file"):
        load_translation("de", broken)
    data[-1] ^= 1
    broken.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged"):
        load_translation("de", broken)
    tensors, about = load_checkpoint(FILE)
    del about["tokenizer"]
    save_checkpoint(broken, tensors, about)
    with pytest.raises(CheckpointError, match="does not describe a translator: KeyError 'tokenizer'"):
        load_translation("de", broken)

"""The summarisers that the book ships: small, documented, better than the first words; and recipes for larger ones."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fmcourse.checkpoint import CheckpointError, load_checkpoint
from fmcourse.data.public_pairs import CNN_DAILYMAIL, cnn_dailymail
from fmcourse.data.summaries import package_summaries
from fmcourse.data.translation import TranslationData, digest
from fmcourse.dry_run import dry_run
from fmcourse.metrics import rouge
from fmcourse.pointer import PointerSeq2Seq
from fmcourse.recipes import recipe_for, summarisation
from fmcourse.training import evaluate, fit
from fmcourse.transformer import Seq2Seq
from fmcourse.translator import FOLDER, load_summariser


@pytest.mark.parametrize(("kind", "model"), [("pointer", PointerSeq2Seq), ("plain", Seq2Seq)])
def test_the_file_is_small_and_says_how_it_was_made(kind, model):
    assert (FOLDER / f"summarisation_{kind}.safetensors").stat().st_size < 8e6
    one = load_summariser(kind)
    assert type(one.model) is model
    assert one.about["command"] == f"python -m benchmarks.summarisation_checkpoint {kind}"
    assert one.about["data_sha256"] == digest(package_summaries())
    assert one.about["history"][-1]["step"] == one.about["train_config"]["steps"]


@pytest.mark.parametrize("kind", ["pointer", "plain"])
def test_its_validation_loss_is_the_logged_one(kind):
    one, splits = load_summariser(kind), package_summaries()
    data = TranslationData(splits, tokenizer=one.tokenizer, max_tokens=one.longest)
    train = one.about["train_config"]
    loss = evaluate(one.model, data.validation(train["batch_size"], train["eval_examples"]))
    best = min(row["val_loss"] for row in one.about["history"])
    assert loss == pytest.approx(best, abs=0.01)  # half precision


def test_it_beats_the_first_words_by_far():
    one, test = load_summariser(), package_summaries().test
    rows = [i for i in range(0, len(test), 12) if len(one.tokenizer.encode(test.source[i])) < one.longest - 1]
    texts, headlines = ([side[i] for i in rows] for side in (test.source, test.target))
    found = one.search(texts, beam_size=2, alpha=1.0, max_new_tokens=24)
    ours = rouge([one.decode(best[0].tokens) for best in found], headlines)
    lead = rouge([" ".join(text.split()[:12]) for text in texts], headlines)
    assert all(ours[score] > lead[score] + 3 for score in ours)


def test_an_unknown_kind_and_a_missing_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="kind='best' is not known; choose one of 'pointer', 'plain'"):
        load_summariser("best")
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        load_summariser(file=tmp_path / "none.safetensors")


ARTICLES = [
    {
        "article": f"The town of number {n} opened a bridge.\n\nIt is {n} metres long. " + "More follows . " * 150,
        "highlights": f"Town {n} opens bridge .\nIt is {n} metres long . " + "And more . " * 40,
    }
    for n in range(80)
]


@pytest.fixture
def hub(monkeypatch):
    """Stands for the hub, with a few articles."""
    asked = []

    def load_dataset(*name):
        asked.append(name)
        test = [*ARTICLES[20:40], {"article": "", "highlights": "x"}]
        return {"train": ARTICLES, "validation": ARTICLES[:20], "test": test}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_news_are_cut_as_published_and_the_test_summaries_are_not(hub):
    splits = cnn_dailymail()
    assert hub == [(CNN_DAILYMAIL, "3.0.0")]
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (80, 20, 20)
    for part, longest in ((splits.train, 100), (splits.validation, 100)):
        assert {len(text.split()) for text in part.source} == {400}
        assert {len(text.split()) for text in part.target} == {longest}
    assert len(splits.test.target[0].split()) == len(ARTICLES[20]["highlights"].split()) > 100
    assert splits.train.target[3].startswith("Town 3 opens bridge .\nIt is 3 metres long .")
    assert splits.train.source[3].split() == ARTICLES[3]["article"].split()[:400]


def test_a_limit_for_targets_leaves_long_ones_out():
    splits, one = package_summaries(), load_summariser()
    few = replace(splits.train, source=splits.train.source[:300], target=splits.train.target[:300])
    some = replace(splits, train=few)
    free = TranslationData(some, tokenizer=one.tokenizer, max_tokens=160)
    limited = TranslationData(some, tokenizer=one.tokenizer, max_tokens=160, max_target=10)
    assert limited.train_pairs == [pair for pair in free.train_pairs if len(pair[1]) < 10]
    assert 0 < len(limited.train_pairs) < len(free.train_pairs)


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("preset", ["t4", "gpu"])
def test_a_shrunken_copy_takes_real_steps_and_can_be_read_again(preset, tmp_path):
    recipe = recipe_for("summarisation", preset)
    model = replace(recipe.model, vocab_size=322, context=2400, d_model=16, n_layers=1, n_heads=2, dropout=0.0)
    train = replace(recipe.train, steps=4, batch_size=8, accumulate=2, precision="fp32", compile=False, eval_every=2)
    config, data, tokenizer = replace(recipe, model=model).load(seed=3)
    assert config.vocab_size == data.vocab_size == tokenizer.vocab_size + 2 <= 322
    torch.manual_seed(0)
    about = {"tokenizer": tokenizer.state()}
    history = fit(recipe.build(config), data, train, device="cpu", folder=tmp_path, about=about, progress=False)
    assert history.rows[-1]["step"] == 4
    trained = load_summariser(file=tmp_path / "best.safetensors")
    assert isinstance(trained.model, PointerSeq2Seq)
    found = trained.search(["The town opened a bridge."], beam_size=2, max_new_tokens=8)
    assert isinstance(trained.decode(found[0][0].tokens), str)
    assert load_checkpoint(tmp_path / "best.safetensors")[1]["tokenizer"]["kind"] == "library"


def test_no_batch_is_larger_than_what_the_dry_run_looks_at():
    recipe = summarisation("cpu")
    _, data, _ = recipe.load()
    width = {name: max(len(pair[k]) for pair in data.train_pairs) for k, name in enumerate(("source", "target"))}
    shapes = recipe.example(2).inputs
    assert width["source"] <= shapes["source"].shape[1]
    assert width["target"] + 1 <= shapes["target"].shape[1]
    assert dry_run(recipe).logits[1:] == (shapes["target"].shape[1], recipe.model.vocab_size)


def test_an_unknown_preset_names_the_choices():
    with pytest.raises(ValueError, match="preset='laptop' is not known; choose one of 'cpu', 't4', 'gpu'"):
        summarisation("laptop")

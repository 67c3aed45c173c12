"""The two small models that the book ships: whole, made as they say, and far better than chance."""

import json

import pytest
import torch

from benchmarks import sst2
from benchmarks.film_models import digest
from fmcourse.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fmcourse.data.film_models import FILE, load_film_models
from fmcourse.data.masked import MaskedLanguageData, Vocabulary, packed
from fmcourse.data.sentiment import LabelledTexts, SentimentSplits, film_texts, rotten_tomatoes
from fmcourse.data.text import LanguageModelData
from fmcourse.recipes import HIDDEN, bert
from fmcourse.tokenizers import LibraryTokenizer
from fmcourse.training import evaluate


@pytest.fixture(scope="module")
def films():
    return load_film_models()


def test_the_file_is_small_and_says_how_it_was_made(films):
    assert FILE.stat().st_size < 10e6
    about = films.about
    assert (about["command"], about["seed"]) == ("python -m benchmarks.film_models", 0)
    assert about["data_sha256"] == digest(film_texts())
    assert about["tokens"] == len(packed(films.tokenizer, film_texts()))
    assert about["bert"]["model_config"] == about["gpt"]["model_config"]
    for name in ("bert", "gpt"):
        steps = [row["step"] for row in about[name]["history"]]
        assert steps == sorted(steps)
        assert steps[-1] == about[name]["train_config"]["steps"]
    made = json.loads(json.dumps(vars(bert("cpu").train)))
    assert about["bert"]["train_config"] == made


def test_the_two_had_the_same_arithmetic(films):
    total = {
        name: films.about[name]["flops_per_step"] * films.about[name]["train_config"]["steps"]
        for name in ("bert", "gpt")
    }
    assert total["bert"] == pytest.approx(total["gpt"], rel=0.01)


def test_they_do_what_their_logs_say(films):
    splits, context = rotten_tomatoes(), bert("cpu").model.context
    ids = packed(films.tokenizer, splits.validation.texts)
    vocabulary = Vocabulary.of(films.tokenizer)
    hidden = MaskedLanguageData(ids, ids, vocabulary=vocabulary, context=context, share=HIDDEN)
    following = LanguageModelData(ids, ids, tokenizer=None, context=context)
    for name, data in (("bert", hidden), ("gpt", following)):
        best = min(row["val_loss"] for row in films.about[name]["history"])
        assert evaluate(getattr(films, name), data.validation(64, 512)) == pytest.approx(best, abs=0.05)


def test_the_recipe_of_the_cpu_reads_the_same_text(films):
    config, data, tokenizer = bert("cpu").load(seed=5)
    assert isinstance(tokenizer, LibraryTokenizer)
    assert (config.vocab_size, data.seed, data.share) == (films.bert.config.vocab_size, 5, HIDDEN)
    assert len(data.train_ids) == films.about["tokens"]
    assert data.batch(0, 3).targets.shape == (3, round(HIDDEN * config.context))


def test_a_file_of_something_else_is_refused(films, tmp_path):
    tensors, about = load_checkpoint(FILE)
    file = tmp_path / "films.safetensors"
    save_checkpoint(file, tensors, {**about, "tokenizer": "no"} | {"bert": {}})
    with pytest.raises(CheckpointError, match="does not describe the models"):
        load_film_models(file)
    save_checkpoint(file, {k: v for k, v in tensors.items() if not k.startswith("gpt.")}, about)
    with pytest.raises(CheckpointError):
        load_film_models(file)


def test_the_script_for_sst2_tunes_what_the_recipe_has_trained(films, tmp_path):
    """With our own checkpoint in place of a large one, and some reviews in place of SST-2."""
    file = tmp_path / "best.safetensors"
    tensors = {f"model.{name}": value for name, value in films.bert.state_dict().items()}
    about = {"model_config": vars(films.bert.config), "tokenizer": LibraryTokenizer(films.tokenizer).state()}
    save_checkpoint(file, tensors, json.loads(json.dumps(about)))
    splits = rotten_tomatoes()
    small = SentimentSplits(splits.train[:300], splits.validation[:60], splits.test[:200])
    torch.manual_seed(0)
    found = sst2.fine_tune(file, small, 1e-3, epochs=4, device="cpu")
    assert found["rate"] == 1e-3
    assert found["test"] > 0.5
    assert isinstance(small.train, LabelledTexts)

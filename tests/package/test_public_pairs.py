"""The published pairs: their own parts, nothing held out in training, and a shrunken copy of the recipe that learns."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fmcourse.checkpoint import load_checkpoint
from fmcourse.data.public_pairs import MULTI30K, WMT14, multi30k, pieces, wmt14
from fmcourse.recipes import recipe_for, translation
from fmcourse.tokenizers import LibraryTokenizer
from fmcourse.training import fit
from fmcourse.translator import load_translation

COLOURS = [("red", "rote"), ("blue", "blaue"), ("green", "grüne"), ("old", "alte"), ("new", "neue")]
THINGS = [("ball", "Ball"), ("dog", "Hund"), ("car", "Wagen"), ("hat", "Hut")]
ROWS = [
    {"en": f"The {a} {b} number {n} is  here.", "de": f"Der {c} {d} Nummer {n} ist hier.\n"}
    for a, c in COLOURS
    for b, d in THINGS
    for n in range(20)
]


@pytest.fixture
def hub(monkeypatch):
    """Stands for the hub: both data sets, of a few sentences."""
    asked = []

    def load_dataset(*name):
        asked.append(name)
        parts = {"train": [*ROWS, {"en": "", "de": "leer"}, ROWS[0]], "validation": ROWS[:40], "test": ROWS[40:80]}
        if name[0] == WMT14:
            return {part: [{"translation": row} for row in rows] for part, rows in parts.items()}
        return parts

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


@pytest.mark.parametrize(("load", "name"), [(multi30k, (MULTI30K,)), (wmt14, (WMT14, "de-en"))])
def test_the_published_parts_are_kept_and_training_loses_what_is_held_out(hub, load, name):
    splits = load()
    assert hub == [name]
    assert (len(splits.validation), len(splits.test), len(splits.train)) == (40, 40, len(ROWS) - 80)
    assert splits.train.source[0] == "The blue ball number 0 is here."
    assert splits.train.target[0] == "Der blaue Ball Nummer 0 ist hier."
    assert not set(splits.train.source) & {*splits.test.source, *splits.validation.source}


def test_without_datasets_the_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match=r"bentrevett/multi30k is read from the hub .* pip install datasets"):
        multi30k()


def test_pieces_spell_everything():
    texts = [side for row in ROWS for side in row.values()]
    tokenizer = LibraryTokenizer(pieces(texts, 300))
    assert tokenizer.vocab_size == 300
    for text in (*texts[:4], "日本 was never seen\n"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(texts[0])) < len(texts[0]) / 2


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("name", "preset"), [("translation", "t4"), ("translation", "gpu"), ("translation-wmt14", "gpu")]
)
def test_a_shrunken_copy_takes_real_steps_and_can_be_read_again(name, preset, tmp_path):
    recipe = recipe_for(name, preset)
    model = replace(recipe.model, vocab_size=322, context=64, d_model=16, n_layers=1, n_heads=2, d_ff=None, dropout=0.0)
    train = replace(recipe.train, steps=4, batch_size=8, accumulate=2, precision="fp32", compile=False, eval_every=2)
    config, data, tokenizer = replace(recipe, model=model).load(seed=3)
    assert config.vocab_size == data.vocab_size == tokenizer.vocab_size + 2 <= 322
    torch.manual_seed(0)
    about = {"tokenizer": tokenizer.state()}
    history = fit(recipe.build(config), data, train, device="cpu", folder=tmp_path, about=about, progress=False)
    assert history.rows[-1]["step"] == 4
    trained = load_translation(file=tmp_path / "best.safetensors")
    assert trained.longest == 32
    assert isinstance(trained.translate(["The red dog is here."], beam_size=2)[0], str)
    assert load_checkpoint(tmp_path / "best.safetensors")[1]["tokenizer"]["kind"] == "library"


def test_the_recipe_for_a_cpu_reads_dates():
    recipe = translation("cpu")
    config, data, tokenizer = recipe.load()
    assert recipe.source == "dates"
    assert len(data.train_pairs) == 40_000
    assert config.vocab_size == tokenizer.vocab_size + 2
    assert tokenizer.decode(data.train_pairs[0][0][:-1])[:4] in ("de: ", "zh: ")


def test_an_unknown_preset_names_the_choices():
    with pytest.raises(ValueError, match="preset='laptop' is not known; choose one of 'cpu', 't4', 'gpu'"):
        translation("laptop")

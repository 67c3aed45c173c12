"""The table of published models is complete, consistent with the bibliography, and refuses what cannot be."""

import re
from datetime import date
from pathlib import Path

import pytest

from fmcourse.data.published import PublishedModel, published_models

BIBLIOGRAPHY = Path(__file__).resolve().parents[2] / "references.bib"


def entry(key: str) -> dict[str, str]:
    """One entry of the bibliography: its fields."""
    found = re.search(rf"@\w+\{{{re.escape(key)},\n(.*?)\n\}}", BIBLIOGRAPHY.read_text("utf-8"), re.DOTALL)
    assert found, f"references.bib has no {key}"
    return dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", found[1], re.MULTILINE))


def surname(authors: str) -> str:
    first = authors.split(" and ")[0]
    return re.sub(r"[{}\\']", "", first.split(",")[0] if "," in first else first)


@pytest.fixture
def some_model() -> dict[str, object]:
    return {
        "name": "Some model",
        "released": date(2023, 3, 1),
        "parameters": 10,
        "active_parameters": None,
        "sparse": False,
        "modality": "text",
        "architecture": "decoder",
        "citation": "some2023model",
        "source": "Some et al. 2023",
        "where": "abstract",
    }


def test_models_are_in_order_and_named_once():
    models = published_models()
    assert [m.released for m in models] == sorted(m.released for m in models)
    assert len({m.name for m in models}) == len(models) > 40


@pytest.mark.parametrize("model", published_models(), ids=lambda m: m.name)
def test_source_is_the_bibliographys(model):
    found = entry(model.citation)
    assert model.source.startswith(surname(found["author"]))
    assert model.source.endswith(found["year"])
    assert model.where
    assert found["annote"]


@pytest.mark.parametrize("model", published_models(), ids=lambda m: m.name)
def test_first_version_is_the_arxiv_month(model):
    """An arXiv number starts with the month of the first version; later proceedings never come before it."""
    found = entry(model.citation)
    if "eprint" in found:
        year, month = 2000 + int(found["eprint"][:2]), int(found["eprint"][2:4])
        assert (model.released.year, model.released.month) == (year, month)
    else:
        assert model.released.year <= int(found["year"])


# Each read again in its publication (abstract or table), apart from the file under test.
@pytest.mark.parametrize(
    ("name", "parameters", "active"),
    [
        ("AlexNet", 60e6, None),
        ("Transformer (big)", 213e6, None),
        ("BERT-large", 340e6, None),
        ("GPT-3", 175e9, None),
        ("PaLM", 540e9, None),
        ("Chinchilla", 70e9, None),
        ("Whisper (large)", 1550e6, None),
        ("ViT-22B", 22e9, None),
        ("Mixtral 8x7B", 47e9, 13e9),
        ("DeepSeek-V3", 671e9, 37e9),
        ("Llama 3.1 405B", 405e9, None),
        ("GPT-4", None, None),
    ],
)
def test_counts_are_those_of_the_publication(name, parameters, active):
    model = next(m for m in published_models() if m.name == name)
    assert (model.parameters, model.active_parameters) == (parameters, active)
    assert model.sparse or active is None


# Hoffmann et al. 2022, table 1; Touvron et al. 2023a, table 2, and 2023b, table 1; Grattafiori et al. 2024, section 1.
@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("GPT-3", 300e9),
        ("Gopher", 300e9),
        ("Chinchilla", 1.4e12),
        ("LLaMA-65B", 1.4e12),
        ("Llama 2 70B", 2e12),
        ("Llama 3.1 405B", 15.6e12),
        ("BERT-large", None),
    ],
)
def test_tokens_are_those_of_the_publication(name, tokens):
    assert next(m for m in published_models() if m.name == name).tokens == tokens


def test_stated_training_compute_is_about_six_operations_a_parameter_and_token():
    """Brown et al. 2020, table D.1; Hoffmann et al. 2022, section 4.1; Grattafiori et al. 2024, section 1."""
    models = {m.name: m for m in published_models()}
    for name, stated in {"GPT-3": 3.14e23, "Chinchilla": 5.76e23, "Llama 3.1 405B": 3.8e25}.items():
        tokens = models[name].tokens
        assert tokens is not None
        assert 6 * models[name].parameters * tokens == pytest.approx(stated, rel=0.03)


def test_year_is_the_middle_of_the_month(some_model):
    assert PublishedModel(**some_model).year == pytest.approx(2023 + 2.5 / 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "smell"}, "modality='smell' is not known; choose one of 'text', 'image'"),
        ({"architecture": "magic"}, "architecture='magic' is not known"),
        ({"parameters": 0}, "parameters=0 of Some model must be positive, or None if not published"),
        ({"active_parameters": 5}, "only a sparse model has them"),
        ({"active_parameters": 10, "sparse": True}, "fewer than its parameters=10"),
        ({"active_parameters": 5, "sparse": True, "parameters": None}, "fewer than its parameters=None"),
        ({"tokens": 7}, "tokens=7 of Some model need tokens_where"),
        ({"tokens_where": "abstract"}, "tokens=None of Some model need tokens_where"),
    ],
)
def test_impossible_models_are_refused(some_model, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PublishedModel(**{**some_model, **change})

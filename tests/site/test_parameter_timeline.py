"""The timeline shows the models that Python would choose, and the growth that NumPy fits."""

import numpy as np
import pytest

PAGE = "concepts/what_is_a_foundation_model"
MODALITIES = ["all", "text", "image", "speech", "image and text", "protein"]
ARCHITECTURES = ["all", "convolutional", "recurrent", "encoder", "decoder", "encoder-decoder"]
# modality, architecture, period, only dense, only records
CHOICES = [
    ("all", "all", 0, False, False),
    ("text", "all", 2, True, True),
    ("text", "all", 2, True, False),
    ("all", "decoder", 3, False, False),
    ("image", "all", 0, False, True),
    ("speech", "encoder", 0, True, False),
    ("protein", "all", 0, False, False),
]


def chosen(state, modality, architecture, period, dense, records):
    first, last = state["periods"][period - 1] if period else (0, 9999)
    kept = []
    for model in state["models"]:
        if not model["parameters"] or not first <= int(model["year"]) <= last or (dense and model["sparse"]):
            continue
        if modality not in ("all", model["modality"]) or architecture not in ("all", model["architecture"]):
            continue
        if not records or not kept or model["parameters"] > kept[-1]["parameters"]:
            kept.append(model)
    return kept


@pytest.fixture
def timeline(figure):
    return figure(PAGE, "parameter_timeline")


def test_numbers_equal_numpys_for_every_filter(timeline):
    for modality, architecture, period, dense, records in CHOICES:
        timeline.set("modality", MODALITIES.index(modality))
        timeline.set("architecture", ARCHITECTURES.index(architecture))
        timeline.set("period", period)
        timeline.set("dense", dense)
        timeline.set("records", records)
        expected = chosen(timeline.state, modality, architecture, period, dense, records)
        numbers = timeline.numbers()
        assert numbers["shown"] == len(expected)
        if len(expected) < 3:
            assert "growth" not in numbers
            continue
        years, sizes = [m["year"] for m in expected], [m["parameters"] for m in expected]
        slope = np.polyfit(years, np.log10(sizes), 1)[0]
        assert numbers["growth"] == pytest.approx(10**slope, rel=1e-5)


def test_each_model_shows_its_facts(timeline):
    for i, model in enumerate(timeline.state["models"]):
        timeline.set("selected", i)
        numbers = timeline.numbers()
        assert numbers.get("parameters") == model["parameters"]
        assert numbers.get("active") == model["active"]
        facts = timeline.root.locator("p", has=timeline.page.locator("strong")).inner_text()
        assert model["name"] in facts
        assert model["source"] in facts


def test_marks_stand_where_the_axis_says(timeline):
    for logarithmic in (True, False):
        timeline.set("logarithmic", logarithmic)
        marks = timeline.root.locator(".fm-drawing path.fm-mark").evaluate_all(
            "(marks) => marks.map((mark) => mark.transform.baseVal.consolidate().matrix.f)"
        )
        sizes = np.array([m["parameters"] for m in timeline.state["models"] if m["parameters"]], dtype=float)
        heights = np.log10(sizes) if logarithmic else sizes
        assert np.corrcoef(heights, marks)[0, 1] == pytest.approx(-1, abs=1e-9)


def test_table_says_what_the_drawing_shows(timeline):
    timeline.set("modality", MODALITIES.index("speech"))
    timeline.root.locator("summary").click()
    rows = timeline.root.locator("tbody tr").all_inner_texts()
    speech = [m for m in timeline.state["models"] if m["modality"] == "speech"]
    assert len(rows) == len(speech)
    assert all(m["name"] in row and m["source"] in row for m, row in zip(speech, rows, strict=True))


def test_keyboard_and_pointer_choose_a_model(timeline):
    before = timeline.numbers()["parameters"]
    timeline.press("selected", "ArrowDown")
    assert timeline.numbers()["parameters"] != before
    mark = timeline.root.locator(".fm-drawing path.fm-mark").first
    mark.click()
    assert timeline.control("selected").input_value() == timeline.state["models"][0]["name"]

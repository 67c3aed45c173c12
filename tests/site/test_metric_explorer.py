"""The metric explorer scores as sacreBLEU does: what it starts from, and whatever a reader types, in both languages."""

import pytest
from sacrebleu.metrics import BLEU, CHRF
from traitlets import TraitError

from fmcourse.widgets.metric_explorer import MetricExplorer

PAGE = ("practice/train_translation", "metric_explorer")
ONE = {"language": "de", "source": "Click OK.", "reference": "Klicken Sie auf OK.", "outputs": {"copy": "Click OK."}}
TYPED = {
    "de": (
        "Klicken Sie nicht auf OK.",
        "Das kostet 1.234,50 Euro - oder 10-20 Prozent &amp; mehr, „sagt“ er (gestern): 3.,4 x_y / z.",
        "ä",
        "",
        "   \n zwei  Zeilen\nhier-\nda ",
    ),
    "zh": ("点击「确定」关闭窗口。", "在 Basic 中,3.5 倍（约）“引号”…", "。", "", "12 个月每月 30 天 😀 ok"),
}


def wanted(one, text):
    """The library's own scores of one sentence."""
    bleu = BLEU(tokenize="zh" if one["language"] == "zh" else "13a", effective_order=True)
    references = [one["reference"]]
    return bleu.sentence_score(text, references).score, CHRF().sentence_score(text, references).score


def check(explorer, one, text):
    numbers = explorer.numbers()
    bleu, chrf = wanted(one, text)
    assert numbers["bleu"] == pytest.approx(bleu, abs=1e-6), text
    assert numbers["chrf"] == pytest.approx(chrf, abs=1e-6), text


def test_python_gives_the_librarys_scores():
    explorer = MetricExplorer([ONE])
    assert explorer.text == "Click OK."
    assert explorer.scores(0, "Klicken Sie auf OK.") == pytest.approx({"bleu": 100, "chrf": 100})
    found = explorer.scores(0, "Click OK.")
    assert (found["bleu"], found["chrf"]) == pytest.approx(wanted(ONE, "Click OK."))


def test_sentences_that_do_not_fit_are_refused():
    with pytest.raises(TraitError, match="sentences is empty; give at least one"):
        MetricExplorer([])
    with pytest.raises(TraitError, match=r"outputs of 'Click OK.' are \['beam'\]; wanted \['copy'\]"):
        MetricExplorer([ONE, {**ONE, "outputs": {"beam": "x"}}])


def test_every_output_of_every_sentence_has_the_librarys_scores(figure):
    explorer = figure(*PAGE)
    sentences = explorer.state["sentences"]
    assert {one["language"] for one in sentences} == {"de", "zh"}
    systems = [*sentences[0]["outputs"], "reference"]
    for i, one in enumerate(sentences):
        explorer.set("sentence", i)
        for k, system in enumerate(systems):
            explorer.set("output", k)
            text = {**one["outputs"], "reference": one["reference"]}[system]
            assert explorer.control("text").input_value() == text
            check(explorer, one, text)
    assert explorer.numbers()["bleu"] == pytest.approx(100)


def test_what_a_reader_types_is_scored_at_once(figure):
    explorer = figure(*PAGE)
    sentences = explorer.state["sentences"]
    for language, texts in TYPED.items():
        place = next(i for i, one in enumerate(sentences) if one["language"] == language)
        explorer.set("sentence", place)
        for text in texts:
            explorer.set("text", text)
            check(explorer, sentences[place], text)


def test_start_again_brings_the_output_back(figure):
    explorer = figure(*PAGE)
    before = explorer.control("text").input_value()
    explorer.set("text", "x")
    assert explorer.numbers()["bleu"] == 0
    explorer.root.get_by_role("button", name=explorer.state["labels"]["again"]).click()
    assert explorer.control("text").input_value() == before


def test_the_counts_add_up_to_the_precisions(figure):
    explorer = figure(*PAGE)
    one = explorer.state["sentences"][0]
    explorer.set("text", one["reference"])
    numbers = explorer.numbers()
    characters = len("".join(one["reference"].split()))
    assert numbers["brevity"] == numbers["precision"] == numbers["recall"] == 1
    assert [numbers[f"chrf_shared[{n}]"] for n in range(1, 7)] == [characters - n + 1 for n in range(1, 7)]


def test_the_keyboard_is_enough_and_the_box_has_a_name(figure):
    explorer = figure(*PAGE)
    box = explorer.root.get_by_label(explorer.state["labels"]["edit"])
    box.focus()
    explorer.page.keyboard.press("End")
    before = explorer.numbers()["chrf"]
    explorer.page.keyboard.type(" und noch viel mehr")
    assert explorer.numbers()["chrf"] != before
    explorer.press("sentence", "ArrowDown")
    assert box.input_value() != before


def test_the_figure_is_light_and_fits_a_phone(figure):
    explorer = figure(*PAGE, width=360)
    assert len(explorer.root.locator("> script").text_content()) < 60_000
    assert explorer.root.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1")
    for control in explorer.root.locator("[data-trait], button").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 24

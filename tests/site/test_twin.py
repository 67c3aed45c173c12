"""The base of all figures: the static twin carries any state safely, and the page's model behaves like anywidget's."""

import json
import math
import shutil
from pathlib import Path

import pytest
import traitlets
from bs4 import BeautifulSoup
from harness import ROOT, Figure, Visit, serve

from fmcourse.widgets import module_source, stylesheet
from fmcourse.widgets.base import Widget

EVIL = "</script><b>&\"'\u2028\\<!--"


class Probe(Widget):
    """A figure with one control of each kind."""

    _module = "probe"
    _folder = Path(__file__).parent

    label = traitlets.Unicode("Probe").tag(sync=True)
    labels = traitlets.Dict(
        {name: name for name in ("temperature", "size", "choice", "row", "causal", "reset", "table")}
    ).tag(sync=True)
    tokens = traitlets.List(traitlets.Unicode()).tag(sync=True)
    scores = traitlets.List(traitlets.Float()).tag(sync=True)
    temperature = traitlets.Float(1.0).tag(sync=True)
    size = traitlets.Int(10).tag(sync=True)
    choice = traitlets.Unicode("a").tag(sync=True)
    row = traitlets.Int(0).tag(sync=True)
    causal = traitlets.Bool(False).tag(sync=True)


def probe(**state):
    return Probe(tokens=[EVIL, "two", "三"], scores=[0.1, 1.0, 2.5], caption=f"Look: {EVIL}", **state)


def twin_state(widget):
    return json.loads(BeautifulSoup(widget.static_twin(), "html.parser").script.string)


def softmax(scores, temperature):
    raised = [math.exp(s / temperature) for s in scores]
    return [r / sum(raised) for r in raised]


def test_state_survives_the_way_through_html():
    state = twin_state(probe())
    assert state["tokens"] == [EVIL, "two", "三"]
    assert state["caption"] == f"Look: {EVIL}"
    assert set(state) == {*Probe._state_names()}
    assert probe().static_twin().count("<script") == probe().static_twin().count("</script>") == 1


def test_the_output_of_a_cell_holds_the_live_widget_and_its_twin():
    data, _ = probe()._repr_mimebundle_()
    assert set(data) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert data["text/plain"] == "Probe(label='Probe')"


def test_two_runs_give_the_same_output():
    assert probe().static_twin() == probe().static_twin()


def test_floats_are_rounded_and_whole_numbers_stay_short():
    widget = probe(temperature=1 / 3)
    assert twin_state(widget)["temperature"] == 0.333333
    assert '"size":10,' in widget.static_twin()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_carry_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"scores\[1\]=.*no NaN and no infinity"):
        Probe(tokens=["a", "b"], scores=[0.0, value]).static_twin()


def test_other_objects_are_refused_by_name():
    class Loose(Probe):
        anything = traitlets.Any().tag(sync=True)

    with pytest.raises(TypeError, match=r"anything\['x'\] is a set"):
        Loose(anything={"x": {1}}).state()


def test_too_much_state_is_refused_with_its_size():
    with pytest.raises(ValueError, match=r"Probe holds [\d,]+ bytes of state, the limit is 400,000"):
        Probe(tokens=["token"] * 100_000).static_twin()


def test_words_can_be_replaced_one_by_one():
    widget = probe(labels={"temperature": "温度"})
    assert widget.labels["temperature"] == "温度"
    assert widget.labels["size"] == "size"
    assert "温度" in widget.static_twin()


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"labels": {"temprature": "x"}}, ValueError, "temprature.*are not words of Probe; it has .*temperature"),
        ({"temprature": 1.0}, TypeError, "Probe has no state .*temprature.*; it has"),
        ({"label": "  "}, ValueError, "Probe needs a label"),
    ],
)
def test_misspelt_state_is_refused(wrong, error, message):
    with pytest.raises(error, match=message):
        Probe(**wrong)


def test_a_figure_without_its_module_is_refused():
    with pytest.raises(FileNotFoundError, match=r"the figure 'nowhere' has no nowhere\.js; figures of the book: "):
        type("Lost", (Widget,), {"_module": "nowhere"})
    with pytest.raises(TypeError, match="Widget sets no _module"):
        Widget(label="x")


def test_live_and_static_share_one_module():
    assert probe()._esm == module_source("probe", Probe._folder)
    assert probe()._css == stylesheet()


@pytest.fixture
def shown(tmp_path, browser):
    """The probe's twin on a bare page, served with the site's shim."""
    (tmp_path / "widgets").mkdir()
    (tmp_path / "widgets" / "probe.mjs").write_text(module_source("probe", Probe._folder), "utf-8")
    (tmp_path / "widgets.css").write_text(stylesheet(), "utf-8")
    shutil.copy(ROOT / "site" / "static" / "shim.mjs", tmp_path)
    page = (
        '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8"><title>Probe</title>'
        '<link rel="icon" href="data:,"><link rel="stylesheet" href="widgets.css">'
        f'<script type="module" src="shim.mjs"></script>{probe().static_twin()}</html>'
    )
    (tmp_path / "index.html").write_text(page, "utf-8")
    with serve(tmp_path) as origin:
        visit = Visit(browser, origin, viewport={"width": 800, "height": 600}).open("index.html")
        yield Figure(visit.page, "probe")
        visit.close()
        assert visit.problems == []


def test_text_stays_text(shown):
    assert shown.root.locator(".probe-tokens").text_content() == f"{EVIL} | two | 三"
    assert shown.root.locator("figcaption").text_content() == f"Look: {EVIL}"
    assert shown.root.locator("b").count() == 0


def test_numbers_follow_the_slider_and_equal_pythons(shown):
    for temperature in (1.0, 0.5, 4.0):
        shown.set("temperature", temperature)
        weights = softmax(shown.state["scores"], temperature)
        numbers = shown.numbers()
        assert [numbers[f"bar[{i}]"] for i in range(3)] == pytest.approx(weights, abs=1e-12)
        assert shown.text("top") == f"{max(weights):.2f}"
        assert shown.shown("temperature") == f"{temperature:.1f}"


def test_each_control_sets_its_state(shown):
    shown.set("size", 3)
    shown.set("choice", "second")
    shown.set("row", 2)
    shown.set("causal", True)
    assert shown.root.locator("p:has([data-name=top])").inner_text().split()[1:] == ["1000", "b", "2", "true"]
    assert shown.shown("size").split() == ["1", "k"]


def test_controls_work_by_keyboard(shown):
    shown.press("temperature", "ArrowRight", 2)
    assert shown.shown("temperature") == "2.0"
    shown.page.keyboard.press("Tab")
    assert shown.page.evaluate("document.activeElement.dataset.trait") == "size"
    shown.press("causal", "Space")
    assert shown.control("causal").is_checked()
    shown.root.get_by_role("button", name="reset").focus()
    shown.page.keyboard.press("Enter")
    assert shown.shown("temperature") == "1.0", "a button changes a control through the model"


def test_a_finding_is_announced_once_the_reader_stops(shown):
    shown.press("temperature", "ArrowRight", 3)
    shown.page.wait_for_function("document.querySelector('[aria-live]').textContent === 'temperature 2.5'")


def test_the_figure_and_its_controls_have_names(shown):
    assert shown.root.get_by_role("group", name="Probe").count() == 1
    for name in ("temperature", "size"):
        assert shown.root.get_by_role("slider", name=name).count() == 1
    assert shown.root.get_by_role("combobox", name="choice").count() == 1
    assert shown.root.get_by_role("checkbox", name="causal").count() == 1
    assert shown.control("size").get_attribute("aria-valuetext").split() == ["10"]

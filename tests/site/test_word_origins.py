"""Who wrote this word: the page shows the parts that Python computed, token by token, and the keyboard is enough."""

import copy

import pytest
from traitlets import TraitError

from fmcourse.widgets.word_origins import WordOrigins

PAGE = ("practice/train_summarisation", "word_origins")
TOKEN = {"text": "xml", "written": 0.08, "copied": 0.48, "looks": [[2, 0.8]], "new": False}
ONE = {"source": ["jaxe", " edits", " xml"], "headlines": {"network": [TOKEN], "person": [TOKEN]}}


def test_the_copied_share_is_bayes_rule():
    assert WordOrigins([ONE]).share(0, "network", 0) == pytest.approx(0.48 / 0.56)


def test_what_does_not_fit_is_refused():
    with pytest.raises(TraitError, match="items is empty; give at least one text"):
        WordOrigins([])
    other = {**ONE, "headlines": {"network": [TOKEN]}}
    with pytest.raises(TraitError, match=r"text 1 has headlines by \['network'\]; wanted \['network', 'person'\]"):
        WordOrigins([ONE, other])
    lacking = copy.deepcopy(ONE)
    del lacking["headlines"]["person"][0]["copied"]
    with pytest.raises(TraitError, match=r"a token of text 0 lacks \['copied'\]"):
        WordOrigins([lacking])
    outside = copy.deepcopy(ONE)
    outside["headlines"]["network"][0]["looks"] = [[3, 1.0]]
    with pytest.raises(TraitError, match="a token of text 0 looks outside of its 3 tokens"):
        WordOrigins([outside])


def buttons(explorer):
    """The tokens of the headline on the page."""
    return explorer.root.get_by_role("group", name=explorer.state["labels"]["choose"]).get_by_role("button")


def test_every_token_of_every_headline_shows_its_parts(figure):
    explorer = figure(*PAGE)
    items = explorer.state["items"]
    assert len(items) >= 10
    for i in (0, len(items) - 1):
        explorer.set("item", i)
        for w, (_, tokens) in enumerate(items[i]["headlines"].items()):
            explorer.set("writer", w)
            assert buttons(explorer).count() == len(tokens)
            for k, token in enumerate(tokens):
                buttons(explorer).nth(k).click()
                numbers = explorer.numbers()
                total = token["written"] + token["copied"]
                assert numbers["probability"] == pytest.approx(total, rel=1e-9)
                assert numbers["written"] == pytest.approx(token["written"], rel=1e-9)
                assert numbers["share"] == pytest.approx(token["copied"] / total, rel=1e-9)
                assert {at: numbers[f"weight[{at}]"] for at, _ in token["looks"]} == dict(token["looks"])


def test_words_that_are_not_in_the_text_are_marked_in_words_too(figure):
    explorer = figure(*PAGE)
    for i, one in enumerate(explorer.state["items"]):
        explorer.set("item", i)
        tokens = one["headlines"][explorer.state["writer"]]
        marked = explorer.root.locator(".fm-token.fm-new")
        assert marked.count() == sum(token["new"] for token in tokens)
        rows = explorer.root.locator("details").last.locator("tbody tr td:last-child").all_text_contents()
        no, yes = (explorer.state["labels"][key] for key in ("no", "yes"))
        assert rows == [no if token["new"] else yes for token in tokens]


def test_the_keyboard_chooses_a_token_and_keeps_its_place(figure):
    explorer = figure(*PAGE)
    first = buttons(explorer).first
    first.focus()
    explorer.page.keyboard.press("Tab")
    explorer.page.keyboard.press("Enter")
    assert buttons(explorer).nth(1).get_attribute("aria-pressed") == "true"
    assert buttons(explorer).nth(1).evaluate("(e) => e === document.activeElement")
    explorer.press("item", "ArrowDown")
    assert buttons(explorer).first.get_attribute("aria-pressed") == "true"


def test_the_figure_is_light_and_fits_a_phone(figure):
    explorer = figure(*PAGE, width=360)
    assert len(explorer.root.locator("> script").text_content()) < 120_000
    assert explorer.root.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1")
    for control in explorer.root.locator("[data-trait], button").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 24

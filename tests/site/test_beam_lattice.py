"""The lattice searches as `fmcourse.beam_search` does: the same outputs and scores, for every choice it offers."""

from functools import cache
from itertools import product

import pytest
import torch

from fmcourse.beam_search import beam_search
from fmcourse.translator import load_translation
from fmcourse.widgets.beam_lattice import BeamLattice

PAGE = ("mathematics/translation_worked_example", "beam_lattice")
TOLERANCE = 2e-4  # in nats: single precision on another processor, over some twenty tokens


@cache
def translator():
    torch.set_num_threads(1)  # for a model so small, two threads mostly wait for each other
    return load_translation("de")


@cache
def searched(sentence, beam_size, alpha, longest):
    """The package's search, and the partial outputs that it kept at every step."""
    model, steps = translator(), []
    options = {"start": model.start, "end": model.end, "max_new_tokens": longest, "beam_size": beam_size}
    source = [*model.tokenizer.encode(sentence), model.end]
    (found,) = beam_search(
        model.model, [source], **options, alpha=alpha, on_step=lambda i, partials, _: steps.append(partials)
    )
    return found, steps


def test_python_searches_the_stored_numbers_as_the_model_itself():
    lattice = BeamLattice(translator(), ["Click OK to close the dialog.", "Opens a file."], longest=12)
    assert len(lattice.static_twin()) < 150_000
    for i, beam_size, alpha in product(range(2), lattice.beam_sizes, lattice.alphas):
        found, _ = searched(lattice.sentences[i], beam_size, alpha, 12)
        ours = lattice.search(i, beam_size, alpha)
        assert [h.tokens for h in ours] == [h.tokens for h in found]
        assert [h.score for h in ours] == pytest.approx([h.score for h in found], abs=TOLERANCE)


def test_nothing_to_show_is_refused():
    with pytest.raises(ValueError, match="sentences is empty; give at least one"):
        BeamLattice(translator(), [])


# Operates the three controls for every choice they offer, in one visit to the page: a test for each would take minutes.
EVERY = """(root) => {
  const control = (trait) => root.querySelector(`[data-trait="${trait}"]`);
  const turn = (trait, i) => {
    const e = control(trait), menu = e.tagName === "SELECT";
    if (menu) e.selectedIndex = i; else e.value = String(i);
    e.dispatchEvent(new Event(menu ? "change" : "input"));
  };
  const count = (e) => (e.tagName === "SELECT" ? e.options.length : Number(e.max) + 1);
  const sizes = ["sentence", "beam_size", "alpha"].map((trait) => count(control(trait))), out = [];
  for (let s = 0; s < sizes[0]; s++) for (let k = 0; k < sizes[1]; k++) for (let a = 0; a < sizes[2]; a++) {
    turn("sentence", s); turn("beam_size", k); turn("alpha", a);
    const numbers = Object.fromEntries([...root.querySelectorAll("[data-name]")].map((e) => [e.dataset.name, Number(e.dataset.value)]));
    out.push([[s, k, a], numbers, root.querySelector("[data-ids]").dataset.ids, [...root.querySelectorAll("[data-finished]")].map((e) => e.dataset.finished)]);
  }
  return out;
}"""  # noqa: E501


def test_the_page_finds_what_the_package_finds_for_every_choice(figure):
    lattice = figure(*PAGE)
    state = lattice.state
    lattice.root.get_by_role("button", name=state["labels"]["last"], exact=True).click()
    every = lattice.root.evaluate(EVERY)
    assert len(every) == len(state["sentences"]) * len(state["beam_sizes"]) * len(state["alphas"])
    for (i, k, a), numbers, best, finished in every:
        found, steps = searched(state["sentences"][i], state["beam_sizes"][k], state["alphas"][a], state["longest"])
        assert numbers["step"] == numbers["steps"] == len(steps)
        assert best == finished[0]
        assert [[int(token) for token in text.split()] for text in finished] == [h.tokens for h in found]
        assert numbers["best_score"] == pytest.approx(found[0].score, abs=TOLERANCE)
        for n, h in enumerate(found):
            assert numbers[f"score[{n}]"] == pytest.approx(h.score, abs=TOLERANCE)
            assert numbers[f"log_probability[{n}]"] == pytest.approx(h.log_probability, abs=TOLERANCE)
    assert lattice.root.locator("strong").inner_text() == translator().decode(found[0].tokens)


def test_stepping_shows_what_is_kept_at_every_step(figure):
    lattice = figure(*PAGE)
    state = lattice.state
    lattice.set("beam_size", 2)
    buttons = {
        name: lattice.root.get_by_role("button", name=state["labels"][name], exact=True)
        for name in ("first", "forward", "back")
    }
    _, steps = searched(state["sentences"][0], state["beam_sizes"][2], state["alphas"][0], state["longest"])
    buttons["first"].click()
    for step, partials in enumerate(steps[1:], start=1):
        assert lattice.numbers()["step"] == step
        rows = (
            lattice.root.locator(".fm-table")
            .first.locator("tbody tr")
            .evaluate_all(
                "(rows) => rows.map((row) => [...row.querySelectorAll('td')].map((cell) => cell.textContent))"
            )
        )
        kept = [place for place, cells in enumerate(rows) if cells[-1] == state["labels"]["kept"]]
        numbers = lattice.numbers()
        shown = [numbers[f"candidate[{row}]"] for row in kept]
        assert shown == pytest.approx([value for _, value in partials], abs=TOLERANCE)
        assert [rows[row][0] for row in kept] == [translator().decode(tokens) for tokens, _ in partials]
        buttons["forward"].click()
    assert buttons["forward"].is_disabled()
    buttons["back"].click()
    assert lattice.numbers()["step"] == len(steps) - 1


def test_the_keyboard_is_enough(figure):
    lattice = figure(*PAGE)
    before = lattice.numbers().get("best_log_probability")
    lattice.press("beam_size", "End")
    assert lattice.shown("beam_size") == str(lattice.state["beam_sizes"][-1])
    assert lattice.numbers()["best_log_probability"] != before
    first = lattice.root.get_by_role("button", name=lattice.state["labels"]["first"], exact=True)
    first.focus()
    lattice.page.keyboard.press("Enter")
    assert lattice.numbers()["step"] == 1
    forward = lattice.root.get_by_role("button", name=lattice.state["labels"]["forward"], exact=True)
    forward.focus()
    lattice.page.keyboard.press("Space")
    assert lattice.numbers()["step"] == 2
    scroller = lattice.root.locator(".fm-scroll").first
    assert scroller.get_attribute("tabindex") == "0"


def test_the_figure_is_light_named_and_fits_a_phone(figure):
    lattice = figure(*PAGE, width=360)
    assert len(lattice.root.locator("> script").text_content()) < 150_000
    assert lattice.root.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1")
    for control in lattice.root.locator("[data-trait], button").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
    assert lattice.root.get_by_role("group", name=lattice.state["label"]).count() == 1
    assert lattice.root.locator("svg").get_attribute("aria-label").startswith(lattice.state["labels"]["step"])

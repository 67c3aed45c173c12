"""The online-softmax stepper: its running triple equals Python's, and it is operated by keyboard alone."""

import math
from itertools import pairwise

import pytest
import torch

PAGE, MODULE = "mathematics/backpropagation_through_attention", "online_softmax"


def triples(scores, values, tile):
    """After each tile, what the definition says: the triple of all scores so far, computed at once."""
    s, v = torch.tensor(scores, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    for end in range(tile, len(scores) + tile, tile):
        m = s[:end].max()
        raised = (s[:end] - m).exp()
        yield m.item(), raised.sum().item(), (raised @ v[:end]).item()


@pytest.mark.parametrize("preset", range(5))
def test_every_step_shows_pythons_triple(figure, preset):
    stepper = figure(PAGE, MODULE)
    words, values = stepper.state["labels"], stepper.state["values"]
    scores = stepper.state["presets"][preset]["scores"]
    stepper.set("preset", preset)
    for tile in (1, 2, 5, len(values)):
        stepper.set("tile", tile)
        expected = list(triples(scores, values, tile))
        for step, (m, total, o) in enumerate(expected):
            stepper.root.get_by_role("button", name=words["next"]).click()
            shown = stepper.numbers()
            assert shown[f"m[{step}]"] == m
            assert shown[f"l[{step}]"] == pytest.approx(total, rel=1e-9)
            assert shown[f"o[{step}]"] == pytest.approx(o, rel=1e-9)
            assert shown[f"result[{step}]"] == pytest.approx(o / total, rel=1e-9)
            old = expected[step - 1][0] if step else -math.inf
            assert shown[f"factor[{step}]"] == pytest.approx(math.exp(old - m), rel=1e-9)
        tops = [m for m, _, _ in expected]
        assert shown["rescaled"] == sum(b > a for a, b in pairwise(tops))
        exact = torch.tensor(scores, dtype=torch.float64).softmax(0) @ torch.tensor(values, dtype=torch.float64)
        assert shown["exact"] == pytest.approx(exact.item(), rel=1e-9)
        assert shown["difference"] < 1e-9
        assert stepper.root.get_by_role("button", name=words["next"]).is_disabled()


def test_ascending_scores_are_rescaled_at_each_tile_and_descending_ones_never(figure):
    stepper = figure(PAGE, MODULE)
    names = [preset["name"] for preset in stepper.state["presets"]]
    stepper.set("tile", 1)
    for name, times in (("ascending", len(stepper.state["values"]) - 1), ("descending", 0), ("all equal", 0)):
        stepper.set("preset", names.index(name))
        for _ in stepper.state["values"]:
            stepper.root.get_by_role("button", name=stepper.state["labels"]["next"]).click()
        assert stepper.numbers()["rescaled"] == times


def test_huge_scores_overflow_the_plain_sum_only(figure):
    stepper = figure(PAGE, MODULE)
    stepper.set("preset", [preset["name"] for preset in stepper.state["presets"]].index("huge"))
    stepper.set("tile", 12)
    stepper.root.get_by_role("button", name=stepper.state["labels"]["next"]).click()
    shown = stepper.numbers()
    assert math.isinf(shown["naive"])
    assert stepper.text("naive") == stepper.state["labels"]["infinite"]
    assert 1 <= shown["l[0]"] <= 12


def test_it_is_operated_by_keyboard_and_starts_again(figure):
    stepper = figure(PAGE, MODULE)
    words, keys = stepper.state["labels"], stepper.page.keyboard
    stepper.root.get_by_role("button", name=words["next"]).focus()
    keys.press("Enter")
    keys.press("Space")
    assert "m[1]" in stepper.numbers()
    assert stepper.page.evaluate("document.activeElement.textContent") == words["next"], "focus stays"
    stepper.root.get_by_role("button", name=words["back"]).focus()
    keys.press("Enter")
    assert "m[1]" not in stepper.numbers()
    stepper.press("tile", "ArrowRight")
    assert stepper.shown("tile") == "3"
    assert "m[0]" not in stepper.numbers(), "another tile begins again"
    assert words["start"] in stepper.root.inner_text()


def test_its_controls_have_names_and_fit_a_phone(figure):
    stepper = figure(PAGE, MODULE, width=360)
    for control in stepper.root.locator("[data-trait], button").all():
        box = control.bounding_box()
        assert box is None or min(box["width"], box["height"]) >= 20
    assert stepper.root.locator("[data-trait]").evaluate_all("(es) => es.filter((e) => !e.labels.length).length") == 0
    assert stepper.root.get_by_role("group", name=stepper.state["label"]).count() == 1

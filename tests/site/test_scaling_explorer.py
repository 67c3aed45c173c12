"""The scaling explorer shows Python's numbers for every law and budget, and its search finds the cheapest model."""

import math

import numpy as np
import pytest

from fmcourse.widgets.scaling_explorer import ScalingExplorer, best_for_life, best_split, law_loss, tokens_for

PAGE = "practice/scaling_laws"
LAW = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
LAWS = [LAW, {**LAW, "gamma": 0.5}]


@pytest.mark.parametrize("law", LAWS)
def test_best_split_is_the_lowest_of_all_sizes_on_the_budget(law):
    for compute in (1e12, 1e19, 5.76e23):
        parameters, tokens = best_split(law, compute)
        assert 6 * parameters * tokens == pytest.approx(compute)
        sizes = parameters * np.geomspace(0.01, 100, 20_001)
        losses = [law_loss(law, n, compute / 6 / n) for n in sizes]
        assert sizes[int(np.argmin(losses))] == pytest.approx(parameters, rel=1e-3)


@pytest.mark.parametrize("law", LAWS)
def test_tokens_for_inverts_the_law(law):
    assert tokens_for(law, 7e10, law_loss(law, 7e10, 1.4e12)) == pytest.approx(1.4e12)
    assert math.isinf(tokens_for(LAW, 1e6, 2.0))


@pytest.mark.parametrize("law", LAWS)
def test_best_for_life_is_the_cheapest_of_all_sizes_with_that_loss(law):
    compute = 5.76e23
    most, tokens = best_split(law, compute)
    loss, last = law_loss(law, most, tokens), most
    for served in (1e11, 1e12, 1e13, 1e14):
        size, trained, total = best_for_life(law, compute, served)
        assert law_loss(law, size, trained) == pytest.approx(loss)
        sizes = most * np.geomspace(0.05, 2, 20_001)
        costs = [6 * n * tokens_for(law, n, loss) + 2 * n * served for n in sizes]
        assert total == pytest.approx(min(costs), rel=1e-6)
        assert size < last  # the more is served, the smaller
        last = size
    assert best_for_life(law, compute, 0.0) == (most, tokens, compute)


def test_unknown_laws_are_refused():
    with pytest.raises(Exception, match="law='Moore' is not among the laws: ours"):
        ScalingExplorer([{"name": "ours", **LAW, "budgets": [9, 13], "budget": 12, "models": []}], law="Moore")


def check(explorer, law, budget, served):
    compute = 10**budget
    parameters, tokens = best_split(law, compute)
    size, trained, total = best_for_life(law, compute, served * tokens)
    shown = explorer.numbers()
    expected = {
        "parameters": parameters,
        "tokens": tokens,
        "ratio": tokens / parameters,
        "loss": law_loss(law, parameters, tokens),
        "floor": law["E"],
        "life_parameters": size,
        "life_tokens": trained,
        "life_ratio": trained / size,
        "saved": 1 - total / (compute + 2 * parameters * served * tokens),
    }
    for name, value in expected.items():
        assert shown[name] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    for model in law["models"]:
        there = law_loss(law, model["parameters"], model["tokens"])
        assert shown[f"loss[{model['name']}]"] == pytest.approx(there, rel=1e-9)


def test_numbers_equal_pythons_for_every_law(figure):
    explorer = figure(PAGE, "scaling_explorer")
    for law in explorer.state["laws"]:
        explorer.set("law", law["name"])
        explorer.set("served", 0)
        check(explorer, law, law["budget"], 0)
        steps = round(10 * (law["budgets"][1] - law["budgets"][0]))
        for place in (0, steps // 3, steps):
            explorer.set("budget", place)
            explorer.set("served", place % 8)
            check(explorer, law, law["budgets"][0] + place / 10, explorer.state["multiples"][place % 8])


def test_keyboard_moves_the_budget(figure):
    explorer = figure(PAGE, "scaling_explorer")
    before = explorer.numbers()
    explorer.press("budget", "ArrowRight", times=5)
    after = explorer.numbers()
    assert after["parameters"] > before["parameters"]
    assert after["loss"] < before["loss"]
    explorer.press("served", "End")
    assert explorer.numbers()["life_parameters"] < after["parameters"]


def test_controls_are_named_and_fit_a_phone(figure):
    explorer = figure(PAGE, "scaling_explorer", width=360)
    assert explorer.root.locator("[data-trait]").count() == 3
    for control in explorer.root.locator("[data-trait]").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
        assert control.evaluate("(e) => e.labels.length") == 1
    assert explorer.root.get_by_role("group", name=explorer.state["label"]).count() == 1

"""The adaptation chooser finds on the page the labels and megabytes that Python finds."""

import pytest
import traitlets

from fmcourse.widgets.adaptation_chooser import AdaptationChooser, labels_needed

PAGE = "concepts/pretraining_and_finetuning"
TARGETS = [round(0.55 + i / 100, 2) for i in range(26)]
TASKS = [1, 2, 3, 5, 10, 20, 50, 100]


def test_labels_needed_lie_on_straight_lines_over_the_logarithm():
    assert labels_needed([10, 1000], [0.5, 0.7], 0.6) == pytest.approx(100)
    assert labels_needed([10, 100, 1000], [0.5, 0.45, 0.65], 0.6) == pytest.approx(10 ** (2 + 0.15 / 0.2))
    assert labels_needed([10, 100], [0.5, 0.6], 0.6) == pytest.approx(100)
    assert labels_needed([10, 100], [0.5, 0.6], 0.4) == 10
    assert labels_needed([10, 100], [0.5, 0.6], 0.61) is None


def test_a_curve_of_another_length_is_refused():
    one = {"name": "x", "mean": [0.5], "low": [0.4], "high": [0.6], "trained": 1, "stored": 1, "shared": 0}
    with pytest.raises(traitlets.TraitError, match="x: mean has 1 values; points has 2"):
        AdaptationChooser(points=[10, 100], methods=[one])


def assert_shows(chooser, *, target, tasks):
    state, numbers = chooser.state, chooser.numbers()
    for i, one in enumerate(state["methods"]):
        needed = labels_needed(state["points"], one["mean"], target)
        assert numbers.get(f"needed[{i}]") == (None if needed is None else pytest.approx(needed, rel=1e-9))
        assert numbers[f"megabytes[{i}]"] == pytest.approx(4e-6 * (one["shared"] + tasks * one["stored"]))
        assert numbers[f"trained[{i}]"] == one["trained"]
        for k, mean in enumerate(one["mean"]):
            assert numbers[f"mean[{i},{k}]"] == mean


def test_numbers_equal_pythons(figure):
    chooser = figure(PAGE, "adaptation_chooser")
    now = {name: chooser.state[name] for name in ("target", "tasks")}
    assert_shows(chooser, **now)
    for place in (0, 9, 17, 20, 25):
        chooser.set("target", place)
        now["target"] = TARGETS[place]
        assert_shows(chooser, **now)
    for place in (3, 7):
        chooser.set("tasks", place)
        now["tasks"] = TASKS[place]
        assert_shows(chooser, **now)


def test_keyboard_raises_what_is_wanted(figure):
    chooser = figure(PAGE, "adaptation_chooser")
    before = chooser.numbers()
    chooser.press("target", "ArrowRight", times=3)
    after = chooser.numbers()
    rising = [after[f"needed[{i}]"] - before[f"needed[{i}]"] for i in range(4) if f"needed[{i}]" in after]
    assert rising
    assert min(rising) >= 0 < max(rising)
    chooser.press("target", "End")
    assert chooser.state["labels"]["never"] in chooser.root.locator("table.fm-answer").inner_text()


def test_controls_are_named_and_fit_a_phone(figure):
    chooser = figure(PAGE, "adaptation_chooser", width=360)
    assert chooser.root.locator("[data-trait]").count() == 2
    for control in chooser.root.locator("[data-trait]").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
        assert control.evaluate("(e) => e.labels.length") == 1
    assert chooser.root.get_by_role("group", name=chooser.state["label"]).count() == 1

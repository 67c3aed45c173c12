"""The learning-rate explorer shows the numbers of the committed table, for every run of it."""

import pytest

from fmcourse.results import load_result
from fmcourse.widgets.learning_rate_explorer import LearningRateExplorer, runs_of

PAGE = "algorithm/training"
RUNS = runs_of(load_result("optimizers"))


def mean(values):
    return sum(values) / len(values)


def test_runs_hold_every_row_of_the_table():
    table = load_result("optimizers")
    assert sum(len(one["rates"]) for by_schedule in RUNS.values() for one in by_schedule.values()) == len(table["rows"])
    for row in table["rows"]:
        one = RUNS[row["optimizer"]][row["schedule"]]
        assert one["test"][one["rates"].index(row["rate"])] == row["test"]


def test_choices_that_are_not_there_are_refused():
    with pytest.raises(Exception, match="optimizer='Adagrad' must be one of SGD, Adam"):
        LearningRateExplorer(runs=RUNS, optimizer="Adagrad")
    with pytest.raises(Exception, match="schedule='sudden' must be one of warm-up and decay"):
        LearningRateExplorer(runs=RUNS, schedule="sudden")


def test_numbers_equal_the_tables_everywhere(figure):
    explorer = figure(PAGE, "learning_rate_explorer")
    for name, by_schedule in RUNS.items():
        explorer.set("optimizer", name)
        for schedule, one in by_schedule.items():
            explorer.set("schedule", schedule)
            best = min(mean(losses) for losses in one["test"] if None not in losses)
            for place, losses in enumerate(one["test"]):
                explorer.set("place", place)
                assert float(explorer.shown("place")) == pytest.approx(one["rates"][place], rel=0.01)
                shown = explorer.numbers()
                if None in losses:
                    assert "mean" not in shown
                    continue
                assert shown["mean"] == pytest.approx(mean(losses), abs=1e-6)
                assert shown["best"] == pytest.approx(best, abs=1e-6)
                assert shown["above"] == pytest.approx(mean(losses) - best, abs=1e-6)
                assert shown[f"test[{place}]"] == shown["mean"]
                if len(losses) > 1:
                    assert (shown["low"], shown["high"]) == pytest.approx((min(losses), max(losses)), abs=1e-6)


def test_keyboard_moves_the_rate(figure):
    explorer = figure(PAGE, "learning_rate_explorer")
    explorer.press("place", "Home")
    low = float(explorer.shown("place"))
    first = explorer.numbers()["mean"]
    explorer.press("place", "ArrowRight", times=3)
    assert float(explorer.shown("place")) == pytest.approx(8 * low, rel=0.02)
    assert explorer.numbers()["mean"] < first
    explorer.press("optimizer", "ArrowDown")
    assert explorer.numbers()["mean"] == pytest.approx(mean(RUNS["Muon"]["warm-up and decay"]["test"][3]), abs=1e-6)


def test_controls_are_named_and_fit_a_phone(figure):
    explorer = figure(PAGE, "learning_rate_explorer", width=360)
    assert explorer.root.locator("[data-trait]").count() == 3
    for control in explorer.root.locator("[data-trait]").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
        assert control.evaluate("(e) => e.labels.length") == 1
    assert explorer.root.get_by_role("group", name=explorer.state["label"]).count() == 1
    assert explorer.root.get_by_role("img").count() == 2

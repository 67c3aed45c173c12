"""The cost explorer shows Python's counts, and Python's counts are those of torch's counter."""

import pytest
import torch
import traitlets
from torch.utils.flop_counter import FlopCounterMode

from fmcourse.cache import KVCache
from fmcourse.transformer import GPT, TransformerConfig
from fmcourse.widgets.cost_explorer import PRESETS, CostExplorer, crossover, operations

PAGE = "algorithm/strengths_and_limits"
SIZES = {"n_layers": 3, "d_model": 24, "vocab_size": 17}


def counted(n, cached):
    """Operations of the package's GPT, by torch's counter."""
    with torch.device("meta"), torch.no_grad():  # with numbers, the kernel of a CPU hides from the counter
        model = GPT(TransformerConfig(context=64, n_heads=2, **SIZES))
        tokens = torch.zeros(1, n, dtype=torch.long)
        cache = KVCache(SIZES["n_layers"], capacity=64) if cached else None
        if cached:
            model(tokens[:, :-1], cache=cache)
        with FlopCounterMode(display=False) as counter:
            model(tokens[:, -1:] if cached else tokens, cache=cache)
    return counter.get_total_flops()


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("n", [2, 5, 33])
def test_python_counts_what_torch_counts(n, cached):
    assert sum(operations(n, cached=cached, **SIZES).values()) == counted(n, cached)


def test_at_the_crossover_attention_takes_half():
    sizes = {"n_layers": 2, "d_model": 10, "vocab_size": 16}
    n = crossover(**sizes)
    for cached in (False, True):
        parts = operations(int(n), cached=cached, **sizes)
        assert n == int(n) == 64
        assert parts["attention"] == parts["matrices"] + parts["head"]


def test_sizes_of_ones_own_are_no_published_model():
    assert CostExplorer(preset="GPT-3").d_model == 12_288
    assert CostExplorer(preset="GPT-3", d_model=64).preset == ""
    with pytest.raises(traitlets.TraitError, match="GPT-9"):
        CostExplorer(preset="GPT-9")


def assert_shows(figure, *, length, cached, **sizes):
    parts = operations(length, cached=cached, **sizes)
    matrices = parts["matrices"] + parts["head"]
    shown, share = figure.numbers(), parts["attention"] / (matrices + parts["attention"])
    assert shown["matrices"] == pytest.approx(matrices)
    assert shown["attention"] == pytest.approx(parts["attention"])
    assert shown["total"] == pytest.approx(matrices + parts["attention"])
    assert shown["share"] == pytest.approx(share)
    assert shown["exponent"] == pytest.approx(share + (0 if cached else 1))
    assert shown["crossing"] == pytest.approx(crossover(**sizes))
    assert shown["memory"] == 4 * sizes["n_layers"] * sizes["d_model"] * length


def test_numbers_equal_pythons_for_every_model_and_length(figure):
    explorer = figure(PAGE, "cost_explorer")
    lengths = explorer.state["lengths"]
    for name, sizes in PRESETS.items():
        explorer.set("preset", name)
        for place, cached in ((0, False), (7, True), (len(lengths) - 1, False)):
            explorer.set("length", place)
            explorer.set("cached", cached)
            assert_shows(explorer, length=lengths[place], cached=cached, **sizes)


def test_a_moved_size_makes_a_model_of_ones_own(figure):
    explorer = figure(PAGE, "cost_explorer")
    explorer.set("preset", "GPT-3")
    before = explorer.numbers()["crossing"]
    explorer.press("d_model", "ArrowLeft", times=2)
    assert explorer.numbers()["crossing"] < before
    chosen = explorer.root.locator('[data-trait="preset"]').evaluate("(e) => e.selectedOptions[0].textContent")
    assert chosen == explorer.state["labels"]["custom"]


def test_keyboard_switches_the_cache(figure):
    explorer = figure(PAGE, "cost_explorer")
    before = explorer.numbers()["total"]
    explorer.press("cached", "Space")
    assert explorer.numbers()["total"] < before / 100


def test_controls_are_named_and_fit_a_phone(figure):
    explorer = figure(PAGE, "cost_explorer", width=360)
    assert explorer.root.locator("[data-trait]").count() == 5
    for control in explorer.root.locator("[data-trait]").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
        assert control.evaluate("(e) => e.labels.length") == 1
    assert explorer.root.get_by_role("group", name=explorer.state["label"]).count() == 1

"""The roofline explorer shows Python's numbers, and Python's counts are those of torch and of a pencil."""

import pytest
import torch
import traitlets
from torch.utils.flop_counter import FlopCounterMode

from fmcourse.cache import KVCache
from fmcourse.transformer import GPT, TransformerConfig
from fmcourse.widgets.roofline_explorer import HARDWARE, MODELS, OPERATIONS, RooflineExplorer, roofline, work

PAGE = "practice/environment"


def counted(call):
    """Floating-point operations of a call, by torch's counter."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def test_a_product_is_what_torch_counts():
    a, b = torch.empty(5, 7, device="meta"), torch.empty(7, 11, device="meta")
    operations, moved = work("product", 4, tokens=5, d_in=7, d_out=11)
    assert operations == counted(lambda: a @ b)
    assert moved == sum(t.untyped_storage().nbytes() for t in (a, b, a @ b))


def test_an_addition_moves_three_tables():
    assert work("addition", 2, tokens=3, d_in=5) == (15, 90)


def test_attention_is_what_torch_counts_and_stored_scores_travel_four_times():
    sizes = {"heads": 6, "length": 10, "d_head": 4}
    q = torch.empty(2, 3, 10, 4, device="meta")
    scaled = torch.nn.functional.scaled_dot_product_attention
    fused, stored = work("attention", 2, **sizes), work("attention_stored", 2, **sizes)
    assert fused[0] == stored[0] == counted(lambda: scaled(q, q, q))
    assert fused[1] == 2 * 4 * q.numel()
    assert stored[1] - fused[1] == 2 * 4 * 6 * 10 * 10


def test_decoding_is_what_torch_counts():
    """The embedding is looked up, not multiplied, and the gains are not products; our count takes every parameter."""
    sizes = {"n_layers": 3, "d_model": 32}
    with torch.device("meta"), torch.no_grad():
        model = GPT(TransformerConfig(vocab_size=11, context=64, n_heads=2, bias=False, **sizes))
        tokens = torch.zeros(5, 20, dtype=torch.long)
        cache = KVCache(sizes["n_layers"], capacity=64)
        model(tokens[:, :-1], cache=cache)
        here = counted(lambda: model(tokens[:, -1:], cache=cache))
    matrices = sum(p.numel() for n, p in model.named_parameters() if "blocks" in n and p.ndim == 2) + 11 * 32
    assert work("decoding", 2, parameters=matrices, batch=5, length=20, **sizes)[0] == here


def test_the_bound_changes_at_the_ridge():
    below, above = roofline(9.9, 1, peak=100, bandwidth=10), roofline(10.1, 1, peak=100, bandwidth=10)
    assert (below.bound, above.bound) == ("memory", "compute")
    assert below.seconds == pytest.approx(1 / 10)
    assert above.seconds == pytest.approx(10.1 / 100)
    assert below.share == pytest.approx(0.99)
    assert above.share == 1
    assert below.ridge == 10


def test_what_is_not_known_is_named():
    with pytest.raises(traitlets.TraitError, match="Abacus"):
        RooflineExplorer(machine="Abacus")
    with pytest.raises(ValueError, match="sorting"):
        work("sorting", 2)
    assert RooflineExplorer(machine="NVIDIA T4", bits=32).peak == pytest.approx(8.1)
    assert RooflineExplorer(machine="", peak=3.0).peak == 3


def assert_shows(explorer, operation, *, bits=16, machine="NVIDIA A100 40 GB", own=None, **sizes):
    machines = {one["name"]: one for one in explorer.state["hardware"]}
    facts = own or (machines[machine][f"peak{bits}"], machines[machine]["bandwidth"])
    flop, moved = work(operation, bits // 8, **sizes)
    roof, shown = roofline(flop, moved, *facts), explorer.numbers()
    assert shown["operations"] == pytest.approx(flop)
    assert shown["bytes"] == pytest.approx(moved)
    for name in ("intensity", "ridge", "seconds", "share"):
        assert shown[name] == pytest.approx(getattr(roof, name), rel=1e-5)
    assert shown["reached"] == pytest.approx(flop / roof.seconds, rel=1e-5)
    assert shown["compute_bound"] == (roof.bound == "compute")
    for i, one in enumerate(explorer.state["hardware"]):
        there = roofline(flop, moved, one[f"peak{bits}"], one["bandwidth"])
        assert shown[f"seconds[{i}]"] == pytest.approx(there.seconds, rel=1e-5)
        assert shown[f"share[{i}]"] == pytest.approx(there.share, rel=1e-5)


def test_numbers_equal_pythons_for_every_operation(figure):
    explorer = figure(PAGE, "roofline_explorer")
    state = explorer.state
    layer = {"tokens": 64, "d_in": 768, "d_out": 3072}
    heads = {"heads": state["heads"], "length": state["length"], "d_head": state["d_head"]}
    assert_shows(explorer, "product", **layer)
    explorer.set("bits", "32 bits")
    assert_shows(explorer, "product", bits=32, **layer)
    for operation in OPERATIONS[1:]:
        explorer.set("operation", state["labels"][operation])
        sizes = layer if operation == "addition" else heads
        if operation == "decoding":
            sizes = {**MODELS["GPT-2 small"], "batch": 1, "length": state["length"]}
        assert_shows(explorer, operation, bits=32, **sizes)
    for name, model in MODELS.items():
        explorer.set("model", name)
        explorer.set("batch", 5)
        assert_shows(explorer, "decoding", bits=32, batch=32, length=state["length"], **model)


def test_numbers_equal_pythons_for_every_machine(figure):
    explorer = figure(PAGE, "roofline_explorer")
    layer = {"tokens": 64, "d_in": 768, "d_out": 3072}
    assert len(explorer.state["hardware"]) == len(HARDWARE) + 1, "the machine of the page is there too"
    for one in explorer.state["hardware"]:
        explorer.set("machine", one["name"])
        assert_shows(explorer, "product", machine=one["name"], **layer)


def test_a_typed_number_makes_the_machine_ones_own(figure):
    explorer = figure(PAGE, "roofline_explorer")
    layer = {"tokens": 64, "d_in": 768, "d_out": 3072}
    explorer.set("peak", 5)
    assert_shows(explorer, "product", own=(5e12, 1555e9), **layer)
    explorer.set("bandwidth", 12.5)
    assert_shows(explorer, "product", own=(5e12, 12.5e9), **layer)
    chosen = explorer.control("machine").evaluate("(e) => e.selectedOptions[0].textContent")
    assert chosen == explorer.state["labels"]["own"]
    explorer.set("peak", 0)  # no machine; the last right number stays
    assert_shows(explorer, "product", own=(5e12, 12.5e9), **layer)
    explorer.set("machine", "NVIDIA H100")
    assert explorer.control("peak").input_value() == "989"
    assert_shows(explorer, "product", machine="NVIDIA H100", **layer)


def test_keyboard_finds_where_the_layer_is_bound_by_arithmetic(figure):
    """The task of the chapter: the first position of the slider at which the up-projection is compute-bound."""
    explorer = figure(PAGE, "roofline_explorer")
    explorer.press("tokens", "Home")
    while not explorer.numbers()["compute_bound"]:
        explorer.press("tokens", "ArrowRight")
    assert explorer.shown("tokens") == "512"


def test_controls_are_named_and_fit_a_phone(figure):
    explorer = figure(PAGE, "roofline_explorer", width=360)
    controls = explorer.root.locator("[data-trait]").all()
    assert len([control for control in controls if control.is_visible()]) == 8
    for control in controls:
        if box := control.bounding_box():
            assert min(box["width"], box["height"]) >= 20
        assert control.evaluate("(e) => e.labels.length") == 1
    assert explorer.root.get_by_role("group", name=explorer.state["label"]).count() == 1
    assert explorer.page.evaluate("document.documentElement.scrollWidth <= innerWidth")

"""The serving calculator shows Python's formulas, and these count what torch counts and what a cache holds."""

import pytest
import torch
import traitlets
from torch.utils.flop_counter import FlopCounterMode

from fmcourse.cache import KVCache
from fmcourse.transformer import GPT, TransformerConfig
from fmcourse.widgets.serving_calculator import (
    MACHINES,
    MODELS,
    ServingCalculator,
    cache_bytes,
    matrix_weights,
    price_per_million,
    step_seconds,
)

PAGE, NAME = "practice/inference", "serving_calculator"
SIZES = {"n_layers": 3, "d_model": 24, "n_heads": 6, "n_kv_heads": 2, "d_ff": 40, "vocab_size": 17}
ONE = {"operations_per_second": 1.0, "bytes_per_second": 1.0, "weight_bits": 16, "cache_bits": 32}


def tiny(gated):
    return GPT(TransformerConfig(context=64, activation="swiglu" if gated else "relu", bias=False, **SIZES))


@pytest.mark.parametrize("gated", [False, True])
def test_weights_are_the_matrices_of_a_model(gated):
    found = sum(p.numel() for name, p in tiny(gated).named_parameters() if p.dim() == 2 and "positions" not in name)
    assert matrix_weights(gated=gated, **SIZES) == found  # the table of token vectors is the output matrix


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("batch", "length"), [(1, 5), (4, 33)])
def test_arithmetic_is_what_torch_counts(gated, batch, length):
    with torch.device("meta"), torch.no_grad():  # with numbers, the kernel of a CPU hides from the counter
        model, cache = tiny(gated), KVCache(SIZES["n_layers"], capacity=64)
        tokens = torch.zeros(batch, length, dtype=torch.long)
        model(tokens[:, :-1], cache=cache)
        with FlopCounterMode(display=False) as counter:
            model(tokens[:, -1:], cache=cache)
    parts = step_seconds(batch=batch, length=length, sizes={**SIZES, "gated": gated}, **ONE)
    assert parts["arithmetic"] == counter.get_total_flops()


def test_cache_is_what_the_package_keeps():
    model, cache = tiny(False), KVCache(SIZES["n_layers"], capacity=9)
    with torch.no_grad():
        model(torch.zeros(4, 9, dtype=torch.long), cache=cache)
    held = sum(own.keys.nbytes + own.values.nbytes for own, _ in cache.layers)
    parts = step_seconds(batch=4, length=9, sizes={**SIZES, "gated": False}, **ONE)
    assert parts["cache"] == held
    heads = {name: SIZES[name] for name in ("n_layers", "d_model", "n_heads", "n_kv_heads")}
    assert 4 * cache_bytes(9, **heads, bytes_each=4) == held


def test_a_step_takes_the_longer_of_arithmetic_and_reading():
    for batch in (1, 64, 4096):
        parts = step_seconds(batch=batch, length=9, sizes={**SIZES, "gated": True}, **ONE)
        assert parts["weights"] == 2 * matrix_weights(**SIZES, gated=True)
        assert parts["step"] == max(parts["arithmetic"], parts["weights"] + parts["cache"])


def test_a_million_tokens_at_a_thousand_a_second_take_a_thousand_seconds():
    assert price_per_million(1000.0, price_per_hour=3600.0) == pytest.approx(1000.0)


@pytest.mark.parametrize(("name", "published"), [("GPT-2 XL", 1.558e9), ("Llama 3 70B", 70e9), ("GPT-3", 175e9)])
def test_published_models_have_their_size(name, published):
    assert matrix_weights(**MODELS[name]) == pytest.approx(published, rel=0.02)


def test_unknown_models_and_machines_are_refused():
    with pytest.raises(traitlets.TraitError, match="GPT-9"):
        ServingCalculator(model="GPT-9")
    with pytest.raises(traitlets.TraitError, match="abacus"):
        ServingCalculator(machine="abacus")
    abacus = {"operations": 1.0, "bandwidth": 1.0, "memory": 1.0}
    assert ServingCalculator(machines={"abacus": abacus}, machine="abacus").machines[-1]["name"] == "abacus"


def assert_shows(figure, *, model, machine, bits, batch, length, price):
    state, shown = figure.state, figure.numbers()
    numbers = next(m for m in state["machines"] if m["name"] == machine)
    sizes = dict(MODELS[model])
    common = {"length": length, "sizes": sizes, "weight_bits": bits, "cache_bits": 32 if bits == 32 else 16}
    common |= {"operations_per_second": numbers["operations"], "bytes_per_second": numbers["bandwidth"]}
    parts = step_seconds(batch=batch, **common)
    for name, value in parts.items():
        assert shown[name] == pytest.approx(value)
    assert shown["speed"] == pytest.approx(batch / parts["step"])
    assert shown["million"] == pytest.approx(price_per_million(batch / parts["step"], price))
    for size in state["batches"]:
        assert shown[f"speed[{size}]"] == pytest.approx(size / step_seconds(batch=size, **common)["step"])
    reading = parts["weights"] + parts["cache"]
    larger = "weights" if parts["weights"] >= parts["cache"] else "cache"
    bound = "arithmetic" if parts["arithmetic"] >= reading else larger
    assert figure.root.locator("[data-bound]").get_attribute("data-bound") == bound
    weights, cache = matrix_weights(**sizes) * bits / 8, parts["cache"] * numbers["bandwidth"]
    assert shown["weight_memory"] == pytest.approx(weights)
    assert shown["cache_memory"] == pytest.approx(cache)
    assert ("too_much" in shown) == (weights + cache > numbers["memory"])
    return bound


def test_calculator_shows_pythons_numbers(figure):
    calculator = figure(PAGE, NAME)
    state = calculator.state
    now = {name: state[name] for name in ("model", "machine", "bits", "batch", "length", "price")}
    bounds = {assert_shows(calculator, **now)}
    for trait, place in (("batch", 8), ("length", 0), ("batch", 12), ("length", 10), ("price", 3)):
        calculator.set(trait, place)
        values = {"batch": state["batches"], "length": state["lengths"], "price": None}[trait]
        now[trait] = values[place] if values else float(calculator.shown("price"))
        bounds.add(assert_shows(calculator, **now))
    assert bounds == {"weights", "arithmetic", "cache"}
    for model in MODELS:
        calculator.set("model", model)
        assert_shows(calculator, **{**now, "model": model})
    now["model"] = model
    for bits in ("32", "8", "4"):
        calculator.set("bits", bits)
        assert_shows(calculator, **{**now, "bits": int(bits)})
    now["bits"] = 4
    assert len(state["machines"]) == len(MACHINES) + 1, "the core that the page was made on is among them"
    for machine in state["machines"]:
        calculator.set("machine", machine["name"])
        assert_shows(calculator, **{**now, "machine": machine["name"]})


def test_keyboard_finds_where_the_weights_no_longer_dominate(figure):
    """The task of the chapter, by arrow keys."""
    calculator = figure(PAGE, NAME)
    bound = calculator.root.locator("[data-bound]")
    assert bound.get_attribute("data-bound") == "weights"
    for _ in range(12):
        calculator.press("batch", "ArrowRight")
        if bound.get_attribute("data-bound") != "weights":
            break
    found = int(calculator.shown("batch").replace(",", ""))
    machine = MACHINES["NVIDIA A100 80 GB"]
    speed = {"operations_per_second": machine["operations"], "bytes_per_second": machine["bandwidth"]}
    sizes = {**MODELS["Llama 3 8B"]}
    for batch, dominate in ((found // 2, True), (found, False)):
        parts = step_seconds(batch=batch, length=1024, sizes=sizes, weight_bits=16, cache_bits=16, **speed)
        assert (parts["weights"] == max(parts[name] for name in ("weights", "cache", "arithmetic"))) == dominate


def test_controls_are_named_and_fit_a_phone(figure):
    calculator = figure(PAGE, NAME, width=360)
    assert calculator.root.locator("[data-trait]").count() == 6
    for control in calculator.root.locator("[data-trait]").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
        assert control.evaluate("(e) => e.labels.length") == 1
    assert calculator.root.get_by_role("group", name=calculator.state["label"]).count() == 1

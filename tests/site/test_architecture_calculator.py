"""The architecture calculator shows what `count_parts` computes, for published models and for sizes set by hand."""

import pytest

from fmcourse.widgets.architecture_calculator import FAMILIES, PRESETS, count_parts, parts_of

PAGE = "concepts/architectures"
NAMES = ["", *PRESETS]


@pytest.fixture
def calculator(figure):
    return figure(PAGE, "architecture_calculator")


def assert_shows(calculator, parts):
    numbers = calculator.numbers()
    total = sum(parts.values())
    assert numbers["total"] == total
    assert {part: numbers[part] for part in parts} == parts
    for part, n in parts.items():
        assert numbers[f"share_{part}"] == pytest.approx(n / total, abs=1e-9)
    assert calculator.text("total") == f"{total:,}"


def test_numbers_equal_pythons_for_every_published_model(calculator):
    assert_shows(calculator, parts_of(PRESETS[calculator.state["preset"]]))
    for name in PRESETS:
        calculator.set("preset", NAMES.index(name))
        assert_shows(calculator, parts_of(PRESETS[name]))
        assert name in calculator.root.locator("p", has=calculator.page.locator("[data-name=total]")).inner_text()


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_equal_pythons_for_sizes_set_by_hand(calculator, family):
    calculator.set("family", FAMILIES.index(family))
    calculator.set("n_layers", 5)
    calculator.set("d_model", 320)
    calculator.set("n_heads", 2)  # the third of its values: 4
    calculator.set("ff_ratio", 3)
    sizes = {"n_layers": 5, "d_model": 320, "n_heads": 4, "d_ff": 960}
    if family == "vision":
        calculator.set("image", 3)
        calculator.set("patch", 2)
        sizes |= {"image": 128, "patch": 14}
    else:
        calculator.set("vocab_size", 1)
        sizes |= {"vocab_size": 1000}
        if family != "encoder-decoder":
            calculator.set("context", 2)
            sizes |= {"context": 256}
    assert_shows(calculator, count_parts(family, **sizes))
    assert calculator.control("preset").input_value() == calculator.state["labels"]["custom"]


def test_controls_without_meaning_for_a_family_are_away(calculator):
    calculator.set("family", FAMILIES.index("vision"))
    assert calculator.control("patch").is_visible()
    assert not calculator.control("vocab_size").is_visible()
    calculator.set("family", FAMILIES.index("encoder-decoder"))
    assert not calculator.control("patch").is_visible()
    assert calculator.control("vocab_size").is_visible()
    assert not calculator.control("context").is_visible()


def test_keyboard_widens_the_model_and_the_share_of_embeddings_falls(calculator):
    before = calculator.numbers()
    calculator.press("d_model", "ArrowRight", times=4)
    after = calculator.numbers()
    assert after["total"] > before["total"]
    assert after["share_embeddings"] < before["share_embeddings"]
    sizes = {**PRESETS["GPT-2 small"], "d_model": 768 + 4 * 64}
    assert_shows(calculator, parts_of(sizes))
    warning = calculator.root.get_by_text(calculator.state["labels"]["must_divide"], exact=True)
    assert warning.is_visible(), "12 heads do not divide 1,024"


def test_every_visible_control_has_a_name_and_is_big_enough_to_touch(figure):
    shown = figure(PAGE, "architecture_calculator", width=360)
    controls = [control for control in shown.root.locator("[data-trait]").all() if control.is_visible()]
    assert len(controls) == 8
    for control in controls:
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
        control.focus()
        assert control.get_attribute("data-lm-suppress-shortcuts") is not None
    assert shown.root.locator("[data-trait]").evaluate_all("(es) => es.filter((e) => !e.labels.length).length") == 0

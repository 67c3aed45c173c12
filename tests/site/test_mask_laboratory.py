"""The mask laboratory shows Python's masks and the powers of them: reacts, by keyboard too, with labelled controls."""

import pytest
import torch

from fmcourse.masks import causal_mask, visible

PAGE, MODULE = "mathematics/multi_head_and_masks", "mask_laboratory"
MASKS = ["full", "causal", "padded", "prefix", "window"]


def may_attend(*, mask, n, padding=0, prefix=1, width=1, **_):
    """The mask by the package's own functions where it has one, by the definition where not."""
    causal = causal_mask(n, n)
    if mask == "full":
        return torch.ones_like(causal)
    if mask == "padded":
        real = torch.arange(n)[None] >= min(padding, n - 1)
        return visible(n, n, causal=True, real=real, device=torch.device("cpu"))[0, 0]
    if mask == "prefix":
        inside = torch.arange(n) < prefix
        return causal | (inside[:, None] & inside)
    if mask == "window":
        return causal & ~causal_mask(n, n).tril(-width)
    return causal


def layers_needed(mask):
    """The fewest layers until a dependence is possible, by powers of the matrix; -1 where it never is."""
    n = len(mask)
    step = (mask | torch.eye(n, dtype=torch.bool)).double()
    reach, needed = torch.eye(n, dtype=torch.float64), torch.full((n, n), -1)
    for layer in range(n + 1):
        needed[(reach > 0) & (needed < 0)] = layer
        reach = (reach @ step > 0).double()
    return needed


def assert_shows(figure, **choice):
    mask = may_attend(**choice)
    needed, n, numbers = layers_needed(mask), len(mask), figure.numbers()
    shown = [[numbers[f"needed[{i},{j}]"] for j in range(n)] for i in range(n)]
    assert shown == needed.tolist()
    assert sum(name.startswith("needed[") for name in numbers) == n * n
    assert numbers["allowed"] == mask.sum().item()
    assert numbers["share"] == pytest.approx(mask.double().mean().item(), abs=1e-12)
    assert numbers["reached"] == ((needed >= 0) & (needed <= choice["layers"])).sum().item()
    assert numbers["last"] == needed[-1, 0].item()
    cells = figure.root.locator("td.fm-direct").count()
    assert cells == mask.sum().item()


def test_every_mask_shows_pythons_numbers(figure):
    laboratory = figure(PAGE, MODULE)
    state = laboratory.state
    now = {name: state[name] for name in ("mask", "n", "layers", "padding", "prefix", "width")}
    assert_shows(laboratory, **now)
    settings = {"padded": ("padding", (0, 3, 6)), "prefix": ("prefix", (1, 5, 12)), "window": ("width", (1, 2, 12))}
    for mask in MASKS:
        laboratory.set("mask", state["labels"][mask])
        now["mask"] = mask
        for n, layers in ((12, 1), (5, 3), (9, 12)):
            laboratory.set("n", n)
            laboratory.set("layers", layers)
            now |= {"n": n, "layers": layers}
            assert_shows(laboratory, **now)
            if mask in settings:
                trait, values = settings[mask]
                for value in values:
                    laboratory.set(trait, value)
                    now[trait] = value
                    assert_shows(laboratory, **now)


def test_the_task_has_the_answer_that_the_chapter_gives(figure):
    laboratory = figure(PAGE, MODULE)
    laboratory.set("mask", laboratory.state["labels"]["window"])
    for trait, value in (("n", 12), ("width", 3), ("layers", 6)):
        laboratory.set(trait, value)
    assert laboratory.numbers()["last"] == 6
    assert laboratory.numbers()["reached"] == 12 * 13 / 2


def test_only_the_slider_of_the_chosen_mask_is_shown(figure):
    laboratory = figure(PAGE, MODULE)
    for mask, trait in (("padded", "padding"), ("prefix", "prefix"), ("window", "width"), ("full", None)):
        laboratory.set("mask", laboratory.state["labels"][mask])
        visible_ones = [t for t in ("padding", "prefix", "width") if laboratory.control(t).is_visible()]
        assert visible_ones == ([trait] if trait else [])


def test_keyboard_moves_the_layers(figure):
    laboratory = figure(PAGE, MODULE)
    laboratory.set("mask", laboratory.state["labels"]["window"])
    laboratory.press("layers", "Home")
    before = laboratory.numbers()["reached"]
    laboratory.press("layers", "ArrowRight", times=2)
    assert laboratory.shown("layers") == "3"
    assert laboratory.numbers()["reached"] > before
    assert laboratory.control("layers").get_attribute("data-lm-suppress-shortcuts") is not None


def test_controls_have_names_and_room_on_a_phone(figure):
    laboratory = figure(PAGE, MODULE, width=360)
    for control in laboratory.root.locator("[data-trait]").all():
        assert control.evaluate("(e) => e.labels.length") == 1
        box = control.bounding_box()
        assert box is None or min(box["width"], box["height"]) >= 20
    assert laboratory.root.get_by_role("group", name=laboratory.state["label"]).count() == 1
    assert laboratory.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    frame = laboratory.root.locator("figure").bounding_box()
    for control in laboratory.root.locator("[data-trait]:visible").all():
        box = control.bounding_box()
        assert box["x"] + box["width"] <= frame["x"] + frame["width"], control.get_attribute("data-trait")

"""The rotary explorer shows what `fmcourse.positions.Rotary` computes."""

import math
import re

import pytest
import torch

from fmcourse.positions import Rotary
from fmcourse.widgets.rotary_explorer import RotaryExplorer

PAGE = "mathematics/positions"
BASES = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 500000, 1000000]


def pairs(vector, place, base):
    """The pairs of a vector turned by the package, in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        rotate = Rotary(513, len(vector), float(base))(torch.tensor([place]))
        return rotate(torch.tensor(vector, dtype=torch.float64)[None, None, None])[0, 0, 0].reshape(2, -1).T
    finally:
        torch.set_default_dtype(torch.float32)


def assert_shows_python(explorer, *, vectors, m, n, base):
    query, key = explorer.state["query_vectors"][vectors], explorer.state["key_vectors"][vectors]
    q, k = pairs(query, m, base), pairs(key, n, base)
    shown, half = explorer.numbers(), len(query) // 2
    assert shown["score"] == pytest.approx((q * k).sum().item(), abs=1e-9)
    assert shown["distance"] == m - n
    assert shown["most"] == pytest.approx((q.norm(dim=1) * k.norm(dim=1)).sum().item(), abs=1e-9)
    wavelengths = [2 * math.pi * base ** (i / half) for i in range(half)]
    assert [shown[f"wavelength[{i}]"] for i in range(half)] == pytest.approx(wavelengths, rel=1e-12)
    assert shown["slowest"] == pytest.approx(512 / wavelengths[-1], rel=1e-12)
    angles = [math.degrees(math.atan2(b[0] * a[1] - b[1] * a[0], (a * b).sum())) for a, b in zip(q, k, strict=True)]
    for i, angle in enumerate(angles):
        assert math.cos(math.radians(shown[f"angle[{i}]"] - angle)) == pytest.approx(1, abs=1e-12)


def test_numbers_equal_pythons(figure):
    explorer = figure(PAGE, "rotary_explorer")
    now = {name: explorer.state[name] for name in ("vectors", "m", "n", "base")}
    assert_shows_python(explorer, **now)
    for change in ({"vectors": 1}, {"m": 512}, {"n": 3}, {"base": 10}, {"vectors": 2}, {"m": 0}, {"base": 1_000_000}):
        (trait, value) = next(iter(change.items()))
        explorer.set(trait, BASES.index(value) if trait == "base" else value)
        now |= change
        assert_shows_python(explorer, **now)


def test_moving_both_changes_no_score_and_no_angle(figure):
    explorer = figure(PAGE, "rotary_explorer")
    before, start = explorer.numbers(), explorer.control("m").input_value()
    on = explorer.root.locator('button[data-move="on"]')
    on.focus()
    for _ in range(3):
        explorer.page.keyboard.press("Enter")
    assert int(explorer.control("m").input_value()) == int(start) + 48
    after = explorer.numbers()
    assert after == pytest.approx(before, abs=1e-9)
    explorer.press("m", "ArrowRight", times=2)
    moved = explorer.numbers()
    assert moved["distance"] == before["distance"] + 2
    assert abs(moved["score"] - before["score"]) > 0.01


def test_both_stop_together_at_the_ends(figure):
    explorer = figure(PAGE, "rotary_explorer")
    explorer.set("m", 512)
    distance = explorer.numbers()["distance"]
    explorer.root.locator('button[data-move="on"]').click()
    assert explorer.numbers()["distance"] == distance
    explorer.root.locator('button[data-move="back"]').click()
    assert explorer.numbers()["distance"] in (distance, 512 - explorer.state["n"])


def test_the_task_has_its_answer_on_the_slider(figure):
    explorer = figure(PAGE, "rotary_explorer")
    turns = {}
    for base in (500, 1000):
        explorer.set("base", BASES.index(base))
        assert explorer.shown("base") == f"{base:,}"
        turns[base] = explorer.numbers()["slowest"]
    assert turns[1000] < 0.5 < turns[500]


def test_the_curve_follows_the_span_and_the_table_holds_its_numbers(figure):
    explorer = figure(PAGE, "rotary_explorer", width=360)
    curve = explorer.root.locator("polyline")
    seen = set()
    for place in range(3):
        explorer.set("span", place)
        seen.add(curve.get_attribute("points"))
    assert len(seen) == 3
    explorer.root.locator("summary").click()
    query, key = (explorer.state[f"{kind}_vectors"][0] for kind in ("query", "key"))
    wanted = (pairs(query, 8, explorer.state["base"]) * pairs(key, 0, explorer.state["base"])).sum().item()
    row = explorer.root.locator("tr", has=explorer.page.locator("th", has_text=re.compile("^8$")))
    assert row.locator("td").inner_text().replace("\u2212", "-") == f"{wanted:.3f}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": []}, "needs names and as many queries and keys; got 0, 1 and 1"),
        ({"key_vectors": [[1.0, 2.0, 3.0, 4.0]]}, "all vectors need one even width; got [2, 4]"),
        ({"query_vectors": [[1.0]], "key_vectors": [[1.0]]}, "all vectors need one even width; got [1]"),
        ({"vectors": 1}, "vectors=1 is out of range; 0 to 0 are allowed"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    state = {"names": ["a"], "query_vectors": [[1.0, 0.0]], "key_vectors": [[0.0, 1.0]]}
    RotaryExplorer(**state)
    with pytest.raises(ValueError, match=re.escape(message)):
        RotaryExplorer(**{**state, **change})

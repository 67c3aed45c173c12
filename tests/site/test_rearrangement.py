"""The figure on cutting vectors into heads shows what einops and torch do."""

import pytest
import traitlets

from fmcourse.widgets.rearrangement import OPERATIONS, Rearrangement

PAGE = "algorithm/building_the_model"
SIZES = [(3, 2, 2), (2, 1, 4), (6, 4, 3), (5, 3, 1)]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_number_goes_where_python_puts_it(figure, operation):
    explorer = figure(PAGE, "rearrangement")
    explorer.set("operation", OPERATIONS.index(operation))
    for n_tokens, n_heads, d_head in SIZES:
        sizes = {"n_tokens": n_tokens, "n_heads": n_heads, "d_head": d_head}
        for name, size in sizes.items():
            explorer.set(name, size)
        expected = Rearrangement(operation=operation, **sizes).result()
        shown = explorer.numbers()
        cells = {name: value for name, value in shown.items() if name.startswith("cell")}
        assert cells == {
            f"cell[{i},{t},{j}]": float(expected[i, t, j])
            for i in range(n_heads)
            for t in range(n_tokens)
            for j in range(d_head)
        }
        owner = expected // (n_heads * d_head)
        assert shown["mixed"] == int((owner != owner[..., :1]).any(dim=-1).sum())
        own = owner.new_tensor(range(n_tokens))[None, :, None]
        assert shown["wrong"] == int((owner != own).any(dim=-1).sum())


def test_keyboard_moves_a_slider(figure):
    explorer = figure(PAGE, "rearrangement")
    before = len(explorer.numbers())
    explorer.press("n_heads", "ArrowRight")
    assert len(explorer.numbers()) > before


def test_a_state_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="n_tokens=7 is more than the 6 tokens that have a name"):
        Rearrangement(n_tokens=7)
    with pytest.raises(ValueError, match="n_heads must be positive; got 0"):
        Rearrangement(n_heads=0)
    with pytest.raises(traitlets.TraitError):
        Rearrangement(operation="view")

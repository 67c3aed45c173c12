"""The course's figures: readable colours, and drawings that show the numbers they were given."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from fmcourse import plotting


@pytest.fixture(autouse=True)
def _headless():
    with mpl.rc_context():
        mpl.use("Agg")
        plotting.use_style()
        yield
        plt.close("all")


def luminance(colour):
    """Relative luminance as WCAG 2.2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(a, b):
    low, high = sorted([luminance(a), luminance(b)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colour", [*plotting.COLOURS, plotting.INK, plotting.MUTED])
def test_every_colour_stands_out_from_the_panel(colour):
    assert contrast(colour, plotting.PANEL) >= 4.5


def test_lines_differ_in_dash_as_well_as_in_colour():
    cycle = list(mpl.rcParams["axes.prop_cycle"])
    dashes = {str(entry["linestyle"]) for entry in cycle}
    assert len(cycle) == len({entry["color"] for entry in cycle}) == len(dashes) == 6


def test_importing_the_module_does_not_import_matplotlib():
    code = "import sys, fmcourse.plotting; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, list])
def test_heatmap_writes_its_numbers_and_names(kind):
    _, ax = plotting.figure()
    image = plotting.heatmap(ax, kind([[0.0, 0.25, 1.0], [0.5, 0.123, float("nan")]]), ["a", "b"], ["x", "y", "z"])
    assert [t.get_text() for t in ax.texts] == ["0.00", "0.25", "1.00", "0.50", "0.12"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a", "b"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["x", "y", "z"]
    assert image.get_array().shape == (2, 3)


def test_heatmap_numbers_can_be_read_on_their_cells():
    _, ax = plotting.figure()
    values = np.linspace(0, 1, 21)[None]
    image = plotting.heatmap(ax, values)
    for text, value in zip(ax.texts, values[0], strict=True):
        assert contrast(text.get_color(), image.cmap(image.norm(value))[:3]) >= 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0],), r"heatmap draws a matrix \(2 axes\); got shape \(2,\)"),
        (([[1.0, 2.0]], ["a", "b"]), "2 names in rows, the matrix has 1"),
        (([[1.0, 2.0]], ["a"], ["x"]), "1 names in columns, the matrix has 2"),
    ],
)
def test_heatmap_refuses_what_does_not_fit(arguments, message):
    _, ax = plotting.figure()
    with pytest.raises(ValueError, match=message):
        plotting.heatmap(ax, *arguments)

"""The course's figures: one matplotlib style, and the few drawings that come back in several chapters.

Every figure stands on its own light panel, so it reads the same on a light page, on a dark page and in print. Colours
are distinguishable under the common colour-vision deficiencies, and lines also differ in dash.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

INK, MUTED, LINE, PANEL = "#1b1f24", "#4b5563", "#d5d9df", "#fcfcfb"
COLOURS = ("#0b62a8", "#b34700", "#00785a", "#a3327f", "#7a6000", "#4d4d4d")
"""Series colours in order; each keeps at least 4.5:1 against the panel, and the widgets use the same six."""
DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)), (0, (3, 1)), (0, (8, 3)))


def use_style() -> None:
    """Make the course's style matplotlib's default in this process, and notebook figures sharp (twice the pixels).

    Used in every chapter.
    """
    import matplotlib as mpl
    from cycler import cycler
    from IPython import get_ipython

    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 96,
            "figure.facecolor": PANEL,
            "figure.constrained_layout.use": True,
            "savefig.facecolor": PANEL,
            "savefig.bbox": "tight",
            "savefig.pad_inches": 0.12,
            "axes.facecolor": PANEL,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": cycler(color=COLOURS, linestyle=DASHES),
            "grid.color": LINE,
            "grid.linewidth": 0.8,
            "lines.linewidth": 2.0,
            "lines.markersize": 6,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "text.color": INK,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "font.size": 10.5,
            "font.family": "DejaVu Sans",
            "image.cmap": "Blues",
        }
    )
    if (shell := get_ipython()) is not None and "InlineBackend" in {c.__class__.__name__ for c in shell.configurables}:
        shell.run_line_magic("config", "InlineBackend.figure_formats = ['retina']")


def figure(width: float = 6.4, height: float = 3.6, **subplots: Any) -> "tuple[Figure, Any]":
    """A figure of `width` x `height` inches (6.4 fills the text column) and its axes; the rest goes to `subplots`.

    Used in every chapter.
    """
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), **subplots)


def heatmap(
    ax: "Axes",
    matrix: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    digits: int | None = 2,
    low: float | None = None,
    high: float | None = None,
) -> "AxesImage":
    """Draw `matrix` (rows by columns) as cells, each with its number unless `digits=None`.

    `low` and `high` fix the colour scale, so that neighbouring panels can be compared; NaN cells stay empty.
    Used in `mathematics/attention`.
    """
    values = np.asarray(matrix.detach().cpu() if hasattr(matrix, "detach") else matrix, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"heatmap draws a matrix (2 axes); got shape {values.shape}")
    for name, labels, size in (("rows", rows, values.shape[0]), ("columns", columns, values.shape[1])):
        if labels is not None and len(labels) != size:
            raise ValueError(f"heatmap: {len(labels)} names in {name}, the matrix has {size}")
    image = ax.imshow(values, vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.set_xticks(range(values.shape[1]), columns if columns is not None else [str(j) for j in range(values.shape[1])])
    ax.set_yticks(range(values.shape[0]), rows if rows is not None else [str(i) for i in range(values.shape[0])])
    ax.tick_params(length=0)
    if digits is not None:
        for (i, j), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = float(np.asarray(image.norm(value)).item()) > 0.55
                ax.text(j, i, f"{value:.{digits}f}", ha="center", va="center", size=9, color="white" if dark else INK)
    return image

"""The history of a run shows its numbers as text, as HTML and as a figure."""

import matplotlib as mpl
import pytest

mpl.use("agg")

from fmcourse.history import History

ROWS = [
    {
        "step": 50,
        "train_loss": 2.5,
        "val_loss": 2.25,
        "learning_rate": 1e-3,
        "tokens_per_second": 12345.6,
        "seconds": 1.5,
    },
    {
        "step": 1000,
        "train_loss": 1.5,
        "val_loss": 1.75,
        "learning_rate": 5e-4,
        "tokens_per_second": 9.0,
        "seconds": 30.0,
    },
    {
        "step": 1050,
        "train_loss": 1.25,
        "val_loss": 1.875,
        "learning_rate": 0.0,
        "tokens_per_second": 8.0,
        "seconds": 31.0,
    },
]


def test_columns_and_the_best_loss():
    history = History(ROWS)
    assert len(history) == 3
    assert history.column("step") == [50, 1000, 1050]
    assert history.best == 1.75


def test_the_text_is_an_aligned_table_with_every_column():
    lines = str(History(ROWS)).splitlines()
    assert lines[0].split() == list(ROWS[0])
    assert lines[2].split()[:3] == ["1,000", "1.5", "1.75"]
    assert len({len(line) for line in lines}) == 1


def test_the_html_is_a_table_with_a_header_for_every_column():
    html = History(ROWS)._repr_html_()
    assert html.count('<th scope="col">') == 6
    assert html.count("<tr>") == 4
    assert "<td>1.75</td>" in html


def test_the_figure_draws_both_losses_against_the_step():
    ax = History(ROWS).plot()
    drawn = [line.get_xydata().tolist() for line in ax.get_lines()]
    for name in ("train_loss", "val_loss"):
        assert [[row["step"], row[name]] for row in ROWS] in drawn
    assert ax.get_ylabel() == "loss (nats per token)"
    assert ax.get_xlabel()
    assert History(ROWS).plot(ax) is ax


def test_an_empty_history_says_so():
    assert str(History()) == History()._repr_html_() == "(empty history)"
    assert len(History()) == 0
    with pytest.raises(ValueError, match="the history is empty: nothing was evaluated yet"):
        _ = History().best


def test_an_unknown_column_names_the_known_ones():
    with pytest.raises(KeyError, match="no column 'loss'; there are step, train_loss, val_loss"):
        History(ROWS).column("loss")


def test_large_numbers_are_written_out():
    row = {"step": 12345, "train_loss": 1.23456, "val_loss": 0.000012345, "tokens_per_second": 27270.1}
    assert str(History([row])).splitlines()[1].split() == ["12,345", "1.235", "1.234e-05", "27,270"]

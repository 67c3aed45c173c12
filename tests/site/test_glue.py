"""Numbers in prose: `fmcourse.glue` writes what MyST-NB's roles read, without MyST-NB."""

import nbformat
import pytest
from myst_nb.core.variables import format_plain_text
from myst_nb.ext.glue import extract_glue_data_cell
from nbclient import NotebookClient

from fmcourse.glue import glue

CODE = """
import numpy as np, torch
from fmcourse.glue import glue
glue("loss", 1.23456)
glue("steps", np.int64(1500))
glue("share", torch.tensor(0.25))
glue("exact", np.float64(0.1))
glue("noise", 6.0666255690806965)
glue("count", 123456789)
glue("name", "it's")
glue("yes", np.bool_(True))
"""


@pytest.fixture(scope="module")
def glued():
    """What the roles find in a notebook that was really run, and what the reader of that notebook sees."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    cell = notebook.cells[0]
    visible = [set(o.data) & {"text/plain", "text/html"} for o in cell.outputs]
    return {key: data["data"]["text/plain"] for key, data in extract_glue_data_cell(cell)}, visible


@pytest.mark.parametrize(
    ("name", "spec", "text"),
    [
        ("loss", ".2f", "1.23"),
        ("steps", ",d", "1,500"),
        ("share", ".0%", "25%"),
        ("exact", ".1f", "0.1"),
        ("noise", ".9g", "6.06663"),
        ("count", ",d", "123,456,789"),
        ("name", "s", "it's"),
        ("yes", "s", "True"),
    ],
)
def test_a_role_formats_what_was_glued(glued, name, spec, text):
    assert format_plain_text(glued[0][name], spec) == text


def test_nothing_is_shown_where_the_cell_runs(glued):
    assert glued[1] == [set()] * 8


@pytest.mark.parametrize("value", [[1.0], {"a": 1}, None])
def test_only_single_values_are_glued(value):
    with pytest.raises(TypeError, match=r"glue\('x', \.\.\.\) was given a \w+: only a single number or a string"):
        glue("x", value)


@pytest.mark.parametrize("name", ["", "a:b", " a"])
def test_names_that_a_role_cannot_read_are_refused(name):
    with pytest.raises(ValueError, match="give a name without colons"):
        glue(name, 1)


def test_outside_a_notebook_nothing_happens(capsys):
    glue("x", 1.0)
    assert capsys.readouterr().out == ""

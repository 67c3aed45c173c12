"""Running notebooks, and their view as text."""

from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tools import notebooks, text_view
from tools.normalise import normalise, read, to_text
from tools.project import Project

PROJECT = Project(repository="https://example.org/book", release="v1", data_pins={})


@pytest.fixture
def chapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A chapter that was never run, in a repository of its own."""
    monkeypatch.setattr(text_view, "ROOT", tmp_path)
    monkeypatch.setattr(text_view, "FOLDER", tmp_path / "text")
    path = tmp_path / "chapters" / "part" / "one.ipynb"
    path.parent.mkdir(parents=True)
    notebook = new_notebook()
    notebook.cells = [
        new_markdown_cell("# One", metadata={"fmcourse": {"budget_seconds": 60}}),
        new_code_cell("x = 6 * 7\nx"),
        new_code_cell("assert x == 42", metadata={"tags": ["hide-input"]}),
        new_markdown_cell("Last *words*."),
    ]
    path.write_text(to_text(normalise(notebook, PROJECT)), encoding="utf-8")
    return path


def edit(path: Path, change: Callable[[NotebookNode], object]) -> None:
    notebook = read(path)
    change(notebook)
    path.write_text(to_text(notebook), encoding="utf-8")


def test_execute_stores_outputs_in_the_committed_form(chapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert notebooks.execute(chapter, PROJECT) == []
    cells = read(chapter).cells
    assert cells[2].outputs[0].data["text/plain"] == "42"
    assert [cell.execution_count for cell in cells if cell.cell_type == "code"] == [1, 2, 3]
    assert "s of 60 s" in capsys.readouterr().out
    assert notebooks.check(chapter, PROJECT) == []


def test_a_failing_cell_leaves_the_file_alone(chapter: Path) -> None:
    edit(chapter, lambda n: n.cells[3].update(source="assert x == 41"))
    before = chapter.read_bytes()
    (message,) = notebooks.execute(chapter, PROJECT)
    assert "stopped at code cell 3 of 3" in message
    assert "assert x == 41" in message
    assert chapter.read_bytes() == before
    assert [path.name for path in chapter.parent.iterdir()] == ["one.ipynb"]


def test_check_changes_nothing_and_write_reports_what_it_cannot_do(chapter: Path) -> None:
    edit(chapter, lambda n: (n.cells[2].metadata.update(collapsed=True), n.cells[2].metadata.update(tags=["gqu"])))
    before = chapter.read_bytes()
    assert any("not in the committed form" in message for message in notebooks.check(chapter, PROJECT))
    assert chapter.read_bytes() == before
    messages = notebooks.write(chapter, PROJECT)
    assert "collapsed" not in chapter.read_text(encoding="utf-8")
    assert any("unknown tag 'gqu'" in message for message in messages)
    assert any("execution counts" in message for message in messages)


def test_command_line_counts_what_is_wrong(chapter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert notebooks.main(["--check", str(chapter)]) == 1
    assert "1 notebooks, 1 with problems" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        notebooks.main(["--check", "no/such.ipynb"])
    assert "no such notebook: no/such.ipynb" in capsys.readouterr().err


def test_text_view_brings_edits_back_and_keeps_the_rest(chapter: Path) -> None:
    before = read(chapter)
    assert text_view.export(chapter, PROJECT) == []
    view = text_view.view_of(chapter)
    assert (view.parent.parent / ".gitignore").read_text() == "*\n"
    assert text_view.bring_back(chapter, PROJECT) == []
    assert read(chapter) == before

    view.write_text(view.read_text().replace("6 * 7", "7 * 6").replace("*words*", "**words**"))
    assert text_view.bring_back(chapter, PROJECT) == []
    after = read(chapter)
    assert after.cells[2].source == "x = 7 * 6\nx"
    assert after.cells[4].source == "Last **words**."
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    assert [cell.metadata for cell in after.cells] == [cell.metadata for cell in before.cells]


def test_text_view_adds_and_moves_cells(chapter: Path) -> None:
    before = read(chapter)
    text_view.export(chapter, PROJECT)
    view = text_view.view_of(chapter)
    view.write_text(view.read_text() + "\n# %% tags=[\"hide-cell\"]\nprint('new')\n")
    assert text_view.bring_back(chapter, PROJECT) == []
    after = read(chapter)
    assert after.cells[-1].source == "print('new')"
    assert after.cells[-1].metadata == {"tags": ["hide-cell"]}
    assert [cell.id for cell in after.cells[:-1]] == [cell.id for cell in before.cells]


def test_neither_side_overwrites_edits_of_the_other(chapter: Path) -> None:
    text_view.export(chapter, PROJECT)
    view = text_view.view_of(chapter)
    view.write_text(view.read_text().replace("6 * 7", "7 * 6"))
    (message,) = text_view.export(chapter, PROJECT)
    assert "has edits the notebook has not" in message
    edit(chapter, lambda n: n.cells[4].update(source="Other words."))
    both = (chapter.read_bytes(), view.read_bytes())
    (message,) = text_view.bring_back(chapter, PROJECT)
    assert "both" in message
    assert (chapter.read_bytes(), view.read_bytes()) == both


def test_running_a_notebook_is_not_an_edit_of_it(chapter: Path) -> None:
    text_view.export(chapter, PROJECT)
    notebooks.execute(chapter, PROJECT)
    view = text_view.view_of(chapter)
    view.write_text(view.read_text().replace("Last", "Final"))
    assert text_view.bring_back(chapter, PROJECT) == []
    after = read(chapter)
    assert after.cells[4].source == "Final *words*."
    assert after.cells[2].outputs[0].data["text/plain"] == "42"

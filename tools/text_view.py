"""A notebook as a plain py:percent file for editing: `text/<part>/<chapter>.py`, never committed.

The view remembers which state of the notebook it shows, so that neither side overwrites the other's edits: an
edited view is not replaced by `--to-text`, and `--from-text` refuses when the notebook changed meanwhile.
"""

import hashlib
import json
from pathlib import Path

import jupytext
from jupytext.combine import combine_inputs_with_outputs
from nbformat import NotebookNode

from tools.normalise import normalise, read, to_text
from tools.project import ROOT, Project

FOLDER = ROOT / "text"
FORMAT = {"extension": ".py", "format_name": "percent"}
_KEEP = {"jupytext": {"cell_metadata_filter": "all", "notebook_metadata_filter": "-all"}}


def view_of(notebook: Path) -> Path:
    """Where the text of this notebook is shown."""
    inside = notebook.resolve().relative_to(ROOT / "chapters")
    return FOLDER / inside.with_suffix(".py")


def export(path: Path, project: Project) -> list[str]:
    """Write the view of one notebook."""
    view = view_of(path)
    if view.exists() and _digest(view.read_text(encoding="utf-8")) != _seen(view).get("view"):
        return [f"{view.relative_to(ROOT)} has edits the notebook has not: run `make notebooks`, or delete it"]
    notebook = normalise(read(path), project)
    notebook.metadata.update(_KEEP)
    text = jupytext.writes(notebook, fmt=FORMAT)
    view.parent.mkdir(parents=True, exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="utf-8")
    view.write_text(text, encoding="utf-8")
    _remember(view, {"view": _digest(text), "notebook": _digest(_inputs(path))})
    return []


def bring_back(path: Path, project: Project) -> list[str]:
    """Put an edited view's text into its notebook; the outputs of unchanged cells stay for now."""
    view = view_of(path)
    if not view.exists():
        return []
    text, seen = view.read_text(encoding="utf-8"), _seen(view)
    if _digest(text) == seen.get("view"):
        return []
    if _digest(_inputs(path)) != seen.get("notebook"):
        return [f"both {view.relative_to(ROOT)} and the notebook were edited: revert one of them"]
    before = read(path)
    after = combine_inputs_with_outputs(jupytext.reads(text, fmt=FORMAT), before, fmt=FORMAT)
    _keep_ids(before, after)
    path.write_text(to_text(normalise(after, project)), encoding="utf-8", newline="\n")
    _remember(view, {"view": _digest(text), "notebook": _digest(_inputs(path))})
    return []


def _keep_ids(before: NotebookNode, after: NotebookNode) -> None:
    """Cells keep their ids: by equal text, or by position when as many remain. New ones get theirs later."""
    known = {(cell.cell_type, cell.source.strip()): cell.id for cell in before.cells}
    for i, cell in enumerate(after.cells):
        same_place = before.cells[i].id if len(before.cells) == len(after.cells) else ""
        cell.id = known.get((cell.cell_type, cell.source.strip()), same_place)


def _inputs(path: Path) -> str:
    """What of a notebook a view shows: its cells without outputs."""
    cells = read(path).cells
    return json.dumps([[cell.cell_type, cell.source, cell.metadata] for cell in cells], sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _memory(view: Path) -> Path:
    return view.with_suffix(".seen.json")


def _seen(view: Path) -> dict[str, str]:
    memory = _memory(view)
    return dict(json.loads(memory.read_text(encoding="utf-8"))) if memory.exists() else {}


def _remember(view: Path, seen: dict[str, str]) -> None:
    _memory(view).write_text(json.dumps(seen), encoding="utf-8")

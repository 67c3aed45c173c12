"""Keep the chapters' notebooks in their committed form, run them, and show them as text for editing.

    python -m tools.notebooks --check             # say what is wrong, change nothing
    python -m tools.notebooks --write             # normalise the files, say what only a person can put right
    python -m tools.notebooks --execute           # run from top to bottom in a fresh kernel, then as --write
    python -m tools.notebooks --to-text           # text/**.py: a view in py:percent form, ignored by git
    python -m tools.notebooks --from-text         # bring edited views back into their notebooks

Each takes notebooks to work on; without any, all of chapters/.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from tools import hygiene, text_view
from tools.normalise import declared, normalise, parse, read, to_text
from tools.project import ROOT, Project

CELL_TIMEOUT = 600  # seconds; a cell that takes longer hangs


def notebooks_in(root: Path = ROOT) -> list[Path]:
    """Every notebook of the book, in a stable order."""
    found = sorted((root / "chapters").rglob("*.ipynb"))
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def check(path: Path, project: Project) -> list[str]:
    """What is wrong with the notebook; the file is not touched."""
    return hygiene.problems(path, project)


def write(path: Path, project: Project) -> list[str]:
    """Normalise the file; return what is still wrong with it."""
    before = path.read_text(encoding="utf-8")
    after = to_text(normalise(parse(before), project))
    if after != before:
        _replace(path, after)
    return hygiene.problems(path, project)


def execute(path: Path, project: Project) -> list[str]:
    """Run every cell in a fresh kernel in the notebook's folder; the file changes only if all of them ran."""
    # Normal form first: what runs is exactly what is committed, the install cell included.
    notebook = normalise(read(path), project)
    code = [i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    running = 0
    start = time.perf_counter()
    with tqdm(total=len(code), desc=path.stem, unit="cell", leave=False, file=sys.stderr) as bar:

        def begin(cell: NotebookNode, cell_index: int, **_: object) -> None:
            nonlocal running
            running += cell.cell_type == "code"

        def end(cell: NotebookNode, cell_index: int, **_: object) -> None:
            bar.update(cell.cell_type == "code")

        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            resources={"metadata": {"path": str(path.parent)}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            on_cell_start=begin,
            on_cell_executed=end,
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            return [f"stopped at code cell {running} of {len(code)}, the file is unchanged\n{error}"]
    seconds, budget = time.perf_counter() - start, declared(notebook).get("budget_seconds")
    over = isinstance(budget, (int, float)) and seconds > budget
    print(f"{path.stem}: {seconds:.0f} s of {budget} s{'  OVER ITS BUDGET' if over else ''}", flush=True)
    _replace(path, to_text(normalise(notebook, project)))
    return hygiene.problems(path, project)


def _replace(path: Path, text: str) -> None:
    """Swap the file's text in one step, so that an interruption leaves the old one."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.write_text(text, encoding="utf-8", newline="\n")
    fresh.replace(path)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    action = parser.add_mutually_exclusive_group(required=True)
    for name, function in ACTIONS.items():
        action.add_argument(f"--{name}", dest="action", action="store_const", const=function)
    parser.add_argument("paths", nargs="*", type=Path, metavar="NOTEBOOK")
    options = parser.parse_args(arguments)
    paths = options.paths or notebooks_in()
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    project, failed = Project.load(), 0
    for path in paths:
        found = options.action(path.resolve(), project)
        failed += bool(found)
        for message in found:
            print(f"{path}: {message}")
    print(f"{len(paths)} notebooks, {failed} with problems")
    return 1 if failed else 0


ACTIONS = {
    "check": check,
    "write": write,
    "execute": execute,
    "to-text": text_view.export,
    "from-text": text_view.bring_back,
}


if __name__ == "__main__":
    sys.exit(main())

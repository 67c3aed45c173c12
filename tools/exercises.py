"""Make the three forms of every exercise from its one master, `exercises/<name>/master.py`.

    python -m tools.exercises --check    # is what is committed what the masters give? changes nothing
    python -m tools.exercises --write    # write it; solutions run in a fresh kernel

Forms: `exercise.ipynb` (for learners, on Colab too), `questions.md` (a page of the book, with folded hints) and
`solution.ipynb` (a page of the book); beside them `list.md`, the table of all exercises. A master is a py:percent
file. `# BEGIN SOLUTION` and `# END SOLUTION` enclose what learners must find; commented lines after `# INSTEAD` are
what they get instead. A cell with `question="q1"` belongs to that question of `fmcourse/exercises/<name>.py`, from
which title, points, minutes and hints come.
"""

import argparse
import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_notebook

from fmcourse.exercises import load
from fmcourse.exercises.spec import Question
from tools import notebooks
from tools.normalise import normalise, read, to_text
from tools.project import ROOT, Project

FOLDER = ROOT / "exercises"
_BEGIN, _INSTEAD, _END = "# BEGIN SOLUTION", "# INSTEAD", "# END SOLUTION"
_CHAPTER = re.compile(r"\]\(chapter:(?P<name>[\w/]+)\)")


def masters() -> list[Path]:
    """Every master, in a stable order."""
    return sorted(FOLDER.glob("*/master.py"))


def overview() -> str:
    """The table of all exercises, in the order of their chapters in the book."""
    order = [
        line.split("chapters/")[1] for line in (ROOT / "_toc.yml").read_text("utf-8").split() if "chapters/" in line
    ]
    rows = [":::{list-table}\n:header-rows: 1\n:widths: 34 34 10 10 12\n\n"
            "* - Exercise\n  - Chapter\n  - Points\n  - Minutes\n  - Solutions"]  # fmt: skip
    for exercise in sorted((load(master.parent.name) for master in masters()), key=lambda e: order.index(e.chapter)):
        minutes = sum(question.minutes for question in exercise.questions)
        rows.append(
            f"* - [{exercise.title}](/exercises/{exercise.name}/questions.md)\n"
            f"  - {{doc}}`/chapters/{exercise.chapter}`\n  - {exercise.points}\n  - {minutes}\n"
            f"  - [solutions](/exercises/{exercise.name}/solution.ipynb)"
        )
    return "\n".join(rows) + "\n:::\n"


def cells_of(master: Path) -> list[NotebookNode]:
    """The cells of a master. Raises ValueError for markers that do not match and questions that do not exist."""
    exercise = load(master.parent.name)
    cells: list[NotebookNode] = jupytext.reads(master.read_text(encoding="utf-8"), fmt="py:percent").cells
    for cell in cells:
        if "question" in cell.metadata:
            exercise.question(cell.metadata["question"])
        split(cell.source)
    asked = {cell.metadata["question"] for cell in cells if "question" in cell.metadata}
    if missing := [question.id for question in exercise.questions if question.id not in asked]:
        raise ValueError(f"{master.parent.name}: the master does not ask {', '.join(missing)}")
    return cells


def split(source: str) -> list[tuple[str, list[str]]]:
    """The lines of a cell in runs: ("text" | "solution" | "instead", lines)."""
    order = {_BEGIN: ("text", "solution"), _INSTEAD: ("solution", "instead"), _END: ("solution instead", "text")}
    runs: list[tuple[str, list[str]]] = [("text", [])]
    for line in source.splitlines():
        if (marker := line.strip()) in order:
            before, after = order[marker]
            if runs[-1][0] not in before.split():
                raise ValueError(f"{marker} stands where it cannot, in the cell that begins {source[:60]!r}")
            runs.append((after, []))
        else:
            runs[-1][1].append(line)
    if runs[-1][0] != "text":
        raise ValueError(f"{_END} is missing in the cell that begins {source[:60]!r}")
    return runs


def for_learner(source: str) -> str:
    """A cell without its solution."""
    runs, lines = split(source), []
    for i, (kind, own) in enumerate(runs):
        if kind == "text":
            lines += own
        elif kind == "instead":
            lines += [re.sub(r"# ?", "", line, count=1) for line in own]
        elif i + 1 < len(runs) and runs[i + 1][0] != "instead":
            lines += _blank(own)
    return "\n".join(lines)


def _blank(solution: list[str]) -> list[str]:
    indent = min((len(line) - len(line.lstrip()) for line in solution if line.strip()), default=0)
    if indent:
        return [" " * indent + 'raise NotImplementedError("your answer")']
    body = ast.parse("\n".join(solution)).body
    last = next(node for node in reversed(body) if isinstance(node, ast.Assign))
    return [f"{ast.unparse(target)} = None  # your answer" for target in last.targets]


def solved(source: str) -> str:
    """A cell with its solution, without markers."""
    return "\n".join(line for kind, own in split(source) if kind != "instead" for line in own)


def heading(question: Question) -> str:
    """What stands above a question."""
    points = "1 point" if question.points == 1 else f"{question.points} points"
    number = question.id.removeprefix("q")
    return f"## {number}. {question.title}\n\n*{question.kind}, {points}, about {question.minutes} minutes*\n\n"


def _linked(text: str, target: str) -> str:
    return _CHAPTER.sub(lambda found: f"]({target.format(found['name'])})", text)


def _cells(master: Path, project: Project, target: str, *, solution: bool) -> list[NotebookNode]:
    exercise, cells = load(master.parent.name), []
    for i, cell in enumerate(cells_of(master)):
        question = cell.metadata.pop("question", None)
        if cell.cell_type == "markdown":
            cell.source = (heading(exercise.question(question)) if question else "") + _linked(cell.source, target)
        else:
            cell.source = solved(cell.source) if solution else for_learner(cell.source)
        cell.id = f"cell-{i}"  # jupytext draws ids at random
        cells.append(cell)
    return cells


def student(master: Path, project: Project) -> NotebookNode:
    """The learner's notebook."""
    chapter = f"{project.repository}/blob/HEAD/chapters/{{}}.ipynb"
    return normalise(new_notebook(cells=_cells(master, project, chapter, solution=False)), project)


def solution(master: Path, project: Project) -> NotebookNode:
    """The notebook with solutions, not run yet."""
    cells = _cells(master, project, "/chapters/{}.ipynb", solution=True)
    cells[0].source = re.sub(r"^# Exercise", "# Solution", cells[0].source)
    cells = [cell for cell in cells if "check.receipt" not in cell.source]
    return normalise(new_notebook(cells=cells), project)


def page(master: Path, project: Project) -> str:
    """The page of the book: the questions, their hints folded, what learners start from."""
    exercise, name = load(master.parent.name), master.parent.name
    colab = project.repository.replace("https://github.com", "https://colab.research.google.com/github")
    about = (
        f"**{exercise.points} points, about {sum(q.minutes for q in exercise.questions)} minutes.** "
        f"[Open it on Colab]({colab}/blob/HEAD/exercises/{name}/exercise.ipynb), or "
        f"take [the notebook]({project.repository}/blob/HEAD/exercises/{name}/exercise.ipynb). "
        "When you have tried: the [solutions](solution.ipynb).\n"
    )
    blocks: list[str] = [f"---\ndescription: {exercise.title}. Questions and hints.\n---"]
    for cell in cells_of(master):
        question = cell.metadata.get("question")
        if cell.cell_type == "markdown":
            above = heading(exercise.question(question)) if question else ""
            blocks.append(above + _linked(cell.source, "/chapters/{}.ipynb"))
            if len(blocks) == 2:
                blocks.append(about)
            continue
        if question is None:
            continue  # set-up and receipt: the notebook has them
        blocks += [f"```python\n{for_learner(cell.source)}\n```", _hints(exercise.question(question))]
    return "\n\n".join(blocks).rstrip() + "\n"


def _hints(question: Question) -> str:
    return "\n\n".join(
        f":::{{dropdown}} Hint {i} of {len(question.hints)}\n{hint}\n:::"
        for i, hint in enumerate(question.hints, start=1)
    )


def check(master: Path, project: Project) -> list[str]:
    """What of the committed forms is not what the master gives."""
    folder, found = master.parent, []
    forms = {"exercise.ipynb": to_text(student(master, project)), "questions.md": page(master, project)}
    for name, text in forms.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            found.append(f"{name} is not what the master gives: run `make exercises`")
    path = folder / "solution.ipynb"
    wanted = [cell.source for cell in solution(master, project).cells]
    if not path.exists() or [cell.source for cell in read(path).cells] != wanted:
        found.append("solution.ipynb is not what the master gives: run `make exercises`")
    elif any(cell.execution_count is None for cell in read(path).cells if cell.cell_type == "code"):
        found.append("solution.ipynb was not run")
    return found


def write(master: Path, project: Project) -> list[str]:
    """Write all three forms; the solution is run."""
    folder = master.parent
    (folder / "exercise.ipynb").write_text(to_text(student(master, project)), encoding="utf-8", newline="\n")
    (folder / "questions.md").write_text(page(master, project), encoding="utf-8", newline="\n")
    path = folder / "solution.ipynb"
    path.write_text(to_text(solution(master, project)), encoding="utf-8", newline="\n")
    return [problem for problem in notebooks.execute(path, project) if "stopped at" in problem]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.exercises", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    action = parser.add_mutually_exclusive_group(required=True)
    for name, function in {"check": check, "write": write}.items():
        action.add_argument(f"--{name}", dest="action", action="store_const", const=function)
    options = parser.parse_args(arguments)
    project, failed = Project.load(), 0
    table = FOLDER / "list.md"
    if options.action is write:
        table.write_text(overview(), encoding="utf-8", newline="\n")
    elif not table.exists() or table.read_text(encoding="utf-8") != overview():
        failed += 1
        print("list.md is not what the masters give: run `make exercises`")
    for master in masters():
        for message in options.action(master, project):
            failed += 1
            print(f"{master.parent.name}: {message}")
    print(f"{len(masters())} exercises, {failed} problems")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

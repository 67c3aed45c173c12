"""A submitted notebook, read as data: nothing in it runs here.

Used in the grading of exercises.
"""

import ast
import json
import os
import stat
import symtable
import threading
from dataclasses import dataclass
from pathlib import Path

from fmcourse.exercises.spec import Question

MAX_BYTES, MAX_CELLS = 10_000_000, 500
_PARSING = threading.Lock()  # two threads in ast.parse can disturb each other's count of depth (CPython 3.11)


class SubmissionError(ValueError):
    """The file is not a notebook that can be graded; the message says why, for the student."""


@dataclass(frozen=True)
class Submission:
    """The code cells of one student's notebook."""

    student: str
    cells: tuple[str, ...]


def read(path: Path, student: str) -> Submission:
    """Read a notebook that may be anything. Raises SubmissionError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SubmissionError(f"the file cannot be opened ({os.strerror(error.errno or 0)})") from None
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise SubmissionError("this is not an ordinary file")
    with os.fdopen(descriptor, "rb") as file:
        if about.st_size > MAX_BYTES:
            raise SubmissionError(
                f"the file has {about.st_size / 1e6:.0f} MB; at most {MAX_BYTES / 1e6:.0f} MB are read"
            )
        data = file.read(MAX_BYTES + 1)
    try:
        notebook = json.loads(data)
        form = notebook["nbformat"]
        if form != 4:
            raise SubmissionError(f"the notebook has format {form}; save it in format 4 (any Jupyter since 2014)")
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        sources = [source if isinstance(source := cell["source"], str) else "".join(source) for cell in cells]
    except SubmissionError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SubmissionError("the file is not a Jupyter notebook") from None
    if not sources:
        raise SubmissionError("the notebook has no code cells")
    if len(sources) > MAX_CELLS:
        raise SubmissionError(f"the notebook has {len(sources)} code cells; at most {MAX_CELLS} are run")
    return Submission(student, tuple(_plain(source) for source in sources))


def _plain(source: str) -> str:
    """A cell as plain Python: magics and shell commands become calls, which do nothing in the sandbox."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return TransformerManager().transform_cell(source)
    except (SyntaxError, RecursionError, ValueError):
        return source


def shortcuts(submission: Submission, question: Question) -> list[str]:
    """Names that this question forbids and that its answer uses, directly or through what it calls.

    Only text is looked at, so that a determined student can hide a name; what the sandbox lets out is judged by its
    numbers in any case. The own answer among the `given` functions is forbidden, too.
    """
    bindings: dict[str, list[ast.AST]] = {}
    for source in submission.cells:
        try:
            with _PARSING:
                body = ast.parse(source).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in body:
            for name in _bound(node):
                bindings.setdefault(name, []).append(node)
    waiting = [question.answer]
    reached, found = set[str](), set[str]()
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        for piece in bindings.get(name, []):
            used, forbidden = _used(piece, question, set(bindings))
            found |= forbidden
            waiting += used
    return sorted(found)


def _bound(node: ast.AST) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    return [inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store)]


def _used(node: ast.AST, question: Question, own: set[str]) -> tuple[list[str], set[str]]:
    """Names that this piece of code uses, and the forbidden ones among them."""
    names, forbidden, outer = [], set[str](), _from_outside(node)
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and inner.id in outer:
            names.append(inner.id)
            if inner.id in question.forbidden and inner.id not in own:
                forbidden.add(inner.id)
        elif isinstance(inner, ast.Attribute):
            given = isinstance(inner.value, ast.Name) and inner.value.id == "given"
            if given and inner.attr == question.answer:
                forbidden.add(f"given.{inner.attr}")
            elif not given and inner.attr in question.forbidden:
                forbidden.add(inner.attr)
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            # `import a.b` gives no more than a, and what is used of it is seen there.
            renamed = [alias.name for alias in inner.names if isinstance(inner, ast.ImportFrom) or alias.asname]
            paths = [*renamed, getattr(inner, "module", None) or ""]
            forbidden |= {part for path in paths for part in path.split(".")} & question.forbidden
        elif isinstance(inner, ast.Constant) and inner.value in question.forbidden:
            forbidden.add(str(inner.value))  # getattr(torch, "softmax")
    return names, forbidden


def _from_outside(node: ast.AST) -> set[str]:
    """Names in this piece of code that are not parameters or variables of a function: those mean nothing outside."""
    try:
        source = ast.unparse(node)
        with _PARSING:
            tables = [symtable.symtable(source, "cell", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    found = set[str]()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        everything = table.get_type() != "function"
        found |= {symbol.get_name() for symbol in table.get_symbols() if everything or symbol.is_global()}
    return found

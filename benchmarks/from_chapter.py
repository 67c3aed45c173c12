"""Functions and classes of a chapter, taken from its notebook exactly as its cells define them."""

import ast
import json
from functools import cache
from typing import Any

from benchmarks.sweep import ROOT


def definitions(chapter: str, wanted: str, given: dict[str, Any]) -> dict[str, Any]:
    """The `wanted` names (in one string) of `chapters/<chapter>.ipynb`; `given` is what its imports provide.

    Capitals that are assigned, such as `N_GUESTS = 16`, can be wanted too. Raises RuntimeError when a name is missing.
    """
    names, found = wanted.split(), dict(given)
    for node in statements(chapter):
        if names_of(node) & set(names):
            exec(compile(ast.Module([node], []), chapter, "exec"), found)
    if missing := [name for name in names if name not in found]:
        raise RuntimeError(f"{chapter} does not define {missing}")
    return found


def names_of(node: ast.stmt) -> set[str]:
    """What the statement defines: a function, a class, or names in capitals."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    return {
        part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name) and part.id.isupper()
    }


@cache
def statements(chapter: str) -> list[ast.stmt]:
    """What the chapter's cells hold, read once."""
    notebook = json.loads((ROOT / "chapters" / f"{chapter}.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [node for source in sources if "google.colab" not in source for node in ast.parse(source).body]

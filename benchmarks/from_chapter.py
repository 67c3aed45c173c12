"""Functions and classes of a chapter, taken from its notebook exactly as its cells define them."""

import ast
import json
from typing import Any

from benchmarks.sweep import ROOT


def definitions(chapter: str, wanted: str, given: dict[str, Any]) -> dict[str, Any]:
    """The `wanted` names (in one string) of `chapters/<chapter>.ipynb`; `given` is what its imports provide.

    Capitals that are assigned, such as `N_GUESTS = 16`, can be wanted too. Raises RuntimeError when a name is missing.
    """
    names, found = wanted.split(), dict(given)
    notebook = ROOT / "chapters" / f"{chapter}.ipynb"
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "google.colab" in source:
            continue
        for node in ast.parse(source).body:
            defines = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names
            targets = [part for target in getattr(node, "targets", []) for part in ast.walk(target)]
            assigned = {part.id for part in targets if isinstance(part, ast.Name) and part.id.isupper()}
            if defines or (isinstance(node, ast.Assign) and assigned & set(names)):
                exec(compile(ast.Module([node], []), str(notebook), "exec"), found)
    if missing := [name for name in names if name not in found]:
        raise RuntimeError(f"{notebook.name} does not define {missing}")
    return found

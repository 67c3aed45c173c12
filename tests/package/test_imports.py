"""The package is a stack of small rooms: a module imports only from those above it, and none grows too large."""

import ast
import subprocess
import sys

from builders import ROOT

from fmcourse.exercises import names as exercises
from fmcourse.widgets import names as figures

PACKAGE = ROOT / "fmcourse"
# From the top down; a module may import those before it and no other of ours.
ORDER = """
    glue results checks config masks cache attention positions layers initialise transformer pointer
    checkpoint data.registry data.debian tokenizers data.batch data
    data.translation data.dates data.public_pairs data.summaries
    data.parallel data.fineweb data.text data.sentiment data.documentation data.published data.prices
    masked_lm data.wikitext data.masked data.film_models
    metrics classification lora pretrained device optim plotting history training generation beam_search translator
    word_alignment recipes dry_run
    widgets widgets.base
    exercises.spec exercises.compare exercises.session exercises
    grading grading.wire grading.submission grading.runner grading.box grading.judge grading.report grading.grader
    grading.practice grading.gradescope
""".split()
ORDER += [f"widgets.{name}" for name in figures()]
ORDER += [f"exercises.{name}" for name in exercises()] + ["cli", "__main__"]
MODEL = ("attention", "positions", "layers", "transformer")
CORE = (
    *MODEL,
    "masks",
    "cache",
    "initialise",
    "pretrained",
    "tokenizers",
    "data.text",
    "classification",
    "lora",
    "device",
    "optim",
    "checkpoint",
)
CORE += ("training", "generation", "recipes")


def modules():
    """Every module of the package, by its name without `fmcourse.`, but the package itself."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if parts:
            found[".".join(parts)] = path
    return found


def imports(name, path):
    """Modules of ours that the module imports, anywhere in its code, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{name}, line {node.lineno}: imports are absolute in this package")
        elif isinstance(node, ast.ImportFrom):
            targets = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in targets:
            if target.startswith("fmcourse."):
                parts = target.removeprefix("fmcourse.").split(".")
                longest = next((".".join(parts[:n]) for n in (2, 1) if ".".join(parts[:n]) in modules()), None)
                if longest is not None:  # else a name of the package itself: its version, `setup`
                    yield longest, node.lineno


def test_every_module_has_its_place_in_the_order():
    assert sorted(ORDER) == sorted(modules())


def test_modules_import_only_from_those_above_them():
    wrong = [
        f"{name}, line {line}: {target} stands below it"
        for name, path in modules().items()
        for target, line in imports(name, path)
        if ORDER.index(target) >= ORDER.index(name)
    ]
    assert wrong == []


def lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())


def test_the_package_stays_small():
    sizes = {name: lines(path) for name, path in modules().items()}
    questions = {f"exercises.{name}" for name in exercises()}
    assert {name: size for name, size in sizes.items() if size > 400} == {}
    assert sum(sizes[name] for name in MODEL) <= 600
    # Loaders, figures, recipes and exercises grow with the number of chapters; the rest should not.
    grow = {"data", "widgets", "results", "recipes"}
    own = {name: n for name, n in sizes.items() if name.split(".")[0] not in grow and name not in questions}
    graders = {name for name in own if name.split(".")[0] in {"exercises", "grading"}}
    assert sum(own[name] for name in graders) < 2000
    assert sum(n for name, n in own.items() if name not in graders) < 4000


def test_importing_the_package_is_light():
    heavy = ("torch", "numpy", "matplotlib", "IPython", "anywidget", "typer", "tokenizers", "safetensors", "tqdm")
    code = f"import sys, fmcourse; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_modules_without_figures_do_not_load_matplotlib_or_the_tools_of_the_tests():
    heavy = ("matplotlib", "transformers", "IPython", "anywidget", "gguf", "pytest")
    drawing = ("plotting", "__main__", *(name for name in ORDER if name.startswith("widgets.")))
    code = f"""
import sys, importlib
for name in {[name for name in ORDER if name not in drawing]}:
    importlib.import_module("fmcourse." + name)
print([name for name in {heavy} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_changes_no_global_state():
    """No module seeds a generator, sets threads or a default type when it is imported."""
    code = """
import torch, importlib
state, threads, kind = torch.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()
for name in {names!r}:
    importlib.import_module("fmcourse." + name)
assert torch.equal(torch.get_rng_state(), state)
assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, kind)
""".format(names=[name for name in ORDER if name != "__main__"])
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def public(path):
    """Public functions, classes and methods of a module, with their docstrings; `outer` is False for methods."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node, True
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
                    yield f"{node.name}.{inner.name}", inner, False


def test_everything_public_has_a_docstring():
    missing = [
        f"{name}.{what}"
        for name, path in modules().items()
        for what, node, _ in public(path)
        if not ast.get_docstring(node)
    ]
    missing += [name for name, path in modules().items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert missing == []


def test_everything_public_in_the_core_says_which_chapter_teaches_it():
    """In its own docstring, or once for all in the docstring of its module."""
    missing = []
    for name in CORE:
        path = modules()[name]
        if "Taught in" in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""):
            continue
        for what, node, outer in public(path):
            text = ast.get_docstring(node) or ""
            if outer and "Taught in" not in text and "Built in" not in text:
                missing.append(f"{name}.{what}")
    assert missing == []

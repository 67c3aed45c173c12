"""The rules that a committed notebook keeps, each a function that yields sentences saying what is wrong."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from tools.normalise import WIDGET_VIEW, declared, is_colab_cell, normalise, read, to_text
from tools.project import Project

TAGS = {
    "remove-cell": "on Colab or in a notebook only",
    "hide-input": "the code is folded on the site",
    "hide-cell": "the code and its output are folded on the site",
    "nbval-ignore-output": "the output depends on training, rounding or time; an assertion guards it instead",
    "raises-exception": "the error is the lesson",
    "gpu": "runs on a GPU only and records what it measured",
}
MYSTNB = {
    "image": {"alt", "width", "height", "align"},
    "figure": {"caption", "name", "align"},
    "code_prompt_show": None,
    "code_prompt_hide": None,
    "number_source_lines": None,
}
FMCOURSE = {"budget_seconds", "data", "needs", "role"}
MAX_LINES = 25
MAX_WIDTH = 84  # characters; longer lines scroll sideways on the page
MAX_BUDGET = 120
_FOLDED = {"remove-cell", "hide-input", "hide-cell"}
_ABSOLUTE = re.compile(
    r"(?<![\w.:/-])/(?:home|root|Users|tmp|mnt|content|opt|usr|var|private|srv|workspaces|work)/[\w.@+-]"
    r"|\b[A-Z]:\\\w"
)
_GLUE = re.compile(
    r"\{glue:(?P<kind>\w*)\}`(?P<target>[^`]+)`|^\s*[`:]{3,}\{glue(?::\w*)?\}\s*(?P<name>\S+)", re.MULTILINE
)
_MARKDOWN_IMAGE_WITHOUT_ALT = re.compile(r"!\[\s*\]\(")
_HTML_IMAGE = re.compile(r"<img\b[^>]*>", re.IGNORECASE)
_DIRECTIVE = re.compile(
    r"^\s*(?P<fence>[`:]{3,})\{(?:image|figure)\}(?P<body>.*?)^\s*(?P=fence)", re.MULTILINE | re.DOTALL
)

Rule = Callable[[NotebookNode, Path, Project], Iterator[str]]


def is_valid_notebook(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """The file follows the notebook format 4.5."""
    ids = [cell.get("id") for cell in notebook.cells]
    if len(set(ids)) != len(ids):
        yield "two cells have the same id, or none"
    for error in nbformat.validator.iter_validate(notebook, version=4, version_minor=5):
        yield f"not a valid notebook: {error.message}"
    yield from (f"cell {i}: a raw cell; use markdown" for i, c in enumerate(notebook.cells) if c.cell_type == "raw")


def is_normal(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """The normaliser would change nothing."""
    try:
        changed = to_text(normalise(notebook, project)) != path.read_text(encoding="utf-8")
    except ValueError as error:
        yield str(error)
    else:
        if changed:
            yield "not in the committed form: run `python -m tools.notebooks --write` on it"


def was_run_top_to_bottom(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """Execution counts are 1..N."""
    counts = [cell.execution_count for _, cell in _code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}, not 1..{len(counts)}: run `make notebooks`"


def has_no_error_outputs(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """No output is an error, unless the cell says that its error is the lesson."""
    for i, cell in _code(notebook):
        errors = [output.ename for output in cell.outputs if output.output_type == "error"]
        expected = "raises-exception" in _tags(cell)
        if errors and not expected:
            yield f"cell {i}: its output is an error, {errors[0]}"
        if expected and not errors:
            yield f"cell {i}: tagged raises-exception, but its output is not an error"


def has_no_widget_state(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """No widget state, and no output that only a live kernel could show."""
    if "widgets" in notebook.metadata:
        yield "metadata.widgets is committed"
    for i, cell in _code(notebook):
        if any(WIDGET_VIEW in output.get("data", {}) for output in cell.outputs):
            yield f"cell {i}: a widget without a text/html twin (`from tqdm import tqdm`, not `tqdm.auto`)"


def names_no_absolute_path(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """Neither sources nor outputs name a place on one machine."""
    for i, cell in enumerate(notebook.cells):
        for where, text in [("source", cell.source), *(("output", text) for text in _output_texts(cell))]:
            if found := _ABSOLUTE.search(text):
                shown = text[found.start() : found.start() + 40].split("\n")[0]
                yield f"cell {i}: its {where} names the absolute path {shown!r}"


def describes_every_figure(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """Whoever cannot see a figure is told what it shows."""
    for i, cell in enumerate(notebook.cells):
        if any(mime.startswith("image/") for output in cell.get("outputs", []) for mime in output.get("data", {})):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            if len(str(alt).split()) < 4:
                yield f"cell {i}: a figure with alt text {alt!r}; set mystnb.image.alt in its metadata"
        if cell.cell_type == "markdown":
            undescribed = bool(_MARKDOWN_IMAGE_WITHOUT_ALT.search(cell.source))
            undescribed |= any(":alt:" not in match["body"] for match in _DIRECTIVE.finditer(cell.source))
            if undescribed:
                yield f"cell {i}: an image without alt text"
        for text in [cell.source, *_output_texts(cell)]:
            if any("alt=" not in tag for tag in _HTML_IMAGE.findall(text)):
                yield f"cell {i}: an <img> without alt"


def has_short_cells(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """A code cell does one thing."""
    for i, cell in _code(notebook):
        if (lines := len(cell.source.splitlines())) > MAX_LINES:
            yield f"cell {i}: {lines} lines of code, at most {MAX_LINES} are allowed"


def fits_the_page(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """Code that the page shows unfolded is read without scrolling sideways."""
    for i, cell in _code(notebook):
        if not _FOLDED & set(_tags(cell)) and (width := max(map(len, cell.source.splitlines()), default=0)) > MAX_WIDTH:
            yield f"cell {i}: a line of {width} characters, at most {MAX_WIDTH} fit the page"


def has_the_install_cell(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """The first code cell, and only that one, is the generated install cell."""
    code = [cell for _, cell in _code(notebook)]
    if not code or not is_colab_cell(code[0]) or sum(map(is_colab_cell, code)) != 1:
        yield 'exactly the first code cell must have the metadata {"fmcourse": {"role": "colab"}}'
        return
    try:
        expected = project.colab_cell(declared(notebook).get("data", ()))
    except ValueError as error:
        yield str(error)
    else:
        if code[0].source != expected:
            yield "the install cell is not the generated one: run `python -m tools.notebooks --write`"


def installs_nothing_else(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """Only the generated cell installs packages."""
    for i, cell in _code(notebook):
        if not is_colab_cell(cell) and re.search(r"^\s*[!%]\s*(?:pip|conda|uv|apt)", cell.source, re.MULTILINE):
            yield f"cell {i}: installs packages; declare data packages in the first cell's metadata instead"


def shows_or_assigns_its_last_value(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """No cell ends with a semicolon: Jupyter then hides the value, but nbval (which keeps no history) does not."""
    for i, cell in _code(notebook):
        if re.search(r";\s*(?:#.*)?\Z", cell.source):
            yield f"cell {i}: ends with a semicolon; assign the value instead: `_ = ...`"


def asserts_its_claims(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """At least one assertion runs."""
    if not any(_asserts(cell.source) for _, cell in _code(notebook)):
        yield "no cell asserts anything"


def declares_its_budget(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """The first cell's metadata says how many seconds the chapter may take on two CPU cores."""
    budget = declared(notebook).get("budget_seconds")
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not 0 < budget <= MAX_BUDGET:
        yield f"the first cell's fmcourse.budget_seconds is {budget!r}; a number up to {MAX_BUDGET} is needed"


def uses_known_metadata(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """Tags and settings come from closed lists: a misspelt one would do nothing, silently."""
    for i, cell in enumerate(notebook.cells):
        tags = cell.metadata.get("tags", [])
        if not isinstance(tags, list):
            yield f"cell {i}: tags is {tags!r}; a list is needed"
        else:
            yield from (f"cell {i}: unknown tag {t!r}; known: {', '.join(TAGS)}" for t in tags if t not in TAGS)
        for key, value in cell.metadata.get("mystnb", {}).items():
            if key not in MYSTNB:
                yield f"cell {i}: unknown setting mystnb.{key}; known: {', '.join(MYSTNB)}"
            elif (inner := MYSTNB[key]) is not None:
                strangers = sorted(set(value) - inner)
                yield from (f"cell {i}: unknown setting mystnb.{key}.{s}; known: {sorted(inner)}" for s in strangers)
        for key in sorted(set(cell.metadata.get("fmcourse", {})) - FMCOURSE):
            yield f"cell {i}: unknown setting fmcourse.{key}; known: {', '.join(sorted(FMCOURSE))}"
        if re.search(r"^\s*#\s*(?:PYTEST_VALIDATE|NBVAL)_", cell.source, re.MULTILINE):
            yield f"cell {i}: an NBVAL comment; use the tag nbval-ignore-output (and nothing is skipped)"


def glues_what_it_quotes(notebook: NotebookNode, path: Path, project: Project) -> Iterator[str]:
    """Every number that the prose takes from a cell was stored by one, under a name used once."""
    names = _glued(notebook)
    yield from (
        f"glue name {name!r} is stored {names.count(name)} times"
        for name in sorted(set(names))
        if names.count(name) > 1
    )
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type != "markdown":
            continue
        for match in _GLUE.finditer(cell.source):
            target = (match["target"] or match["name"]).strip()
            document, _, key = target.rpartition("::")
            name = key.split(":")[0] if match["kind"] == "text" else key
            if document and not (path.parent / document).is_file():
                yield f"cell {i}: quotes {target!r}, but there is no file {document}"
                continue
            source = read(path.parent / document) if document else notebook
            if name not in _glued(source):
                yield f"cell {i}: quotes {name!r}, which no cell of {document or 'this notebook'} glues"


RULES: tuple[Rule, ...] = (
    is_valid_notebook,
    is_normal,
    was_run_top_to_bottom,
    has_no_error_outputs,
    has_no_widget_state,
    names_no_absolute_path,
    describes_every_figure,
    has_short_cells,
    fits_the_page,
    has_the_install_cell,
    installs_nothing_else,
    shows_or_assigns_its_last_value,
    asserts_its_claims,
    declares_its_budget,
    uses_known_metadata,
    glues_what_it_quotes,
)


def problems(path: Path, project: Project) -> list[str]:
    """Everything that is wrong with the notebook at `path`; an empty list when it can be committed."""
    try:
        notebook = read(path)
    except (nbformat.reader.NotJSONError, ValueError, AttributeError) as error:
        return [f"not a notebook: {str(error)[:120]}"]
    return [message for rule in RULES for message in rule(notebook, path, project)]


def _code(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    return ((i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")


def _tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _output_texts(cell: NotebookNode) -> Iterator[str]:
    for output in cell.get("outputs", []):
        if output.output_type == "error":
            yield "\n".join(output.traceback)
        yield output.get("text", "")
        yield from (_flat(v) for mime, v in output.get("data", {}).items() if not mime.startswith("image/"))


def _flat(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def _glued(notebook: NotebookNode) -> list[str]:
    outputs = (output for _, cell in _code(notebook) for output in cell.outputs)
    return [o.metadata["scrapbook"]["name"] for o in outputs if "scrapbook" in o.get("metadata", {})]


def _asserts(source: str) -> bool:
    """Whether this code asserts, directly or by a function named for it (`torch.testing.assert_close`)."""
    try:
        tree = ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called.startswith("assert_"):
                return True
    return False

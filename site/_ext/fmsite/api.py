"""The page "The package": every public function and class of `fmcourse`, from its source, linked to its chapter.

Directive `{fmcourse-api}`. The package is read (`ast`), not imported, so that annotations such as
`Float[Tensor, "*b t d"]` are shown as they are written. In docstrings `part/chapter` becomes a link to that chapter
once it is in the book, and the name of another entry a link to that entry.
"""

import ast
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.domains.python import PythonDomain
from sphinx.util.docutils import SphinxDirective

# The order of the house (each module imports only from those above it); anything else follows by name.
ORDER = """attention masks cache positions layers config transformer pretrained tokenizers data device optim training
history checkpoint recipes generation metrics plotting glue widgets exercises cli checks""".split()
EXERCISES = ("spec", "compare", "session")
PARTS = "concepts|algorithm|mathematics|practice|applications|society|outlook"
CHAPTER = re.compile(rf"(?:{PARTS})/[a-z0-9_]+")
TAUGHT = re.compile(r"(?:Taught|Built|Used|Shown) in [^.]*\.")
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")


@dataclass(frozen=True)
class Entry:
    """One public object: `name` in its module, its signature as Python source, its docstring."""

    name: str
    kind: str
    signature: str
    doc: str
    methods: tuple["Entry", ...] = ()


@dataclass(frozen=True)
class Module:
    """One public module and its entries, in the order of the source."""

    name: str
    path: str
    doc: str
    entries: tuple[Entry, ...]


def parameters(arguments: ast.arguments, source: str) -> list[str]:
    """Each parameter as written in the source, with the bare `*` and `/` between them."""

    def text(argument: ast.arg, default: ast.expr | None, star: str = "") -> str:
        kind = f": {ast.get_source_segment(source, argument.annotation)}" if argument.annotation else ""
        value = ast.get_source_segment(source, default) if default else None
        return f"{star}{argument.arg}{kind}" + (f"{' = ' if kind else '='}{value}" if value else "")

    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    parts = [text(argument, default) for argument, default in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        parts.append(text(arguments.vararg, None, "*"))
    elif arguments.kwonlyargs:
        parts.append("*")
    keywords = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    parts += [text(argument, default) for argument, default in keywords]
    return parts + ([text(arguments.kwarg, None, "**")] if arguments.kwarg else [])


def call(name: str, parts: list[str], returns: str = "") -> str:
    """A signature on one line, or one parameter a line when that would be long."""
    line = f"{name}({', '.join(parts)}){returns}"
    return line if len(line) <= 88 else f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returns}"


def signature(node: ast.FunctionDef, source: str, *, method: bool = False) -> str:
    """The signature of a function; of a method without `self`."""
    parts = parameters(node.args, source)
    if method and not any(ast.unparse(d) == "staticmethod" for d in node.decorator_list):
        parts = parts[1:]
    returns = f" -> {ast.get_source_segment(source, node.returns)}" if node.returns else ""
    return call(node.name, parts, returns)


def read_class(node: ast.ClassDef, source: str) -> Entry:
    """A class with its constructor (or its fields, for a dataclass) and its public, documented methods."""
    functions = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    shown = [f for f in fields if not re.match(r"_|\w+: ClassVar", ast.unparse(f))]
    if init := next((f for f in functions if f.name == "__init__"), None):
        parts = parameters(init.args, source)[1:]
    else:
        parts = [ast.get_source_segment(source, f) or "" for f in shown] or [ast.unparse(base) for base in node.bases]
    methods = []
    for f in functions:
        if f.name.startswith("_") or not ast.get_docstring(f):
            continue
        if any(ast.unparse(d).endswith("property") for d in f.decorator_list):
            kind, text = "property", f"{f.name}: {ast.get_source_segment(source, f.returns)}" if f.returns else f.name
        else:
            kind, text = "method", signature(f, source, method=True)
        methods.append(Entry(f"{node.name}.{f.name}", kind, text, ast.get_docstring(f) or ""))
    return Entry(node.name, "class", f"class {call(node.name, parts)}", ast.get_docstring(node) or "", tuple(methods))


def read_module(path: Path, package: Path) -> Module:
    """The public part of one source file."""
    relative = path.relative_to(package.parent)
    name = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    entries = []
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            entries.append(read_class(node, source))
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            text = f"def {signature(node, source)}"
            entries.append(Entry(node.name, "function", text, ast.get_docstring(node) or ""))
    return Module(name, relative.as_posix(), ast.get_docstring(tree) or "", tuple(entries))


def read_package(package: Path) -> list[Module]:
    """All public modules that define something, in the order of `ORDER`."""
    modules = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        if parts[0] == "exercises" and parts[-1] not in EXERCISES:
            continue  # one exercise each, with its answers
        if not any(part.startswith("_") and part != "__init__" for part in parts):
            modules.append(read_module(path, package))

    def place(module: Module) -> tuple[int, str]:
        top = module.name.split(".")[1] if "." in module.name else ""
        return (ORDER.index(top) if top in ORDER else len(ORDER), module.name)

    return sorted((m for m in modules if m.entries), key=place)


def markdown(doc: str, known: dict[str, str], chapters: dict[str, str]) -> str:
    """A docstring (Google style, backticks for code) as Markdown with links."""

    def code(match: re.Match[str]) -> str:
        text = match[1]
        if CHAPTER.fullmatch(text):
            return f"{{doc}}`/{chapters[text]}`" if text in chapters else f"{text} (not written yet)"
        return f"{{py:obj}}`{text} <{known[text]}>`" if text in known else match[0]

    def prose(text: str) -> str:
        def plain(piece: str) -> str:
            return re.sub(r"([*<\[$])", r"\\\1", piece)

        pieces = re.split(r"(`[^`]+`)", text)
        return "".join(re.sub(r"`([^`]+)`", code, p) if i % 2 else plain(p) for i, p in enumerate(pieces))

    out: list[str] = []
    inside = ""
    for line in doc.splitlines():
        if found := SECTION.match(line):
            inside = found[1]
            out += ["", f"**{inside}**", ""]
        elif inside and line and not line.startswith(" "):
            inside = ""
            out += ["", prose(line)]
        elif inside and (item := re.match(r"^ {4}([\w.*, ]+): (.*)$", line)):
            out.append(f"- `{item[1]}`: {prose(item[2])}")
        elif inside:
            indent = "  " if line.strip() and inside not in {"Returns", "Yields"} else ""
            out.append(indent + prose(line.strip()))
        else:
            out.append(prose(line))
    text = "\n".join(out)
    return re.sub(r"(?m)^((?:>>>|\.\.\.).*\n?(?:(?!\n).+\n?)*)", lambda m: f"```python\n{m[1].rstrip()}\n```\n", text)


class ApiDirective(SphinxDirective):
    """`{fmcourse-api}`: the sections of the page, one a module."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        modules = read_package(root / "fmcourse")
        known = {e.name: f"{m.name}.{e.name}" for m in modules for e in m.entries}
        chapters = {d.removeprefix("chapters/"): d for d in self.env.found_docs if d.startswith("chapters/")}
        self.env.note_dependency(__file__)
        return [self.module(module, known, chapters) for module in modules]

    def module(self, module: Module, known: dict[str, str], chapters: dict[str, str]) -> nodes.section:
        """Heading, what the module is for, its entries."""
        self.env.note_dependency(str(Path(self.env.srcdir) / module.path))
        section = nodes.section(ids=[module.name.replace(".", "-")], names=[module.name])
        section += nodes.title("", "", nodes.literal("", module.name))
        self.parse(markdown(module.doc, known, chapters), section)
        for entry in module.entries:
            section += self.entry(entry, module, known, chapters)
        return section

    def entry(self, entry: Entry, module: Module, known: dict[str, str], chapters: dict[str, str]) -> nodes.section:
        """Heading, signature, docstring, then the methods."""
        section = nodes.section(ids=[], classes=["api-entry"])
        section += nodes.title("", "", nodes.literal("", entry.name))
        self.register(entry, module, section)
        self.fill(entry, module, section, known, chapters)
        for method in entry.methods:
            block = nodes.container(classes=["api-method"])
            self.register(method, module, block)
            self.fill(method, module, block, known, chapters)
            section += block
        return section

    def register(self, entry: Entry, module: Module, node: nodes.Element) -> None:
        """Give the entry its anchor and let `{py:obj}` and the search find it."""
        full = f"{module.name}.{entry.name}"
        anchor = full.replace(".", "-")  # Sphinx's search cannot find an anchor with a dot
        node["ids"].append(anchor)
        domain = self.env.get_domain("py")
        if not isinstance(domain, PythonDomain):
            raise TypeError(f"the py domain is a {type(domain).__name__}, not Sphinx's")
        domain.note_object(full, entry.kind, anchor, location=node)

    def fill(
        self, entry: Entry, module: Module, node: nodes.Element, known: dict[str, str], chapters: dict[str, str]
    ) -> None:
        """The signature as highlighted Python, and the docstring."""
        node += nodes.literal_block(entry.signature, entry.signature, language="python", classes=["api-signature"])
        others = {name: full for name, full in known.items() if name != entry.name.split(".")[0]}
        doc = entry.doc
        if not TAUGHT.search(doc) and entry.kind in {"class", "function"} and (found := TAUGHT.search(module.doc)):
            doc += f"\n\n{found[0]}"  # the module's chapter is that of its parts
        self.parse(markdown(doc, others, chapters), node)

    def parse(self, text: str, node: nodes.Element) -> None:
        """Parse Markdown into `node`."""
        lines = textwrap.dedent(text).splitlines()
        self.state.nested_parse(StringList(lines, source=self.get_source_info()[0]), self.content_offset, node)


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("fmcourse-api", ApiDirective)

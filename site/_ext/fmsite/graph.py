"""The map of what to read before what: directive `{chapter-graph}`.

Each notebook's first cell says in its metadata which chapters it needs and how long it may run
(`"fmcourse": {"budget_seconds": 60, "needs": ["mathematics/attention"]}`). From that come a drawing whose boxes are
links, and a table that says the same.
"""

import html
import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

WIDTH, HEIGHT, GAP_X, GAP_Y, PER_ROW = 212, 54, 20, 46, 3


@dataclass(frozen=True)
class Chapter:
    """One chapter: its document name without `chapters/`, what it needs, its budget, its title."""

    name: str
    needs: tuple[str, ...]
    seconds: int
    title: str = ""


def read_chapter(path: Path, name: str) -> Chapter:
    """From the metadata of a notebook's first cell."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    own = cells[0]["metadata"].get("fmcourse", {}) if cells else {}
    return Chapter(name, tuple(own.get("needs", ())), int(own.get("budget_seconds", 0)))


def depths(chapters: list[Chapter]) -> dict[str, int]:
    """How many chapters lie before each on its longest way; a circle or an unknown name is an error."""
    by_name = {chapter.name: chapter for chapter in chapters}
    found: dict[str, int] = {}

    def depth(name: str, path: tuple[str, ...]) -> int:
        if name not in by_name:
            known = ", ".join(sorted(by_name))
            raise ValueError(f"chapter {path[-1]!r} needs {name!r}, which is not in the book; it has {known}")
        if name in path:
            raise ValueError(f"chapters need each other in a circle: {' -> '.join((*path, name))}")
        if name not in found:
            found[name] = max((depth(need, (*path, name)) + 1 for need in by_name[name].needs), default=0)
        return found[name]

    for chapter in chapters:
        depth(chapter.name, ())
    return found


def draw(chapters: list[Chapter], links: dict[str, str]) -> str:
    """The drawing: rows by depth, an arrow from each chapter to those that build on it."""
    level = depths(chapters)
    place: dict[str, tuple[float, float]] = {}
    y = 0.0
    full = PER_ROW * WIDTH + (PER_ROW - 1) * GAP_X
    for at in range(max(level.values(), default=-1) + 1):
        row = [c for c in chapters if level[c.name] == at]
        for start in range(0, len(row), PER_ROW):
            part = row[start : start + PER_ROW]
            left = (full - len(part) * WIDTH - (len(part) - 1) * GAP_X) / 2
            for i, chapter in enumerate(part):
                place[chapter.name] = (left + i * (WIDTH + GAP_X), y)
            y += HEIGHT + GAP_Y
    arrows, boxes = [], []
    for chapter in chapters:
        x, top = place[chapter.name]
        for need in chapter.needs:
            a, b = place[need][0] + WIDTH / 2, place[need][1] + HEIGHT
            c, d = x + WIDTH / 2, top - 3
            arrows.append(f'<path d="M{a},{b} C{a},{b + 26} {c},{d - 26} {c},{d}" marker-end="url(#fm-arrow)"/>')
        lines = textwrap.wrap(chapter.title, 27)[:2]
        first = top + HEIGHT / 2 + (5 if len(lines) == 1 else -4)
        text = "".join(
            f'<text x="{x + WIDTH / 2}" y="{first + 18 * i}">{html.escape(line)}</text>' for i, line in enumerate(lines)
        )
        boxes.append(
            f'<a href="{html.escape(links[chapter.name])}" aria-label="{html.escape(chapter.title)}">'
            f'<rect x="{x}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="6"/>{text}</a>'
        )
    return (
        f'<div class="chapter-graph" tabindex="0" role="region" aria-label="Map of the chapters">'
        f'<svg viewBox="-2 -2 {full + 4} {max(y - GAP_Y, 0) + 4}" role="group" aria-label="What builds on what">'
        '<defs><marker id="fm-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>'
        f'<g class="arrows" aria-hidden="true">{"".join(arrows)}</g>{"".join(boxes)}</svg></div>'
    )


class graph(nodes.General, nodes.Element):
    """Stands for the drawing and the table until all titles are known."""


class GraphDirective(SphinxDirective):
    """`{chapter-graph}`."""

    def run(self) -> list[nodes.Node]:
        node = graph()
        node["chapters"] = []
        for name in sorted(self.env.found_docs):
            path = Path(self.env.doc2path(name))
            if path.suffix == ".ipynb" and name.startswith("chapters/"):
                self.env.note_dependency(str(path))
                node["chapters"].append(read_chapter(path, name.removeprefix("chapters/")))
        return [node]


def reference(app: Sphinx, origin: str, name: str, title: str) -> nodes.reference:
    """A link to a chapter."""
    uri = app.builder.get_relative_uri(origin, f"chapters/{name}")
    return nodes.reference("", title, internal=True, refuri=uri)


def table(app: Sphinx, origin: str, chapters: list[Chapter]) -> nodes.table:
    """The same as the drawing, as a table: chapter, what to read first, time on two CPU cores."""
    titles = {chapter.name: chapter.title for chapter in chapters}
    out, group = nodes.table(classes=["chapter-table"]), nodes.tgroup(cols=3)
    out += group
    group.extend(nodes.colspec(colwidth=width) for width in (5, 4, 2))

    def row(*cells: Sequence[nodes.Node]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))

    words = ("Chapter", "Read first", "Time on 2 CPU cores")
    group += nodes.thead("", row(*([nodes.Text(word)] for word in words)))
    body = nodes.tbody()
    for chapter in chapters:
        first: list[Any] = []
        for need in chapter.needs:
            first += [nodes.Text(", ")] * bool(first) + [reference(app, origin, need, titles[need])]
        time = f"up to {chapter.seconds} s" if chapter.seconds else "not stated"
        start = [reference(app, origin, chapter.name, chapter.title)]
        body += row(start, first or [nodes.Text("nothing")], [nodes.Text(time)])
    group += body
    return out


def resolve(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put drawing and table in place, chapters in the order of the book."""
    for node in list(doctree.findall(graph)):
        order = list(app.env.toctree_includes.get(app.config.root_doc, []))
        known = [
            Chapter(c.name, c.needs, c.seconds, app.env.titles[f"chapters/{c.name}"].astext())
            for c in sorted(node["chapters"], key=lambda c: order.index(f"chapters/{c.name}"))
        ]
        links = {c.name: app.builder.get_relative_uri(docname, f"chapters/{c.name}") for c in known}
        node.replace_self([nodes.raw("", draw(known, links), format="html"), table(app, docname, known)])


def setup(app: Sphinx) -> None:
    """Register the directive and the step that fills it."""
    app.add_directive("chapter-graph", GraphDirective)
    app.connect("doctree-resolved", resolve)

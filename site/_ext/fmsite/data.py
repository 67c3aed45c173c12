"""The page "Data and licences": directive `{fmcourse-data}` shows every card of `fmcourse.data.registry.DATASETS`."""

from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from fmcourse.data import registry


def card_markdown(card: registry.DatasetCard, chapters: dict[str, str]) -> str:
    """One data set as a definition list."""
    used = [f"{{doc}}`/{chapters[c]}`" if c in chapters else f"{c} (not written yet)" for c in card.chapters]
    facts = {
        "What it is": card.source,
        "Used for": card.task,
        "Size": card.size,
        "Licence of the content": card.licence,
        "Licence of the package": card.wrapper_licence,
        "May be used for": card.may_be_used_for,
        "Install": f"`{card.command}`",
        "At scale, online": card.hub,
        "Chapters": ", ".join(used) or "none yet",
    }
    return "\n".join(f"{name}\n: {value}\n" for name, value in facts.items())


class DataDirective(SphinxDirective):
    """`{fmcourse-data}`: one section a data set."""

    def run(self) -> list[nodes.Node]:
        chapters = {d.removeprefix("chapters/"): d for d in self.env.found_docs if d.startswith("chapters/")}
        self.env.note_dependency(str(Path(registry.__file__)))
        self.env.note_dependency(__file__)
        sections: list[nodes.Node] = []
        for card in registry.DATASETS.values():
            section = nodes.section(ids=[f"data-{nodes.make_id(card.name)}"], classes=["data-card"])
            section += nodes.title("", card.name)
            lines = StringList(card_markdown(card, chapters).splitlines(), source=self.get_source_info()[0])
            self.state.nested_parse(lines, self.content_offset, section)
            sections.append(section)
        return sections


def setup(app: Sphinx) -> None:
    """Register the directive."""
    app.add_directive("fmcourse-data", DataDirective)

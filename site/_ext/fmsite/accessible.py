"""Repairs of what the tools below us write against WCAG 2.2 AA; axe-core in `tests/site` watches over the result.

| what is written upstream | what is written here |
| --- | --- |
| docutils: a citation is a `doc-biblioentry` in a `list`, a role that ARIA has deprecated there | `listitem` |
| Sphinx: a glossary's Chinese terms carry no language | `lang="zh-Hans"` |
| docutils, pandas: an empty `<th>` in the corner of a table | `<td>` |
"""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def visit_citation(self: HTML5Translator, node: nodes.citation) -> None:
    """As docutils, with the role that a child of a list must have."""
    if not isinstance(node.previous_sibling(), nodes.citation):
        self.body.append('<div role="list" class="citation-list">\n')
    self.body.append(self.starttag(node, "div", CLASS="citation", role="listitem"))


def depart_citation(self: HTML5Translator, node: nodes.citation) -> None:
    """Close the entry, and the list after its last entry."""
    self.body.append("</div>\n")
    if not isinstance(node.next_node(descend=False, siblings=True), nodes.citation):
        self.body.append("</div>\n")


def open_table_corners(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """A header cell without text announces nothing: make it an ordinary cell."""
    if "body" in context:
        context["body"] = re.sub(r"<th([^>]*)>\s*(?:<p>\s*</p>)?\s*</th>", r"<td\1></td>", context["body"])


def mark_chinese(app: Sphinx, doctree: nodes.document) -> None:
    """Say which glossary terms are Chinese, for screen readers (docutils turns the class into `lang`)."""
    for term in doctree.findall(nodes.term):
        if re.search(r"[\u4e00-\u9fff]", term.astext()):
            term["classes"].append("language-zh-Hans")


def setup(app: Sphinx) -> None:
    """Register the repairs."""
    app.add_node(nodes.citation, override=True, html=(visit_citation, depart_citation))
    app.connect("html-page-context", open_table_corners)
    app.connect("doctree-read", mark_chinese)

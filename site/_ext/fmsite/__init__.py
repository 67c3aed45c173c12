"""What the book's site adds to Jupyter Book and its theme: each module here is one addition, documented in its head."""

from typing import Any

from sphinx.application import Sphinx

from fmsite import accessible, api, assets, data, graph, outdated, pages


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx once per build."""
    for addition in (assets, pages, accessible, api, data, graph, outdated):
        addition.setup(app)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

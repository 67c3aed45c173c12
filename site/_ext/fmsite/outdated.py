"""When a page comes, goes or moves, all pages are made again: each shows the list of chapters.

Sphinx alone would make only the pages whose own text has changed, and leave an old list on all others.
"""

from pathlib import Path

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment


def all_pages(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Every page when the table of contents is another than at the last build, else none beyond Sphinx's own choice."""
    toc = (Path(app.srcdir) / "_toc.yml").read_text(encoding="utf-8")
    before, env.fmsite_toc = getattr(env, "fmsite_toc", None), toc  # type: ignore[attr-defined]
    return sorted(env.found_docs) if toc != before or added or removed else []


def setup(app: Sphinx) -> None:
    """Register the choice."""
    app.connect("env-get-outdated", all_pages)

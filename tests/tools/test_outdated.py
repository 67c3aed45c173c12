"""A changed table of contents makes every page anew, since each page shows the list of chapters; nothing else does."""

from pathlib import Path
from types import SimpleNamespace

from fmsite.outdated import all_pages

PAGES = {"index", "chapters/a", "chapters/b"}


def ask(env: SimpleNamespace, folder: Path, toc: str, added: frozenset = frozenset(), removed: frozenset = frozenset()):
    (folder / "_toc.yml").write_text(toc, encoding="utf-8")
    return all_pages(SimpleNamespace(srcdir=folder), env, set(added), {"chapters/a"}, set(removed))


def test_all_pages_are_made_again_when_a_page_comes_goes_or_moves(tmp_path: Path) -> None:
    env = SimpleNamespace(found_docs=PAGES)
    assert ask(env, tmp_path, "a, b") == sorted(PAGES)  # the first build
    assert ask(env, tmp_path, "a, b") == []  # only a page's own text changed: Sphinx sees to that itself
    assert ask(env, tmp_path, "b, a") == sorted(PAGES)
    assert ask(env, tmp_path, "b, a", added=frozenset({"chapters/b"})) == sorted(PAGES)
    assert ask(env, tmp_path, "b, a", removed=frozenset({"chapters/c"})) == sorted(PAGES)
    assert ask(env, tmp_path, "b, a") == []

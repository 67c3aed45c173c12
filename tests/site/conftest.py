"""The site is built before it is tested, when it is missing or older than what it is made of."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import HTML, ROOT, Figure, Visit, launch, serve
from playwright.sync_api import Browser, sync_playwright

SOURCES = ("_config.yml", "_toc.yml", "index.md", "references.bib", "chapters", "exercises", "fmcourse", "site")


def newest_source() -> float:
    """When the latest change was made to anything that the site is made of."""
    foreign = {"node_modules", "_vendor", "__pycache__", ".ipynb_checkpoints"}
    files = (file for name in SOURCES for file in [ROOT / name, *(ROOT / name).rglob("*")])
    return max(file.stat().st_mtime for file in files if file.is_file() and not foreign & set(file.parts))


@pytest.fixture(scope="session", autouse=True)
def site() -> None:
    """The site as of now, in `_build/html`."""
    stamp = HTML / "_static" / "widgets.css"  # written by every build
    if not stamp.exists() or stamp.stat().st_mtime < newest_source():
        book = str(Path(sys.executable).with_name("jupyter-book"))
        for command in ([sys.executable, "site/vendor.py"], [book, "build", ".", "-W", "-n", "--keep-going"]):
            run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if run.returncode:
                pytest.fail(f"{' '.join(command)} failed:\n{run.stdout[-4000:]}\n{run.stderr[-4000:]}", pytrace=False)


@pytest.fixture(scope="session")
def origin(site: None) -> Iterator[str]:
    """Address of a local server of the site."""
    with serve(HTML) as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, origin: str) -> Iterator[Any]:
    """`visit("index.html", width=360)` opens a page; at the end of the test it must have had no problem."""
    visits: list[Visit] = []

    def open_page(path: str, *, scheme: str = "light", width: int = 1280, tolerate: bool = False, **more: Any) -> Visit:
        one = Visit(browser, origin, color_scheme=scheme, viewport={"width": width, "height": 900}, **more)
        visits.append(one)
        one.tolerate = tolerate
        return one.open(path)

    yield open_page
    for one in visits:
        one.close()
    assert [problem for one in visits if not one.tolerate for problem in one.problems] == []


@pytest.fixture
def figure(visit: Any) -> Any:
    """`figure("mathematics/attention", "attention_explorer")` is that figure on that chapter's page."""

    def find(chapter: str, module: str, **options: Any) -> Figure:
        return Figure(visit(f"chapters/{chapter}.html", **options).page, module)

    return find

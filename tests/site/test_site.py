"""What belongs to the whole site: search, dark mode, keyboard, the page for wrong addresses, generated pages."""

import importlib
import inspect
import pkgutil
import re

import pytest
from bs4 import BeautifulSoup
from harness import CHAPTERS, CONFIG, DOCUMENTS, HTML, soup

import fmcourse
from fmcourse import exercises
from fmcourse.data.registry import DATASETS
from tools.example_class import SHOWN


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("softmax temperature", "mathematics/attention"),
        ("scaled_dot_product_attention", "outlook/api"),
        ("注意力掩码", "outlook/glossary"),
    ],
)
def test_search_finds(words, page, visit):
    seen = visit(f"search.html?q={words}")
    seen.page.wait_for_selector("#search-results li a")
    results = seen.page.locator("#search-results li a").evaluate_all("(links) => links.map((a) => a.href)")
    assert any(f"/chapters/{page}.html" in address for address in results), results


def test_search_opens_from_any_page_by_keyboard(visit):
    page = visit("chapters/how_to_use.html").page
    page.keyboard.press("Control+k")
    page.keyboard.type("perplexity")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=perplexity")
    page.wait_for_selector("#search-results li a")


def test_the_colour_scheme_can_be_changed_and_is_kept(visit):
    page = visit("index.html").page
    background = "getComputedStyle(document.body).backgroundColor"
    bright = page.evaluate(background)
    for _ in range(3):
        page.locator(".theme-switch-button:visible").first.click()
        if page.locator("html").get_attribute("data-theme") == "dark":
            break
    assert page.locator("html").get_attribute("data-theme") == "dark"
    dark = page.evaluate(background)
    assert dark != bright
    page.goto(page.url.replace("index.html", "chapters/how_to_use.html"))
    assert page.evaluate(background) == dark


def test_the_first_tab_stop_leads_to_the_text(visit):
    page = visit("chapters/how_to_use.html").page
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.getAttribute('href')")
    assert focused == "#main-content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main-content")


def test_the_menu_of_a_phone_opens_and_leads_on(visit):
    page = visit("index.html", width=360).page
    page.locator(".primary-toggle:visible").click()
    page.locator("dialog#pst-primary-sidebar-modal a", has_text="Glossary").click()
    page.wait_for_url("**/chapters/outlook/glossary.html")


def test_icons_are_drawn_from_the_fonts_in_the_style_sheet(visit):
    page = visit("chapters/outlook/glossary.html").page
    loaded = page.evaluate(
        """() => [...document.fonts].filter((f) => f.family.includes("Awesome") && f.status === "loaded").length"""
    )
    assert loaded >= 1
    empty = page.evaluate(
        """() => [...document.querySelectorAll("[class*='fa-']")].filter((e) => e.getClientRects().length &&
            ["none", "normal", '""'].includes(getComputedStyle(e, "::before").content)).map((e) => e.className)"""
    )
    assert empty == []


@pytest.mark.parametrize("prefix", ["", f"{CONFIG['repository']['url'].rsplit('/', 1)[-1]}/"])
def test_a_wrong_address_gets_a_page_that_leads_back(prefix, visit):
    seen = visit(f"{prefix}no/such/page.html", tolerate=True)
    problems = [p for p in seen.problems if not p.startswith(("status 404", "console error: Failed to load"))]
    assert problems == []
    assert len([p for p in seen.problems if p.startswith("status 404")]) == 1, "only the page itself is missing"
    assert "Page not found" in seen.page.title()
    home = seen.page.locator("main a").first
    assert home.evaluate("(a) => a.pathname") == f"/{prefix}"
    home.click()
    seen.page.get_by_role("heading", name="Three ways in").wait_for()


def test_browsers_find_an_icon_unasked():
    assert (HTML / "favicon.ico").read_bytes()[:4] == b"\0\0\1\0"


def test_nothing_is_published_that_no_page_needs():
    assert not list(HTML.rglob("*.ipynb"))
    assert not list((HTML / "vendor").rglob("package.json"))
    unknown = {path.name for path in HTML.iterdir()} - {
        *(
            "chapters",
            "exercises",
            "vendor",
            "_static",
            "_images",
            "index.html",
            "search.html",
            "404.html",
            "favicon.ico",
        ),
        *("searchindex.js", "objects.inv", ".buildinfo", ".nojekyll", "_downloads"),
    }
    assert unknown == set()
    offered = {path.name for path in (HTML / "_downloads").rglob("*") if path.is_file()}
    assert offered == {"report.html", "grades.csv", f"{SHOWN}.html", f"{SHOWN}.json"}


ANSWERS = {f"fmcourse.exercises.{name}" for name in exercises.names()}


def public_objects():
    """Every public function and class that a module of the package defines, by importing it."""
    for info in pkgutil.walk_packages(fmcourse.__path__, "fmcourse."):
        if any(part.startswith("_") for part in info.name.split(".")) or info.name in ANSWERS:
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module.__name__}.{name}"


def test_the_package_page_has_every_public_function_and_class():
    ids = {tag["id"] for tag in soup("chapters/outlook/api").select("[id]")}
    assert {name for name in public_objects() if name.replace(".", "-") not in ids} == set()


def test_the_package_page_names_the_chapter_of_everything():
    silent = []
    for entry in soup("chapters/outlook/api").select("section.api-entry"):
        if not re.search(r"(Taught|Built|Used|Shown) in", entry.get_text()):
            silent.append(entry["id"])
    assert silent == []


def test_the_package_page_links_to_chapters_that_exist():
    page = soup("chapters/outlook/api")
    links = {a["href"].split("#")[0] for a in page.select("section.api-entry p a")}
    for notebook in CHAPTERS:
        assert f"../{notebook.removeprefix('chapters/')}.html" in links
    assert f"{CHAPTERS[0].removeprefix('chapters/')} (not written yet)" not in page.get_text()


def test_the_data_page_has_every_data_set():
    text = soup("chapters/outlook/data_and_licences").get_text()
    for card in DATASETS.values():
        for fact in (card.name, card.source, card.licence, card.wrapper_licence, card.size, card.package):
            assert fact in text


def test_the_glossary_has_each_term_in_both_languages():
    terms = soup("chapters/outlook/glossary").select("dl.glossary")[0]
    groups = re.findall(r"(?:<dt.*?</dt>\s*)+<dd>.*?</dd>", str(terms), re.DOTALL)
    assert len(groups) >= 60
    for group in groups:
        parts = BeautifulSoup(group, "html.parser")
        assert [dt.get("lang") for dt in parts.select("dt")] == [None, "zh-Hans"], group[:200]
        assert len(parts.dd.get_text().split()) >= 3


def test_the_map_of_chapters_has_every_chapter():
    page = soup("chapters/how_to_use")
    rows = page.select("table.chapter-table tbody tr")
    boxes = page.select(".chapter-graph svg a")
    wanted = [name.removeprefix("chapters/") + ".html" for name in CHAPTERS]
    assert [row.a["href"] for row in rows] == wanted
    assert [box["href"] for box in boxes] == wanted


def test_every_source_in_the_bibliography_is_cited_by_a_page():
    listed = {tag["id"] for tag in soup("chapters/outlook/bibliography").select(".citation[id]")}
    links = [a["href"] for name in DOCUMENTS for a in soup(name).select("a.internal[href*='bibliography.html#']")]
    assert listed
    assert listed == {link.split("#")[1] for link in links}


def test_drawings_keep_readable_labels_on_a_phone(visit):
    """They scroll inside themselves, with touch or keyboard, and leave the page as wide as the screen."""
    page = visit("chapters/mathematics/attention.html", width=360).page
    box = page.locator(".figure-scroll").first
    box.scroll_into_view_if_needed()
    assert box.locator("img").bounding_box()["width"] >= 500
    assert box.get_attribute("tabindex") == "0"
    box.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('.figure-scroll').scrollLeft > 0")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

"""Every page of the book, as a reader meets it: complete, light, readable, accessible, and never calling elsewhere."""

import re
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from harness import CONFIG, DOCUMENTS, HTML, NOTEBOOKS, PAGES, ROOT, Visit, anchors, soup
from PIL import Image

LIMIT = 1_500_000  # bytes over the wire, everything included
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OWNER, NAME = urlsplit(CONFIG["repository"]["url"]).path.strip("/").split("/")
SITE = f"https://{OWNER}.github.io/{NAME}/"


VIEWS = [(page, scheme, width) for page in PAGES for scheme, width in (("light", 1280), ("dark", 1280), ("light", 360))]


@pytest.fixture(scope="module", params=VIEWS, ids=lambda view: "-".join(map(str, view)))
def view(request, browser, origin):
    """One page in one colour scheme at one width, opened once for all tests that only look."""
    page, scheme, width = request.param
    one = Visit(browser, origin, color_scheme=scheme, viewport={"width": width, "height": 900})
    yield one.open(f"{page}.html")
    one.close()


def test_a_page_loads_without_a_problem_and_never_leaves_the_site(view):
    assert view.problems == []
    assert view.page.locator("h1:visible").count() == 1
    assert view.page.locator('.fm-widget[data-ready="failed"]').count() == 0


def test_a_page_is_light(view):
    assert view.bytes <= LIMIT, f"{view.bytes:,} bytes"
    assert not [url for url in view.urls if "fontawesome" in url], "the whole icon font was loaded"


def test_axe_finds_no_violation(view):
    results = Axe().run(view.page, options={"runOnly": WCAG, "preload": False, "resultTypes": ["violations"]})
    found = [
        f"{rule['id']}: {node['html'][:160]} ({(node['any'] or node['all'] or node['none'])[0]['message'][:160]})"
        for rule in results.response["violations"]
        for node in rule["nodes"]
    ]
    assert found == []


def test_a_page_never_scrolls_sideways(view):
    assert view.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    # What is wider than the screen must lie in something that scrolls by itself.
    stray = view.page.evaluate(
        """() => [...document.querySelectorAll("article *")].filter((e) => {
            if (e.getBoundingClientRect().right <= innerWidth + 1 || e.closest("svg, mjx-container")) return false;
            for (let up = e; up; up = up.parentElement)
                if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return false;
            return true;
        }).map((e) => e.outerHTML.slice(0, 120))"""
    )
    assert stray == []


def test_maths_is_typeset(view):
    formulas, drawn, wrong = view.page.evaluate(
        """() => [document.querySelectorAll(".math").length,
            [...document.querySelectorAll(".math")].filter((e) => e.querySelector("mjx-container mjx-math")).length,
            [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((e) => e.textContent)]"""
    )
    assert wrong == []
    assert drawn == formulas
    text = view.page.locator("main").inner_text()
    assert not re.search(r"\\(frac|sqrt|begin|mathbb|softmax|top)\b|\$\$", text), "raw TeX on the page"


def test_there_is_maths_to_typeset():
    assert sum(len(soup(page).select(".math")) for page in NOTEBOOKS) > 20


@pytest.mark.parametrize("page", DOCUMENTS)
def test_the_head_describes_the_page(page):
    html = soup(page)
    meta = {tag.get("property") or tag.get("name"): tag.get("content") for tag in html.select("meta[content]")}
    address = SITE if page == "index" else f"{SITE}{page}.html"
    assert html.html["lang"] == "en"
    assert 40 <= len(meta["description"]) <= 200
    assert meta["og:description"] == meta["description"]
    assert meta["og:title"] in html.title.get_text()
    assert meta["og:url"] == html.select_one('link[rel="canonical"]')["href"].removesuffix("index.html") == address
    assert meta["og:image"].startswith(f"{SITE}_static/cards/")
    card = Image.open(HTML / meta["og:image"].removeprefix(SITE))
    assert card.size == (1200, 630)
    assert (HTML / page).parent.joinpath(html.select_one('link[rel="icon"]')["href"]).resolve().is_file()


@pytest.mark.parametrize("page", PAGES)
def test_every_internal_link_leads_somewhere(page):
    wrong = []
    for link in soup(page).select("a[href]"):
        target = urlsplit(urljoin(f"http://site/{page}.html", link["href"]))
        if target.netloc != "site":
            continue
        path = unquote(target.path).removeprefix(f"/{NAME}" if page == "404" else "").lstrip("/") or "index.html"
        there = (HTML / path).is_file()
        if there and target.fragment:
            there = unquote(target.fragment) in anchors(path.removesuffix(".html"))
        if not there:
            wrong.append(link["href"])
    assert wrong == []


@pytest.mark.parametrize("page", PAGES)
def test_no_tag_names_another_site_as_its_source(page):
    html = soup(page)
    tags = html.select("script[src], img[src], iframe[src], source[src], link[href]")
    addresses = [tag.get("src") or tag["href"] for tag in tags if tag.get("rel") != ["canonical"]]
    assert [a for a in addresses if re.match(r"(https?:)?//", a)] == []


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_picture_has_a_text_alternative(page):
    bare = [str(img)[:120] for img in soup(page).select("article img") if not (img.get("alt") or "").strip()]
    assert bare == []


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_chapter_opens_on_colab(notebook):
    links = [a["href"] for a in soup(notebook).select("a[href]") if "colab.research.google.com" in a["href"]]
    repository = urlsplit(CONFIG["repository"]["url"]).path
    wanted = (
        f"https://colab.research.google.com/github{repository}/blob/{CONFIG['repository']['branch']}/{notebook}.ipynb"
    )
    assert links
    assert set(links) == {wanted}
    assert (ROOT / f"{notebook}.ipynb").is_file()

"""Drives the built site in a browser: a local server like GitHub Pages, and pages that note all that goes wrong."""

import gzip
import http.server
import json
import mimetypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Browser, Locator, Page, Playwright

from tools.system_packages import find_chromium

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
ENTRIES = [chapter for part in TOC["parts"] for chapter in part["chapters"]]
DOCUMENTS = [TOC["root"], *(one["file"] for entry in ENTRIES for one in (entry, *entry.get("sections", ())))]
NOTEBOOKS = [name for name in DOCUMENTS if (ROOT / f"{name}.ipynb").exists()]
CHAPTERS = [name for name in NOTEBOOKS if name.startswith("chapters/")]
PAGES = [*DOCUMENTS, "search", "404"]
COMPRESSED = {".html", ".css", ".js", ".mjs", ".json", ".svg"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


@cache
def soup(page: str) -> BeautifulSoup:
    """The built page, parsed; tests only read it."""
    return BeautifulSoup((HTML / f"{page}.html").read_text("utf-8"), "html.parser")


@cache
def anchors(page: str) -> set[str]:
    """Everything in a page that a link can lead to."""
    return {tag["id"] for tag in soup(page).select("[id]")}


def launch(playwright: Playwright) -> Browser:
    """A headless browser with nothing kept from earlier runs."""
    return playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)


class Handler(http.server.BaseHTTPRequestHandler):
    """Files of `folder`, compressed, at `/` and at `/<repository>/`; anything else is 404.html with status 404."""

    protocol_version = "HTTP/1.1"
    folder = HTML
    prefix = "/" + CONFIG["repository"]["url"].rsplit("/", 1)[-1] + "/"

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        """Serve one file."""
        path = unquote(urlsplit(self.path).path)
        path = "/" + path.removeprefix(self.prefix) if path.startswith(self.prefix) else path
        file = (self.folder / path.lstrip("/")).resolve()
        file = file / "index.html" if file.is_dir() else file
        found = file.is_file() and file.is_relative_to(self.folder.resolve())
        if not found:
            file = self.folder / "404.html"
        body = file.read_bytes() if file.is_file() else b"not found"
        self.send_response(200 if found else 404)
        kind = "text/javascript" if file.suffix == ".mjs" else mimetypes.guess_type(file.name)[0]
        self.send_header("Content-Type", kind or "application/octet-stream")
        if file.suffix in COMPRESSED:
            body = gzip.compress(body, 6)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve `folder` on a free local port; gives its address."""
    handler = type("FolderHandler", (Handler,), {"folder": folder})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Visit:
    """One open page, with what a reader should never meet: `problems`, and what was loaded for it: `bytes`, `urls`."""

    def __init__(self, browser: Browser, origin: str, **options: Any) -> None:
        self.origin = origin
        self.problems: list[str] = []
        self.urls: list[str] = []
        self.bytes = 0
        self.context = browser.new_context(**options)
        self.context.route("**/*", self._route)
        self.page: Page = self.context.new_page()
        self.page.on("console", lambda m: self._note(m.type in {"error", "warning"}, f"console {m.type}: {m.text}"))
        self.page.on("pageerror", lambda error: self._note(True, f"error in a script: {error}"))
        self.page.on("requestfailed", lambda request: self._note(True, f"request failed: {request.url}"))
        self.page.on("response", lambda r: self._note(r.status >= 400, f"status {r.status}: {r.url}"))
        self.page.on("requestfinished", self._count)

    def _note(self, bad: bool, text: str) -> None:
        if bad:
            self.problems.append(text)

    def _route(self, route: Any) -> None:
        url = route.request.url
        if url.startswith((self.origin, "data:", "blob:")):
            route.continue_()
        else:
            self.problems.append(f"leaves the site: {url}")
            route.abort()

    def _count(self, request: Any) -> None:
        if request.url.startswith("http"):
            self.urls.append(request.url)
            self.bytes += request.sizes()["responseBodySize"]

    def open(self, path: str) -> "Visit":
        """Load a page and scroll through it, so that everything that waits to be seen is drawn."""
        self.page.goto(f"{self.origin}/{path}", wait_until="load")
        self.page.evaluate(
            """async () => {
                for (let y = 0; y < document.documentElement.scrollHeight; y += innerHeight) {
                    scrollTo(0, y);
                    await new Promise((done) => setTimeout(done, 20));
                }
                scrollTo(0, 0);
                if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
                await document.fonts.ready;
            }"""
        )
        for figure in self.page.locator(".fm-widget[data-module]").all():
            figure.scroll_into_view_if_needed()
            self.page.wait_for_function("(figure) => figure.dataset.ready", arg=figure.element_handle())
        self.page.evaluate("scrollTo(0, 0)")
        self.page.wait_for_load_state("networkidle")
        return self

    def close(self) -> None:
        """Close the page and its context."""
        self.context.close()


class Figure:
    """One interactive figure on an open page: its state as published, its controls, the numbers it shows."""

    def __init__(self, page: Page, module: str, nth: int = 0) -> None:
        self.page = page
        self.root: Locator = page.locator(f'.fm-widget[data-module="{module}"]').nth(nth)
        self.root.scroll_into_view_if_needed()
        page.wait_for_function("(figure) => figure.dataset.ready === 'true'", arg=self.root.element_handle())
        self.state: dict[str, Any] = json.loads(self.root.locator("> script").text_content() or "")

    def control(self, trait: str) -> Locator:
        """The form element bound to a trait."""
        return self.root.locator(f'[data-trait="{trait}"]')

    def set(self, trait: str, value: Any) -> None:
        """Operate a control as a reader would: a slider by its position, a menu by its entry, a box by its tick."""
        control = self.control(trait)
        if control.evaluate("(e) => e.tagName") == "SELECT":
            control.select_option(index=value) if isinstance(value, int) else control.select_option(label=value)
        elif control.get_attribute("type") == "checkbox":
            control.set_checked(value)
        else:
            control.fill(str(value))

    def press(self, trait: str, key: str, times: int = 1) -> None:
        """Focus a control and press a key."""
        self.control(trait).focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def shown(self, trait: str) -> str:
        """What stands beside a slider."""
        return self.control(trait).locator("xpath=..").locator("output").inner_text()

    def numbers(self) -> dict[str, float]:
        """Every number that the figure shows, in full precision, by its name."""
        pairs = self.root.locator("[data-name]").evaluate_all(
            "(es) => es.map((e) => [e.dataset.name, e.dataset.value])"
        )
        names = [name for name, _ in pairs]
        assert len(names) == len(set(names)), "a number is shown twice under one name"
        return {name: float(value) for name, value in pairs}

    def text(self, name: str) -> str:
        """The number as the reader sees it."""
        return self.root.locator(f'[data-name="{name}"]').inner_text()

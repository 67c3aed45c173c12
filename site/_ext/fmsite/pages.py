"""Around the pages: descriptions and Open Graph data, a card image for each, a 404 page, a bibliography up to date.

The address of the site follows from the address of the repository in `_config.yml`
(https://github.com/OWNER/NAME is published at https://OWNER.github.io/NAME/) unless `html.baseurl` is set there.
"""

import base64
import html
import re
import shutil
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from docutils import nodes
from PIL import Image, ImageDraw, ImageFont
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment

BOOK = (
    "An executable textbook on foundation models: the concepts, the mathematics of attention, a GPT trained from "
    "scratch, and what such models mean for business and society."
)
BIBLIOGRAPHY = "chapters/outlook/bibliography"
CARD_SIZE = (1200, 630)


def set_base_url(app: Sphinx, config: Config) -> None:
    """Derive the site's address from the repository's."""
    address = urlsplit(config.html_theme_options.get("repository_url", ""))
    if config.html_baseurl or address.netloc != "github.com":
        return
    owner, name = address.path.strip("/").removesuffix(".git").split("/")
    site = f"{owner.lower()}.github.io"
    config.html_baseurl = f"https://{site}/" if name.lower() == site else f"https://{site}/{name}/"


def set_commands(app: Sphinx, config: Config) -> None:
    """Let pages show the commands of the set-up (`{{ setup_commands }}`) with the repository's address."""
    url = config.html_theme_options["repository_url"]
    name = url.rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")
    config.myst_substitutions = {
        **config.myst_substitutions,
        "setup_commands": f"```shell\ngit clone {url} && cd {name}\nmake book && make serve\n```",
    }


def opening(doctree: nodes.document, limit: int = 200) -> str:
    """The first paragraph that is prose (not mostly links), cut at a word."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        linked = sum(len(link.astext()) for link in paragraph.findall(nodes.reference))
        if len(text) >= 40 and len(text) > 2 * linked:
            return textwrap.shorten(text, limit, placeholder=" …")
    return ""


def card_name(pagename: str) -> str:
    """File name of a page's card image."""
    return pagename.replace("/", "-") + ".png"


def describe(app: Sphinx, pagename: str, _: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Put the description and the Open Graph data into the page's head."""
    base, home = app.config.html_baseurl, pagename == app.config.root_doc
    description = (context.get("meta") or {}).get("description") or (opening(doctree) if doctree else "") or BOOK
    title = html.unescape(re.sub(r"<[^>]+>", "", context.get("title") or app.config.html_title))
    tags = {
        "description": description,
        "og:title": title,
        "og:description": description,
        "og:type": "website" if home else "article",
        "og:site_name": app.config.html_title,
        "og:url": base if home else f"{base}{pagename}.html",
        "og:image": f"{base}_static/cards/{card_name(pagename if doctree else app.config.root_doc)}",
        "og:image:width": str(CARD_SIZE[0]),
        "og:image:height": str(CARD_SIZE[1]),
        "og:image:alt": f"The title “{title}” on dark blue",
        "twitter:card": "summary_large_image",
    }
    lines = [
        f'<meta {"property" if name.startswith("og:") else "name"}="{name}" content="{html.escape(value)}" />'
        for name, value in tags.items()
    ]
    context["metatags"] = "\n    ".join(["", *lines, context.get("metatags", "")])


def draw_card(title: str, book: str, path: Path) -> None:
    """The picture that a shared link shows: the book's mark, the page's title, the book's name."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the card images use the fonts that matplotlib ships; install matplotlib")
    fonts = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf"
    image = Image.new("RGB", CARD_SIZE, "#0b3a66")
    draw = ImageDraw.Draw(image)
    shades = ("#8ecbff", "#4a7ca8", "#2f5f8c")  # a causal mask, the present brightest
    for row in range(3):
        for column in range(row + 1):
            x, y = 80 + 34 * column, 80 + 34 * row
            draw.rounded_rectangle((x, y, x + 28, y + 28), 5, fill=shades[row - column])
    big = ImageFont.truetype(fonts / "DejaVuSans-Bold.ttf", 64)
    small = ImageFont.truetype(fonts / "DejaVuSans.ttf", 32)
    draw.multiline_text((80, 240), "\n".join(textwrap.wrap(title, 26)[:4]), font=big, fill="#ffffff", spacing=16)
    draw.text((80, 552), book, font=small, fill="#a9d6ff")
    image.quantize(32).save(path, optimize=True)


def publish(app: Sphinx, error: Exception | None) -> None:
    """After the pages: draw the cards, and put the icon where browsers look for it unasked."""
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    (static / "cards").mkdir(parents=True, exist_ok=True)
    for name in sorted(app.env.found_docs):
        draw_card(app.env.titles[name].astext(), app.config.html_title, static / "cards" / card_name(name))
    shutil.copyfile(static / "favicon.ico", Path(app.outdir) / "favicon.ico")


def not_found(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """`404.html`: complete in itself, because a server shows it at any address (see the template)."""
    icon = (Path(app.srcdir) / "site" / "static" / "favicon.svg").read_bytes()
    context = {
        "site_root": urlsplit(app.config.html_baseurl).path or "/",
        "icon": "data:image/svg+xml;base64," + base64.b64encode(icon).decode(),
    }
    yield "404", context, "404.html"


def read_again(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Whatever changed may have changed what is cited; Sphinx does not know that the bibliography depends on it."""
    return [BIBLIOGRAPHY] if added | changed | removed and BIBLIOGRAPHY in env.found_docs else []


def setup(app: Sphinx) -> None:
    """Connect each addition to its event."""
    app.connect("config-inited", set_base_url)
    app.connect("config-inited", set_commands, priority=100)  # before MyST reads them
    app.connect("env-get-outdated", read_again)
    app.connect("html-page-context", describe)
    app.connect("html-collect-pages", not_found)
    app.connect("build-finished", publish)

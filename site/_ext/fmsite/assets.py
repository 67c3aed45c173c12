"""Files that the site adds: the figures' ES modules, their style sheet, and the few icons that pages show.

The theme ships all of Font Awesome twice: as a 1.5 MB script (dropped in `templates/static/webpack-macros.html`) and as
web fonts of 270 kB. Here the fonts are cut down to the icons in use and put into a style sheet, so that a page loads
neither.
"""

import base64
import io
import re
from importlib.resources import files
from pathlib import Path

from fontTools import subset, ttLib  # type: ignore[import-untyped]  # publishes no types
from sphinx.application import Sphinx

from fmcourse import widgets

THEME = files("pydata_sphinx_theme") / "theme" / "pydata_sphinx_theme" / "static"
FONTS = {"Font Awesome 6 Free": ("fa-solid-900.ttf", 900), "Font Awesome 6 Brands": ("fa-brands-400.ttf", 400)}
ICONS = """angle-down angle-left angle-right arrow-up bars bars-staggered circle-half-stroke github list
magnifying-glass moon rocket sun xmark""".split()


def icon_codes(css: str) -> set[int]:
    """Code points of `ICONS` and of every icon that the theme's own rules show (admonitions, links, folds)."""
    codes = {int(code, 16) for code in re.findall(r'--pst-icon-[a-z-]+:\s*"\\([0-9a-f]+)"', css)}
    codes |= {ord(char) for char in re.findall(r'--pst-icon-[a-z-]+:\s*"(.)"', css)}
    for name in ICONS:
        found = re.search(rf'\.fa-{name}:before[^{{]*{{content:"\\([0-9a-f]+)"', css)
        if not found:
            raise ValueError(f"site icons: the theme's style sheet has no icon named {name!r}")
        codes.add(int(found[1], 16))
    return codes


def icon_fonts() -> str:
    """`@font-face` rules that replace the theme's: the same families, only the icons in use, inside the style sheet."""
    codes = icon_codes((THEME / "styles" / "pydata-sphinx-theme.css").read_text("utf-8"))
    rules = []
    for family, (file, weight) in FONTS.items():
        font = ttLib.TTFont(io.BytesIO((THEME / "vendor" / "fontawesome" / "webfonts" / file).read_bytes()))
        cutter = subset.Subsetter(subset.Options(layout_features=[], name_IDs=[0, 1, 2, 5], notdef_outline=False))
        cutter.populate(unicodes=codes)
        cutter.subset(font)
        font.flavor = "woff"
        out = io.BytesIO()
        font.save(out)
        data = base64.b64encode(out.getvalue()).decode()
        source = f'url(data:font/woff;base64,{data}) format("woff")'
        rules.append(f'@font-face{{font-family:"{family}";font-weight:{weight};font-display:block;src:{source}}}')
    return "\n".join(rules) + "\n"


def write(app: Sphinx) -> None:
    """Publish the figures as `_static/widgets/<name>.mjs`, where `shim.mjs` finds them, and both style sheets."""
    folder = Path(app.outdir) / "_static"
    (folder / "widgets").mkdir(parents=True, exist_ok=True)
    for name in widgets.names():
        (folder / "widgets" / f"{name}.mjs").write_text(widgets.module_source(name), "utf-8")
    shared = widgets.stylesheet()
    own = "".join(widgets.stylesheet(name).removeprefix(shared) for name in widgets.names())
    (folder / "widgets.css").write_text(shared + own, "utf-8")
    (folder / "icons.css").write_text(icon_fonts(), "utf-8")


def setup(app: Sphinx) -> None:
    """Write the files before the pages, which carry their checksums."""
    app.connect("builder-inited", write)
    app.add_css_file("widgets.css")
    app.add_css_file("icons.css")

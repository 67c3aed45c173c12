"""Interactive figures: each is one Python class and one ES module beside it, shown live and on the static page.

`from fmcourse.widgets.<name> import <Class>` loads one of them; this package itself imports nothing heavy, so that the
site can be assembled without a notebook kernel. `base` states the contract that every figure keeps.
"""

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Every figure: the `<name>.py` here that have a `<name>.js` beside them. Used in every chapter."""
    return sorted(path.stem for path in FOLDER.glob("*.js") if path.with_suffix(".py").exists())


def module_source(name: str, folder: Path = FOLDER) -> str:
    """The complete ES module of one figure: the shared `ui` helpers (`common.js`), then the figure's own file.

    An anywidget module is a single file and cannot import its neighbours, so both the live widget and the site use this
    one concatenation. Used in every chapter.
    """
    path = folder / f"{name}.js"
    if not path.exists():
        raise FileNotFoundError(f"the figure {name!r} has no {path.name}; figures of the book: {', '.join(names())}")
    return (FOLDER / "common.js").read_text("utf-8") + "\n" + path.read_text("utf-8")


def stylesheet(name: str | None = None, folder: Path = FOLDER) -> str:
    """The shared style sheet (`base.css`), then `<name>.css` where a figure has its own. Used in every chapter."""
    own = folder / f"{name}.css"
    return (FOLDER / "base.css").read_text("utf-8") + ("\n" + own.read_text("utf-8") if own.exists() else "")

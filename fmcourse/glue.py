"""Numbers that a notebook hands to its own text, so that no number in the prose is typed by hand."""

from typing import Any

_PREFIX = "application/papermill.record/"


def glue(name: str, value: Any) -> None:
    """Store `value` with the cell's output under `name`, for the roles `{glue:}` and `{glue:text}` of the site.

    Nothing is shown where the cell runs, and outside a notebook nothing happens. Python, NumPy and PyTorch scalars and
    strings are allowed. A float keeps six significant digits: those after them belong to the processor, since another
    one adds in another order, and the stored notebook would differ. Integers stay exact. The record has the form that
    `myst_nb.glue` writes, without needing it: a notebook on Colab has only `fmcourse`'s own dependencies. Used in every
    chapter.
    """
    if not name or ":" in name or name != name.strip():
        raise ValueError(f"glue name={name!r}: give a name without colons or outer spaces; a colon starts its format")
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
    if not isinstance(plain, (bool, int, float, str)):
        kind = type(value).__name__
        raise TypeError(f"glue({name!r}, ...) was given a {kind}: only a single number or a string goes into prose")
    if isinstance(plain, float):
        plain = float(f"{plain:.6g}")

    from IPython import get_ipython
    from IPython.display import publish_display_data

    if get_ipython() is not None:
        publish_display_data(
            {f"{_PREFIX}text/plain": repr(plain)}, {"scrapbook": {"name": name, "mime_prefix": _PREFIX}}
        )

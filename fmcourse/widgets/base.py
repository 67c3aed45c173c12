"""The contract of an interactive figure: one ES module, live in a notebook and self-sufficient on a static page.

A figure is a subclass of `Widget` in `fmcourse/widgets/<name>.py` with `_module = "<name>"`, and `<name>.js` beside it.
The ES module does all the computing a reader can trigger, so it needs no kernel:

- In JupyterLab, Colab and VS Code the live anywidget is shown and stays in step with Python.
- Next to it the output carries a *static twin*: HTML with the widget's state as JSON. The site prefers that twin and
  `site/static/shim.mjs` hands the same ES module a model with the same `get`, `set`, `on` and `save_changes`.

State is what is synced: every reader-facing word is in `label`, `caption` or `labels`, and can be translated there.
"""

import html
import json
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from fmcourse.widgets import FOLDER, module_source, stylesheet


class Widget(anywidget.AnyWidget):
    """Base of every interactive figure: a live widget with a static twin.

    Subclasses set `_module` (the name of their `.js` file), give `label` and, if they show words of their own,
    `labels` a default, and tag each further piece of state with `sync=True`. Lists and dicts of numbers, strings and
    booleans are allowed; arrays must be turned into lists first. Used in every chapter.
    """

    _module: ClassVar[str] = ""
    _folder: ClassVar[Path] = FOLDER
    max_state_bytes: ClassVar[int] = 400_000
    significant_digits: ClassVar[int] = 6

    label = traitlets.Unicode(help="Accessible name: says in a few words what the figure is.").tag(sync=True)
    caption = traitlets.Unicode("", help="The sentence below the figure: what to try, what to notice.").tag(sync=True)
    labels = traitlets.Dict(
        key_trait=traitlets.Unicode(),
        value_trait=traitlets.Unicode(),
        help="Every other word the reader sees, by a short key; give a few to replace or translate them.",
    ).tag(sync=True)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "_module" in cls.__dict__:
            cls._esm = module_source(cls._module, cls._folder)
            cls._css = stylesheet(cls._module, cls._folder)
        super().__init_subclass__(**kwargs)

    def __init__(self, **kwargs: Any) -> None:
        if not self._module:
            raise TypeError(f"{type(self).__name__} sets no _module: name the .js file beside it")
        unknown = sorted(set(kwargs) - set(self.trait_names()))
        if unknown:
            raise TypeError(f"{type(self).__name__} has no state {unknown}; it has {sorted(self._state_names())}")
        words = self.traits()["labels"].default() or {}
        replaced = kwargs.pop("labels", {})
        if strangers := sorted(set(replaced) - set(words)):
            raise ValueError(f"labels={strangers} are not words of {type(self).__name__}; it has {sorted(words)}")
        super().__init__(labels={**words, **replaced}, **kwargs)
        if not self.label.strip():
            raise ValueError(f"{type(self).__name__} needs a label: screen readers announce the figure by it")

    @classmethod
    def _state_names(cls) -> list[str]:
        """Names of the synced traits that our own classes define, in a stable order."""
        traits = cls.class_traits(sync=True)
        return sorted(n for n, t in traits.items() if issubclass(t.this_class, Widget) and not n.startswith("_"))

    def state(self) -> dict[str, Any]:
        """The state that the static twin carries: what the page can be rebuilt from, floats rounded to save weight."""
        return {name: _rounded(getattr(self, name), self.significant_digits, name) for name in self._state_names()}

    def static_twin(self) -> str:
        """HTML that shows this figure on a page with no kernel."""
        # `<`, `>` and `&` are escaped inside JSON strings so that no value can end the script element early.
        state = json.dumps(self.state(), ensure_ascii=False, separators=(",", ":"), sort_keys=True, allow_nan=False)
        state = state.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")
        if (size := len(state.encode())) > self.max_state_bytes:
            raise ValueError(
                f"{type(self).__name__} holds {size:,} bytes of state, the limit is {self.max_state_bytes:,}: "
                "a reader downloads all of it, so keep fewer items or fewer digits"
            )
        return (
            f'<div class="fm-widget" data-module="{html.escape(self._module)}">'
            f'<script type="application/json">{state}</script>'
            f'<div class="fm-view"><p><strong>{html.escape(self.label)}</strong></p><p>{html.escape(self.caption)}</p>'
            "<p>This figure is interactive: it needs JavaScript here, or a running notebook.</p></div></div>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": self.static_twin()}, metadata

    def __repr__(self) -> str:
        return f"{type(self).__name__}(label={self.label!r})"


def _rounded(value: Any, digits: int, where: str) -> Any:
    """`value` with every float cut to `digits` significant digits; an error names what JSON cannot carry."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"{where}={value} cannot be sent to a page: JSON has no NaN and no infinity")
        short = float(f"{value:.{digits}g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    if isinstance(value, (list, tuple)):
        return [_rounded(item, digits, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, dict):
        return {str(key): _rounded(item, digits, f"{where}[{key!r}]") for key, item in value.items()}
    raise TypeError(f"{where} is a {type(value).__name__}: only numbers, strings, booleans, lists, dicts reach a page")

"""A code explorer: functions of the package as they are, line by line, with notes on the lines that need one."""

import inspect
import io
import keyword
import textwrap
import token
import tokenize
import tomllib
from collections.abc import Mapping
from importlib import import_module
from importlib.resources import files
from typing import Any

import traitlets

from fmcourse.widgets.base import Widget


def coloured(source: str) -> list[list[list[str]]]:
    """The lines of Python `source`, each as pairs of kind and text that join to the line.

    Kinds: "keyword", "text" (strings), "comment", "number", and "" for all the rest. Used in
    `practice/source_code_tour`.
    """
    lines = source.splitlines()
    kinds = [[""] * len(line) for line in lines]
    for one in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = {token.STRING: "text", token.NUMBER: "number", tokenize.COMMENT: "comment"}.get(one.type, "")
        if one.type == token.NAME and keyword.iskeyword(one.string):
            kind = "keyword"
        if one.type in {getattr(token, name, -1) for name in ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")}:
            kind = "text"
        (first, start), (last, end) = one.start, one.end
        for row in range(first, last + 1) if kind else ():
            left, right = start if row == first else 0, end if row == last else len(lines[row - 1])
            kinds[row - 1][left:right] = [kind] * (right - left)
    found = []
    for line, marks in zip(lines, kinds, strict=True):
        parts: list[list[str]] = []
        for mark, letter in zip(marks, line, strict=True):
            if parts and parts[-1][0] == mark:
                parts[-1][1] += letter
            else:
                parts.append([mark, letter])
        found.append(parts)
    return found


def annotated(name: str, notes: Mapping[str, str]) -> dict[str, Any]:
    """The source of "module.function" or "module.Class.method" as it is now, with notes on its lines.

    Args:
        notes: by a piece of the line that they explain. It must stand in exactly one line, so that a note never
            outlives the code that it explains.

    Raises ValueError, naming piece and function, when it does not. Used in `practice/source_code_tour`.
    """
    module, _, path = name.partition(".")
    thing: Any = import_module(f"fmcourse.{module}")
    for part in path.split("."):
        thing = getattr(thing, part)
    raw, first = inspect.getsourcelines(thing)
    source = textwrap.dedent("".join(raw))
    lines, placed = source.splitlines(), {}
    for piece, note in notes.items():
        where = [i for i, line in enumerate(lines) if piece in line]
        if len(where) != 1:
            raise ValueError(f"the note on {piece!r} in {name} fits {len(where)} lines, not one: did the code change?")
        if where[0] in placed:
            raise ValueError(f"{name}: two notes on the line {lines[where[0]].strip()!r}")
        placed[where[0]] = note
    ordered = [[i, placed[i]] for i in sorted(placed)]
    return {"module": module, "name": path, "first": first, "lines": coloured(source), "notes": ordered}


def read_notes() -> dict[str, dict[str, str]]:
    """The book's notes on the Transformer, by function. Used in `practice/source_code_tour`."""
    return tomllib.loads(files("fmcourse.widgets").joinpath("code_notes.toml").read_text(encoding="utf-8"))


class CodeExplorer(Widget):
    """Pieces of source code to choose from; a line with a mark has a note, which is shown when it is chosen.

    Args:
        modules: of each module its name, its job in a sentence, and facts, pairs of a word and what it says.
        pieces: as `annotated` gives them.

    Raises TraitError for a piece of a module that is not described. Taught in `practice/source_code_tour`.
    """

    _module = "code_explorer"

    label = traitlets.Unicode("Code explorer: the Transformer's own lines, with notes").tag(sync=True)
    labels = traitlets.Dict(
        {
            "piece": "Show",
            "previous": "Previous note",
            "next": "Next note",
            "line": "line",
            "of": "of",
            "note": "Note",
            "code": "Source code",
            "noted": "has a note",
        }
    ).tag(sync=True)
    modules = traitlets.List(traitlets.Dict()).tag(sync=True)
    pieces = traitlets.List(traitlets.Dict()).tag(sync=True)
    piece = traitlets.Int(0).tag(sync=True)
    note = traitlets.Int(0).tag(sync=True)

    @traitlets.validate("pieces")
    def _check_pieces(self, proposal: Mapping[str, Any]) -> list[dict[str, Any]]:
        described = {one["name"] for one in self.modules}
        for one in proposal["value"]:
            if one["module"] not in described:
                raise traitlets.TraitError(f"{one['name']}: modules does not describe {one['module']!r}")
        return list(proposal["value"])

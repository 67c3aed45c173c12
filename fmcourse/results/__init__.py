"""Tables of results too long to compute in a chapter: each says by which command and where it was measured."""

import json
from importlib.resources import files
from typing import Any


def load_result(name: str) -> dict[str, Any]:
    """A committed table of results, with the command and the environment that made it.

    Raises ValueError, naming the tables there are, for an unknown name. Taught in `practice/train_gpt`.
    """
    folder = files("fmcourse.results")
    known = sorted(item.name.removesuffix(".json") for item in folder.iterdir() if item.name.endswith(".json"))
    if name not in known:
        raise ValueError(f"name={name!r} is no table of results; there are {', '.join(known)}")
    table: dict[str, Any] = json.loads(folder.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    return table

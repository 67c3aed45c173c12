"""Functions of SciPy and what its documentation says about them: text about something else than films.

Taught in `concepts/pretraining_and_finetuning`.
"""

import inspect
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import import_module

FIELDS = (
    *("cluster.hierarchy", "fft", "integrate", "interpolate", "linalg", "ndimage"),
    *("optimize", "signal", "sparse", "spatial.distance", "special", "stats"),
)


@dataclass(frozen=True)
class Documented:
    """A function's headline, the paragraph that explains it further (may be empty), and the part of SciPy it is in."""

    headline: str
    details: str
    field: str


def _paragraphs(thing: object) -> list[str]:
    """The paragraphs before the first section, each on one line; no signature."""
    text = (inspect.getdoc(thing) or "") if callable(thing) else ""
    text = re.split(r"\n[A-Z][A-Za-z ]+\n-{3,}", text)[0]
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return [part for part in paragraphs if part and not re.match(r"[\w.]+\(|\.\.|:|>>>", part)]


@cache
def documented_functions() -> tuple[Documented, ...]:
    """SciPy's public functions with a headline that no other field uses, sorted by headline; each headline once.

    The installed SciPy is read, so another version gives a few more or fewer.
    Taught in `concepts/pretraining_and_finetuning`. Source: Virtanen et al. 2020.
    """
    found: dict[str, set[Documented]] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few names are deprecated
        for field in FIELDS:
            module = import_module(f"scipy.{field}")
            for name in module.__all__:
                headline, details, *_ = [*_paragraphs(getattr(module, name)), "", ""]
                if headline:
                    found.setdefault(headline, set()).add(Documented(headline, details, field))
    single = [max(group, key=lambda one: one.details) for group in found.values() if len({x.field for x in group}) == 1]
    return tuple(sorted(single, key=lambda one: one.headline))


def search_pairs(count: int = 300) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Headlines, and in the same order the paragraphs that explain them: which belongs to which?

    Only functions whose paragraph is at least eight words long and no other function's; `count` of them, spread
    evenly. Taught in `concepts/pretraining_and_finetuning`.
    """
    functions = documented_functions()
    times = Counter(one.details for one in functions)
    able = [one for one in functions if len(one.details.split()) >= 8 and times[one.details] == 1]
    able = [one for one in able if not one.details.startswith("As an instance of")]  # said of every distribution
    chosen = [able[i * len(able) // count] for i in range(min(count, len(able)))]
    return tuple(one.headline for one in chosen), tuple(one.details for one in chosen)

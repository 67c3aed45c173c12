"""List prices of models behind an interface: what a provider asks for a million tokens, as of a stated day.

Read from the package `genai-prices` without running it. Taught in `practice/inference`.
"""

import ast
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmcourse.data.registry import DATASETS, package_folder

AS_OF = date(2026, 11, 9)
"""The newest day on which a price of the pinned release begins, but for those announced for a later month."""


@dataclass(frozen=True, kw_only=True)
class ApiPrice:
    """What a provider asks for one model, in US dollars for a million tokens.

    Args:
        read: for the tokens that the model is given; `written` for those that it writes.
        since: the day from which on these prices hold, where the table says so.
        tiered: dearer beyond some length; `read` and `written` are then those of short texts.
    """

    provider: str
    model: str
    read: float
    written: float
    since: date | None
    tiered: bool


def _keywords(node: ast.expr) -> dict[str, ast.expr]:
    return {word.arg: word.value for word in node.keywords if word.arg} if isinstance(node, ast.Call) else {}


def _amount(node: ast.expr | None) -> tuple[float, bool] | None:
    """`Decimal('0.1')`, or `TieredPrices(base=Decimal('0.1'), ...)`, whose base is taken."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id == "Decimal":
            return float(ast.literal_eval(node.args[0])), False
        base = _amount(_keywords(node).get("base"))
        return None if base is None else (base[0], True)
    return None


def _since(constraint: ast.expr | None) -> date | None:
    """The day of `StartDateConstraint(start_date=datetime.date(2026, 3, 13))`; other conditions are not ours."""
    start = _keywords(constraint).get("start_date") if constraint is not None else None
    return date(*(ast.literal_eval(part) for part in start.args)) if isinstance(start, ast.Call) else None


def _current(prices: ast.expr, day: date) -> tuple[dict[str, ast.expr], date | None]:
    """The unconditional price, or the one of those with a first day that began last (and has begun)."""
    if not isinstance(prices, ast.List):
        return _keywords(prices), None
    found: list[tuple[date, dict[str, ast.expr], date | None]] = []
    for row in map(_keywords, prices.elts):
        constraint, since = row.get("constraint"), _since(row.get("constraint"))
        empty = constraint is None or (isinstance(constraint, ast.Constant) and constraint.value is None)
        if (empty or since is not None) and (since or date.min) <= day and "prices" in row:
            found.append((since or date.min, _keywords(row["prices"]), since))
    return max(found, key=lambda row: row[0])[1:] if found else ({}, None)


def _file() -> Path:
    return package_folder("prices") / "data.py"


@cache
def api_prices(day: date = AS_OF) -> tuple[ApiPrice, ...]:
    """Every model of the table that has, on that day, a price for reading and one for writing; in the table's order.

    Prices for images, audio and single requests are left out, and so are discounts for batches and cached prompts.

    Raises MissingDataError when the package is not installed. Taught in `practice/inference`.
    """
    tree = ast.parse(_file().read_text(encoding="utf-8"))
    providers: Any = next(node.value for node in tree.body if isinstance(node, ast.AnnAssign))
    found = []
    for provider in map(_keywords, providers.elts):
        models = provider.get("models")
        for model in map(_keywords, models.elts if isinstance(models, ast.List) else []):
            prices, since = _current(model["prices"], day)
            read, written = _amount(prices.get("input_mtok")), _amount(prices.get("output_mtok"))
            if read is None or written is None:
                continue
            found.append(
                ApiPrice(
                    provider=ast.literal_eval(provider["id"]),
                    model=ast.literal_eval(model["id"]),
                    read=read[0],
                    written=written[0],
                    since=since,
                    tiered=read[1] or written[1],
                )
            )
    return tuple(found)


def table_version() -> str:
    """The release of the package that holds the table. Taught in `practice/inference`."""
    return version(DATASETS["prices"].package.split("==")[0])

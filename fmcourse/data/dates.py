"""Dates and quantities as three languages write them: small sentences whose translation is known to be right.

Taught in `practice/train_translation`.
"""

import random
import zlib
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Any, Literal, NamedTuple, get_args

from babel import Locale
from babel.dates import format_date, format_interval, format_time, format_timedelta
from babel.numbers import format_compact_decimal, format_currency
from babel.units import format_unit

from fmcourse.checks import check_positive
from fmcourse.data.translation import Pairs, ParallelSplits

Kind = Literal["date", "weekday", "date and time", "interval", "quantity", "money", "relative time", "large number"]
Target = Literal["de", "zh"]
Part = Literal["train", "validation", "test"]
_FIRST = date(1900, 1, 1)
_DAYS = (date(2100, 1, 1) - _FIRST).days
_UNITS = (
    *(f"length-{name}" for name in "kilometer meter centimeter millimeter mile foot inch yard light-year".split()),
    *(f"mass-{name}" for name in "kilogram gram tonne pound ounce".split()),
    *(f"duration-{name}" for name in "second minute hour day week month year century".split()),
    *(f"volume-{name}" for name in "liter milliliter cubic-meter cubic-centimeter".split()),
    *(f"area-{name}" for name in "square-meter square-kilometer hectare acre".split()),
    *(f"digital-{name}" for name in "byte kilobyte megabyte gigabyte".split()),
    *("speed-kilometer-per-hour", "speed-meter-per-second", "speed-mile-per-hour", "temperature-celsius"),
    *("energy-joule", "energy-kilocalorie", "power-watt", "power-kilowatt", "electric-volt", "pressure-pascal"),
)
_ENGLISH: dict[Kind, tuple[str, ...]] = {  # people write dates in many ways; "long" and "full" are CLDR's own
    "date": ("long", "medium", "d MMMM y", "MMM d y", "d MMM y", "M/d/y", "y-MM-dd"),
    "weekday": ("full", "EEEE d MMMM y", "EEE, MMM d, y", "EEE d MMM y"),
    "date and time": ("long", "d MMMM y"),
}
_AT = {"en": " at ", "de": " um ", "zh": " "}
_STEPS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_MONEY = ("EUR", "USD", "CNY", "GBP", "JPY", "CHF", "INR")


class Item(NamedTuple):
    """What is to be said, in no language yet: a kind, and the values that it takes."""

    kind: Kind
    values: tuple[Any, ...]

    @property
    def facts(self) -> list[str]:
        """What no item of another part may say, in any format: the dates in it, or the number and its unit."""
        kind, values = self
        if kind == "interval":
            return [str(values[0]), str(values[0] + timedelta(days=values[1]))]
        if kind == "relative time":
            return [f"{kind} {abs(values[0])} {values[1]}"]
        return [str(values[0])] if isinstance(values[0], date) else [f"{kind} {values}"]

    @property
    def part(self) -> Part | None:
        """The part of the data that all its facts belong to; a tenth is for validation and a tenth for the test."""
        parts: list[Part] = ["test", "validation", *["train"] * 8]  # type: ignore[list-item]
        found = {parts[zlib.crc32(fact.encode()) % 10] for fact in self.facts}
        return found.pop() if len(found) == 1 else None

    def write(self, locale: str, style: str | None = None) -> str:
        """The item in that language, dates in that style: CLDR's patterns, by Babel, with ordinary spaces."""
        kind, values = self
        match kind:
            case "date" | "weekday":
                text = format_date(values[0], style or {"date": "long", "weekday": "full"}[kind], locale=locale)
            case "date and time":
                clock = format_time(time(*values[1:]), "h:mm a" if locale == "en" else "HH:mm", locale=locale)
                text = format_date(values[0], style or "long", locale=locale) + _AT[locale] + clock
            case "interval":
                text = format_interval(values[0], values[0] + timedelta(days=values[1]), "yMMMd", locale=locale)
            case "quantity":  # Chinese has long names of a few units only; the short ones are words too
                long = locale != "zh" or "long" in Locale(locale)._data["unit_patterns"][values[1]]
                text = format_unit(values[0], values[1], length="long" if long else "short", locale=locale)
            case "money":
                text = format_currency(values[0], values[1], locale=locale, format_type="name")
            case "relative time":
                ahead = timedelta(seconds=values[0] * _STEPS[values[1]])
                text = format_timedelta(ahead, values[1], threshold=1e9, add_direction=True, locale=locale)
            case "large number":
                size: Literal["short", "long"] = "short" if locale == "zh" else "long"
                text = format_compact_decimal(values[0], format_type=size, fraction_digits=2, locale=locale)
        return " ".join(text.split())


def _draw_item(kind: Kind, draw: random.Random) -> Item:
    """Dates from 1900 to 2099, numbers of one to four digits, whole or not."""
    if kind in ("date", "weekday", "date and time", "interval"):
        day = _FIRST + timedelta(days=draw.randrange(_DAYS))
        clock, days = (draw.randrange(24), draw.randrange(60)), draw.randint(1, draw.choice((20, 400)))
        more: dict[Kind, tuple[int, ...]] = {"date and time": clock, "interval": (days,)}
        return Item(kind, (day, *more.get(kind, ())))
    if kind == "relative time":
        return Item(kind, (draw.choice((-1, 1)) * draw.randint(1, 250), draw.choice(list(_STEPS))))
    if kind == "large number":
        return Item(kind, (draw.randint(101, 999) * 10 ** draw.randint(1, 9),))
    number: float = draw.randrange(1, 10 ** draw.randint(1, 4))
    unit = draw.choice(_UNITS if kind == "quantity" else _MONEY)
    if draw.random() < 0.4 and unit != "JPY":  # of which there are no hundredths
        number = round(number + draw.randrange(1, 100) / 100, 2)
    return Item(kind, (number, unit))


@dataclass(frozen=True)
class Phrases(Pairs):
    """English phrases and their translations, with the item that each says and the language it is put into."""

    items: tuple[Item, ...]
    languages: tuple[Target, ...]


@dataclass(frozen=True)
class PhraseSplits(ParallelSplits):
    """Phrases to learn from, to choose by, and to judge by; no date and no quantity is in two of them."""

    train: Phrases
    validation: Phrases
    test: Phrases


def _phrases(part: Part, size: int, seed: int) -> Phrases:
    draw, seen = random.Random(f"{part} {seed}"), set()
    rows: list[tuple[str, str, Item, Target]] = []
    while len(rows) < size:
        kind: Kind = draw.choice(get_args(Kind))
        while (item := _draw_item(kind, draw)).part != part:
            pass
        language: Target = draw.choice(get_args(Target))
        style = draw.choice(_ENGLISH[item.kind]) if item.kind in _ENGLISH else None
        source = f"{language}: {item.write('en', style)}"
        if part == "train" or source not in seen:  # what is judged by is judged once
            seen.add(source)
            rows.append((source, item.write(language), item, language))
    return Phrases(*zip(*rows, strict=True))


def dates_and_quantities(train: int = 40_000, held_out: int = 1000, *, seed: int = 0) -> PhraseSplits:
    """Dates, times, prices, measures and large numbers in English, and in German or Chinese.

    The source begins with the language that is asked for, as in "zh: March 3, 2024" (Johnson et al. 2017). Which part
    an item belongs to is a property of its dates or its number, so a date of the test stands nowhere in training, in
    no format and no language.

    Args:
        train: phrases to train on, drawn with repetition; and as many for `validation` and `test` as `held_out`.

    Raises ValueError for a size that is not positive. Taught in `practice/train_translation`. Source: Unicode CLDR, as
    packed with Babel (Unicode licence, BSD).
    """
    check_positive("train", train)
    check_positive("held_out", held_out)
    sizes: dict[Part, int] = {"train": train, "validation": held_out, "test": held_out}
    return PhraseSplits(**{part: _phrases(part, size, seed) for part, size in sizes.items()})

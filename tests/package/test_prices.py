"""List prices are read from the package's table as it stands there, for the day asked for."""

import re
from datetime import date

import pytest

from fmcourse.data import registry
from fmcourse.data.prices import AS_OF, api_prices, table_version
from fmcourse.data.registry import DATASETS, MissingDataError, package_folder

TEXT = (package_folder("prices") / "data.py").read_text(encoding="utf-8")
NUMBER = r"Decimal\('([\d.]+)'\)"


def test_models_with_one_plain_price_are_read_as_they_stand_there():
    """Found by a pattern in the text, not by its syntax: one line with an id, then its price on one line."""
    between = r"(?:(?!ModelInfo|ConditionalPrice|PriceVariant)[\s\S])*?"
    plain = rf"ModelInfo\(\s+id='([^']+)',{between}prices=ModelPrice\(input_mtok={NUMBER}, output_mtok={NUMBER}\)"
    wanted = [(name, float(read), float(written)) for name, read, written in re.findall(plain, TEXT)]
    assert len(wanted) > 500
    given = {(price.model, price.read, price.written) for price in api_prices()}
    assert [row for row in wanted if row not in given] == []


def test_one_model_by_hand():
    found = [p for p in api_prices() if (p.provider, p.model) == ("groq", "llama-3.1-8b-instant")]
    assert [(p.read, p.written, p.tiered) for p in found] == [(0.05, 0.08, False)]


def test_every_price_is_a_price():
    prices = api_prices()
    assert len(prices) > 1000
    assert len({(p.provider, p.model) for p in prices}) == len(prices)
    assert all(p.read >= 0 and p.written >= 0 and p.provider and p.model for p in prices)
    assert any(p.tiered for p in prices)


def test_a_price_holds_from_its_first_day_on():
    """A price that was announced for a later day is not yet in force, and on that day it is."""
    now = {(p.provider, p.model): p for p in api_prices()}
    later = {(p.provider, p.model): p for p in api_prices(date(2027, 1, 1))}
    changed = [key for key in now if (now[key].read, now[key].written) != (later[key].read, later[key].written)]
    assert changed
    assert all(p.since is None or p.since <= AS_OF for p in now.values())
    assert all(AS_OF < later[key].since <= date(2027, 1, 1) for key in changed)
    assert f"datetime.date({AS_OF.year}, {AS_OF.month}, {AS_OF.day})" in TEXT


def test_the_release_is_the_pinned_one():
    assert DATASETS["prices"].package == f"genai-prices=={table_version()}"


def test_missing_prices_say_how_to_get_them(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(MissingDataError, match=r"pip install --no-deps genai-prices==0\.2\.3"):
        api_prices(date(2026, 1, 1))

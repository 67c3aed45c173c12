"""Dates and quantities: what is written can be read back by other programs, and no fact is in two parts."""

import re
from datetime import date, datetime, timedelta
from random import Random

import pytest
from babel.dates import parse_date
from babel.numbers import parse_decimal

from fmcourse.data.dates import Item, Kind, _draw_item, dates_and_quantities
from fmcourse.data.translation import TranslationData
from fmcourse.tokenizers import CharacterTokenizer

MONTHS = "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split()
DAYS = {"de": "Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split(), "zh": "一二三四五六日"}
SCALES = {"": 1, "万": 10**4, "亿": 10**8, "万亿": 10**12, "Tausend": 10**3}
SCALES |= {"Million": 10**6, "Millionen": 10**6, "Milliarde": 10**9, "Milliarden": 10**9}
ENGLISH = {"%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%b %d %Y", "%d %b %Y", "%m/%d/%Y", "%Y-%m-%d"}
ENGLISH |= {"%A, %B %d, %Y", "%A %d %B %Y", "%a, %b %d, %Y", "%a %d %b %Y"}
ENGLISH |= {"%B %d, %Y at %I:%M %p", "%d %B %Y at %I:%M %p"}


@pytest.fixture(scope="module")
def splits():
    return dates_and_quantities(4000, 400)


def every(splits):
    """Item, language, English and translation of every phrase."""
    for part in (splits.train, splits.validation, splits.test):
        for source, target, item, language in zip(part.source, part.target, part.items, part.languages, strict=True):
            assert source.startswith(f"{language}: ")
            yield item, language, source[4:], target


def read_english(text):
    for pattern in ENGLISH:
        try:
            return datetime.strptime(text, pattern)
        except ValueError:
            continue
    raise AssertionError(text)


def read_date(text, language):
    """Year, month, day of a German or Chinese date, by hand."""
    if language == "zh":
        year, month, day = map(int, re.match(r"(\d+)年(\d+)月(\d+)日", text).groups())
        return date(year, month, day)
    day, month, year = re.search(r"(\d+)\. (\w+) (\d{4})", text).groups()
    return date(int(year), 1 + MONTHS.index(month), int(day))


def test_dates_read_back_as_what_they_say_in_all_three_languages(splits):
    for item, language, english, target in every(splits):
        if item.kind in ("date", "weekday", "date and time"):
            day = item.values[0]
            assert read_english(english).date() == read_date(target, language) == day
        if item.kind == "weekday":
            name = DAYS[language][day.weekday()]
            assert target.startswith(name) if language == "de" else target.endswith(f"星期{name}")
        if item.kind == "date and time":
            moment = read_english(english)
            assert (moment.hour, moment.minute) == item.values[1:]
            assert target.endswith(f"{moment:%H:%M}")


def test_babel_reads_the_numeric_dates_alike():
    item = Item("date", (date(2031, 12, 4),))
    assert item.write("en", "M/d/y") == "12/4/2031"
    assert parse_date(item.write("en", "M/d/y"), locale="en_US") == item.values[0]
    assert item.write("de") == "4. Dezember 2031"
    assert item.write("zh") == "2031年12月4日"


def test_numbers_read_back_as_what_they_say(splits):
    for item, language, english, target in every(splits):
        if item.kind in ("quantity", "money"):
            for text, locale in ((english, "en"), (target, language)):
                number = re.search(r"\d[\d.,]*", text)[0].rstrip(".,")
                assert float(parse_decimal(number, locale=locale)) == item.values[0]
        if item.kind == "large number":
            number, scale = re.match(r"([\d.,]+) ?(\D*)", target).groups()
            value = float(parse_decimal(number, locale=language))
            assert round(value * SCALES[scale]) == item.values[0]


def test_endings_follow_number_and_preposition():
    assert Item("quantity", (1, "duration-day")).write("de") == "1 Tag"
    assert Item("quantity", (3, "duration-day")).write("de") == "3 Tage"
    assert Item("relative time", (3, "day")).write("de") == "in 3 Tagen"
    assert Item("relative time", (-3, "day")).write("zh") == "3天前"
    assert Item("quantity", (2.5, "speed-kilometer-per-hour")).write("zh") == "每小时2.5公里"
    assert Item("interval", (date(2024, 3, 3), 2)).write("de") == "3.–5. März 2024"


def test_no_date_and_no_number_is_in_two_parts_in_any_form(splits):
    facts = [{fact for i in part.items for fact in i.facts} for part in (splits.train, splits.validation, splits.test)]
    assert not facts[0] & facts[1]
    assert not facts[0] & facts[2]
    assert not facts[1] & facts[2]
    assert len(set(splits.test.source)) == len(splits.test) == 400
    last = date(2024, 1, 1) + timedelta(days=9)
    assert Item("interval", (date(2024, 1, 1), 9)).facts == ["2024-01-01", str(last)]


def test_the_seed_draws_other_phrases_and_moves_no_fact(splits):
    other = dates_and_quantities(4000, 400, seed=1)
    assert dates_and_quantities(4000, 400).train == splits.train
    assert other.train.source != splits.train.source
    trained, held_out = ({f for i in part.items for f in i.facts} for part in (splits.train, other.test))
    assert not trained & held_out


def test_every_kind_and_language_has_its_share(splits):
    cells = [(item.kind, language) for item, language, *_ in every(splits)]
    counts = [cells.count(cell) for cell in set(cells)]
    assert len(counts) == 16
    assert max(counts) < 1.5 * min(counts)


def test_phrases_are_short_and_spelled_in_ordinary_spaces(splits):
    texts = [text for _, _, *sides in every(splits) for text in sides]
    assert max(map(len, texts)) < 45
    assert all(text == " ".join(text.split()) for text in texts)
    alphabet = CharacterTokenizer("".join(splits.train.source + splits.train.target), byte_fallback=False)
    data = TranslationData(splits, tokenizer=alphabet, max_tokens=48)
    assert len(data.train_pairs) == 4000


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="train must be positive; got 0"):
        dates_and_quantities(0)
    with pytest.raises(ValueError, match="held_out must be positive; got -1"):
        dates_and_quantities(10, -1)


def test_numbers_are_of_all_lengths():
    draw, kind = Random(0), "quantity"
    numbers = [_draw_item(kind, draw).values[0] for _ in range(2000)]
    lengths = [len(str(int(number))) for number in numbers]
    assert min(lengths.count(n) for n in (1, 2, 3, 4)) > 300
    assert 0.3 < sum(number != int(number) for number in numbers) / 2000 < 0.5
    assert kind in Kind.__args__

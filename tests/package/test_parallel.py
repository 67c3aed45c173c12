"""Parallel sentences: aligned with the files, clean, none twice, whole components on one side, clear errors."""

import json
import subprocess
import sys
import unicodedata

import pytest

from fmcourse.data import parallel, registry
from fmcourse.data.parallel import (
    ParallelSentences,
    interface_languages,
    interface_sentences,
    interface_strings,
    same_sentence,
)
from fmcourse.data.registry import MissingDataError, package_folder

LANGUAGES = ("en", "zh-Hans", "de", "ja")


@pytest.fixture(scope="module")
def splits():
    return interface_sentences(LANGUAGES)


def parts(splits):
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def folder():
    return package_folder("home_assistant") / "components"


def values(node):
    """Every string of a JSON file, by an independent walk."""
    return [text for child in node.values() for text in values(child)] if isinstance(node, dict) else [node]


def test_languages_start_with_english_and_hold_those_of_the_course():
    languages = interface_languages()
    assert languages[0] == "en"
    assert len(languages) == len(set(languages)) == 59
    assert {"zh-Hans", "zh-Hant", "de", "ja", "ko", "ru", "tr", "fi", "he", "ar"} < set(languages)
    assert not any("." in code for code in languages)


@pytest.mark.parametrize("language", ["en", "zh-Hans", "he"])
def test_strings_are_all_those_of_the_files(language):
    files = [json.loads(file.read_bytes()) for file in folder().glob(f"*/translations/{language}.json")]
    assert sorted(interface_strings(language).values()) == sorted(text for file in files for text in values(file))


def test_a_key_is_the_place_of_the_string():
    key = ("wiz", "config", "error", "unknown")
    assert interface_strings("en")[key] == "Unexpected error"
    assert interface_strings("zh-Hans")[key] == "非预期的错误"


def test_every_row_is_aligned_with_the_files(splits):
    strings = [interface_strings(language) for language in LANGUAGES]
    for part in parts(splits).values():
        for row, component in list(zip(part.rows, part.components, strict=True))[::97]:
            keys = [key for key, text in strings[0].items() if key[0] == component and " ".join(text.split()) == row[0]]
            found = {tuple(" ".join(text.get(key, "").split()) for text in strings) for key in keys}
            assert row in found


def test_sentences_are_clean(splits):
    for part in parts(splits).values():
        assert len(part) > 400
        for english, *others in part:
            for text in (english, *others):
                assert text == " ".join(text.split())
                assert not set("{}<>`\n\r|*") & set(text)
                assert "http" not in text
                assert any(unicodedata.category(character).startswith("L") for character in text)
            assert english not in others


def test_no_sentence_is_there_twice_in_english_and_none_in_two_parts_in_any_language(splits):
    english = [same_sentence(text) for part in parts(splits).values() for text in part["en"]]
    assert len(english) == len(set(english))
    for language in LANGUAGES:
        kinds = [{same_sentence(text) for text in part[language]} for part in parts(splits).values()]
        assert not kinds[0] & kinds[1]
        assert not kinds[0] & kinds[2]
        assert not kinds[1] & kinds[2]


def test_whole_components_are_on_one_side_the_same_for_all_languages(splits):
    other = interface_sentences(("fr", "tr"), min_words=3)
    for name, part in parts(splits).items():
        for other_name, other_part in parts(other).items():
            assert name == other_name or not set(part.components) & set(other_part.components)


def test_an_english_sentence_is_in_the_same_part_whatever_the_other_language():
    where = {}
    for language in ("de", "zh-Hans", "he"):
        for name, part in parts(interface_sentences(("en", language))).items():
            for text in part["en"]:
                assert where.setdefault(same_sentence(text), name) == name


def test_the_choice_is_always_the_same(splits):
    assert interface_sentences(LANGUAGES) == splits
    assert splits.test.rows[0] == interface_sentences(list(LANGUAGES)).test.rows[0]


def test_short_ones_can_be_left_out():
    longer = interface_sentences(("en", "zh-Hans"), min_words=4)
    assert 2500 < len(longer.train) < len(interface_sentences(("en", "zh-Hans")).train)
    assert min(len(text.split()) for text in longer.test["en"]) == 4


def test_english_need_not_be_asked_for():
    german, french = zip(*interface_sentences(("de", "fr")).test.rows[:200], strict=True)
    assert sum("ü" in text or "ä" in text for text in german) > sum("ü" in text or "ä" in text for text in french)


def test_a_slice_keeps_rows_and_components_together(splits):
    some = splits.test[3:7]
    assert some == ParallelSentences(LANGUAGES, splits.test.rows[3:7], splits.test.components[3:7])
    assert some["de"] == tuple(row[2] for row in splits.test.rows[3:7])
    assert len(some) == 4


@pytest.mark.parametrize(
    ("one", "other"),
    [("Zone 1", "zone 2!"), ("  Café ", "CAFE\u0301"), ("ＡＢＣ", "abc"), ("Straße", "STRASSE")],
)
def test_trivial_variants_are_one_sentence(one, other):
    assert same_sentence(one) == same_sentence(other)


def test_different_words_stay_different():
    assert len({same_sentence(text) for text in ("turn on", "turn off", "打开", "关闭", "กำ", "กา")}) == 6


def test_an_unknown_language_names_those_there_are(splits):
    with pytest.raises(ValueError, match="language='zh' is not known; choose one of 'en', 'cs', 'de', .*'zh-Hans'"):
        interface_sentences(("en", "zh"))
    with pytest.raises(ValueError, match="language='fr' is not known; choose one of 'en', 'zh-Hans', 'de', 'ja'"):
        splits.test["fr"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"languages": ("en", "de", "en")}, "names a language twice"),
        ({"languages": ()}, "number of languages must be positive"),
        ({"min_words": 0}, "min_words must be positive; got 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        interface_sentences(**arguments)


def test_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    parallel.interface_languages.cache_clear()
    with pytest.raises(MissingDataError, match="pip install --no-deps homeassistant==2024.3.3"):
        interface_languages()


def test_a_package_without_translations_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "package_folder", lambda name: tmp_path)
    parallel.interface_languages.cache_clear()
    with pytest.raises(MissingDataError, match="--force-reinstall homeassistant==2024.3.3"):
        interface_languages()


def test_the_package_is_read_not_imported():
    program = (
        "import sys, fmcourse.data.parallel as data; data.interface_languages(); print('homeassistant' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"

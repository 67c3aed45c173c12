"""The code explorer shows the package's own lines, and its notes stand on the lines that they explain."""

import ast
import inspect
import json
import re
import textwrap
from importlib import import_module

import pytest
from harness import ROOT

from fmcourse.widgets.code_explorer import annotated, coloured, read_notes

PAGE, MODULE = "practice/source_code_tour", "code_explorer"


def source_of(name):
    """A function's source, without its indentation, and the line on which it starts."""
    module, _, path = name.partition(".")
    thing = import_module(f"fmcourse.{module}")
    for part in path.split("."):
        thing = getattr(thing, part)
    lines, first = inspect.getsourcelines(thing)
    return textwrap.dedent("".join(lines)).rstrip("\n").split("\n"), first


def shown_lines(explorer):
    return explorer.root.locator(".fm-line code").evaluate_all(
        "(es) => es.map((e) => e.textContent.replace('\\u200b', ''))"
    )


def test_colours_leave_the_text_as_it_is():
    source = 'def f(x):\n    """Two\n    lines."""\n    return f"{x!r}" if x else 1.5  # why\n'
    parts = coloured(source)
    assert ["".join(text for _, text in line) for line in parts] == source.splitlines()
    kinds = {text.strip(): kind for line in parts for kind, text in line if text.strip()}
    assert kinds["def"] == kinds["return"] == kinds["if"] == "keyword"
    assert kinds["# why"] == "comment"
    assert kinds["1.5"] == "number"
    assert kinds['lines."""'] == "text"


def test_a_note_that_fits_no_line_or_two_is_refused():
    with pytest.raises(ValueError, match=r"'no such line' in masks.visible fits 0 lines, not one: did the code change"):
        annotated("masks.visible", {"no such line": "..."})
    with pytest.raises(ValueError, match="'return' in masks.visible fits 3 lines"):
        annotated("masks.visible", {"return": "..."})
    with pytest.raises(ValueError, match="two notes on the line 'return text'"):
        annotated("masks.visible", {"return text": "...", "    return text": "..."} | {"return past": "..."})


def test_every_note_of_the_book_has_its_line():
    for name, notes in read_notes().items():
        assert len(annotated(name, notes)["notes"]) == len(notes), name


def test_it_shows_every_function_as_it_is_in_the_package(figure):
    explorer = figure(PAGE, MODULE)
    for i, name in enumerate(read_notes()):
        explorer.set("piece", i)
        lines, first = source_of(name)
        assert shown_lines(explorer) == lines
        numbers = explorer.root.locator(".fm-at").all_inner_texts()
        assert [int(number) for number in numbers] == list(range(first, first + len(lines)))
        assert explorer.root.locator("button.fm-noted").count() == len(read_notes()[name])


def test_notes_follow_the_buttons(figure):
    explorer = figure(PAGE, MODULE)
    name = "transformer.Stack.forward"
    wanted = annotated(name, read_notes()[name])
    explorer.set("piece", list(read_notes()).index(name))
    forth = explorer.root.get_by_role("button", name=explorer.state["labels"]["next"])
    for k, (place, note) in enumerate(wanted["notes"]):
        assert explorer.numbers()["line"] == wanted["first"] + place
        assert explorer.root.locator(".fm-note").inner_text().endswith(note)
        pressed = explorer.root.locator('button.fm-noted[aria-pressed="true"]')
        assert pressed.count() == 1
        assert int(pressed.get_attribute("data-note")) == k
        if k + 1 < len(wanted["notes"]):
            forth.click()
    assert forth.is_disabled()


def test_a_line_is_chosen_by_keyboard_and_another_function_starts_at_its_first_note(figure):
    explorer = figure(PAGE, MODULE)
    noted = explorer.root.locator("button.fm-noted")
    noted.nth(2).focus()
    explorer.page.keyboard.press("Enter")
    assert noted.nth(2).get_attribute("aria-pressed") == "true"
    assert explorer.page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true", "focus stays"
    explorer.press("piece", "ArrowUp")
    assert noted.nth(0).get_attribute("aria-pressed") == "true"
    assert noted.locator("xpath=self::*[@aria-pressed='true']").count() == 1


def test_it_fits_a_phone_and_names_its_parts(figure):
    explorer = figure(PAGE, MODULE, width=360)
    for i in range(len(explorer.state["pieces"])):
        explorer.set("piece", i)
        assert explorer.root.evaluate("(e) => e.scrollWidth <= e.clientWidth + 1")
    for control in explorer.root.locator("[data-trait], button").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= 20
    assert explorer.root.get_by_role("group", name=explorer.state["label"]).count() == 1


def test_the_tests_that_the_chapter_names_exist():
    cells = json.loads((ROOT / "chapters" / f"{PAGE}.ipynb").read_text("utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    named = {name for source in sources for name in re.findall(r'"(test_\w+)"', source)}
    trees = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "tests" / "package").glob("test_*.py")]
    there = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert named
    assert named <= there

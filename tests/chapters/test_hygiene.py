"""Every committed notebook keeps every rule of `tools.hygiene`."""

from pathlib import Path

import pytest

from tools.hygiene import RULES, Rule
from tools.normalise import read
from tools.notebooks import notebooks_in
from tools.project import ROOT, Project

NOTEBOOKS = notebooks_in()


def test_there_are_chapters() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize(
    "path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT / "chapters").with_suffix("").as_posix()
)
def test_notebook(path: Path, rule: Rule) -> None:
    assert list(rule(read(path), path, Project.load())) == []

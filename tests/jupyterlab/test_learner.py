"""A learner in JupyterLab, driven in a real browser: answers wrongly, reads the hints, corrects, and passes."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook
from nbformat.v4 import writes as notebook_text
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tools.project import ROOT
from tools.system_packages import find_chromium

TOKEN = "learner"
SETTINGS = {  # no window over the notebook, no cell left undrawn because it is out of sight
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none", "codeCellConfig": {"autoClosingBrackets": False}},
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """JupyterLab with an empty home: its address, and the folder that it shows."""
    home, work = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("work")
    for name, values in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    variables = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime"}
    variables |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ip"}
    environment = {**os.environ, **{name: str(home / folder) for name, folder in variables.items()}}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0"]
    command += [f"--ServerApp.root_dir={work}", f"--IdentityProvider.token={TOKEN}"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield address(server, home / "runtime"), work
        finally:
            server.terminate()


def address(server: subprocess.Popen[bytes], runtime: Path) -> str:
    """Where the server listens, once it does."""
    for _ in range(600):
        assert server.poll() is None, "JupyterLab ended before it listened"
        for file in runtime.glob("jpserver-*.json"):
            url: str = json.loads(file.read_text("utf-8"))["url"]
            try:
                urllib.request.urlopen(f"{url}api/status?token={TOKEN}").close()
            except urllib.error.URLError:
                continue
            return url
        time.sleep(0.1)
    raise AssertionError("JupyterLab did not listen within a minute")


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a headless browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page
        browser.close()


def open_notebook(page: Page, url: str, name: str) -> None:
    page.goto(f"{url}lab/tree/{name}?token={TOKEN}")
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible()
    expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")


def cell(page: Page, text: str) -> Locator:
    """The code cell that holds this text."""
    return page.locator(".jp-Notebook .jp-CodeCell").filter(has=page.locator(".cm-content", has_text=text))


def run(cell: Locator, source: str | None = None) -> Locator:
    """Run a cell as one does, with its text replaced if `source` is given; returns its output."""
    editor = cell.locator(".cm-content")
    editor.click()
    if source is not None:
        cell.page.keyboard.press("ControlOrMeta+A")
        cell.page.keyboard.insert_text(source)
    cell.page.keyboard.press("Shift+Enter")
    return cell.locator(".jp-OutputArea-output")


WRONG = 'def scores(query, key):\n    return query @ key.mT\n\n\ncheck("q2", scores)'
RIGHT = 'def scores(query, key):\n    return query @ key.mT / query.shape[-1] ** 0.5\n\n\ncheck("q2", scores)'


def test_a_learner_answers_wrongly_sees_hints_corrects_and_passes(lab: tuple[str, Path], page: Page) -> None:
    url, folder = lab
    shutil.copy(ROOT / "exercises" / "attention" / "exercise.ipynb", folder)
    open_notebook(page, url, "exercise.ipynb")
    run(cell(page, 'check = start("attention")'))
    question = cell(page, 'check("q2", scores)')
    untouched = run(question)
    expect(untouched).to_contain_text("There is no answer yet")
    expect(untouched).to_contain_text("Hint 1 of 3")
    wrong = run(question, WRONG)
    expect(wrong).to_contain_text("q2, Scores: not yet")
    expect(wrong).to_contain_text("one query, two keys of width 2")
    expect(wrong).to_contain_text("not divided by the square root of d")
    expect(wrong).to_contain_text("Hint 2 of 3")
    expect(wrong).not_to_contain_text("Hint 3 of 3")
    right = run(question, RIGHT)
    expect(right).to_contain_text("q2, Scores: right")
    expect(right).not_to_contain_text("Hint")
    table = run(cell(page, "check.progress()"))
    expect(table).to_contain_text("2 of 18 points in these checks")
    expect(table.get_by_role("row", name="q2 Scores")).to_contain_text("right")
    run(cell(page, "check.receipt()"))
    expect(cell(page, "check.receipt()").locator(".jp-OutputArea-output")).to_contain_text("attention.receipt.json")
    receipt = json.loads((folder / "attention.receipt.json").read_text("utf-8"))
    assert {q["question"]: (q["passed"], q["attempts"]) for q in receipt["questions"]}["q2"] == (True, 3)


def test_an_interactive_figure_works_with_a_kernel(lab: tuple[str, Path], page: Page) -> None:
    """The module of the static page, with Python behind it: a choice reaches the kernel, the kernel's the page."""
    url, folder = lab
    make = (
        "from fmcourse.widgets.attention_explorer import AttentionExplorer\n"
        "scores = [[[[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [0.0, 0.0, 1.0]]]]\n"
        "figure = AttentionExplorer(texts=[['a', 'b', 'c']], heads=['one'], scores=scores)\n"
        "figure"
    )
    cells = [new_code_cell(make), new_code_cell("print('mask is', figure.mask)"), new_code_cell("figure.mask = 'none'")]
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    (folder / "figure.ipynb").write_text(notebook_text(new_notebook(cells=cells, metadata=about)), encoding="utf-8")
    open_notebook(page, url, "figure.ipynb")
    masks = run(cell(page, "figure = AttentionExplorer")).get_by_label("Mask")
    expect(masks).to_have_value(re.compile("^none"))
    masks.select_option(label="causal: nobody sees the future")
    expect(run(cell(page, "print('mask is'"))).to_contain_text("mask is causal")
    run(cell(page, "figure.mask = 'none'"))
    expect(masks).to_have_value(re.compile("^none"))

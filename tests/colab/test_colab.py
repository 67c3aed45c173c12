"""Every chapter runs on a machine like Colab's: from the wheel and its dependencies, without the repository."""

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.colab import ColabLike, build_wheel, from_wheel, run
from tools.normalise import is_colab_cell, read
from tools.notebooks import notebooks_in
from tools.project import ROOT, Project

NOTEBOOKS = notebooks_in()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it would be published."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def project() -> Project:
    return Project.load()


@pytest.fixture
def machine(tmp_path: Path) -> ColabLike:
    """A new machine for each notebook, as on Colab: what one chapter installs cannot help another."""
    return ColabLike.create(tmp_path / "machine")


def test_there_are_chapters_to_run() -> None:
    assert NOTEBOOKS


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    files = (path for path in (ROOT / "fmcourse").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("fmcourse/")}
    assert inside == {path.relative_to(ROOT).as_posix() for path in files}
    assert "fmcourse/weights/translation_de.safetensors" in inside


def test_the_machine_has_torch_but_nothing_of_ours(machine: ColabLike) -> None:
    installed = set(machine.layout()["installed"])
    assert {"torch", "numpy", "ipykernel", "pip"} <= installed
    assert not {"fmcourse", "einops", "jaxtyping", "anywidget", "matplotlib", "transformers"} & installed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_chapter_runs_as_on_colab(
    path: Path,
    wheel: Path,
    project: Project,
    machine: ColabLike,
    tmp_path: Path,
    record_property: Callable[..., None],
) -> None:
    notebook = from_wheel(read(path), project, wheel)
    before = machine.layout()

    seconds = run(notebook, python=machine.python, work=tmp_path)

    after = machine.layout()
    assert after["torch"] == before["torch"], "the install cell replaced torch"
    assert after["numpy"] == before["numpy"], "the install cell replaced numpy"
    added = set(after["installed"]) - set(before["installed"])
    assert "fmcourse" in added
    assert not {name for name in added if name.startswith(("torch", "numpy", "nvidia", "triton"))}
    (install,) = [i for i, cell in enumerate(notebook.cells) if is_colab_cell(cell)]
    record_property(
        "on Colab",
        f"{path.stem}: installed in {seconds[install]:.0f} s, ran in {sum(seconds.values()):.0f} s",
    )


def test_the_command_line_comes_with_the_wheel(wheel: Path, machine: ColabLike) -> None:
    subprocess.run([machine.python, "-m", "pip", "install", "--quiet", wheel], check=True)
    answer = subprocess.run(
        [machine.python.parent / "fmcourse", "--help"],
        check=True,
        capture_output=True,
        text=True,
        cwd=machine.folder,
    )
    assert all(command in answer.stdout for command in ("train", "generate", "doctor"))

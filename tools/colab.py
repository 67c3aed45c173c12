"""Run chapters as Colab runs them: alone, in another environment, installing what their first cell says.

Colab's machine has torch, numpy and a Jupyter kernel, but neither this repository nor its environment.
`ColabLike` makes such a machine from what is installed here. Inside Colab's real image its own Python is used:

    python -m tools.colab --wheel dist/fmcourse-0.1.0-py3-none-any.whl chapters/**/*.ipynb
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from packaging.requirements import Requirement

from tools.normalise import declared, is_colab_cell, read
from tools.project import Project, canonical

PREINSTALLED = ("torch", "numpy", "ipykernel", "pip")
CELL_TIMEOUT = 900
_LAYOUT = """\
import importlib.metadata, importlib.util, json
found = {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions()}
place = {name: [importlib.metadata.version(name), importlib.util.find_spec(name).origin] for name in ("torch", "numpy")}
print(json.dumps({**place, "installed": found}))
"""


def build_wheel(root: Path, folder: Path) -> Path:
    """The package as it would be published, built from `root`."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(root),
    ]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("fmcourse-*.whl")
    return wheel


def closure(names: Iterable[str]) -> list[Distribution]:
    """These installed packages and everything they need, extras included, as they are installed here."""
    found: dict[tuple[str, str], Distribution] = {}
    waiting = [(canonical(name), "") for name in names]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found[name, extra] = distribution(name)
        for requirement in map(Requirement, found[name, extra].requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                # CUDA builds of torch ask for cuda-toolkit[cublas,...], whose extras bring the libraries.
                waiting += [(canonical(requirement.name), each) for each in ("", *requirement.extras)]
    return list({name: package for (name, _), package in found.items()}.values())


def link(packages: Iterable[Distribution], folder: Path) -> None:
    """Make `packages` importable from `folder` by links: nothing is copied, and nothing else comes along."""
    folder.mkdir(parents=True)
    for package in packages:
        # Only what lies directly in site-packages: not the scripts, which are recorded as ../../bin/...
        for top in {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            source, target = Path(str(package.locate_file(top))), folder / top
            if source.exists() and not target.exists():
                target.symlink_to(source, target_is_directory=source.is_dir())


@dataclass(frozen=True)
class ColabLike:
    """A machine as Colab gives it: Python with torch, numpy and a kernel, and a `google.colab` module."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "ColabLike":
        """An environment that holds torch, numpy, ipykernel and pip with what they need, and nothing else."""
        venv.create(folder / "env", with_pip=False, symlinks=os.name != "nt")
        machine = cls(folder)
        link(closure(PREINSTALLED), folder / "preinstalled")
        # Outside the environment's own prefix: pip sees these packages but never removes them.
        (machine.site_packages / "preinstalled.pth").write_text(f"{folder / 'preinstalled'}\n", encoding="utf-8")
        stub = machine.site_packages / "google" / "colab"
        stub.mkdir(parents=True)
        (stub / "__init__.py").write_text('"""Stands in for the module that Colab has."""\n', encoding="utf-8")
        from fmcourse.data.registry import DEBIAN_FOLDER

        if DEBIAN_FOLDER.is_dir():  # as if the install cell had fetched them before: no test waits for Debian's archive
            place = folder / "env" / DEBIAN_FOLDER.relative_to(sys.prefix)
            place.parent.mkdir(parents=True)
            place.symlink_to(DEBIAN_FOLDER, target_is_directory=True)
        return machine

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "env" / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where pip installs in this environment."""
        (place,) = (self.folder / "env" / "lib").glob("python3.*/site-packages")
        return place

    def layout(self) -> dict[str, object]:
        """Versions and places of torch and numpy, and the version of every installed package."""
        answer = subprocess.run([self.python, "-c", _LAYOUT], check=True, capture_output=True, text=True)
        return dict(json.loads(answer.stdout))


def from_wheel(notebook: NotebookNode, project: Project, wheel: Path) -> NotebookNode:
    """The notebook, its install cell pointing at `wheel` in place of the repository; all else as it is."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and is_colab_cell(cell)]
    if cell.source.count(project.source) != 1:
        raise ValueError(f"the install cell does not name {project.source!r}: run `python -m tools.notebooks --write`")
    cell.source = cell.source.replace(project.source, wheel.resolve().as_uri())
    return notebook


def run(notebook: NotebookNode, *, python: Path, work: Path) -> dict[int, float]:
    """Run every cell in a kernel of `python` that has google.colab loaded; return each code cell's seconds.

    The kernel works in a new folder `work`/content, which is empty like Colab's.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed; its source and traceback are in the message.
    """
    content, startup = work / "content", work / "ipython" / "profile_default" / "startup"
    kernel = work / "kernels" / "colab"
    for folder in (content, startup, kernel):
        folder.mkdir(parents=True)
    (startup / "00-colab.py").write_text("import google.colab\n", encoding="utf-8")
    specification = {
        "argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Colab",
        "language": "python",
        "env": {"IPYTHONDIR": str(work / "ipython"), "PYTHONPATH": "", "VIRTUAL_ENV": ""},
    }
    (kernel / "kernel.json").write_text(json.dumps(specification), encoding="utf-8")
    manager = AsyncKernelManager(
        kernel_name="colab", kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(work / "kernels")])
    )
    started: dict[int, float] = {}
    seconds: dict[int, float] = {}

    def begin(cell: NotebookNode, cell_index: int, **_: object) -> None:
        started[cell_index] = time.perf_counter()

    def end(cell: NotebookNode, cell_index: int, **_: object) -> None:
        if cell.cell_type == "code":
            seconds[cell_index] = time.perf_counter() - started[cell_index]

    client = NotebookClient(
        notebook,
        km=manager,
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(content)}},
        on_cell_start=begin,
        on_cell_executed=end,
    )
    client.execute()
    return seconds


def main(arguments: list[str] | None = None) -> int:
    """Run notebooks on the Python that runs this, as in Colab's own image."""
    parser = argparse.ArgumentParser(prog="python -m tools.colab", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--wheel", type=Path, required=True, help="the built package")
    parser.add_argument("notebooks", type=Path, nargs="+", metavar="NOTEBOOK")
    options = parser.parse_args(arguments)
    project = Project.load()
    for path in options.notebooks:
        notebook = from_wheel(read(path), project, options.wheel)
        with tempfile.TemporaryDirectory() as folder:
            seconds = run(notebook, python=Path(sys.executable), work=Path(folder))
        budget = declared(notebook).get("budget_seconds")
        print(f"{path}: {sum(seconds.values()):.0f} s (budget on two cores: {budget} s)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

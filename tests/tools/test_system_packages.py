"""What is missing is installed where that is possible; elsewhere one command is named. Nothing is installed here."""

import subprocess
from pathlib import Path

import pytest

from tools import system_packages


class Machine:
    """Stands in for the programs, the user and the package manager of a machine."""

    def __init__(
        self,
        *programs: str,
        root: bool = False,
        sudo: bool = False,
        works: bool = True,
        os_release: Path = Path("no/such/file"),
    ) -> None:
        self.programs, self.root, self.sudo, self.works = set(programs), root, sudo, works
        self.os_release = os_release
        self.ran: list[list[str]] = []

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[:2] == ["sudo", "-n"] and command[2] == "true":
            return subprocess.CompletedProcess(command, 0 if self.sudo else 1)
        self.ran.append(command)
        if self.works and "install" in command:
            self.programs |= set(command)
        return subprocess.CompletedProcess(command, 0 if self.works else 100)

    def use(self, monkeypatch: pytest.MonkeyPatch, platform: str = "linux") -> "Machine":
        monkeypatch.delenv("CHROMIUM", raising=False)
        monkeypatch.setattr(system_packages.sys, "platform", platform)
        monkeypatch.setattr(system_packages.os, "geteuid", lambda: 0 if self.root else 1000)
        monkeypatch.setattr(
            system_packages.shutil, "which", lambda name: f"/usr/bin/{name}" if name in self.programs else None
        )
        monkeypatch.setattr(system_packages.subprocess, "run", self.run)
        monkeypatch.setattr(system_packages, "ELSEWHERE", ())
        monkeypatch.setattr(system_packages, "OS_RELEASE", self.os_release)
        return self


def test_nothing_is_done_when_all_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("npm", "google-chrome", "apt-get", root=True).use(monkeypatch)
    assert system_packages.main(["chromium", "npm"]) == 0
    assert machine.ran == []


@pytest.mark.parametrize(("root", "prefix"), [(True, ["env"]), (False, ["sudo", "-n", "env"])])
def test_debian_installs_what_is_missing(monkeypatch: pytest.MonkeyPatch, root: bool, prefix: list[str]) -> None:
    machine = Machine("npm", "apt-get", "sudo", root=root, sudo=True).use(monkeypatch)
    assert system_packages.main(["chromium", "npm"]) == 0
    update, install = machine.ran
    assert update[: len(prefix)] == install[: len(prefix)] == prefix
    assert "chromium" in install
    assert "npm" not in install


def test_without_rights_the_one_command_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine("apt-get", "sudo").use(monkeypatch)
    assert system_packages.main(["npm"]) == 1
    assert machine.ran == []
    assert "sudo apt-get update && sudo apt-get install -y --no-install-recommends npm" in capsys.readouterr().err


@pytest.mark.parametrize("platform", ["darwin", "linux", "win32"])
def test_other_systems_get_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], platform: str
) -> None:
    machine = Machine(root=True).use(monkeypatch, platform)
    assert system_packages.main(["chromium"]) == 1
    assert ".venv/bin/python -m playwright install --with-deps chromium" in capsys.readouterr().err
    assert machine.ran == []


def test_ubuntu_has_no_chromium_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "os-release").write_text("NAME=Ubuntu\nID=ubuntu\n")
    machine = Machine("apt-get", root=True, os_release=tmp_path / "os-release").use(monkeypatch)
    assert system_packages.main(["chromium", "npm"]) == 0
    _update, install, playwright = machine.ran
    assert "npm" in install
    assert "chromium" not in install
    assert playwright[1:] == ["-m", "playwright", "install", "--with-deps", "chromium"]


def test_playwrights_own_browser_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Machine().use(monkeypatch)
    browser = tmp_path / "chromium-1200" / "chrome-linux64" / "chrome"
    browser.parent.mkdir(parents=True)
    browser.touch()
    monkeypatch.setattr(system_packages, "ELSEWHERE", ((tmp_path, "chromium-*/chrome-linux*/chrome"),))
    assert system_packages.find_chromium() == str(browser)


def test_a_failed_installation_stops_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine("apt-get", root=True, works=False).use(monkeypatch)
    with pytest.raises(SystemExit, match=r"status 100; run by hand: sudo apt-get update .* chromium"):
        system_packages.main(["chromium"])


def test_an_unknown_name_is_refused() -> None:
    choices = r"given \['chrome'\]; name one or more of: chromium, npm, bubblewrap, parallel, compiler"
    with pytest.raises(SystemExit, match=choices):
        system_packages.main(["chrome"])
    with pytest.raises(SystemExit, match="given nothing"):
        system_packages.main([])


def test_chromium_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    monkeypatch.setenv("CHROMIUM", str(browser))
    assert system_packages.find_chromium() == str(browser)
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(SystemExit, match="not a program that can be run"):
        system_packages.find_chromium()


def test_headers_of_the_running_python_are_looked_for_and_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine = Machine("apt-get", root=True).use(monkeypatch)
    monkeypatch.setattr(system_packages.sysconfig, "get_path", {"include": str(tmp_path)}.__getitem__)
    assert system_packages.main(["headers"]) == 1  # apt-get ran, but brought nothing to this folder
    (package,) = [word for word in machine.ran[-1] if word.startswith("python")]
    assert package == f"python3.{system_packages.sys.version_info.minor}-dev"
    (tmp_path / "Python.h").touch()
    machine.ran.clear()
    assert system_packages.main(["headers"]) == 0
    assert machine.ran == []

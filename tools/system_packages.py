"""Make sure that programs which pip cannot install are here: `python -m tools.system_packages chromium npm`.

On Debian and Ubuntu, as root or with sudo that asks for no password, what is missing is installed. Elsewhere this
stops with the one command to run.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Where browsers are that are not on the PATH: macOS's applications, and what Playwright itself installs.
ELSEWHERE = (
    (Path("/Applications"), "Chromium.app/Contents/MacOS/Chromium"),
    (Path("/Applications"), "Google Chrome.app/Contents/MacOS/Google Chrome"),
    (Path.home() / ".cache/ms-playwright", "chromium-*/chrome-linux*/chrome"),
    (Path.home() / "Library/Caches/ms-playwright", "chromium-*/chrome-mac*/*.app/Contents/MacOS/*"),
)
OS_RELEASE = Path("/etc/os-release")
WITH_PLAYWRIGHT = ("-m", "playwright", "install", "--with-deps", "chromium")


def find_chromium() -> str | None:
    """The browser that the tests drive: $CHROMIUM, else Chromium or Chrome where they usually are."""
    if chosen := os.environ.get("CHROMIUM"):
        if shutil.which(chosen) is None:
            raise SystemExit(f"CHROMIUM={chosen!r} is not a program that can be run")
        return chosen
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    return next((str(path) for folder, pattern in ELSEWHERE for path in sorted(folder.glob(pattern))), None)


def find_headers() -> str | None:
    """The headers of the Python that runs this. Distributions leave them out of the package `python3`."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return str(header) if header.is_file() else None


@dataclass(frozen=True, kw_only=True)
class Need:
    """One program, how to see that it is here, and what brings it."""

    found: Callable[[], str | None]
    debian: tuple[str, ...]
    elsewhere: str  # the command where apt-get does not bring it


NEEDS = {
    "chromium": Need(
        found=find_chromium,
        debian=("chromium", "fonts-dejavu-core", "fonts-noto-cjk"),
        elsewhere=" ".join([".venv/bin/python", *WITH_PLAYWRIGHT]),
    ),
    "npm": Need(
        found=lambda: shutil.which("npm"),
        debian=("npm",),
        elsewhere={"darwin": "brew install node", "linux": "sudo dnf install npm"}.get(
            sys.platform, "winget install OpenJS.NodeJS"
        ),
    ),
    "bubblewrap": Need(  # the sandbox in which submitted exercises are run
        found=lambda: shutil.which("bwrap"),
        debian=("bubblewrap",),
        elsewhere="sudo dnf install bubblewrap"
        if sys.platform == "linux"
        else "echo 'use the dev container: bubblewrap is for Linux'",
    ),
    "parallel": Need(  # many shards of a class at once
        found=lambda: shutil.which("parallel"),
        debian=("parallel",),
        elsewhere="sudo dnf install parallel",
    ),
    "compiler": Need(  # torch.compile builds its CPU kernels with it
        found=lambda: shutil.which("g++") or shutil.which("clang++"),
        debian=("g++",),
        elsewhere="xcode-select --install" if sys.platform == "darwin" else "sudo dnf install gcc-c++",
    ),
    "headers": Need(  # those kernels are modules of Python
        found=find_headers,
        debian=(f"python{sys.version_info.major}.{sys.version_info.minor}-dev",),
        elsewhere="sudo dnf install python3-devel" if sys.platform == "linux" else "make PYTHON=/path/to/python",
    ),
}


def has_apt() -> bool:
    """Whether apt-get installs programs here."""
    return sys.platform == "linux" and shutil.which("apt-get") is not None


def by_apt(name: str) -> bool:
    """Whether apt-get brings this program. Ubuntu has Chromium as a snap only, which cannot be driven everywhere."""
    ubuntu = OS_RELEASE.exists() and "ID=ubuntu" in OS_RELEASE.read_text(encoding="utf-8").splitlines()
    return has_apt() and not (name == "chromium" and ubuntu)


def administrator() -> list[str] | None:
    """What goes before a command that installs: nothing as root, sudo if it asks nothing, else None."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return []
    if (
        shutil.which("sudo")
        and subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode == 0
    ):
        return ["sudo", "-n"]
    return None


def command_for(names: Sequence[str]) -> str:
    """The one command that a person runs to get these programs."""
    packages = [package for name in names if by_apt(name) for package in NEEDS[name].debian]
    commands = [NEEDS[name].elsewhere for name in names if not by_apt(name)]
    if packages:
        install = f"sudo apt-get install -y --no-install-recommends {' '.join(packages)}"
        commands = ["sudo apt-get update", install, *commands]
    return " && ".join(commands)


def install(names: Sequence[str], before: list[str]) -> None:
    """Install without asking anything; a failure ends the program and names the command to run by hand."""
    commands: list[list[str]] = []
    if packages := [package for name in names if by_apt(name) for package in NEEDS[name].debian]:
        apt = [*before, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        commands += [[*apt, "update", "-qq"], [*apt, "install", "-y", "-qq", "--no-install-recommends", *packages]]
    if any(not by_apt(name) for name in names):
        commands.append([sys.executable, *WITH_PLAYWRIGHT])  # asks for rights itself
    for command in commands:
        print(" ".join(command), flush=True)
        if status := subprocess.run(command, check=False).returncode:
            raise SystemExit(f"that ended with status {status}; run by hand: {command_for(names)}")


def main(names: Sequence[str]) -> int:
    strangers = [name for name in names if name not in NEEDS]
    if strangers or not names:
        raise SystemExit(f"given {strangers or 'nothing'}; name one or more of: {', '.join(NEEDS)}")
    missing = [name for name in names if NEEDS[name].found() is None]
    if missing and has_apt() and (before := administrator()) is not None:
        install(missing, before)
        missing = [name for name in names if NEEDS[name].found() is None]
    if missing:
        print(
            f"Missing: {', '.join(missing)}. Run this, then try again:\n\n    {command_for(missing)}\n",
            file=sys.stderr,
        )
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

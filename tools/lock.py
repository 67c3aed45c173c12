"""Make `requirements.lock` from the ranges in `pyproject.toml`: one environment for the book and its tests.

    python -m tools.lock                    # newest allowed versions, torch as locked now
    python -m tools.lock --torch 2.13.0     # with another torch

The versions are resolved in an empty environment, so that nothing slips in that no extra asks for.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

from tools.project import ROOT, canonical, read_pins

LOCK = ROOT / "requirements.lock"
EXTRAS = ("book", "test")
HEADER = """\
# Exact versions of everything that builds and tests the book, for Python 3.11 to 3.13.
# Made by `make lock` from pyproject.toml, the only place where a dependency is asked for. Not edited by hand.
"""


def wanted(root: Path = ROOT) -> list[str]:
    """The requirements of the package and of the extras that the lock covers."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *(requirement for extra in EXTRAS for requirement in extras[extra])]


def as_lock(frozen: str) -> str:
    """The lock for what `pip freeze` printed; a local build such as 2.13.0+cpu counts as 2.13.0."""
    pins = []
    for line in frozen.splitlines():
        name, _, version = line.partition("==")
        if not version:
            raise ValueError(f"pip freeze printed {line!r}, which is not a version from an index")
        pins.append(f"{canonical(name)}=={re.sub(r'[+].*', '', version)}")
    return HEADER + "\n".join(sorted(pins)) + "\n"


def resolve(requirements: list[str]) -> str:
    """Install `requirements` into an empty environment; return what `pip freeze` prints there."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "Scripts" if os.name == "nt" else "bin", "python"))
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        subprocess.run([python, "-m", "pip", "check"], check=True)
        freeze = [python, "-m", "pip", "freeze", "--exclude", "setuptools"]
        return subprocess.run(freeze, check=True, capture_output=True, text=True).stdout


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.lock", description=__doc__.split("\n")[0])
    parser.add_argument("--torch", metavar="VERSION", help="torch to lock; default: the one locked now")
    torch = parser.parse_args(arguments).torch or (read_pins(LOCK).get("torch") if LOCK.exists() else None)
    text = as_lock(resolve([*wanted(), *([f"torch=={torch}"] if torch else [])]))
    LOCK.write_text(text, encoding="utf-8")
    print(f"{LOCK.name}: {len(text.splitlines()) - HEADER.count(chr(10))} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())

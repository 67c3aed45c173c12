"""Data that come as Debian packages: fetched from Debian's archive and unpacked, on any system, without apt or root.

    python -m fmcourse.data.debian libreoffice-help-en-us libreoffice-help-de

Each package is pinned to one version and its SHA-256, so that every machine reads the same bytes.
Taught in `practice/train_translation`.
"""

import argparse
import hashlib
import io
import shutil
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tqdm import tqdm

from fmcourse.checks import check_choice
from fmcourse.data.registry import DATASETS, DEBIAN_FOLDER, MissingDataError

# The archive moves what a newer point release replaces, and keeps old releases.
MIRRORS = ("http://deb.debian.org/debian/", "http://archive.debian.org/debian/")


@dataclass(frozen=True)
class DebianPackage:
    """One pinned package: where it lies in the archive, what it must hash to, and which folder of it is wanted.

    Or a single file of the archive, when no folder is wanted.
    """

    path: str
    sha256: str
    wanted: str = ""


_HELP = "pool/main/libr/libreoffice/libreoffice-help-{}_7.4.7-1+deb12u14_all.deb"
PACKAGES = {
    f"libreoffice-help-{name}": DebianPackage(_HELP.format(name), sha256, f"usr/share/libreoffice/help/{folder}/text/")
    for name, folder, sha256 in (
        ("en-us", "en-US", "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712"),
        ("de", "de", "00490b63c509ac96f7f212d6a6e40452d3e0d1f97ccf4b824dd5ec4c01e8277f"),
        ("zh-cn", "zh-CN", "db867cdece4c2f9c7eebe65e519c6cf386fdcf49d6e061db3dffec893b3e1dee"),
    )
}
# What Debian 11 says about its packages: frozen with its last point release.
PACKAGES["package-descriptions"] = DebianPackage(
    "dists/bullseye/main/i18n/Translation-en.bz2", "431adfc6521fbd0a02c8d9b35fd67786c5930a5a46be28204dcdf0b73ec88d60"
)


def debian_folder(name: str) -> Path:
    """The unpacked files of a package.

    Raises ValueError for an unknown name, and MissingDataError, with the command that fetches it, when it is not here.
    """
    check_choice("Debian package", name, PACKAGES)
    folder = DEBIAN_FOLDER / name / PACKAGES[name].sha256[:12]
    if not folder.is_dir():
        raise MissingDataError(
            f"the data of {name} are not here; fetch them with: python -m fmcourse.data.debian {name}"
        )
    return folder


def _download(package: DebianPackage) -> bytes:
    """The package's bytes, checked. Raises OSError when no mirror has them."""
    refused = []
    for mirror in MIRRORS:
        try:
            with urlopen(mirror + package.path.replace("+", "%2b"), timeout=60) as reply:
                size = int(reply.headers.get("Content-Length") or 0)
                data = bytearray()
                with tqdm(total=size, unit="B", unit_scale=True, desc=package.path.rsplit("/", 1)[-1]) as bar:
                    while part := reply.read(1 << 18):
                        data += part
                        bar.update(len(part))
        except (URLError, TimeoutError) as error:
            refused.append(f"{mirror}: {error}")
            continue
        if (found := hashlib.sha256(data).hexdigest()) != package.sha256:
            refused.append(f"{mirror}: SHA-256 is {found}, not {package.sha256}")
            continue
        return bytes(data)
    raise OSError(f"{package.path} could not be fetched. " + "; ".join(refused))


def _member(archive: bytes, prefix: str) -> bytes:
    """The first member of an `ar` archive, which is what a .deb is, whose name starts with `prefix`."""
    if archive[:8] != b"!<arch>\n":
        raise ValueError("not a Debian package: an ar archive starts with '!<arch>'")
    place = 8
    while place < len(archive):
        name, size = archive[place : place + 16].decode().strip(), int(archive[place + 48 : place + 58])
        if name.startswith(prefix):
            return archive[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise ValueError(f"not a Debian package: it has no member {prefix}")


def unpack(archive: bytes, wanted: str, folder: Path) -> None:
    """Put the files below `wanted` into `folder`, which appears whole or not at all.

    Raises ValueError when the archive is no Debian package, or holds nothing below `wanted`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        with tarfile.open(fileobj=io.BytesIO(_member(archive, "data.tar"))) as tar:
            inside = [item for item in tar.getmembers() if item.isfile() and item.name.startswith(f"./{wanted}")]
            tar.extractall(temporary, members=inside, filter="data")
        if not inside:
            raise ValueError(f"the package holds nothing below {wanted}")
        shutil.rmtree(folder, ignore_errors=True)
        (Path(temporary) / wanted).replace(folder)


def keep(data: bytes, name: str, folder: Path) -> None:
    """Put a single file into `folder`, which appears whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        inside = Path(temporary) / "inside"
        inside.mkdir()
        (inside / name).write_bytes(data)
        inside.replace(folder)


def fetch(name: str) -> Path:
    """Download and unpack a package unless it is here, with progress; returns its folder.

    Raises ValueError for an unknown name, OSError when no mirror can be reached.
    """
    try:
        return debian_folder(name)
    except MissingDataError:
        package = PACKAGES[name]
        folder = DEBIAN_FOLDER / name / package.sha256[:12]
        if package.wanted:
            unpack(_download(package), package.wanted, folder)
        else:
            keep(_download(package), Path(package.path).name, folder)
        return debian_folder(name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch data that come as Debian packages.")
    parser.add_argument("name", nargs="*", help=f"{', '.join(PACKAGES)}; all that the book reads when none is named")
    for chosen in parser.parse_args().name or [name for card in DATASETS.values() for name in card.debian]:
        fetch(chosen)

"""Data from Debian packages: the right bytes or an error, unpacked whole or not at all. No network is used here."""

import hashlib
import io
import tarfile
from urllib.error import URLError

import pytest

from fmcourse.data import debian
from fmcourse.data.debian import DebianPackage, debian_folder, fetch, unpack
from fmcourse.data.registry import MissingDataError


def deb(files, compression="xz"):
    """A .deb as dpkg writes it: an ar archive of three members, the files in the last one."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode=f"w:{compression}") as archive:
        for name, text in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(text)
            archive.addfile(item, io.BytesIO(text))
    out = b"!<arch>\n"
    for name, body in ((b"debian-binary", b"2.0"), (b"control.tar.xz", b"odd"), (b"data.tar.xz", tar.getvalue())):
        out += name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"100644".ljust(8)
        out += str(len(body)).encode().ljust(10) + b"`\n" + body + b"\n" * (len(body) % 2)
    return out


FILES = {"./usr/share/x/text/a.html": b"first", "./usr/share/x/text/b/c.html": b"second", "./usr/bin/evil": b"no"}


class Archive:
    """Stands in for Debian's mirrors: address -> bytes."""

    def __init__(self, monkeypatch, tmp_path, pages, package):
        self.pages, self.asked = pages, []
        monkeypatch.setattr(debian, "DEBIAN_FOLDER", tmp_path / "data")
        monkeypatch.setattr(debian, "MIRRORS", ("http://one/", "http://two/"))
        monkeypatch.setattr(debian, "PACKAGES", {"texts": package})
        monkeypatch.setattr(debian, "urlopen", self.open)

    def open(self, address, timeout):
        self.asked.append(address)
        if address not in self.pages:
            raise URLError("no such file")
        reply = io.BytesIO(self.pages[address])
        reply.headers = {"Content-Length": str(len(self.pages[address]))}
        return reply


def package(data):
    return DebianPackage("pool/texts_1+x_all.deb", hashlib.sha256(data).hexdigest(), "usr/share/x/text/")


def test_a_package_is_fetched_once_checked_and_only_the_wanted_folder_unpacked(monkeypatch, tmp_path):
    data = deb(FILES)
    archive = Archive(monkeypatch, tmp_path, {"http://two/pool/texts_1%2bx_all.deb": data}, package(data))
    with pytest.raises(MissingDataError, match="fetch them with: python -m fmcourse.data.debian texts"):
        debian_folder("texts")
    folder = fetch("texts")
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == {
        "a.html": b"first",
        "b/c.html": b"second",
    }
    assert archive.asked == ["http://one/pool/texts_1%2bx_all.deb", "http://two/pool/texts_1%2bx_all.deb"]
    assert fetch("texts") == folder == debian_folder("texts")
    assert len(archive.asked) == 2
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_other_bytes_than_the_pinned_ones_are_refused_and_leave_nothing(monkeypatch, tmp_path):
    data = deb(FILES)
    Archive(monkeypatch, tmp_path, {"http://one/pool/texts_1%2bx_all.deb": data[:-1] + b"!"}, package(data))
    with pytest.raises(
        OSError, match=r"could not be fetched\. http://one/: SHA-256 is .*; http://two/: .*no such file"
    ):
        fetch("texts")
    assert not (tmp_path / "data").exists()


def test_what_is_no_package_or_lacks_the_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a Debian package: an ar archive starts with"):
        unpack(b"<html>", "usr/", tmp_path / "x")
    with pytest.raises(ValueError, match=r"no member data\.tar"):
        unpack(b"!<arch>\n", "usr/", tmp_path / "x")
    with pytest.raises(ValueError, match="holds nothing below usr/lib/"):
        unpack(deb(FILES), "usr/lib/", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_member_that_climbs_out_is_refused(tmp_path):
    with pytest.raises(tarfile.TarError):
        unpack(deb({"./usr/share/x/text/../../../../../../evil": b"no"}), "usr/share/x/text/", tmp_path / "in" / "x")
    assert not (tmp_path / "evil").exists()


def test_an_unknown_package_names_the_known_ones():
    with pytest.raises(ValueError, match="'libreoffice-help-xx' is not known; choose one of 'libreoffice-help-en-us'"):
        fetch("libreoffice-help-xx")

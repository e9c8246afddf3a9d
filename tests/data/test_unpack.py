"""Unpacking what strangers packed."""

import os
import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from captionist.data.unpack import DamagedArchiveError, check_room, unpack
from captionist.errors import DataError

FILES = {"pictures/a.jpg": b"a" * 3000, "pictures/b.jpg": b"b" * 2000, "readme.txt": b"text"}
ROOM = 100_000


def pack(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    archive, out = pack(tmp_path / "x.zip", FILES), tmp_path / "out"
    unpack(archive, out, at_most=ROOM)
    before = (out / "pictures/a.jpg").stat()
    (out / "pictures/b.jpg").write_bytes(b"cut")
    (out / "readme.txt").unlink()
    (out / "readme.txt.partial").write_bytes(b"te")
    assert unpack(archive, out, at_most=ROOM) == 2
    assert contents(out) == FILES
    assert (out / "pictures/a.jpg").stat().st_ino == before.st_ino
    assert unpack(archive, out, at_most=ROOM) == 0


@pytest.mark.parametrize("name", ["../out.txt", "a/../../out.txt", "/out.txt", "..\\out.txt", "C:out.txt"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "x.zip", FILES | {name: b"out"})
    with pytest.raises(DataError, match="outside of its folder"):
        unpack(archive, tmp_path / "deep" / "out", at_most=ROOM)
    assert [path.name for path in tmp_path.iterdir()] == ["x.zip"]


def spoilt(path: Path, kind: str) -> Path:
    """An archive with a member that is not unpacked."""
    pack(path, FILES, zipfile.ZIP_LZMA if kind == "is packed in an unusual way" else zipfile.ZIP_DEFLATED)
    link = zipfile.ZipInfo("readme.txt" if kind == "is in it twice" else "link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16 if kind == "is a link" else 0
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    if kind == "is encrypted":
        raw = bytearray(path.read_bytes())
        raw[raw.index(b"PK\x01\x02") + 8] |= 1
        path.write_bytes(raw)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["is a link", "is in it twice", "is encrypted", "is packed in an unusual way"])
def test_what_a_corpus_does_not_hold_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(DataError, match=f"{kind}; nothing was unpacked"):
        unpack(spoilt(tmp_path / "x.zip", kind), tmp_path / "out", at_most=ROOM)


def test_a_bomb_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.zip", FILES | {"bomb": bytes(10_000_000)})
    assert archive.stat().st_size < 20_000
    with pytest.raises(DataError, match="would unpack to 10,005,004 bytes; at most 100,000"):
        unpack(archive, tmp_path / "out", at_most=ROOM)
    assert not (tmp_path / "out").exists()


def test_a_bomb_that_lies_about_its_length_grows_no_further(tmp_path: Path) -> None:
    raw = bytearray(pack(tmp_path / "x.zip", {"bomb": bytes(10_000_000)}).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = raw.index(mark) + offset
        raw[at : at + 4] = (1000).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(raw)
    with pytest.raises(DamagedArchiveError):
        unpack(tmp_path / "x.zip", tmp_path / "out", at_most=ROOM)
    assert sum(len(content) for content in contents(tmp_path / "out").values()) <= 1000
    assert not (tmp_path / "out" / "bomb").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_is_found_and_gets_no_name(tmp_path: Path, method: int) -> None:
    raw = bytearray(pack(tmp_path / "x.zip", {"a.jpg": os.urandom(5000)}, method).read_bytes())
    raw[2000] ^= 0xFF
    (tmp_path / "x.zip").write_bytes(raw)
    with pytest.raises(DamagedArchiveError, match="damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "out", at_most=ROOM)
    assert not (tmp_path / "out" / "a.jpg").exists()


@pytest.mark.parametrize("content", [b"", b"<html>not here</html>", None])
def test_what_is_no_archive_or_cut_short_is_damaged(tmp_path: Path, content: bytes | None) -> None:
    archive = pack(tmp_path / "x.zip", FILES)
    archive.write_bytes(archive.read_bytes()[:-30] if content is None else content)
    with pytest.raises(DamagedArchiveError, match="damaged"):
        unpack(archive, tmp_path / "out", at_most=ROOM)


def test_a_full_disk_is_found_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "x.zip", FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Disk(free=5003))
    with pytest.raises(DataError, match="5,004 bytes are needed, 5,003 are free"):
        unpack(archive, tmp_path / "out", at_most=ROOM)
    assert contents(tmp_path / "out") == {}
    with pytest.raises(DataError, match="6,000 bytes are needed"):
        check_room(tmp_path / "not" / "yet", 6000)
    check_room(tmp_path / "not" / "yet", 5003)


class _Disk:
    def __init__(self, free: int) -> None:
        self.free = free

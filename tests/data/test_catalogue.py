"""What the catalogue says, and what is made of it before anything is downloaded."""

from pathlib import Path

from captionist.commands.download import CorpusName
from captionist.data.catalogue import SOURCES, Archive, Source, through
from captionist.data.obtain import bytes_needed


def test_room_is_needed_for_what_is_missing_only(tmp_path: Path) -> None:
    archive = Archive(url="http://a/b/c.zip", size=1000, checksum=None, unpacked_about=500)
    source = Source(archives=(archive,), licence="")
    assert bytes_needed(source, tmp_path) == 1500
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / "c.zip.partial").write_bytes(bytes(400))
    assert bytes_needed(source, tmp_path) == 1100
    (tmp_path / "downloads" / "c.zip").write_bytes(bytes(1000))
    assert bytes_needed(source, tmp_path) == 0


def test_a_mirror_replaces_scheme_and_host() -> None:
    url = "https://publisher.example/zips/x.zip"
    assert through(None, url) == url
    assert through("http://localhost:8000", url) == "http://localhost:8000/zips/x.zip"
    assert through("https://m.example/copies/", url) == "https://m.example/copies/zips/x.zip"


def test_the_catalogue_is_well_formed() -> None:
    assert set(SOURCES) == {name.value for name in CorpusName}
    digits = {"sha256": 64, "md5": 32}
    for source in SOURCES.values():
        assert source.licence
        for archive in source.archives:
            assert archive.name.endswith(".zip")
            algorithm, _, value = (archive.checksum or "").partition(":")
            assert len(value) == digits[algorithm]
            assert set(value) <= set("0123456789abcdef")
            assert archive.size or archive.download_about

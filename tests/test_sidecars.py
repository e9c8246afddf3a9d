"""Captions in XMP sidecars: read by others, and nothing that others wrote is lost."""

import json
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from captionist.errors import SidecarError
from captionist.sidecars import Outcome, Sidecars
from captionist.xmp import Xmp
from tests.conftest import Run
from tests.pictures import write_png
from tests.tools import missing, unprivileged

# As Lightroom Classic writes it: no packet marker, properties as attributes, a list of values inside.
LIGHTROOM = """\
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000 1.000000, 0000/00/00-00:00:00        ">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
   xmp:Rating="4"
   crs:Exposure2012="+0.35">
   <!-- kept -->
   <dc:subject>
    <rdf:Bag>
     <rdf:li>kitchen &amp; garden</rdf:li>
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
# As digiKam (Exiv2) writes it: an empty element for it all.
DIGIKAM = """\
<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   digiKam:PickLabel='3'
   xmp:Rating="2"/>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""
PERSON = """<dc:description>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">Grandma's kitchen</rdf:li>
     <rdf:li xml:lang="de">Omas K\u00fcche</rdf:li>
    </rdf:Alt>
   </dc:description>
   """
DESCRIBED = LIGHTROOM.replace("<dc:subject>", f"{PERSON}<dc:subject>")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return write_png(tmp_path / "IMG_1.png", 1)


@pytest.fixture
def sidecar(picture: Path) -> Path:
    """Where its sidecar is, or is going to be."""
    return picture.with_name("IMG_1.png.xmp")


def exiftool(path: Path) -> dict[str, object]:
    if shutil.which("exiftool") is None:
        missing("exiftool (apt-get install libimage-exiftool-perl)")
    done = subprocess.run(
        ["exiftool", "-json", "-a", "-G1", "-validate", "-all", path], capture_output=True, check=True
    )
    (record,) = json.loads(done.stdout)
    assert isinstance(record, dict)
    return record


@pytest.mark.parametrize("before", [None, LIGHTROOM, DIGIKAM, LIGHTROOM.replace("\n", "\r\n"), "\ufeff" + DIGIKAM])
def test_exiftool_reads_the_description_and_what_was_there(picture: Path, sidecar: Path, before: str | None) -> None:
    if before:
        sidecar.write_bytes(before.encode())
    known = exiftool(sidecar) if before else {}
    for text in ('A dog\'s "tag" & <collar>, caf\u00e9.', "A cat."):
        assert Sidecars().write(picture, text) is Outcome.WRITTEN
        record = exiftool(sidecar)
        assert record["XMP-dc:Description"] == text
        assert record["ExifTool:Validate"] == known.get("ExifTool:Validate", "OK")
        kept = {key: value for key, value in known.items() if key.startswith("XMP-")}
        assert kept.items() <= record.items()
        if before:
            assert len(kept) > 2


@pytest.mark.parametrize("before", [LIGHTROOM, DIGIKAM, DIGIKAM.replace("\n", "\r\n")])
def test_every_other_byte_stays(picture: Path, sidecar: Path, before: str) -> None:
    sidecar.write_bytes(before.encode())
    Sidecars().write(picture, "A dog.")
    written = sidecar.read_bytes()
    for line in before.encode().replace(b'"2"/>', b'"2">').splitlines(keepends=True):
        assert line in written
        written = written[written.index(line) + len(line) :]
    assert Sidecars().write(picture, "A dog.") is Outcome.UNCHANGED


def test_what_a_person_wrote_is_kept_unless_told_otherwise(picture: Path, sidecar: Path) -> None:
    sidecar.write_text(DESCRIBED, encoding="utf-8")
    assert Sidecars().write(picture, "A dog.") is Outcome.KEPT
    assert sidecar.read_text(encoding="utf-8") == DESCRIBED
    assert Sidecars(overwrite=True).write(picture, "A dog.") is Outcome.WRITTEN
    record = exiftool(sidecar)
    assert (record["XMP-dc:Description"], record["XMP-dc:Description-de"]) == ("A dog.", "Omas K\u00fcche")
    # From now on it is ours, until somebody mends it.
    assert Sidecars().write(picture, "A cat.") is Outcome.WRITTEN
    mended = sidecar.read_text(encoding="utf-8").replace('x-default">A cat.', 'x-default">Our cat Mia.')
    sidecar.write_text(mended, encoding="utf-8")
    assert Sidecars().write(picture, "A dog.") is Outcome.KEPT
    assert sidecar.read_text(encoding="utf-8") == mended


IN_AN_ATTRIBUTE = LIGHTROOM.replace('xmp:Rating="4"', "xmp:Label=\"dc:description='no'\" dc:description = 'It >is'")


@pytest.mark.parametrize(
    "before",
    [
        *(
            LIGHTROOM.replace("<dc:subject>", f"<dc:description{description}</dc:description><dc:subject>")
            for description in (
                ">Plain text",
                "><rdf:Alt><rdf:li xml:lang='fr'>Texte</rdf:li></rdf:Alt>",
                "><rdf:Bag><rdf:li>In a bag</rdf:li></rdf:Bag>",
                " rdf:parseType='Resource'><rdf:value>Qualified</rdf:value>",
            )
        ),
        IN_AN_ATTRIBUTE,
    ],
)
def test_descriptions_of_every_form_are_seen_and_replaced(picture: Path, sidecar: Path, before: str) -> None:
    sidecar.write_text(before)
    assert Sidecars().write(picture, "A dog.") is Outcome.KEPT
    assert Sidecars(overwrite=True).write(picture, "A dog.") is Outcome.WRITTEN
    assert Xmp(sidecar.read_bytes()).description == "A dog."
    if before == IN_AN_ATTRIBUTE:
        record = exiftool(sidecar)
        assert (record["XMP-dc:Description"], record["XMP-xmp:Label"]) == ("A dog.", "dc:description='no'")


@pytest.mark.parametrize("empty", ["<rdf:li xml:lang='x-default'/>", "<rdf:li xml:lang='x-default'></rdf:li>", ""])
def test_an_empty_description_is_none(picture: Path, sidecar: Path, empty: str) -> None:
    element = f"<dc:description><rdf:Alt>{empty}</rdf:Alt></dc:description>"
    sidecar.write_text(LIGHTROOM.replace("<dc:subject>", f"{element}<dc:subject>"))
    assert Sidecars().write(picture, "A dog.") is Outcome.WRITTEN
    assert exiftool(sidecar)["XMP-dc:Description"] == "A dog."


def test_our_mark_survives_as_an_attribute(picture: Path, sidecar: Path) -> None:
    """Adobe's and Exiv2's writers turn simple elements into attributes."""
    Sidecars().write(picture, "A dog.")
    compact = sidecar.read_text().replace(
        'rdf:about=""', 'rdf:about="" xmlns:c="captionist:ns:1.0/" c:caption="A dog."'
    )
    start, end = compact.index("<captionist:caption"), compact.index("</captionist:caption>")
    sidecar.write_text(compact[:start] + compact[end + len("</captionist:caption>") :])
    assert Sidecars().write(picture, "A cat.") is Outcome.WRITTEN
    assert 'c:caption="A cat."' in sidecar.read_text()
    assert Sidecars().write(picture, "A cow.") is Outcome.WRITTEN


def test_our_mark_survives_exiftool(picture: Path, sidecar: Path) -> None:
    sidecar.write_text(LIGHTROOM)
    Sidecars().write(picture, "A dog.")
    exiftool(sidecar)  # skips without it
    subprocess.run(["exiftool", "-q", "-overwrite_original", "-XMP-xmp:Rating=1", sidecar], check=True)
    assert Sidecars().write(picture, "A cat.") is Outcome.WRITTEN
    record = exiftool(sidecar)
    assert (record["XMP-dc:Description"], record["XMP-xmp:Rating"]) == ("A cat.", 1)


def test_a_short_name_is_used_where_it_is_there_and_no_other_picture_s(tmp_path: Path) -> None:
    png, jpg = write_png(tmp_path / "IMG.png", 1), write_png(tmp_path / "IMG.jpg", 2)
    alone, shared = write_png(tmp_path / "alone.png", 3), tmp_path / "IMG.xmp"
    (tmp_path / "alone.mov").write_bytes(b"a live photo's film")
    for name in ("alone.xmp", "IMG.xmp"):
        (tmp_path / name).write_text(LIGHTROOM)
    sidecars = Sidecars()
    for picture, text in ((png, "A dog."), (jpg, "A cat."), (alone, "A cow.")):
        assert sidecars.write(picture, text) is Outcome.WRITTEN
    assert shared.read_text() == LIGHTROOM
    assert {path.name: Xmp(path.read_bytes()).description for path in tmp_path.glob("*.xmp")} == {
        "IMG.xmp": None, "IMG.png.xmp": "A dog.", "IMG.jpg.xmp": "A cat.", "alone.xmp": "A cow.",
    }  # fmt: skip


def test_a_shared_description_is_not_hidden(tmp_path: Path) -> None:
    png, _ = write_png(tmp_path / "IMG.png", 1), write_png(tmp_path / "IMG.jpg", 2)
    (tmp_path / "IMG.xmp").write_text(DESCRIBED, encoding="utf-8")
    assert Sidecars().write(png, "A dog.") is Outcome.KEPT
    assert not (tmp_path / "IMG.png.xmp").exists()


def test_the_sidecar_of_a_picture_with_two_suffixes_is_its_own(tmp_path: Path) -> None:
    first, second = write_png(tmp_path / "a.jpg", 1), write_png(tmp_path / "a.jpg.png", 2)
    assert Sidecars().write(first, "A dog.") is Sidecars().write(second, "A cat.") is Outcome.WRITTEN
    assert Xmp((tmp_path / "a.jpg.xmp").read_bytes()).description == "A dog."
    assert Xmp((tmp_path / "a.jpg.png.xmp").read_bytes()).description == "A cat."


def test_a_description_in_the_picture_is_not_hidden(picture: Path, sidecar: Path) -> None:
    exiftool(picture)  # skips without it
    subprocess.run(["exiftool", "-q", "-XMP-dc:Description=Our dog", picture], check=True)
    assert Sidecars().write(picture, "A dog.") is Outcome.KEPT
    assert not sidecar.exists()
    assert Sidecars(overwrite=True).write(picture, "A dog.") is Outcome.WRITTEN


BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>\n"""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (LIGHTROOM.encode()[:-20], "damaged"),
        (b"<a><b/></a>", "no rdf:RDF"),
        (BOMB.encode() + LIGHTROOM.replace("kitchen", "&b;").encode(), "document type"),
        (LIGHTROOM.encode("utf-16"), "UTF-16"),
    ],
)
def test_what_is_no_xmp_is_left_alone(picture: Path, sidecar: Path, content: bytes, message: str) -> None:
    sidecar.write_bytes(content)
    with pytest.raises(SidecarError, match=message):
        Sidecars(overwrite=True).write(picture, "A dog.")
    assert sidecar.read_bytes() == content
    assert sorted(path.name for path in picture.parent.iterdir()) == ["IMG_1.png", "IMG_1.png.xmp"]


def test_another_encoding_is_kept(picture: Path, sidecar: Path) -> None:
    content = f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{LIGHTROOM}'.replace("kitchen", "K\u00fcche")
    sidecar.write_bytes(content.encode("latin-1"))
    Sidecars().write(picture, "Caf\u00e9.")
    assert "K\u00fcche".encode("latin-1") in sidecar.read_bytes()
    assert Xmp(sidecar.read_bytes()).description == "Caf\u00e9."


def test_permissions_and_links_are_kept(picture: Path, sidecar: Path) -> None:
    target = picture.with_name("elsewhere")
    target.write_text(LIGHTROOM)
    target.chmod(0o640)
    sidecar.symlink_to(target)
    Sidecars().write(picture, "A dog.")
    assert sidecar.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert Xmp(target.read_bytes()).description == "A dog."


def test_what_may_not_be_written_is_an_error(picture: Path, sidecar: Path) -> None:
    sidecar.write_text(LIGHTROOM)
    sidecar.chmod(0o444)
    code = (
        "import sys, pathlib\nfrom captionist.sidecars import Sidecars\n"
        "Sidecars().write(pathlib.Path(sys.argv[1]), 'A dog.')"
    )
    done = subprocess.run([*unprivileged(), sys.executable, "-c", code, picture], capture_output=True, text=True)
    assert f"{SidecarError.__name__}: {sidecar} cannot be written (it is read-only)" in done.stderr
    assert sidecar.read_text() == LIGHTROOM


def test_the_command_writes_them_and_says_so(run: Run, model: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(["a.png", "b.png", "c.png"]):
        write_png(tmp_path / name, seed)
    pictures = {path: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "b.png.xmp").write_text(DESCRIBED, encoding="utf-8")
    (tmp_path / "c.png.xmp").write_text("<broken")
    done = run("caption", tmp_path, "--model", model, "--sidecar")
    texts = {line.split("\t")[0]: line.split("\t")[1] for line in done.out.splitlines()}
    assert (done.code, list(texts)) == (1, [f"{tmp_path}/a.png", f"{tmp_path}/c.png"])
    assert Xmp((tmp_path / "a.png.xmp").read_bytes()).description == texts[f"{tmp_path}/a.png"]
    broken, summary = done.err.splitlines()
    assert broken.startswith(f"{tmp_path}/c.png: the sidecar {tmp_path}/c.png.xmp is left as it is")
    assert "; sidecars: 1 written, 1 kept (somebody described the picture; --overwrite replaces that)" in summary
    assert summary.endswith("; 2 other files skipped")
    assert {path: path.read_bytes() for path in pictures} == pictures
    unsure = run("caption", write_png(tmp_path / "d.png", 9), "--model", model, "--sidecar", "--min-confidence", 1)
    assert unsure.code == 0
    assert not (tmp_path / "d.png.xmp").exists()
    assert run("caption", "-", "--model", model, "--sidecar").code == 2


def test_a_second_run_captions_only_what_has_no_description(run: Run, model: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(["a.png", "b.png", "c.png"]):
        write_png(tmp_path / name, seed)
    (tmp_path / "b.png.xmp").write_text(DESCRIBED, encoding="utf-8")
    command = "caption", tmp_path, "--model", model, "--sidecar"
    run("caption", tmp_path / "a.png", "--model", model, "--sidecar")
    (tmp_path / "a.png").write_bytes(b"it would fail, were it read")

    second = run(*command)
    assert (second.code, [line.split("\t")[0] for line in second.out.splitlines()]) == (0, [f"{tmp_path}/c.png"])
    assert second.err.startswith("1 captioned in ")
    assert "1 left (described by an earlier run; --renew replaces that), 1 kept (somebody" in second.err
    third = run(*command)
    assert (third.code, third.out) == (0, "")
    assert "0 captioned" in third.err
    assert "2 left" in third.err
    assert run("caption", tmp_path / "c.png", "--model", model, "--sidecar").err.startswith("0 captioned")

    renewed = run(*command, "--renew")
    assert (renewed.code, len(renewed.out.splitlines())) == (1, 1)
    assert "sidecars: 1 unchanged, 1 kept" in renewed.err
    assert len(run(*command, "--overwrite").out.splitlines()) == 2
    assert Xmp((tmp_path / "b.png.xmp").read_bytes()).is_ours


def test_a_description_in_the_picture_settles_it(picture: Path) -> None:
    assert Sidecars().settled(picture) is None
    picture.write_bytes(picture.read_bytes() + DESCRIBED.encode())
    assert Sidecars().settled(picture) is Sidecars(renew=True).settled(picture) is Outcome.KEPT
    assert Sidecars(overwrite=True).settled(picture) is None

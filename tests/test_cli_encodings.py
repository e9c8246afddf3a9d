"""What the command line prints and receives, in every encoding."""

import os
from pathlib import Path

import pytest

from captionist.commands.terminal import SPELT_OUT
from tests.pictures import write_png
from tests.tools import command

ENCODINGS = "ascii latin-1 cp1252 cp437 koi8-r shift_jis euc_jp big5 gb18030 iso2022_jp utf-7 utf-8-sig utf-16 utf-32"


@pytest.mark.parametrize("encoding", [*ENCODINGS.split(), "cp037"])
def test_every_encoding_can_write_every_name(encoding: str) -> None:
    """What the encoding lacks is written out, and bytes that are not UTF-8 come out as they went in."""
    name = "a képű 🐕 \udce9.jpg"
    written = name.encode(encoding, SPELT_OUT)
    assert written.decode(encoding, "replace").startswith("a k")
    if encoding == "latin-1":
        assert written == b"a k\xe9p\\u0171 \\U0001f415 \xe9.jpg"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16", "shift_jis"])
def test_output_in_another_encoding_stops_nothing(encoding: str, model: Path, tmp_path: Path) -> None:
    for seed, name in enumerate(["a.png", "képű 🐕.png"]):
        write_png(tmp_path / "photos" / name, seed)
    os.link(tmp_path / "photos" / "a.png", os.fsencode(tmp_path / "photos") + b"/caf\xe9.png")
    (tmp_path / "photos" / "új.png").write_bytes(b"")

    def outcome(*arguments: object) -> tuple[int, str]:
        done = command(*map(str, arguments), cwd=tmp_path, env=os.environ | {"PYTHONIOENCODING": encoding})
        assert b"Traceback" not in done.stderr
        assert b"\nUnicode" not in done.stderr
        return done.returncode, done.stdout.decode(encoding, "replace")

    code, out = outcome("caption", "photos", "--model", model)
    assert (code, out.count("\n"), out.count("\t")) == (1, 3, 3)
    assert outcome("index", "photos", "--model", model, "--out", "képű.npz")[0] == 1
    code, out = outcome("search", "a dog", "--index", "képű.npz", "--model", model)
    assert (code, out.count("\n")) == (0, 3)
    assert outcome("caption", "photos", "--model", model, "--out", "képű 🐕.parquet")[0] == 1
    assert outcome("--help")[0] == 0
    assert outcome("caption", "--help")[0] == 0


def test_sentences_and_names_are_understood_in_a_locale_of_ascii_alone(model: Path, tmp_path: Path) -> None:
    picture = write_png(tmp_path / "képű.png", 1)
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = command("match", picture, "a dog in a café", "--model", model, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith("\ta dog in a café\n".encode())


def test_tables_for_people_are_printed_in_another_encoding(model: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "képű 🐕" / "Images" / "1.jpg", 1)
    (tmp_path / "képű 🐕" / "captions.txt").write_text("image,caption\n1.jpg,a dog\nű.jpg,a cat\n", encoding="utf-8")
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = command("data", "inspect", tmp_path / "képű 🐕", "--model", model, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"\\u0171.jpg" in done.stdout

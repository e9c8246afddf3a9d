"""Pictures with labels alone become a corpus that a recipe can name."""

import json
from pathlib import Path

import pytest

from captionist.data import open_corpus
from captionist.errors import BundleError, DataError
from captionist.exporting.bank import add_bank
from recipes.label_captions import caption_labelled, words_for
from tests.pictures import write_png
from tests.tiny_bundle import write_tiny_bundle

ENDINGS = ("today", "alone", "again", "slowly", "happily", "now")
SENTENCES = [f"a red dog runs through the grass {ending}" for ending in ENDINGS]
SENTENCES += [f"two children play on the green beach {ending}" for ending in ENDINGS]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = write_tiny_bundle(tmp_path / "tiny", aligned=True, seeing=True)
    add_bank(path, SENTENCES, "nobody's")
    return path


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    folder = tmp_path / "labelled"
    lines = []
    for number, label in enumerate(("Irish red dog", "person", "beach", "dog", "tench")):
        write_png(folder / f"{number}.png", number)
        lines.append(json.dumps({"file_name": f"{number}.png", "labels": [label]}))
    (folder / "3.png").write_bytes(b"no picture")
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_captions_say_the_label(bundle: Path, labelled: Path, tmp_path: Path) -> None:
    found = caption_labelled(labelled, tmp_path / "out", bundle)
    assert found == (2, 5)  # of a person and a tench no sentence tells, and one is no picture
    dog, beach = open_corpus(tmp_path / "out").split("train")
    assert all("dog" in text for text in dog.references)
    assert all("beach" in text for text in beach.references)
    assert dog.weights == (0.7, 0.5, 0.4)
    assert Path(str(dog.image)).read_bytes() == (labelled / "0.png").read_bytes()
    with pytest.raises(DataError, match="there already"):
        caption_labelled(labelled, tmp_path / "out", bundle)


def test_labels_in_everyday_words() -> None:
    assert words_for("living room") == {"living", "livings"}
    assert words_for("House exterior") >= {"house", "homes", "building"}
    assert words_for("great white shark") == {"shark", "sharks"}
    assert "women" not in words_for("horse")


def test_what_is_missing_is_said(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="each line needs file_name and labels"):
        caption_labelled(tmp_path, tmp_path / "out", bundle)
    with pytest.raises(BundleError, match="has no sentences"):
        caption_labelled(tmp_path, tmp_path / "out", write_tiny_bundle(tmp_path / "plain", aligned=True))

"""Bundles on disk: found, checked, and refused with a reason."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from captionist.bundle import CONFIG, Bundle, embedded, list_bundles, write_checksums
from captionist.errors import BundleError
from tests.tiny_bundle import write_tiny_bundle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny")


DECODER = {"layers": 1, "heads": 2, "head_width": 4, "width": 8, "bos_id": 0, "eos_id": 0, "max_tokens": 20}
IMAGE = {"height": 16, "width": 16, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}


def edit_config(path: Path, **changes: Any) -> None:
    config = json.loads((path / CONFIG).read_text()) | changes
    (path / CONFIG).write_text(json.dumps(config))


def test_a_written_bundle_opens_and_verifies(path: Path) -> None:
    bundle = Bundle.open(path)
    assert bundle.config.name == "tiny"
    assert bundle.verify() == 7
    assert bundle.scores["split"] == "dev"
    assert bundle.model_card.startswith("# tiny")
    assert bundle.size == sum(file.stat().st_size for file in path.iterdir())


def test_every_kind_of_damage_is_named(path: Path) -> None:
    bundle = Bundle.open(path)
    (path / "MODEL_CARD.md").unlink()
    (path / "step.onnx").write_bytes(b"other")
    (path / "extra.bin").write_bytes(b"")
    with pytest.raises(BundleError) as caught:
        bundle.verify()
    for fault in ("MODEL_CARD.md is missing", "step.onnx was altered", "extra.bin is not listed"):
        assert fault in str(caught.value)
    assert "tokenizer.json" not in str(caught.value)


def test_new_checksums_make_a_change_good(path: Path) -> None:
    (path / "MODEL_CARD.md").write_text("# A better card\n")
    write_checksums(path)
    assert Bundle.open(path).verify() == 7


@pytest.mark.parametrize("name", ["encoder.onnx", "tokenizer.json", "checksums.json", "config.json"])
def test_a_missing_file_is_named(path: Path, name: str) -> None:
    (path / name).unlink()
    with pytest.raises(BundleError, match=f"lacks {name}"):
        Bundle.open(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"format_version": True}, "format version True"),
        ({"image": IMAGE | {"std": [0.5, 0.0, 0.5]}}, r"image\.std\.1"),
        ({"image": IMAGE | {"mean": [0.5, float("nan"), 0.5]}}, "finite"),
        ({"image": IMAGE | {"std": [float("inf"), 1.0, 1.0]}}, "finite"),
        ({"image": IMAGE | {"height": 10**9}}, r"image\.height"),
        ({"search": {"length_penalty": 1e308}}, r"search: length_penalty must be at most 10"),
        ({"colour": "red"}, "unknown option 'colour': Known: format_version, name"),
        ({"precision": "fp8"}, "precision"),
        ({"image": IMAGE | {"resampling": "bicubic", "resized": 8}}, "resized to 8, 16 x 16 cannot be cut out"),
        ({"image": IMAGE | {"resampling": "bicubic", "resized": [99, 8]}}, "cannot be cut out"),
        ({"image": IMAGE | {"resized": 99}}, "one of Pillow's resampling filters"),
        ({"image": IMAGE | {"resampling": "sharp"}}, r"image\.resampling"),
        ({"leading": 1}, "1 leading tokens, a grid of 4 x 4"),
        ({"source": {"name": "x", "architecture": "y"}}, r"source\.weights"),
        ({"grid": [3, 3]}, "3 x 3"),
        ({"vocabulary_size": 0}, "vocabulary_size"),
        ({"decoder": DECODER | {"eos_id": 9999}}, "below vocabulary_size"),
    ],
)
def test_a_wrong_configuration_is_explained(path: Path, changes: dict[str, Any], message: str) -> None:
    edit_config(path, **changes)
    with pytest.raises(BundleError, match=message):
        Bundle.open(path)


@pytest.mark.parametrize("content", ["", "[]", "{", "\xff"])
def test_a_configuration_that_is_no_object_is_an_error(path: Path, content: str) -> None:
    (path / CONFIG).write_bytes(content.encode("latin-1"))
    with pytest.raises(BundleError, match=CONFIG):
        Bundle.open(path)


def test_an_unknown_name_and_a_file_are_refused(path: Path) -> None:
    with pytest.raises(BundleError, match="no bundle 'nonesuch'"):
        Bundle.open("nonesuch")
    with pytest.raises(BundleError, match="is a file"):
        Bundle.open(path / CONFIG)


def test_the_embedded_bundle_is_the_only_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="--model"):
        embedded(tmp_path)
    first = write_tiny_bundle(tmp_path / "first", name="first")
    assert embedded(tmp_path) == first
    write_tiny_bundle(tmp_path / "second", name="second")
    assert [bundle.config.name for bundle in list_bundles(tmp_path)] == ["first", "second"]
    with pytest.raises(BundleError, match="first, second"):
        embedded(tmp_path)


def test_a_model_card_that_is_not_text_is_an_error(path: Path) -> None:
    (path / "MODEL_CARD.md").write_bytes(b"\xff")
    with pytest.raises(BundleError, match=r"MODEL_CARD\.md cannot be read"):
        _ = Bundle.open(path).model_card


def test_json_nested_too_deeply_is_an_error(path: Path) -> None:
    (path / "config.json").write_text("[" * 200_000)
    with pytest.raises(BundleError, match=r"config\.json cannot be read"):
        Bundle.open(path)


def test_a_fingerprint_tells_models_apart(path: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(path, tmp_path / "copy")
    assert Bundle.open(copy).fingerprint == Bundle.open(path).fingerprint
    other = write_tiny_bundle(tmp_path / "other", seed=1)
    assert Bundle.open(other).fingerprint != Bundle.open(path).fingerprint

"""The file of embeddings, and the search in it."""

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from captionist import ImageIndex, ImageIndexError
from captionist.index import IndexedPicture, Stamp
from tests.tools import small_disk

WIDTH = 8
NAMES = ["plain.jpg", "caf\u00e9/\u732b.png", "line\nbreak\tand\x1b[2J.png", "latin\udce9.png", " ", ""]


def unit_vectors(count: int, seed: int = 0, width: int = WIDTH) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def make(count: int, width: int = WIDTH) -> ImageIndex:
    vectors = unit_vectors(count, width=width)
    return ImageIndex.build("model", [IndexedPicture(f"{row}.jpg", vector) for row, vector in enumerate(vectors)])


def test_it_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    stamps = [Stamp(number, 10**18 + number) if number else None for number in range(len(NAMES))]
    pictures = map(IndexedPicture, NAMES, unit_vectors(len(NAMES)), stamps)
    index = ImageIndex.build("model", pictures)
    index.save(tmp_path / "index")
    loaded = ImageIndex.load(str(tmp_path / "index"))
    assert (loaded.model, loaded.paths) == ("model", tuple(NAMES))
    assert [picture.stamp for picture in loaded] == stamps
    assert loaded.embeddings.dtype == np.float16
    assert np.array_equal(loaded.embeddings, index.embeddings)
    assert os.listdir(tmp_path) == ["index"]  # noqa: PTH208


@pytest.mark.parametrize("count", [1, 7, 10_000])  # the last are several blocks
@pytest.mark.parametrize("top", [1, 5, 10**6])
def test_it_finds_what_a_full_sort_finds(count: int, top: int) -> None:
    index, query = make(count), unit_vectors(1, seed=1)[0]
    cosines = index.embeddings.astype(np.float64) @ query
    found = index.search(query, top)
    rows = [int(match.path.removesuffix(".jpg")) for match in found]
    assert len(set(rows)) == min(count, top)
    assert cosines[rows].tolist() == pytest.approx(np.sort(cosines)[::-1][:top].tolist(), abs=1e-6)
    assert [match.cosine for match in found] == pytest.approx(cosines[rows].tolist(), abs=1e-6)
    assert [match.cosine for match in found] == sorted((match.cosine for match in found), reverse=True)


def test_equal_pictures_stay_in_order() -> None:
    vector = unit_vectors(1)[0]
    index = ImageIndex.build("model", [IndexedPicture(name, vector) for name in "cab"])
    assert [match.path for match in index.search(vector, 3)] == ["c", "a", "b"]


def test_wrong_searches_are_refused() -> None:
    index = make(3)
    with pytest.raises(ValueError, match=r"must be \[8\], but it is \[9\]"):
        index.search(unit_vectors(1, width=9)[0])
    with pytest.raises(ValueError, match="top must be at least 1"):
        index.search(unit_vectors(1)[0], 0)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ([], "at least one"),
        ([IndexedPicture("a\0b", unit_vectors(1)[0])], "NUL"),
        ([IndexedPicture("a", vector) for vector in unit_vectors(2)], "'a' is given twice"),
        ([IndexedPicture("a", unit_vectors(1)[0] * 2)], "unit vectors"),
        ([IndexedPicture("a", np.full(WIDTH, np.nan))], "unit vectors"),
        ([IndexedPicture("a", unit_vectors(1))], "do not fit"),
        ([IndexedPicture("a", unit_vectors(1)[0]), IndexedPicture("b", unit_vectors(1, width=9)[0])], "same shape"),
    ],
)
def test_what_cannot_be_searched_is_not_built(pictures: list[IndexedPicture], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageIndex.build("model", pictures)


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as archive:
        return dict(archive)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": np.full((3, WIDTH), np.nan, np.float16)}, "unit vectors"),
        ({"embeddings": np.full((3, WIDTH), np.inf, np.float16)}, "unit vectors"),
        ({"embeddings": np.zeros((3, WIDTH), np.float16)}, "unit vectors"),
        ({"embeddings": unit_vectors(3)}, "float32"),
        ({"embeddings": unit_vectors(4).astype(np.float16)}, "3 paths do not fit"),
        ({"embeddings": unit_vectors(3).astype(np.float16).ravel()}, "do not fit"),
        ({"embeddings": np.zeros((3, 0), np.float16)}, "unit vectors"),
        ({"embeddings": np.array([{}] * 3, object)}, "allow_pickle"),
        ({"stamps": np.zeros((2, 2), np.int64)}, "do not fit stamps"),
        ({"stamps": np.zeros((3, 2))}, "do not fit stamps"),
        ({"paths": np.zeros(7, np.uint8)}, "7 paths"),
        ({"paths": np.zeros(0, np.uint8)}, "0 paths"),
        ({"paths": np.array(["a", "b", "c"], object)}, "allow_pickle"),
        ({"about": np.array(["captionist index 2", "model"])}, "does not begin with"),
        ({"about": np.array("captionist index 1")}, "does not begin with"),
        ({"about": None}, "about"),
    ],
)
def test_a_file_of_another_form_is_an_error(
    tmp_path: Path, changes: dict[str, NDArray[Any] | None], message: str
) -> None:
    path = tmp_path / "index.npz"
    make(3).save(path)
    np.savez(path, **{name: value for name, value in (arrays(path) | changes).items() if value is not None})
    with pytest.raises(ImageIndexError, match=message):
        ImageIndex.load(path)


def test_a_file_that_would_grow_beyond_all_memory_is_an_error(tmp_path: Path) -> None:
    make(3).save(tmp_path / "index.npz")
    np.savez_compressed(tmp_path / "small.npz", **arrays(tmp_path / "index.npz"))
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f2', 'fortran_order': False, 'shape': (900000000000, 8), }"
    with zipfile.ZipFile(tmp_path / "index.npz") as old, zipfile.ZipFile(tmp_path / "shape.npz", "w") as new:
        for name in old.namelist():
            new.writestr(name, header.ljust(127) + b"\n" if name == "embeddings.npy" else old.read(name))
    for name, message in (("small.npz", "compressed"), ("shape.npz", "damaged")):
        with pytest.raises(ImageIndexError, match=message):
            ImageIndex.load(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps([1]), b"PK\x03\x04" * 9, b"\x93NUMPY\x01\x00"])
def test_foreign_files_are_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(ImageIndexError, match="name another file"):
        ImageIndex.load(tmp_path / "foreign")
    with pytest.raises(ImageIndexError, match="Is a directory"):
        ImageIndex.load(tmp_path)
    with pytest.raises(ImageIndexError, match="captionist index PATH"):
        ImageIndex.load(tmp_path / "none")


def test_damage_anywhere_is_an_error_or_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "index.npz"
    index = make(3)
    index.save(path)
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    damaged = [whole[:length] for length in generator.integers(0, len(whole), 40)]
    for place in generator.integers(0, len(whole), 160):
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << int(generator.integers(8))]) + whole[place + 1 :])
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            loaded = ImageIndex.load(path)
        except ImageIndexError:
            refused += 1
        else:  # dates and the like, of which zip files have many
            assert (loaded.model, loaded.paths) == (index.model, index.paths)
            assert np.array_equal(loaded.embeddings, index.embeddings)
    assert refused > 120


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 64) as _:
        path = tmp_path / "disk" / "index.npz"
        make(3).save(path)
        with pytest.raises(ImageIndexError, match="No space left"):
            make(10_000).save(path)
        assert len(ImageIndex.load(path)) == 3
        assert [file.name for file in path.parent.iterdir()] == ["index.npz"]


def test_a_name_too_long_for_the_file_system_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageIndexError, match="cannot be written"):
        make(3).save(tmp_path / ("x" * 300))

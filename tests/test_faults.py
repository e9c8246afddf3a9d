"""The engine fails on a batch or on one picture: through Python, the command line, an index and a table alike."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from captionist import Captioner, CaptionResult, FailedImageError, ImageIndex
from captionist.inference.encoding import Encoding, Prepared
from captionist.inference.engine import Engine
from tests.conftest import Run
from tests.pictures import write_png

FATAL = np.zeros((48, 64, 3), np.uint8)
"""The engine fails on this picture, whatever comes with it."""
PLACE = 5
ERRORS = [RuntimeException("[ONNXRuntimeError] : 6 : out of luck"), MemoryError("no room")]
Fail = Callable[..., None]


@pytest.fixture(params=[1, 4], autouse=True)
def _threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every captioner that is given no number of threads, including the command line's."""
    monkeypatch.setattr("captionist.captioner.available_cores", lambda: request.param)


@pytest.fixture(params=ERRORS, ids=["onnxruntime", "memory"])
def fail(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fail:
    """Make the encoder fail at its first batch of several pictures, or whenever the fatal picture is in one."""
    encode, first, lock = Engine.encode, [True], threading.Lock()

    def call(at_fatal: bool) -> None:
        def failing(self: Engine, pictures: Sequence[Prepared]) -> Encoding:
            with lock:
                fatal = any(np.ptp(picture.pixels) == 0 for picture in pictures)
                fails = fatal if at_fatal else first[0] and len(pictures) > 1
                first[0] = first[0] and not fails
            if fails:
                raise request.param
            return encode(self, pictures)

        monkeypatch.setattr(Engine, "encode", failing)

    return call


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures, one of them the fatal one."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(24):
        write_png(folder / f"{seed:02}.png", seed)
    (folder / f"{PLACE:02}.png").write_bytes(cv2.imencode(".png", FATAL)[1].tobytes())
    return folder


@pytest.fixture(scope="module")
def captions(model: Path, photos: Path) -> Mapping[str, str]:
    """What a healthy captioner says of each picture, by its path."""
    healthy = Captioner(model, threads=1)
    said = {str(path): healthy.caption(path).text for path in sorted(photos.iterdir())}
    assert len(set(said.values())) >= 12  # a wrong one shows
    return MappingProxyType(said)


def texts(results: Iterable[CaptionResult]) -> dict[object, str | None]:
    return {result.source: result.caption.text if result.caption else None for result in results}


def test_a_batch_that_fails_is_tried_again_picture_by_picture(
    model: Path, captions: Mapping[str, str], fail: Fail
) -> None:
    fail(at_fatal=False)
    results = list(Captioner(model).caption_many(captions, batch_size=4))
    assert texts(results) == captions
    assert [result.source for result in results] == list(captions)


def test_a_picture_that_fails_costs_its_own_caption_alone(model: Path, captions: Mapping[str, str], fail: Fail) -> None:
    fail(at_fatal=True)
    results = list(Captioner(model).caption_many(captions, batch_size=4))
    assert [result.source for result in results] == list(captions)
    bad = results.pop(PLACE)
    assert isinstance(bad.error, FailedImageError)
    assert str(bad.error).startswith(f"{bad.source!s}: processing it failed (")
    assert bad.error.__cause__ in ERRORS
    assert {**texts(results), bad.source: captions[str(bad.source)]} == captions


def test_what_reading_a_picture_raises_is_its_own_error(
    model: Path, captions: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, fatal = Captioner.prepare, list(captions)[PLACE]

    def failing(self: Captioner, image: str, name: str | None = None) -> Prepared:
        if image == fatal:
            raise MemoryError
        return prepare(self, image, name)

    monkeypatch.setattr(Captioner, "prepare", failing)
    results = list(Captioner(model).caption_many(captions, batch_size=4))
    assert isinstance(results.pop(PLACE).error, FailedImageError)
    assert {**texts(results), fatal: captions[fatal]} == captions


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("at_fatal", [True, False])
def test_the_command_line_prints_every_picture_s_own_caption(
    model: Path, captions: Mapping[str, str], fail: Fail, run: Run, at_fatal: bool, as_json: bool
) -> None:
    fail(at_fatal=at_fatal)
    outcome = run("caption", *captions, "--model", model, *["--json"] * as_json)
    lines = outcome.out.splitlines()
    if at_fatal:
        name = list(captions)[PLACE]
        captions = {path: text for path, text in captions.items() if path != name}
        told = lines.pop(PLACE) if as_json else outcome.err
        assert told.startswith(f'{{"path": "{name}", "error": ' if as_json else f"{name}: processing it failed")
    if as_json:
        assert {one["path"]: one["text"] for one in map(json.loads, lines)} == captions
    else:
        assert dict(line.split("\t") for line in lines) == captions
    *errors, summary = outcome.err.splitlines()
    assert (outcome.code, len(errors)) == (at_fatal, at_fatal and not as_json)
    assert " captioned" in summary


@pytest.mark.parametrize("at_fatal", [True, False])
def test_an_index_holds_every_picture_s_own_vector(
    model: Path, photos: Path, tmp_path: Path, fail: Fail, run: Run, at_fatal: bool
) -> None:
    healthy = Captioner(model, threads=1)
    paths = sorted(photos.iterdir())
    vectors = {str(path): healthy.image_embeddings(healthy.encode([healthy.prepare(path)]))[0] for path in paths}
    with pytest.MonkeyPatch.context() as before:
        before.setattr(Engine, "encode", Engine.encode)  # put back at the end: the second run is a healthy one
        fail(at_fatal=at_fatal)
        outcome = run("index", photos, "--model", model, "--out", tmp_path / "i.npz")
    assert (outcome.code, outcome.err.count("\n")) == (at_fatal, at_fatal)
    for expected in (24 - at_fatal, 24):
        index = ImageIndex.load(tmp_path / "i.npz")
        assert len(index) == expected
        for path, embedding, _ in index:
            assert np.abs(embedding - vectors[path]).max() < 2e-3
        assert run("index", photos, "--model", model, "--out", tmp_path / "i.npz").code == 0


@pytest.mark.parametrize("at_fatal", [True, False])
def test_a_table_has_every_picture_s_own_caption(
    model: Path,
    photos: Path,
    captions: Mapping[str, str],
    tmp_path: Path,
    fail: Fail,
    run: Run,
    at_fatal: bool,
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "t.parquet"
    with pytest.MonkeyPatch.context() as before:
        before.setattr(Engine, "encode", Engine.encode)
        fail(at_fatal=at_fatal)
        assert run("caption", photos, "--model", model, "--out", out).code == at_fatal
    rows = {row["path"]: row for row in parquet.read_table(out).to_pylist()}
    if at_fatal:
        bad = rows[list(captions)[PLACE]]
        assert "processing it failed" in bad["error"]
        assert bad["sha256"] is None  # the next run tries again
        assert {path: row["caption"] for path, row in rows.items() if row["caption"]} == {
            path: text for path, text in captions.items() if path != bad["path"]
        }
    assert run("caption", photos, "--model", model, "--out", out).code == 0
    assert {row["path"]: row["caption"] for row in parquet.read_table(out).to_pylist()} == captions

"""What people hand to `Captioner.caption`, as they know it from transformers, open_clip and sentence-transformers."""

import io
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captionist import (
    Captioner,
    CaptionResult,
    CorruptImageError,
    EmptyImageError,
    ImageFetchError,
    ImageLimits,
    ImageNotFoundError,
    ImageTooLargeError,
)
from tests.images.samples import save
from tests.pictures import patchwork

Give = Callable[[Path], Any]


@pytest.fixture(scope="module")
def captioner(model: Path) -> Captioner:
    return Captioner(model, threads=1)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "a.png"
    Image.fromarray(patchwork(1)).save(path)
    return path


WORKS: dict[str, Give] = {
    "str": str,
    "Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "memoryview": lambda path: memoryview(path.read_bytes()),
    "open file": lambda path: path.open("rb"),
    "BytesIO": lambda path: io.BytesIO(path.read_bytes()),
    "PIL.Image.open": lambda path: Image.open(path),
    "PIL RGB": lambda path: Image.open(path).convert("RGB"),
    "PIL RGBA": lambda path: Image.open(path).convert("RGBA"),
    "PIL palette": lambda path: Image.open(path).convert("P", palette=Image.Palette.ADAPTIVE, colors=256),
    "array": lambda path: np.asarray(Image.open(path)),
    "array RGBA": lambda path: np.asarray(Image.open(path).convert("RGBA")),
    "array that lies otherwise in memory": lambda path: np.asarray(Image.open(path))[:, ::-1][:, ::-1],
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # files that are left open, as people do
@pytest.mark.parametrize("give", WORKS.values(), ids=WORKS)
def test_it_works(captioner: Captioner, picture: Path, give: Give) -> None:
    expected = captioner.caption(picture)
    assert captioner.caption(give(picture)).text == expected.text


@pytest.mark.parametrize("give", [lambda grey: grey, Image.fromarray], ids=["array", "PIL"])
def test_grey(captioner: Captioner, give: Callable[[Any], Any]) -> None:
    grey = patchwork(1)[..., 0].copy()
    assert captioner.caption(give(grey)) == captioner.caption(np.stack([grey] * 3, axis=2))


SAYS: dict[str, tuple[Give, type[Exception], str]] = {
    "None": (lambda _: None, TypeError, "Pillow image.* not NoneType"),
    "number": (lambda _: 3, TypeError, "not int"),
    "text file": (lambda _: io.StringIO("a"), TypeError, "a file that was opened as text"),
    "list": (lambda path: [path], TypeError, "caption_many"),
    "tuple of PIL": (lambda _: (Image.new("RGB", (8, 8)),), TypeError, "caption_many"),
    "float array": (lambda _: patchwork(1) / 255, TypeError, r"not an array of float64 \["),
    "channels first": (lambda _: patchwork(1).transpose(2, 0, 1), TypeError, r"not an array of uint8 \[3, "),
    "batch": (lambda _: patchwork(1)[None], TypeError, r"not an array of uint8 \[1, "),
    "tensor": (lambda _: torch.rand(3, 8, 8), TypeError, "not Tensor"),
    "URL": (lambda _: "https://example.org/dog.jpg", ImageFetchError, "allow_urls=True"),
    "file that was read": (lambda _: io.BytesIO(b""), EmptyImageError, "0 bytes"),
    "broken PIL": (
        lambda path: Image.open(io.BytesIO(path.read_bytes()[:200])), CorruptImageError, "cannot be decoded",
    ),
    "32-bit PIL": (lambda _: Image.new("F", (8, 8)), Exception, "floating-point"),
}  # fmt: skip


@pytest.mark.parametrize(("give", "error", "message"), SAYS.values(), ids=SAYS)
def test_it_says_what_to_do(
    captioner: Captioner, picture: Path, give: Give, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        captioner.caption(give(picture))


class Slow(io.RawIOBase):
    """Gives a hundred bytes a read, as raw files may, and breaks off after a while."""

    def __init__(self, data: bytes, breaks: int | None = None) -> None:
        self._file, self._breaks = io.BytesIO(data), breaks

    def read(self, size: int = -1) -> bytes:
        if self._breaks is not None and self._file.tell() >= self._breaks:
            raise ConnectionResetError("peer is gone")
        return self._file.read(min(size, 100) if size >= 0 else 100)


def test_a_file_is_read_to_its_end_or_not_at_all(captioner: Captioner, picture: Path) -> None:
    data = picture.read_bytes()
    slow: list[Any] = [Slow(data), Slow(data, breaks=100)]
    assert captioner.caption(slow[0]) == captioner.caption(data)
    with pytest.raises(ImageNotFoundError, match="peer is gone"):
        captioner.caption(slow[1])


def test_a_pillow_image_may_be_shared_by_threads(captioner: Captioner) -> None:
    content = save(Image.fromarray(patchwork(1, 1200, 1600)), "JPEG")
    expected = captioner.caption(Image.open(io.BytesIO(content))).text
    for _ in range(5):
        shared = Image.open(io.BytesIO(content))
        with ThreadPoolExecutor(8) as pool:
            captions = list(pool.map(captioner.caption, [shared] * 8))
        assert {caption.text for caption in captions} == {expected}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a.jpg", "data:image/png;base64,AAAA"])
def test_only_the_web_is_fetched(model: Path, url: str) -> None:
    with pytest.raises(ImageFetchError, match="Only http and https"):
        Captioner(model, threads=1, allow_urls=True).caption(url)


@pytest.mark.parametrize("one", ["str", "Path", "bytes", "BytesIO", "PIL RGB", "array"])
def test_one_picture_is_not_several(captioner: Captioner, picture: Path, one: str) -> None:
    with pytest.raises(TypeError, match="pass it to caption"):
        captioner.caption_many(WORKS[one](picture))


def test_a_list_of_anything_is_several(captioner: Captioner, picture: Path) -> None:
    given = [picture, Image.open(picture), None, patchwork(1)]
    results: list[CaptionResult] = list(captioner.caption_many(given))  # type: ignore[arg-type]
    assert [one.caption is None for one in results] == [False, False, True, False]
    assert "not NoneType" in str(results[2].error)
    frames = np.stack([patchwork(1), patchwork(2)])
    assert [str(one.caption) for one in captioner.caption_many(frames)] == [
        str(captioner.caption(frame)) for frame in frames
    ]


def test_a_pillow_image_is_turned_upright_and_stays_as_it_is(captioner: Captioner) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(io.BytesIO(save(Image.fromarray(np.rot90(patchwork(1)).copy()), "PNG", exif=exif)))
    size = turned.size
    assert captioner.caption(turned) == captioner.caption(patchwork(1))
    assert (turned.size, turned.mode) == (size, "RGB")


def test_limits_hold_for_all(picture: Path, model: Path) -> None:
    strict = Captioner(model, threads=1, limits=ImageLimits(max_bytes=20_000, max_pixels=100))
    for name in ("str", "bytes", "BytesIO", "PIL RGB", "array"):
        with pytest.raises(ImageTooLargeError, match="100; scale the picture down"):
            strict.caption(WORKS[name](picture))
    endless = io.BytesIO(bytes(10**6))
    with pytest.raises(ImageTooLargeError, match="20,001 bytes"):
        strict.caption(endless)
    assert endless.tell() <= 20_001


# --- What comes out -------------------------------------------------------------------------------------------------


def test_a_caption_is_its_sentence(captioner: Captioner, picture: Path) -> None:
    caption = captioner.caption(picture, num_captions=3)
    assert f"{caption}" == caption.text
    assert repr(caption) == f"Caption({caption.text!r}, confidence={caption.confidence:.2f})"
    assert caption == captioner.caption(picture, num_captions=3)
    assert caption != captioner.caption(picture)  # without alternatives
    assert len({caption, captioner.caption(picture, num_captions=3)}) == 1


def test_a_caption_as_a_dictionary(captioner: Captioner, picture: Path) -> None:
    caption = captioner.caption(picture, num_captions=2)
    (other,) = caption.alternatives
    assert caption.to_dict() == {
        "text": caption.text,
        "log_probability": caption.log_probability,
        "confidence": caption.confidence,
        "alternatives": [
            {"text": other.text, "log_probability": other.log_probability, "confidence": other.confidence}
        ],
    }
    words = caption.to_dict(words=True)["words"]
    assert [word["word"] for word in words] == [word.word for word in caption.word_attention]
    assert np.array(words[0]["weights"]).shape == caption.word_attention[0].weights.shape


def test_a_notebook_shows_the_picture_with_a_map_for_each_word(captioner: Captioner, picture: Path) -> None:
    caption = captioner.caption(picture)
    html = caption._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 1
    assert html.count("data:image/png;base64,") == len(caption.word_attention)
    assert "<script" not in html
    (many,) = captioner.caption_many([picture])
    assert many.caption is not None
    assert many.caption.picture is None  # thousands of them would fill the memory
    assert "<img" not in many.caption._repr_html_()


# --- The captioner --------------------------------------------------------------------------------------------------


def test_it_can_be_closed(model: Path, picture: Path) -> None:
    with Captioner(model) as captioner:
        captioner.caption(picture)
    captioner.close()
    with pytest.raises(ValueError, match="closed"):
        captioner.caption(picture)
    with pytest.raises(ValueError, match="closed"):  # at once, and not with the first result
        captioner.caption_many([picture])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"threads": "2"}, "threads must be a whole number"),
        ({"limits": 5}, "limits must be ImageLimits"),
        ({"providers": "cpu"}, "providers must be a list"),
        ({"allow_urls": "no"}, "allow_urls must be True or False"),
    ],
)
def test_wrong_arguments_are_told(model: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Captioner(model, **wrong)


def test_numbers_of_numpy_are_numbers(captioner: Captioner, picture: Path) -> None:
    two: Any = np.int64(2)
    assert captioner.caption(picture, num_beams=two) == captioner.caption(picture, num_beams=2)
    five: Any = np.int32(5)
    assert captioner.caption(picture, num_captions=five) == captioner.caption(picture, num_captions=5)


def test_it_can_be_pickled(model: Path, picture: Path) -> None:
    captioner = Captioner(model, threads=1, limits=ImageLimits(max_pixels=100_000))
    again = pickle.loads(pickle.dumps(captioner))
    assert again.caption(picture) == captioner.caption(picture)
    assert again.limits == captioner.limits


_FORKED = """
import os, sys
from captionist import Captioner
model, picture, threads = sys.argv[1:]
captioner = Captioner(model, threads=int(threads))
captioner.caption(picture)
if os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
try:
    print(captioner.caption(picture), flush=True)
except RuntimeError as error:
    print(error, flush=True)
os._exit(0)  # as multiprocessing does; ONNX Runtime would wait for its threads here
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_process_works_or_says_why_not(captioner: Captioner, model: Path, picture: Path, threads: int) -> None:
    command: list[str | Path] = [sys.executable, "-c", _FORKED, model, picture, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = captioner.caption(picture).text if threads == 1 else "forked: load it in each process"
    assert said in done.stdout


def test_providers_are_checked(model: Path, picture: Path, captioner: Captioner) -> None:
    for name in ("cpu", "CPUExecutionProvider"):
        assert Captioner(model, threads=1, providers=[name]).caption(picture) == captioner.caption(picture)
    with pytest.raises(ValueError, match=r"unknown provider 'gpu': known are .*cuda.*openvino"):
        Captioner(model, providers=["gpu"])
    with pytest.raises(ValueError, match=r"no provider coreml, only .*cpu.*: install"):
        Captioner(model, providers=["coreml"])


_BY_OPENVINO = """
import sys
from captionist import Captioner
model, picture = sys.argv[1:]
with Captioner(model, providers=["openvino"]) as captioner:
    print(captioner._engine.decoder.step_session.get_providers())
    print(captioner.caption(picture))
"""


@pytest.mark.slow
def test_openvino_computes_the_same(model: Path, picture: Path, captioner: Captioner, tmp_path: Path) -> None:
    """Its ONNX Runtime is a separate package, put before the usual one; without it, the test is skipped."""
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", f"--target={tmp_path}", "onnxruntime-openvino"]
    if subprocess.run(pip, capture_output=True).returncode:
        pytest.skip("onnxruntime-openvino cannot be installed here")
    done = subprocess.run(
        [sys.executable, "-c", _BY_OPENVINO, model, picture],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    providers, text = done.stdout.splitlines()[-2:]
    assert "OpenVINOExecutionProvider" in providers
    assert text == captioner.caption(picture).text

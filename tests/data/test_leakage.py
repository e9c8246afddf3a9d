"""What scores a model is recognised in what it learns from: copies by their looks, and captions word by word."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from captionist import images
from captionist.data import Corpus, Example, difference_hash, evaluation_examples, leave_out, leave_out_lines
from captionist.data.leakage import MAX_DISTANCE, LeakCheck
from captionist.errors import DataError, ImageError
from tests.pictures import write_png

PHOTOGRAPHS = [Path(__file__).parents[2] / "examples" / f"{name}.jpg" for name in ("dog", "palace", "river")]

Pixels = NDArray[np.uint8]


def save(path: Path, rgb: Pixels, quality: int) -> Path:
    path.write_bytes(cv2.imencode(".jpg", rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return path


def resized(height: int, width: int) -> Callable[[Pixels], Pixels]:
    return lambda rgb: images.squeeze(rgb, (height, width))


def grey(rgb: Pixels) -> Pixels:
    return np.asarray(rgb.mean(axis=2, keepdims=True).repeat(3, axis=2), np.uint8)


def distance(first: Path, second: Path) -> int:
    return (difference_hash(first) ^ difference_hash(second)).bit_count()


def example(image: Path, *references: str, split: str = "train") -> Example:
    return Example(image.name, image, references, split)


def check(train: list[Example], evaluation: list[Example]) -> LeakCheck:
    hashes = (np.array([difference_hash(e.image) for e in part], np.uint64) for part in (train, evaluation))
    return leave_out(train, evaluation, *hashes)


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("change", "quality"),
    [(resized(224, 224), 90), (resized(500, 333), 85), (resized(333, 500), 50), (resized(150, 200), 75), (grey, 95)],
)
def test_a_copy_looks_like_its_original(
    tmp_path: Path, photograph: Path, change: Callable[[Pixels], Pixels], quality: int
) -> None:
    copy = save(tmp_path / "copy.jpg", change(images.decode(photograph)), quality)
    assert distance(photograph, copy) <= MAX_DISTANCE


def test_no_two_photographs_look_alike() -> None:
    assert len(PHOTOGRAPHS) >= 3
    for index, first in enumerate(PHOTOGRAPHS):
        assert all(distance(first, second) > 2 * MAX_DISTANCE for second in PHOTOGRAPHS[:index])


def test_the_hash_is_of_64_bits_from_left_to_right(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 180, 20), (8, 1)).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    brighter, darker = tmp_path / "brighter.png", tmp_path / "darker.png"
    for path, picture in ((brighter, ramp), (darker, ramp[:, ::-1])):
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    assert difference_hash(brighter) == 2**64 - 1
    assert difference_hash(darker) == 0


def test_a_picture_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(PHOTOGRAPHS[0].read_bytes()[:3000])
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        difference_hash(tmp_path / "broken.jpg")


def test_copies_and_shared_captions_are_left_out(tmp_path: Path) -> None:
    pictures = [write_png(tmp_path / f"{seed}.png", seed) for seed in range(5)]
    copy = save(tmp_path / "copy.jpg", images.squeeze(images.decode(pictures[3]), (90, 70)), 60)
    evaluation = [
        example(pictures[3], "A dog runs .", "The brown dog runs .", split="dev"),
        example(pictures[4], "Two boys play .", "Boys with a ball .", "A dog runs .", split="test"),
    ]
    train = [
        example(pictures[0], "A cat sleeps .", "a dog runs"),  # one caption tells nothing
        example(copy, "something else"),
        example(pictures[1], "two boys play", "boys with a ball", "Another one ."),
        example(pictures[2], "A dog runs .", "a dog runs", "Boys with a ball ."),  # two, one of them twice
    ]
    result = check(train, evaluation)
    assert result.kept == (train[0],)
    assert result.by_picture == ((train[1], evaluation[0]),)
    assert result.by_captions == ((train[2], evaluation[1]), (train[3], evaluation[1]))
    assert str(result).startswith("left out 3 of 4 train pictures that are evaluation pictures: 1 by their looks, 2 by")
    assert str(copy) in str(result)


def test_two_captions_of_two_pictures_are_no_copy(tmp_path: Path) -> None:
    pictures = [write_png(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    evaluation = [example(pictures[0], "A dog runs ."), example(pictures[1], "Two dogs play .")]
    result = check([example(pictures[2], "A dog runs .", "Two dogs play .")], evaluation)
    assert (len(result.kept), str(result)) == (1, "none of 1 train pictures is an evaluation picture")


def test_many_pictures_are_compared_in_order(tmp_path: Path) -> None:
    """More than are compared at once."""
    hashes = np.random.default_rng(0).integers(0, 2**63, 1000, np.uint64)
    train = [example(tmp_path / f"{number}.png", f"caption {number}") for number in range(1000)]
    evaluation = [example(tmp_path / "dev.png", "a caption", split="dev")] * 3
    result = leave_out(train, evaluation, hashes, hashes[[700, 3, 999]] ^ np.uint64(0b11111))
    assert [leak.id for leak, _ in result.by_picture] == ["3.png", "700.png", "999.png"]
    assert leave_out(train, evaluation, hashes, hashes[[700, 3, 999]] ^ np.uint64(0b111111)).by_picture == ()


def test_lines_that_are_evaluation_captions_are_left_out() -> None:
    evaluation = [example(Path("a.jpg"), "A girl holding a horse 's lead .", "Two dogs .", split="test")]
    lines = ["a girl holding a horse's lead", "Two dogs run .", "TWO DOGS"]
    assert leave_out_lines(lines, evaluation) == ["Two dogs run ."]


def test_evaluation_examples_are_those_of_dev_and_test() -> None:
    examples = tuple(example(Path(f"{split}.jpg"), "a dog", split=split) for split in ("dev", "none", "test", "train"))
    corpus = Corpus("tiny", Path("tiny"), "flickr8k", "by hand", examples, ())
    assert [e.id for e in evaluation_examples(corpus)] == ["dev.jpg", "test.jpg"]
    with pytest.raises(DataError, match=r"tiny: no dev or test pictures.*data\.exclude"):
        evaluation_examples(Corpus("tiny", Path("tiny"), "flickr8k", "by hand", examples[3:], ()))

"""A run learns nothing from what scores it, or another corpus."""

import json
import logging
from pathlib import Path

import cv2
import pytest

from captionist import images
from captionist.data import Example
from captionist.errors import DataError
from captionist.model.language import load_tokenizer
from captionist.training.dataset import Corpora
from captionist.training.recipe import DataConfig
from tests.model.checkpoints import Checkpoints
from tests.pictures import patchwork, write_png


def add(root: Path, split: str, seeds: list[int], captions: list[str] | None = None) -> None:
    """A picture for each seed, with its own captions if none are given."""
    (root / split).mkdir(parents=True)
    with (root / split / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for seed in seeds:
            write_png(root / split / f"{seed}.png", seed)
            mine = captions or [f"picture number {seed}", f"it is the {seed}"]
            file.write(json.dumps({"file_name": f"{seed}.png", "captions": mine}) + "\n")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    add(tmp_path / "corpus", "train", list(range(8)))
    add(tmp_path / "corpus", "validation", [20, 21])
    return tmp_path / "corpus"


def names(examples: tuple[Example, ...]) -> list[str]:
    return [example.image.name for example in examples]


def read(config: DataConfig, checkpoints: Checkpoints) -> tuple[list[str], list[str]]:
    corpora = Corpora(config)
    return names(corpora.train(load_tokenizer(checkpoints.path("gpt2")))["root"]), names(corpora.dev()["root"])


def test_copies_of_dev_in_the_same_corpus_are_left_out(
    corpus: Path, tmp_path: Path, checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    squeezed = images.squeeze(patchwork(20)[:, :, ::-1], (64, 64))
    (corpus / "train" / "3.png").write_bytes(cv2.imencode(".jpg", squeezed)[1].tobytes())
    config = DataConfig(root=corpus, cache=tmp_path / "cache")
    with caplog.at_level(logging.INFO, "captionist"):
        train, dev = read(config, checkpoints)
    assert train == [f"{seed}.png" for seed in (0, 1, 2, 4, 5, 6, 7)]
    assert dev == ["20.png", "21.png"]
    assert "left out 1 of 8 train pictures" in caplog.text
    assert "train/3.png is " in caplog.text
    unchecked, _ = read(DataConfig(root=corpus, cache=tmp_path / "cache", leak_check=False), checkpoints)
    assert "3.png" in unchecked


def test_dev_and_test_of_other_corpora_are_left_out(corpus: Path, tmp_path: Path, checkpoints: Checkpoints) -> None:
    other = tmp_path / "other"
    add(other, "train", [0])
    add(other, "dev", [1])
    add(other, "test", [2])
    add(tmp_path / "third", "test", [30], ["Picture number 5 .", "It is the 5 ."])
    config = DataConfig(root=corpus, cache=tmp_path / "cache", exclude=(other, tmp_path / "third"))
    assert read(config, checkpoints)[0] == ["0.png", "3.png", "4.png", "6.png", "7.png"]


def test_text_loses_the_captions_of_evaluation_pictures(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path / "other", "test", [30])
    text = tmp_path / "text.txt"
    text.write_text("Picture number 30 .\n\nA dog .\nIT IS THE 20\npicture number 3\n", encoding="utf-8")
    config = DataConfig(root=corpus, cache=tmp_path / "cache", text=(text,), exclude=(tmp_path / "other",))
    with caplog.at_level(logging.INFO, "captionist"):
        assert Corpora(config).text() == ["a dog", "picture number 3"]
    assert "left out 2 of 4 captions of data.text" in caplog.text
    assert len(Corpora(DataConfig(root=corpus, text=(text,), leak_check=False)).text()) == 4


def test_pictures_are_hashed_once(corpus: Path, tmp_path: Path, checkpoints: Checkpoints) -> None:
    config = DataConfig(root=corpus, cache=tmp_path / "cache")
    first = read(config, checkpoints)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("hashes-*.json")}
    assert len(kept) == 2  # of train and of dev
    assert read(config, checkpoints) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("hashes-*.json")} == kept


def test_what_cannot_be_compared_is_an_error(corpus: Path, tmp_path: Path, checkpoints: Checkpoints) -> None:
    add(tmp_path / "other", "train", [40])
    config = DataConfig(root=corpus, cache=tmp_path / "cache", exclude=(tmp_path / "other",))
    with pytest.raises(DataError, match="other: no dev or test pictures"):
        read(config, checkpoints)
    add(tmp_path / "other", "test", [41])
    (tmp_path / "other" / "test" / "41.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"1 of 11 pictures .*test/41\.png"):
        read(config, checkpoints)
    with pytest.raises(DataError, match="nowhere: no such directory"):
        read(DataConfig(root=corpus, exclude=(tmp_path / "nowhere",)), checkpoints)


def test_nothing_left_is_an_error(corpus: Path, tmp_path: Path, checkpoints: Checkpoints) -> None:
    add(tmp_path / "other", "test", list(range(8)))
    config = DataConfig(root=corpus, cache=tmp_path / "cache", exclude=(tmp_path / "other",))
    with pytest.raises(DataError, match=r"nothing is left to learn from: left out 8 of 8 .* See data\.exclude"):
        read(config, checkpoints)


def test_corrections_without_a_dev_split_train_but_for_what_is_in_dev(
    corpus: Path, tmp_path: Path, checkpoints: Checkpoints
) -> None:
    add(tmp_path / "feedback", "train", [40, 41])
    squeezed = images.squeeze(patchwork(20)[:, :, ::-1], (64, 64))
    (tmp_path / "feedback" / "train" / "41.png").write_bytes(cv2.imencode(".jpg", squeezed)[1].tobytes())
    config = DataConfig(root=corpus, cache=tmp_path / "cache", also=(tmp_path / "feedback",), repeat=2)
    assert read(config, checkpoints)[0] == [f"{seed}.png" for seed in (*range(8), 40, 40)]

"""Pictures that cannot be read: all are named at once, and a run goes on without a stated share of them."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from captionist import images
from captionist.data import Example
from captionist.errors import DataError, ImageError
from captionist.model.language import load_tokenizer
from captionist.training.dataset import Corpora, TrainingData, readable
from captionist.training.pictures import open_pixels, read_hashes, read_pixels
from captionist.training.recipe import DataConfig, SourceConfig, load_recipe
from captionist.training.train import train
from tests.model.checkpoints import SIZE, Checkpoints
from tests.pictures import write_png
from tests.training.corpus import write_corpus
from tests.training.runs import frozen, whole, write_recipe
from tests.training.test_leaks import add


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """Five pictures, of which the first and the fourth are none."""
    paths = [write_png(tmp_path / "Images" / f"{seed}.png", seed) for seed in range(5)]
    for bad in (paths[0], paths[3]):
        bad.write_bytes(b"not a picture")
    return [Example(path.name, path, ("a caption",), "train") for path in paths]


def caches(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.npy")}


def test_the_rows_are_those_of_the_others_and_are_read_once(examples: list[Example], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = read_pixels(examples, SIZE, cache)
    good = [examples[number] for number in (1, 2, 4)]
    assert first.rows.shape == (3, SIZE, SIZE, 3)
    assert sorted(first.unreadable) == [0, 3]
    assert all(str(examples[number].image) in said for number, said in first.unreadable.items())
    kept = caches(cache)
    assert len(kept) == 1
    again = read_pixels(examples, SIZE, cache)
    assert again.unreadable == first.unreadable
    assert np.array_equal(again.rows, first.rows)
    assert np.array_equal(open_pixels(good, SIZE, cache), first.rows)
    assert caches(cache) == kept
    next(cache.glob("*.npy")).unlink()  # the record of the unreadable stays
    assert np.array_equal(read_pixels(examples, SIZE, cache).rows, first.rows)
    assert np.array_equal(open_pixels(good, SIZE, tmp_path / "other"), first.rows)


def test_a_mended_picture_is_read(examples: list[Example], tmp_path: Path) -> None:
    assert sorted(read_hashes(examples, tmp_path / "cache").unreadable) == [0, 3]
    write_png(Path(str(examples[3].image)), 3)
    pictures = read_hashes(examples, tmp_path / "cache")
    assert (list(pictures.unreadable), pictures.rows.shape) == ([0], (4,))


def test_all_of_none_and_none_of_all(examples: list[Example], tmp_path: Path) -> None:
    assert read_pixels([], SIZE, tmp_path / "cache").rows.shape == (0, SIZE, SIZE, 3)
    bad = [examples[0], examples[3]]
    for _ in range(2):
        pictures = read_pixels(bad, SIZE, tmp_path / "cache")
        assert (pictures.rows.shape, len(pictures.unreadable)) == ((0, SIZE, SIZE, 3), 2)


def test_who_needs_them_all_is_told_all_that_are_bad(examples: list[Example], tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"0\.png: .*; .*3\.png: "):
        open_pixels(examples, SIZE, tmp_path / "cache")


def test_a_picture_that_is_gone_is_unreadable(examples: list[Example], tmp_path: Path) -> None:
    Path(str(examples[4].image)).unlink()
    assert sorted(read_pixels(examples, SIZE, tmp_path / "cache").unreadable) == [0, 3, 4]


def test_a_run_names_all_and_goes_on_without_a_stated_share(tmp_path: Path, checkpoints: Checkpoints) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen()])
    bad = [
        tmp_path / "corpus" / "Images" / f"{name}.png" for name in ("train_red_bar", "train_blue_bar", "dev_red_bar")
    ]
    for path in bad:
        path.write_bytes(b"not a picture")
    torch.set_num_threads(1)
    with pytest.raises(DataError) as refused:
        train(recipe, [], runs=tmp_path / "refused")
    assert str(refused.value).startswith("3 of 32 pictures cannot be read, which is more than data.max_unreadable=0.01")
    assert all(str(path) in str(refused.value) for path in bad)
    kept = caches(tmp_path / "cache")
    run = train(recipe, ["data.max_unreadable=0.1"], runs=tmp_path / "runs")
    assert (run / "best" / "model.json").is_file()
    log = (run / "train.log").read_text(encoding="utf-8")
    assert "3 of 32 pictures cannot be read and are left out" in log
    assert all(f"left out: {path}: " in log for path in bad)
    assert kept.items() <= caches(tmp_path / "cache").items()  # what the first run read was not lost


def test_a_split_of_which_nothing_is_left_is_an_error(tmp_path: Path, checkpoints: Checkpoints) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen()])
    for path in (tmp_path / "corpus" / "Images").glob("dev_*"):
        path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match="not one of the 16 dev pictures can be read"):
        train(recipe, ["data.max_unreadable=0.6"], runs=tmp_path / "runs")


def test_what_cannot_be_compared_is_left_out_or_known_by_its_captions(
    tmp_path: Path, checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    corpus = tmp_path / "corpus"
    add(corpus, "train", list(range(8)))
    add(corpus, "validation", [20, 21])
    add(tmp_path / "other", "test", [30], ["Picture number 5 .", "It is the 5 ."])
    for bad in (corpus / "train" / "2.png", tmp_path / "other" / "test" / "30.png"):
        bad.write_bytes(b"not a picture")
    config = DataConfig(root=corpus, cache=tmp_path / "cache", exclude=(tmp_path / "other",), max_unreadable=0.2)
    with caplog.at_level(logging.INFO, "captionist"):
        examples = Corpora(config).train(load_tokenizer(checkpoints.path("gpt2")))["root"]
    assert [example.image.name for example in examples] == [f"{seed}.png" for seed in (0, 1, 3, 4, 6, 7)]
    assert "2 of 11 pictures cannot be read and are left out" in caplog.text


def of_several(folder: Path, checkpoints: Checkpoints) -> tuple[Path, list[Path]]:
    """A recipe with two sources and two dev corpora, 16 + 8 + 16 + 4 pictures, of which three cannot be read."""
    write_corpus(folder / "corpus")
    write_corpus(folder / "more", train=8)
    write_corpus(folder / "other", dev=4)
    names = ("corpus/Images/train_red_bar", "more/Images/train_red_circle", "other/Images/dev_red_square")
    bad = [folder / f"{name}.png" for name in names]
    for path in bad:
        path.write_bytes(b"not a picture")
    corpora = {"shapes": {"corpus": str(folder / "corpus")}, "other": {"corpus": str(folder / "other")}}
    stage = whole(batch_size=None, sources={"root": 4, "more": 2})
    sources = {"more": {"corpus": str(folder / "more")}}
    return write_recipe(folder, checkpoints, [stage], sources=sources, validation={"corpora": corpora}), bad


@pytest.mark.parametrize("decode", ["ahead", "workers"])
def test_those_of_all_sources_and_dev_corpora_are_named_at_once(
    tmp_path: Path, checkpoints: Checkpoints, decode: str
) -> None:
    recipe, bad = of_several(tmp_path, checkpoints)
    how = [f"data.decode={decode}", "data.workers=1"]
    torch.set_num_threads(1)
    with pytest.raises(DataError, match=r"^3 of 44 pictures cannot be read") as refused:
        train(recipe, how, runs=tmp_path / "refused")
    assert all(str(path) in str(refused.value) for path in bad)
    run = train(recipe, [*how, "data.max_unreadable=0.1"], runs=tmp_path / "runs")
    log = (run / "train.log").read_text(encoding="utf-8")
    assert "3 of 44 pictures cannot be read and are left out" in log
    assert all(f"left out: {path}: " in log for path in bad)
    assert len(json.loads((run / "captions.json").read_text(encoding="utf-8"))) == 16 + 3


class NameLength:
    """An annotation."""

    name: str = "length"
    shape: tuple[int, ...] = (1,)
    version: str = "1"

    def compute(self, example: Example) -> NDArray[np.float32]:
        return np.array([len(example.image.name)], np.float32)

    def learn(self, _examples: object, _arrays: NDArray[np.float32]) -> None: ...

    def simulate(self, sentence: str, rng: np.random.Generator) -> NDArray[np.float32]:
        raise NotImplementedError


@pytest.mark.parametrize("decode", ["ahead", "workers"])
def test_what_is_known_of_the_others_stays_beside_them(tmp_path: Path, checkpoints: Checkpoints, decode: str) -> None:
    path, _ = of_several(tmp_path, checkpoints)
    recipe = load_recipe(path, [f"data.decode={decode}", "data.workers=0", "data.max_unreadable=0.1"])
    corpora, tokenizer = Corpora(recipe.data, recipe.validation.corpora), load_tokenizer(checkpoints.path("gpt2"))
    found, dev = readable(corpora.train(tokenizer), corpora.dev(), SIZE, recipe.data)
    data = TrainingData(recipe.data, tokenizer, found, dev, SIZE, {}, (NameLength(),))
    sets = [source.pictures for source in data.sources.values() if source.pictures] + list(data.dev_pictures.values())
    assert [len(pictures.examples) for pictures in sets] == [15, 7, 16, 3]
    for pictures in sets:
        (rows,) = pictures.pixels.batches([np.arange(len(pictures.examples))])
        for row, length, example in zip(rows, pictures.annotated["length"], pictures.examples, strict=True):
            assert np.array_equal(row, images.squeeze(images.decode(example.image), (SIZE, SIZE)))
            assert length == len(example.image.name)


def test_what_cannot_be_compared_is_named_for_all_sources_at_once(tmp_path: Path, checkpoints: Checkpoints) -> None:
    bad = []
    for number, name in enumerate(("corpus", "more")):
        add(tmp_path / name, "train", list(range(10 * number, 10 * number + 4)))
        add(tmp_path / name, "validation", [20 + number])
        bad.append(tmp_path / name / "train" / f"{10 * number}.png")
        bad[-1].write_bytes(b"not a picture")
    sources = {"more": SourceConfig(corpus=tmp_path / "more")}
    config = DataConfig(root=tmp_path / "corpus", cache=tmp_path / "cache", sources=sources)
    with pytest.raises(DataError, match=r"^2 of 10 pictures cannot be read") as refused:
        Corpora(config).train(load_tokenizer(checkpoints.path("gpt2")))
    assert all(str(path) in str(refused.value) for path in bad)

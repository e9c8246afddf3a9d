"""Pictures that cannot be read: all are named at once, and a run continues if they are no more than a stated share."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captionist import images
from captionist.data import Example
from captionist.errors import DataError
from captionist.model.language import load_tokenizer
from captionist.training.dataset import Corpora, TrainingData, readable
from captionist.training.pictures import PictureSet
from captionist.training.recipe import DataConfig, SourceConfig, load_recipe
from captionist.training.train import train
from tests.model.checkpoints import SIZE, Checkpoints
from tests.pictures import write_png
from tests.training.corpus import write_corpus
from tests.training.runs import NameLength, frozen, whole, write_recipe
from tests.training.test_leaks import add


@pytest.mark.parametrize("decode", ["ahead", "workers"])
def test_those_that_cannot_be_read_are_found_once(tmp_path: Path, decode: Any) -> None:
    paths = [write_png(tmp_path / "Images" / f"{seed}.png", seed) for seed in range(6)]
    for bad in (paths[0], paths[3]):
        bad.write_bytes(b"not a picture")
    paths[5].unlink()
    examples = [Example(path.name, path, ("a caption",), "train") for path in paths]
    config = DataConfig(root=tmp_path, cache=tmp_path / "cache", decode=decode, workers=0)

    def unreadable(some: list[Example]) -> dict[int, str]:
        return PictureSet(some, SIZE, config).unreadable()

    found = unreadable(examples)
    assert sorted(found) == [0, 3, 5]
    assert all(str(examples[number].image) in said for number, said in found.items())
    (record,) = (tmp_path / "cache").glob("unreadable-*.json")
    made = record.stat().st_mtime_ns
    assert unreadable(examples) == found
    assert record.stat().st_mtime_ns == made
    assert unreadable([examples[number] for number in (1, 2, 4)]) == {}
    write_png(paths[3], 3)  # mended
    assert sorted(unreadable(examples)) == [0, 5]


def test_a_split_of_which_nothing_is_left_is_an_error(tmp_path: Path, checkpoints: Checkpoints) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen()])
    for path in (tmp_path / "corpus" / "Images").glob("dev_*"):
        path.write_bytes(b"not a picture")
    with pytest.raises(DataError, match="none of the 16 dev pictures can be read"):
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
    told = r"^3 of 44 pictures cannot be read, which is more than data.max_unreadable=0.01"
    with pytest.raises(DataError, match=told) as refused:
        train(recipe, how, runs=tmp_path / "refused")
    assert all(str(path) in str(refused.value) for path in bad)
    run = train(recipe, [*how, "data.max_unreadable=0.1"], runs=tmp_path / "runs")
    log = (run / "train.log").read_text(encoding="utf-8")
    assert "3 of 44 pictures cannot be read and are left out" in log
    assert all(f"left out: {path}: " in log for path in bad)
    assert len(json.loads((run / "captions.json").read_text(encoding="utf-8"))) == 16 + 3


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
        (rows,) = pictures.batches([np.arange(len(pictures.examples))])
        for row, length, example in zip(rows, pictures.annotated["length"], pictures.examples, strict=True):
            assert np.array_equal(row, images.squeeze(images.decode(example.image), (SIZE, SIZE)))
            assert (length == len(example.image.name)).all()


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

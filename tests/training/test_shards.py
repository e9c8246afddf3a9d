"""A run reads its pictures from within shards."""

import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from captionist import images
from captionist.model.language import load_tokenizer
from captionist.training.cache import pictures_key
from captionist.training.dataset import Corpora
from captionist.training.pictures import PictureSet
from captionist.training.recipe import DataConfig
from tests.data.tars import DOG, PALACE, RIVER, write_tar
from tests.model.checkpoints import SIZE, Checkpoints


def test_copies_of_dev_are_left_out_and_the_others_decoded(
    tmp_path: Path, checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    root, cache = tmp_path / "corpus", tmp_path / "cache"
    copy = cv2.imencode(".png", images.squeeze(images.decode(DOG), (80, 90))[:, :, ::-1])[1].tobytes()
    captions = [("1.txt", "a dog runs"), ("2.txt", "a palace"), ("3.txt", "a river")]
    pictures = [("1.png", copy), ("2.jpg", PALACE), ("3.jpg", RIVER)]
    shard = write_tar(root / "train-000000.tar", *captions, *pictures)
    write_tar(root / "dev-000000.tar", ("1.jpg", DOG), ("1.txt", "there is a dog"))
    with caplog.at_level(logging.INFO, "captionist"):
        corpora = Corpora(DataConfig(root=root, cache=cache))
        train, dev = corpora.train(load_tokenizer(checkpoints.path("gpt2")))["root"], corpora.dev()["root"]
    assert [example.id for example in (*train, *dev)] == [
        "train-000000.tar/2.jpg",
        "train-000000.tar/3.jpg",
        "dev-000000.tar/1.jpg",
    ]
    assert "train-000000.tar/1.png is " in caplog.text
    (pixels,) = PictureSet(train, SIZE, corpora.config).batches([np.arange(len(train))])
    for row, picture in zip(pixels, (PALACE, RIVER), strict=True):
        assert np.array_equal(row, images.squeeze(images.decode(picture), (SIZE, SIZE)))
    key = pictures_key(train, SIZE)
    os.utime(shard, ns=(1, 1))
    assert pictures_key(train, SIZE) != key

"""A CLIP in the hub's layout, against transformers' own forward pass."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, CLIPModel, CLIPTextModel, CLIPTokenizer

from captionist.errors import NotAnImageError, ScoreError
from captionist.evaluation.clip import Clip
from tests.evaluation.clips import write_tiny_clip
from tests.pictures import write_png

TEXTS = ["A brown dog runs.", "two children play with a red ball", "A cat."]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_clip(tmp_path_factory.mktemp("clip") / "tiny")


@pytest.fixture
def copy(directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(directory, tmp_path / "copy"))


def test_cosines_are_those_of_its_own_forward_pass(directory: Path, tmp_path: Path) -> None:
    pictures = [write_png(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    clip = Clip(str(directory))
    found = clip.images(pictures) @ clip.sentences(TEXTS).T

    model = CLIPModel.from_pretrained(directory).eval()
    words = CLIPTokenizer.from_pretrained(directory)
    pixels = AutoImageProcessor.from_pretrained(directory, backend="pil")(
        [Image.open(picture).convert("RGB") for picture in pictures], return_tensors="pt"
    )
    with torch.inference_mode():
        logits = model(
            **words([f"A photo depicts {text}" for text in TEXTS], padding=True, return_tensors="pt"), **pixels
        ).logits_per_image
        cosines = (logits / model.logit_scale.exp()).numpy()
    assert np.abs(found - cosines).max() < 1e-5
    assert found.std(axis=0).min() > 1e-3  # it tells pictures apart,
    assert found.std(axis=1).min() > 1e-3  # and sentences


def test_a_sentence_too_long_for_it_is_cut(directory: Path) -> None:
    clip = Clip(str(directory))
    long = "a brown dog " * 50
    assert np.array_equal(clip.sentences([long]), clip.sentences([long + "and a cat"]))


def test_an_unreadable_picture_is_named(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(NotAnImageError, match=r"text\.jpg"):
        Clip(str(directory)).images([tmp_path / "text.jpg"])


def test_a_text_model_is_an_error(directory: Path, copy: Path) -> None:
    CLIPTextModel.from_pretrained(directory).save_pretrained(copy)
    with pytest.raises(ScoreError, match="is not a CLIP but a model of type 'clip_text_model'"):
        Clip(str(copy))
    shutil.copy(directory / "config.json", copy)  # it says what it is not
    with pytest.raises(ScoreError, match=r"lacks .* of a CLIP's weights"):
        Clip(str(copy))


@pytest.mark.parametrize("name", ["tests", "no such/name at all"])
def test_what_is_no_clip_at_all_is_an_error(name: str) -> None:
    with pytest.raises(ScoreError, match="cannot be loaded as a CLIP"):
        Clip(name)


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (["config.json"], "cannot be loaded as a CLIP"),
        (["preprocessor_config.json"], "cannot be loaded as a CLIP"),
        (["tokenizer.json", "tokenizer_config.json"], "its tokenizer has 2 tokens"),
        (["model.safetensors"], "cannot be loaded as a CLIP"),
    ],
)
def test_a_part_that_is_missing_is_an_error(copy: Path, damaged: list[str], message: str) -> None:
    for name in damaged:
        (copy / name).unlink()
    with pytest.raises(ScoreError, match=message):
        Clip(str(copy))

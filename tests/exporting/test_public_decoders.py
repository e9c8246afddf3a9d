"""The families' decoders, pixels, tokenizers and defaults, compared with transformers' own without writing a graph."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel

from captionist.errors import BundleError
from captionist.exporting.public.checkpoint import Checkpoint, open_checkpoint
from captionist.images import Preprocessing, decode, prepare
from captionist.inference.tokenizer import CaptionTokenizer
from captionist.options import SearchOptions
from harness.hub import FAMILIES, Family, save

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.jpg"))
Opened = tuple[Family, Path, PreTrainedModel, Checkpoint]


@pytest.fixture(scope="module", params=FAMILIES)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    directory = tmp_path_factory.mktemp(request.param) / "hub"
    model = save(directory, request.param)
    return request.param, directory, model, open_checkpoint(str(directory))


def theirs(family: Family, model: Any, pixels: Tensor, tokens: Tensor) -> Tensor:
    """transformers' logits at every token: int64 [R, T], of R pictures -> float [R, T, V]."""
    if family == "git":
        logits: Tensor = model(input_ids=tokens, pixel_values=pixels).logits[:, -tokens.shape[1] :]
    elif family == "blip":
        seen = model.vision_model(pixels).last_hidden_state
        logits = model.text_decoder(input_ids=tokens, encoder_hidden_states=seen).logits
    else:
        logits = model(pixel_values=pixels, decoder_input_ids=tokens).logits
    return logits


@torch.inference_mode()
def test_every_token_has_the_logits_of_transformers(opened: Opened) -> None:
    family, _, model, checkpoint = opened
    torch.manual_seed(1)
    parts = checkpoint.model
    pixels = torch.rand(2, 3, *parts.image)
    picture = torch.tensor([1, 0, 1])
    begin = torch.full((3, 1), parts.decoder.begin)
    tokens = torch.cat((begin, torch.randint(110, 140, (3, 5))), 1)
    expected = theirs(family, model, pixels[picture], tokens)

    visual_tokens = parts.encoder(pixels)
    first = parts.decoder.prefill(visual_tokens)
    torch.testing.assert_close(first.logits[picture], expected[:, 0], atol=1e-4, rtol=0)
    none = keys = values = tuple(part[picture, :, :0] for part in first.keys)
    for place in range(1, tokens.shape[1]):
        step = parts.decoder.step(tokens[:, place, None], picture, first.keys, first.values, keys, values)
        torch.testing.assert_close(step.logits[:, 0], expected[:, place], atol=1e-4, rtol=0)
        keys, values = step.keys, step.values
        assert step.attention.shape == (3, 1, visual_tokens.shape[1])
        assert (step.attention >= 0).all()
        # Cross-attention looks at nothing else; in a prefix, some of it goes to the words.
        total = step.attention.sum(2)
        assert (total < 1).all() if family == "git" else torch.allclose(total, torch.ones(3, 1))
    whole = parts.decoder.step(tokens[:, 1:], picture, first.keys, first.values, none, none)
    torch.testing.assert_close(whole.logits, expected[:, 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close([*whole.keys], [*keys], atol=1e-4, rtol=0)


def test_pixels_are_those_of_the_image_processor(opened: Opened) -> None:
    _, directory, _, checkpoint = opened
    image = checkpoint.image
    wanted = Preprocessing((image.height, image.width), image.mean, image.std, image.resampling, image.resized)
    processor = AutoImageProcessor.from_pretrained(directory)
    for path in EXAMPLES:
        rgb = decode(path)
        for picture in (rgb, rgb[:, : rgb.shape[1] // 3]):  # upright, too
            made = processor(images=picture, return_tensors="np").pixel_values[0]
            np.testing.assert_allclose(prepare(picture, wanted), made, atol=1e-5)


def test_tokens_go_to_text_and_back(opened: Opened, tmp_path: Path) -> None:
    _, directory, _, checkpoint = opened
    checkpoint.tokenizer.save(str(tmp_path / "tokenizer.json"))
    ours, transformers_own = CaptionTokenizer(tmp_path / "tokenizer.json"), AutoTokenizer.from_pretrained(directory)
    text = " a brown dog jumps over the ball, running."
    ids = ours.encode(text)
    assert ids == transformers_own.encode(text, add_special_tokens=False)
    assert ours.decode(ids).strip() == transformers_own.decode(ids, skip_special_tokens=True).strip() == text.strip()
    assert [word.text for word in ours.words(ids)] == text.strip(" .").replace(",", "").split()
    assert ours.words(ours.encode(" stands zebras"))[1].text == "zebras"  # which no token spells alone
    assert ours.decode([transformers_own.eos_token_id or transformers_own.sep_token_id]) == ""


def test_what_the_files_leave_open_is_as_everywhere_here(opened: Opened) -> None:
    assert opened[3].search == SearchOptions()


def test_the_search_is_that_of_the_files(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "num_beams": 5,
        "max_length": 12,
        "min_length": 4,
        "length_penalty": 0.6,
        "no_repeat_ngram_size": 3,
        "repetition_penalty": 1.5,
    }
    save(tmp_path / "hub", "git", **settings)
    assert open_checkpoint(str(tmp_path / "hub")).search == SearchOptions(
        num_beams=5, max_tokens=11, min_tokens=3, length_penalty=0.6, no_repeat_ngram=3, repetition_penalty=1.5
    )


@pytest.mark.parametrize(
    ("family", "settings", "begin", "end"),
    [
        ("git", {"bos_token_id": 7, "eos_token_id": 9}, 7, 9),
        ("git", {"eos_token_id": [9]}, 101, 9),
        ("vit-gpt2", {"decoder_start_token_id": 7, "eos_token_id": 9}, 7, 9),
    ],
)
def test_captions_begin_and_end_as_the_files_say(
    tmp_path: Path, family: Family, settings: dict[str, Any], begin: int, end: int
) -> None:
    save(tmp_path / "hub", family, **settings)
    model = open_checkpoint(str(tmp_path / "hub")).model
    assert (model.decoder.begin, model.eos) == (begin, end)


def test_blip_begins_and_ends_as_its_generate_does(opened: Opened) -> None:
    family, _, model, checkpoint = opened
    if family == "blip":
        text = model.config.text_config
        assert checkpoint.model.decoder.begin == text.bos_token_id == text.vocab_size - 2
        assert checkpoint.model.eos == text.sep_token_id == 102 != text.eos_token_id


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"eos_token_id": [9, 10]}, r"end token is \[9, 10\]"),
        ({"max_length": 1}, "captions end after 1 tokens"),
        ({"num_beams": 5000}, "5,000 beams"),
        ({"repetition_penalty": -1.0}, "repetition_penalty"),
    ],
)
def test_settings_that_cannot_be_kept_are_refused(tmp_path: Path, settings: dict[str, Any], complaint: str) -> None:
    save(tmp_path / "hub", "git")
    import json

    file = tmp_path / "hub" / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    with pytest.raises(BundleError, match=complaint):
        open_checkpoint(str(tmp_path / "hub"))

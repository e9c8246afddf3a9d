"""VisionPrefixLM: the packed loss, the end of text, decoding with a cache, saving."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captionist import images
from captionist.errors import TrainingError
from captionist.model.fusion import VisionPrefixLM, load_model
from captionist.model.language import IGNORE, encode_caption
from captionist.training.objectives import Examples, Objective
from captionist.training.objectives.caption import Captioning
from captionist.training.objectives.naming import Naming
from captionist.training.pictures import normalise
from tests.model.checkpoints import CAPTIONS, VIT_FAMILIES, Checkpoints, plain_forward
from tests.pictures import patchwork

FAMILIES = (*VIT_FAMILIES, "hybrid")


@pytest.fixture
def model(checkpoints: Checkpoints) -> VisionPrefixLM:
    return checkpoints.model(prefix_grid=2)


def pictures(model: VisionPrefixLM, count: int) -> Tensor:
    return torch.from_numpy(np.stack([images.prepare(patchwork(i), model.preprocessing) for i in range(count)]))


def table(rows: list[list[list[int]]]) -> Tensor:
    """int64 [B, C, T] of captions, filled with IGNORE."""
    count, length = max(map(len, rows)), max(len(caption) for row in rows for caption in row)
    filled = torch.full((len(rows), count, length), IGNORE)
    for i, row in enumerate(rows):
        for j, caption in enumerate(row):
            filled[i, j, : len(caption)] = torch.tensor(caption)
    return filled


def tokens(model: VisionPrefixLM, *captions: str) -> list[list[int]]:
    return [encode_caption(model.tokenizer, caption) for caption in captions]


def full_logits(model: VisionPrefixLM, pixels: Tensor, caption: list[int]) -> Tensor:
    return plain_forward(model, model.encode(pixels), caption)[0]


def caption_loss(
    model: VisionPrefixLM, captions: Tensor, pixels: Tensor | None = None, features: Tensor | None = None, **given: Any
) -> Tensor:
    """The loss of the captions, summed; `given` is that of `Captioning`."""
    return model.forward(
        Objective(losses=(Captioning(**given),)), (Examples(captions, pixels=pixels, features=features),)
    )


def tokens_of(captions: Tensor) -> int:
    return Objective(losses=()).size((Examples(captions),))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_packed_captions_lose_what_separate_ones_do(model: VisionPrefixLM, smoothing: float) -> None:
    """However many and long they are.

    The end of text and the padding are the same token id. A mask made from the id would drop the end's label (the model
    then never learns to stop), or keep the padding's (it learns to write ends forever).
    """
    rows = [tokens(model, *CAPTIONS[:3]), tokens(model, *CAPTIONS[1:])]
    pixels = pictures(model, 2)
    with torch.inference_mode():
        packed = float(caption_loss(model, table(rows), pixels, label_smoothing=smoothing))
        expected = 0.0
        for picture, row in zip(pixels, rows, strict=True):
            for caption in row:
                logits = full_logits(model, picture[None], caption)
                labels = torch.tensor([*caption, model.end_id])
                expected += float(F.cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing))
    count = tokens_of(table(rows))
    assert count == sum(len(caption) + 1 for row in rows for caption in row)
    assert packed == pytest.approx(expected, abs=1e-3, rel=1e-5)
    assert packed / count == pytest.approx(expected / count, abs=1e-4)


def test_visual_tokens_are_asked_for_the_words_that_count(model: VisionPrefixLM) -> None:
    """The likelihood of each such word under the mean of what the visual tokens name, whatever its place."""
    rows = [tokens(model, *CAPTIONS[:3]), tokens(model, CAPTIONS[3])]
    words = torch.tensor(sorted({token for caption in rows[0] + rows[1] for token in caption})[::2])
    pixels, captions = pictures(model, 2), table(rows)
    with torch.inference_mode():
        alone = caption_loss(model, captions, pixels)
        both = model(Objective(losses=(Captioning(), Naming(words, 0.5))), (Examples(captions, pixels=pixels),))
        logits = model.decoder.logits(model.decoder.ln_f(model.encode(pixels)))
    expected = 0.0
    for row, named in zip(rows, logits[:, :, words].softmax(-1).mean(1), strict=True):
        for token in (token for caption in row for token in caption):
            expected -= float(named[words == token].log().sum())
    assert expected > 1
    assert float(both - alone) == pytest.approx(0.5 * expected, rel=1e-4)


def test_a_cut_vocabulary_leaves_the_scores_of_what_is_kept(model: VisionPrefixLM) -> None:
    whole, pixels = model.tokenizer, pictures(model, 1)
    with torch.inference_mode():
        before = full_logits(model, pixels, tokens(model, CAPTIONS[0])[0])
    model.cut_vocabulary([CAPTIONS[0]])
    left = sorted(model.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    kept = [whole.token_to_id(token) for token, _ in left]
    with torch.inference_mode():
        after = full_logits(model, pixels, tokens(model, CAPTIONS[0])[0])
    assert len(kept) < whole.get_vocab_size()
    assert kept[model.end_id] == whole.token_to_id("<|endoftext|>")
    assert model.decoder.config.eos_token_id == model.decoder.config.bos_token_id == model.end_id
    assert torch.allclose(after, before[:, kept], atol=1e-5)


def test_gpt2_and_the_image_head_each_read_their_part_of_a_visual_token(checkpoints: Checkpoints) -> None:
    model = checkpoints.model(checkpoints.hybrid(), 1).eval()
    model.align(8)
    width = model.decoder.config.n_embd
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        visual_tokens = model.encode(pixels)
        assert visual_tokens.shape == (2, 1, model.token_width)
        assert torch.allclose(visual_tokens[:, 0, width:], model.encoder.backbone(pixels).mean(1), atol=1e-5)
        logits, embedded = model.prefill(visual_tokens).logits, model.embed(visual_tokens)
        for part, same in ((slice(width), False), (slice(width, None), True)):
            changed = visual_tokens.clone()
            changed[..., part] += torch.randn_like(changed[..., part])
            assert torch.equal(model.prefill(changed).logits, logits) is same
            assert torch.equal(model.embed(changed), embedded) is not same


def test_feature_dropout_drops_a_channel_from_a_whole_picture(
    model: VisionPrefixLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    features = torch.rand(3, model.encoder.grid**2, model.encoder.feature_width) + 1
    seen: list[Tensor] = []
    neck = model.encoder.neck

    def spy(features: Tensor, pooling: Tensor | None) -> Tensor:
        seen.append(features)
        return neck(features, pooling)

    monkeypatch.setattr(model.encoder, "neck", spy)
    model.project(features, 0.25)
    kept = seen[0] != 0
    assert torch.equal(kept, kept[:, :1].expand_as(kept))
    assert not torch.equal(kept[0], kept[1])
    assert torch.allclose(seen[0][kept], features[kept] / 0.75)
    assert 0.5 < float(kept.float().mean()) < 0.95


def test_text_alone_is_read_at_the_positions_behind_a_prefix(model: VisionPrefixLM) -> None:
    """A stage on text would otherwise train position embeddings that captions of pictures never use."""
    caption = tokens(model, CAPTIONS[0])
    torch.autograd.backward(caption_loss(model, table([caption])))
    gradient = model.decoder.wpe.weight.grad
    assert gradient is not None
    used = gradient.abs().sum(1).nonzero()[:, 0]
    first = model.prefix_length
    assert used.tolist() == list(range(first, first + len(caption[0]) + 1))
    assert model.projection.weight.grad is None


@pytest.mark.parametrize("family", FAMILIES)
def test_training_and_inference_feed_the_same_pixels(checkpoints: Checkpoints, family: str) -> None:
    model = checkpoints.model(checkpoints.hybrid() if family == "hybrid" else checkpoints.vit(family))
    side = model.config.encoder.resolution
    decoded = [patchwork(seed, 97, 64) for seed in range(3)]
    trained = normalise(torch.from_numpy(np.stack([images.squeeze(p, (side, side)) for p in decoded])), model.encoder)
    inferred = np.stack([images.prepare(p, model.preprocessing) for p in decoded])
    assert trained.dtype == torch.float32
    assert np.abs(trained.numpy() - inferred).max() < 1e-5
    assert -4 < inferred.min() < -0.5
    assert 0.5 < inferred.max() < 4


@pytest.mark.parametrize("prefix_grid", [None, 2, 3])
def test_a_cache_gives_the_logits_of_the_full_forward(checkpoints: Checkpoints, prefix_grid: int | None) -> None:
    model = checkpoints.model(prefix_grid=prefix_grid)
    caption, pixels = tokens(model, CAPTIONS[4])[0], pictures(model, 2)
    with torch.inference_mode():
        expected = torch.stack([full_logits(model, picture[None], caption) for picture in pixels])
        decoded = model.prefill(model.encode(pixels))
        assert torch.allclose(decoded.logits, expected[:, 0], atol=1e-4)
        assert [part.shape for part in decoded.keys] == [(2, 2, model.prefix_length + 1, 16)] * 2
        prefix, none = (torch.tensor([1, 0, 1]), decoded.keys, decoded.values), model.no_tokens(decoded.keys, 3)
        expected, decoded = expected[prefix[0]], decoded._replace(keys=none, values=none)
        for place, token in enumerate(caption):
            decoded = model.step(torch.full((3, 1), token), *prefix, decoded.keys, decoded.values)
            assert [part.shape for part in decoded.keys] == [(3, 2, place + 1, 16)] * 2
            assert decoded.attention.shape == (3, 1, model.prefix_length)
            assert (decoded.attention >= 0).all()
            assert (decoded.attention.sum(2) <= 1 + 1e-6).all()
            assert torch.allclose(decoded.logits[:, 0], expected[:, place + 1], atol=1e-4)
        whole = model.step(torch.tensor([caption] * 3), *prefix, none, none)
        assert torch.allclose(whole.logits, expected[:, 1:], atol=1e-4)
        assert torch.allclose(decoded.attention, whole.attention[:, -1:], atol=1e-5)
        for last, part in zip((*decoded.keys, *decoded.values), (*whole.keys, *whole.values), strict=True):
            assert torch.allclose(last, part, atol=1e-5)


def test_the_attention_is_that_of_the_newest_token(model: VisionPrefixLM) -> None:
    """Averaged over layers and heads; the rest went to the text."""
    caption, pixels = tokens(model, CAPTIONS[0])[0][:3], pictures(model, 1)
    with torch.inference_mode():
        prefix = model.encode(pixels)
        everything = plain_forward(model, prefix, caption)[1].mean((0, 1))
        decoded = model.prefill(prefix)
        shared, none = (torch.tensor([0]), decoded.keys, decoded.values), model.no_tokens(decoded.keys, 1)
        keys = values = none
        for token in caption:
            decoded = model.step(torch.tensor([[token]]), *shared, keys, values)
            keys, values = decoded.keys, decoded.values
    assert float(everything.sum()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(decoded.attention[0, 0], everything[: model.prefix_length], atol=1e-6)


@pytest.mark.parametrize(("grid", "pooled"), [(4, 2), (4, 3), (4, 1), (4, 4)])
def test_pooling_is_adaptive_average_pooling(checkpoints: Checkpoints, grid: int, pooled: int) -> None:
    model = checkpoints.model(prefix_grid=pooled)
    features = torch.randn(2, grid * grid, 32)
    plane = features.transpose(1, 2).view(2, 32, grid, grid)
    expected = F.adaptive_avg_pool2d(plane, pooled).flatten(2).transpose(1, 2)
    with torch.inference_mode():
        assert torch.allclose(model.project(features), model.projection(expected), atol=1e-5)
    assert model.prefix_length == pooled**2


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load(checkpoints: Checkpoints, tmp_path: Path, family: str) -> None:
    encoder = checkpoints.hybrid() if family == "hybrid" else checkpoints.vit(family)
    model = checkpoints.model(encoder, prefix_grid=2)
    model.save(tmp_path)
    loaded = load_model(tmp_path).eval()
    pixels = pictures(model, 2)
    with torch.inference_mode():
        assert torch.equal(loaded.prefill(loaded.encode(pixels)).logits, model.prefill(model.encode(pixels)).logits)
    assert loaded.config == model.config
    assert loaded.preprocessing == model.preprocessing
    assert loaded.tokenizer.to_str() == model.tokenizer.to_str()


@pytest.mark.parametrize("file", ["model.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text"])
def test_a_damaged_directory(model: VisionPrefixLM, tmp_path: Path, file: str, damage: str) -> None:
    directory = tmp_path / "damaged"
    model.save(directory)
    path = directory / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "text": b"[1]"}[damage])
    with pytest.raises(TrainingError, match="damaged"):
        load_model(directory)

"""Every encoder gives the same thing: visual tokens on a grid, row by row."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, CLIPVisionModel, Dinov2Model, SiglipVisionModel

from captionist.errors import RecipeError
from captionist.model.config import ClipConfig, EncoderConfig, SiglipConfig
from captionist.model.vision import HybridEncoder, build_encoder
from tests.model.checkpoints import MEAN, PATCH, SIZE, STD, VIT_FAMILIES, WIDTH, Checkpoints

FAMILIES = (*VIT_FAMILIES, "hybrid")


def config_of(checkpoints: Checkpoints, family: str) -> EncoderConfig:
    return checkpoints.hybrid() if family == "hybrid" else checkpoints.vit(family)


def noise(resolution: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, resolution, resolution, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_fill_the_grid(checkpoints: Checkpoints, family: str) -> None:
    config = config_of(checkpoints, family)
    encoder = build_encoder(config, None).eval()
    assert encoder.grid == config.resolution // (32 if family == "hybrid" else PATCH)
    with torch.inference_mode():
        features = encoder.backbone(noise(config.resolution))
        tokens = encoder(noise(config.resolution))
    assert features.shape == (2, encoder.grid**2, encoder.feature_width)
    assert tokens.shape == (2, encoder.grid**2, WIDTH) == (2, encoder.grid**2, encoder.width)
    assert torch.isfinite(tokens).all()
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-2)


@pytest.mark.parametrize(("family", "others"), [("vit", 1), ("deit", 2), ("dinov2", 1), ("registers", 4)])
def test_class_distillation_and_register_tokens_are_dropped(checkpoints: Checkpoints, family: str, others: int) -> None:
    """They stand before the patches, in each family another number of them."""
    encoder = build_encoder(checkpoints.vit(family), None).eval()
    theirs = AutoModel.from_pretrained(checkpoints.path(family)).eval()
    with torch.inference_mode():
        everything = theirs(noise(SIZE)).last_hidden_state
        assert everything.shape[1] == others + encoder.grid**2
        assert torch.allclose(encoder(noise(SIZE)), everything[:, others:], atol=1e-5)


@pytest.mark.parametrize("layout", ["clip", "clip-tower", "clip-projected"])
def test_clip_s_patches_come_from_the_last_layer_but_one(checkpoints: Checkpoints, layout: str) -> None:
    encoder = build_encoder(checkpoints.vit(layout), None).eval()
    theirs = CLIPVisionModel.from_pretrained(checkpoints.path("clip-tower")).eval()
    with torch.inference_mode():
        layers = theirs(noise(SIZE), output_hidden_states=True).hidden_states
        assert torch.allclose(encoder(noise(SIZE)), layers[-2][:, 1:], atol=1e-5)
    names = " ".join(name for name, _ in encoder.named_parameters())
    assert "layers.1." in names
    assert all(part not in names for part in ("layers.2.", "post_layernorm", "text", "projection", "logit"))


@pytest.mark.parametrize("layout", ["siglip", "siglip-tower"])
def test_siglip_s_patches_come_from_its_last_norm(checkpoints: Checkpoints, layout: str) -> None:
    encoder = build_encoder(checkpoints.vit(layout), None).eval()
    theirs = SiglipVisionModel.from_pretrained(checkpoints.path("siglip-tower")).eval()
    with torch.inference_mode():
        assert torch.allclose(encoder(noise(SIZE)), theirs(noise(SIZE)).last_hidden_state, atol=1e-5)
    names = " ".join(name for name, _ in encoder.named_parameters())
    assert "layers.2." in names
    assert all(part not in names for part in ("head", "text", "logit"))


def test_a_siglip_whose_patches_do_not_fill_its_picture(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Like the one with patches of 14 pixels at 384, which has 27 x 27 of them: they fill 378."""
    torch.manual_seed(4)
    settings = SiglipVisionModel.from_pretrained(checkpoints.path("siglip-tower")).config
    settings.image_size = SIZE + 3
    tower = SiglipVisionModel(settings).eval()
    tower.save_pretrained(tmp_path)
    encoder = build_encoder(SiglipConfig(weights=str(tmp_path), resolution=SIZE), None).eval()
    pixels = noise(SIZE + 3)
    with torch.inference_mode():
        expected = tower(pixels).last_hidden_state
        assert torch.allclose(encoder(pixels[:, :, :SIZE, :SIZE]), expected, atol=1e-5)


def test_the_towers_statistics_are_their_own_unless_given(checkpoints: Checkpoints) -> None:
    clip = build_encoder(checkpoints.vit("clip"), None)
    assert clip.mean == pytest.approx((0.481, 0.458, 0.408), abs=1e-3)
    assert clip.std == pytest.approx((0.269, 0.261, 0.276), abs=1e-3)
    siglip = build_encoder(checkpoints.vit("siglip"), None)
    assert siglip.mean == siglip.std == (0.5, 0.5, 0.5)
    assert build_encoder(ClipConfig(weights=checkpoints.path("clip"), resolution=SIZE, mean=MEAN), None).mean == MEAN
    vit = build_encoder(checkpoints.vit(), None)
    assert (vit.mean, vit.std) == (MEAN, STD)


@pytest.mark.parametrize(
    ("family", "holds"),
    [
        ("clip", "clip_text_model"),
        ("clip", "siglip"),
        ("siglip", "clip_vision_model"),
        ("siglip", "gpt2"),
        ("vit", "clip"),
    ],
)
def test_another_model_s_checkpoint_is_named(checkpoints: Checkpoints, family: str, holds: str) -> None:
    folder = {"clip_text_model": "clip-text", "clip_vision_model": "clip-tower"}.get(holds, holds)
    config = checkpoints.vit(family).model_copy(update={"weights": checkpoints.path(folder)})
    with pytest.raises(RecipeError, match=rf"{folder}' holds a model of the type '{holds}'.*family '{family}'"):
        build_encoder(config, None)


@pytest.mark.parametrize("layout", ["clip", "clip-tower", "siglip"])
def test_a_checkpoint_that_lacks_weights_is_refused(checkpoints: Checkpoints, tmp_path: Path, layout: str) -> None:
    """transformers draws them at random, with a warning that scrolls by."""
    folder = tmp_path / layout
    shutil.copytree(checkpoints.path(layout), folder)
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if "layers.1.mlp" in name or "visual_projection" in name]:
        del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=rf"{layout}' lacks 4 of the encoder's weights, such as .*layers\.1\.mlp"):
        build_encoder(replace(checkpoints, root=tmp_path).vit(layout), None)


def test_damaged_weights_are_named(checkpoints: Checkpoints, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(checkpoints.path("clip"), folder)
    os.truncate(folder / "model.safetensors", 1000)
    with pytest.raises(RecipeError, match=r"No encoder weights at .*clip"):
        build_encoder(replace(checkpoints, root=tmp_path).vit("clip"), None)


def test_the_hybrid_s_features_are_in_row_order(checkpoints: Checkpoints) -> None:
    """A CNN sees too far for a changed patch to show, so the features are compared with the feature map."""
    encoder = build_encoder(checkpoints.hybrid(resolution=96), None).eval()
    assert isinstance(encoder, HybridEncoder)
    with torch.inference_mode():
        plane, features = encoder.stem(noise(96)), encoder.backbone(noise(96))
    for row in range(3):
        for column in range(3):
            assert torch.allclose(features[:, 3 * row + column], plane[:, :, row, column], atol=1e-2)


@pytest.mark.parametrize("family", VIT_FAMILIES)
@pytest.mark.parametrize("resolution", [16, 48])
def test_another_resolution_than_the_checkpoint_s(checkpoints: Checkpoints, family: str, resolution: int) -> None:
    encoder = build_encoder(checkpoints.vit(family, resolution), None).eval()
    with torch.inference_mode():
        assert encoder(noise(resolution)).shape == (2, (resolution // PATCH) ** 2, WIDTH)


@pytest.mark.parametrize("family", VIT_FAMILIES)
def test_a_resolution_that_patches_do_not_fill(checkpoints: Checkpoints, family: str) -> None:
    with pytest.raises(RecipeError, match=r"model\.encoder\.resolution is 36.*multiple of 8"):
        build_encoder(checkpoints.vit(family, 36), None)


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_hybrid_blocks_start_from_the_checkpoint_s_last(checkpoints: Checkpoints, blocks: int) -> None:
    encoder = build_encoder(checkpoints.hybrid(blocks), None)
    assert isinstance(encoder, HybridEncoder)
    source = Dinov2Model.from_pretrained(checkpoints.path("dinov2"))
    assert len(encoder.blocks) == blocks
    assert encoder.positions.shape == (4, WIDTH)
    assert encoder.positions.abs().sum() > 0
    for ours, theirs in zip(encoder.blocks, source.encoder.layer[2 - blocks :], strict=True):
        expected = theirs.state_dict()
        for name, tensor in ours.state_dict().items():
            assert torch.equal(tensor, expected[name]) or "layer_scale" in name


def test_more_hybrid_blocks_than_the_checkpoint_has(checkpoints: Checkpoints) -> None:
    with pytest.raises(RecipeError, match=r"model\.encoder\.blocks is 3.*2"):
        build_encoder(checkpoints.hybrid(blocks=3), None)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_a_hybrid_has_a_neck(checkpoints: Checkpoints, family: str) -> None:
    """A backbone's parameter in the neck would not be frozen, and would be missing in the features' cache key."""
    encoder = build_encoder(config_of(checkpoints, family), None)
    backbone = [p for module in encoder.backbone_modules() for p in module.parameters()]
    assert len(set(backbone)) == len(backbone)
    neck = set(encoder.neck_parameters())
    names = {name.partition(".")[0] for name, parameter in encoder.named_parameters() if parameter in neck}
    assert names == ({"positions", "embed", "blocks", "norm"} if family == "hybrid" else set())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_gets_a_gradient(checkpoints: Checkpoints, family: str) -> None:
    """Training on several processes waits for each; one that never comes stops it."""
    config = config_of(checkpoints, family)
    encoder = build_encoder(config, None)
    encoder(noise(config.resolution)).square().mean().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_missing_weights_are_named(checkpoints: Checkpoints, tmp_path: Path, family: str) -> None:
    with pytest.raises(RecipeError, match="no-such"):
        build_encoder(
            config_of(replace(checkpoints, root=tmp_path / "no-such"), family),
            None,
        )

"""Checkpoints that cannot be imported: a clear error, and nothing is left behind."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from captionist.errors import BundleError
from captionist.exporting.public.bring import import_model
from harness.hub import save
from tests.conftest import Run


class _Hostile:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.touch, (self.victim,)  # type: ignore[return-value]


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def cut_weights(hub: Path) -> None:
    file = hub / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lose_weights(hub: Path) -> None:
    weights = load_file(hub / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "layer.1" not in name}, hub / "model.safetensors")


def pickle_them(hub: Path) -> None:
    (hub / "model.safetensors").unlink()
    with (hub / "pytorch_model.bin").open("wb") as file:
        pickle.dump(_Hostile(hub / "victim"), file)


def no_tokenizer(hub: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (hub / name).unlink(missing_ok=True)


def long_tokenizer(hub: Path) -> None:
    file = hub / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["model"]["vocab"]["one-too-many"] = len(content["model"]["vocab"])
    file.write_text(json.dumps(content), encoding="utf-8")


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (cut_weights, "cannot be imported"),
    "incomplete": (lose_weights, "weights lack"),
    "hostile": (pickle_them, "cannot be imported"),
    "no weights": (lambda hub: (hub / "model.safetensors").unlink(), "has no weights"),
    "no configuration": (lambda hub: (hub / "config.json").unlink(), "cannot be imported"),
    "broken configuration": (lambda hub: (hub / "config.json").write_text("{"), "cannot be imported"),
    "wider": (lambda hub: edit(hub / "config.json", hidden_size=64), "cannot be imported"),
    "code": (
        lambda hub: edit(hub / "config.json", model_type="x", auto_map={"AutoConfig": "x.X"}),
        "cannot be imported",
    ),
    "no pixels": (lambda hub: (hub / "preprocessor_config.json").unlink(), "cannot be imported"),
    "other pixels": (
        lambda hub: edit(hub / "preprocessor_config.json", crop_size={"height": 32, "width": 32}),
        r"makes pictures of \(32, 32\), but its encoder reads \(64, 64\)",
    ),
    "unscaled": (lambda hub: edit(hub / "preprocessor_config.json", do_rescale=False), "does not resize pictures"),
    "no tokenizer": (no_tokenizer, "has no tokenizer"),
    "long tokenizer": (long_tokenizer, r"its tokenizer has \d+ tokens, its model"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_checkpoint_is_refused(tmp_path: Path, fault: str) -> None:
    damage, complaint = FAULTS[fault]
    hub = tmp_path / "hub"
    save(hub, "git")
    damage(hub)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match=complaint):
        import_model(str(hub), tmp_path / "bundle", "fp32")
    assert sorted(tmp_path.rglob("*")) == before  # no victim, no bundle, no part of one


def test_weights_that_are_pickled_but_honest_are_read(tmp_path: Path) -> None:
    from captionist.exporting.public.checkpoint import open_checkpoint

    hub = tmp_path / "hub"
    save(hub, "git")
    torch.save(load_file(hub / "model.safetensors"), hub / "pytorch_model.bin")
    (hub / "model.safetensors").unlink()
    assert list(open_checkpoint(str(hub)).source.weights) == ["pytorch_model.bin"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model_type": "blip-2", "architectures": ["Blip2ForConditionalGeneration"]}, "Blip2ForConditionalGeneration"),
        ({"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]}, "BlipForQuestionAnswering"),
    ],
)
def test_another_architecture_is_named_with_those_that_work(
    tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BundleError, match=rf"{named} .*GitForCausalLM.*BlipForCond.*VisionEncoderDecoderModel"):
        import_model(str(hub), tmp_path / "bundle")


def test_another_decoder_is_named(tmp_path: Path) -> None:
    from transformers import BertConfig, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = BertConfig(vocab_size=50, is_decoder=True, add_cross_attention=True, **small)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        ViTConfig(image_size=32, **small), text, decoder_start_token_id=1
    )
    VisionEncoderDecoderModel(config=config).save_pretrained(tmp_path / "hub")
    with pytest.raises(BundleError, match="vit with bert, not ViT, DeiT or Swin with GPT-2"):
        import_model(str(tmp_path / "hub"), tmp_path / "bundle")


def test_what_is_there_is_not_overwritten(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "hub", "git")
    (tmp_path / "bundle").mkdir()
    outcome = run("model", "import", tmp_path / "hub", tmp_path / "bundle")
    assert outcome.code == 1
    assert "exists already" in outcome.err


def test_without_a_network_a_name_is_refused(tmp_path: Path) -> None:
    script = "import sys; from captionist.cli import main; main(['model', 'import', 'nobody/nothing', sys.argv[1]])"
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bundle")],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 1
    assert "nobody/nothing is not a directory, and cannot be fetched" in told.stderr
    assert "Traceback" not in told.stderr
    assert not (tmp_path / "bundle").exists()

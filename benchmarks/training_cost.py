"""The cost of a training step; docs/training.md says what that means for COCO and for a billion pairs.

Counted: parameters, bytes, and the floating-point operations of a forward pass (two for each multiplication with its
addition); a backward pass counts as two forward passes. Measured: processor seconds, the size of a checkpoint, the time
to decode a picture. The weights are random, which changes none of these.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.flop_counter import FlopCounterMode
from transformers import Dinov2Config, GPT2Config, ViTConfig

from captionist import images
from captionist.bundle import TOKENIZER, embedded
from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import GPT2, Language
from captionist.model.vision import build_encoder
from captionist.training.checkpoint import Progress, save_checkpoint
from captionist.training.objectives import Batch, Examples, Objective
from captionist.training.objectives.caption import Captioning
from captionist.training.optim import prepare_stage
from captionist.training.recipe import Recipe, load_recipe
from captionist.training.stage import Rates, Stage
from harness.report import circumstances, show, write

_TOKENS = 12  # per caption, about Flickr8k's mean
_OBJECTIVE = Objective(losses=(Captioning(),))
_RATES = Rates(encoder=1e-5, neck=1e-5, projection=1e-5, decoder=1e-5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/flickr8k/Images"))
    parser.add_argument("--batch", type=int, default=4, help="pictures of the step that is timed")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = {name: _model(load_recipe(Path(f"recipes/{name}.yaml"))) for name in ("flickr8k-small", "flickr8k-base")}
    costs = {name: _cost(model, given.batch, given.repeat) for name, model in models.items()}
    rows = [[figure, *(f"{cost[figure]:.4g}" for cost in costs.values())] for figure in costs["flickr8k-base"]]
    show("A training step on one core, float32", ["", *costs], rows)
    data = _decoding(sorted(given.pictures.glob("*.jpg"))[:500])
    show("A JPEG", ["", ""], [[figure, f"{value:.4g}"] for figure, value in data.items()])
    write(given.json, circumstances() | {"costs": costs, "data": data})


def _model(recipe: Recipe) -> VisionPrefixLM:
    """The recipe's shapes, with random weights; the small one's vocabulary is the embedded model's."""
    config = recipe.model.model_copy(update={"alignment": None})
    tokenizer = Tokenizer.from_file(str(embedded() / TOKENIZER))
    if config.encoder.family == "hybrid":
        vit: Any = Dinov2Config(hidden_size=384, num_attention_heads=6)
        gpt2 = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=448, n_embd=384, n_layer=4, n_head=6)
    else:
        vit, gpt2 = ViTConfig(), GPT2Config()
    encoder: Any = build_encoder(config.encoder, vit.to_dict() | {"attn_implementation": "eager"})
    return VisionPrefixLM(config, encoder, Language(GPT2(gpt2, config.decoder.dropout), tokenizer))


def _cost(model: VisionPrefixLM, batch: int, repeat: int) -> dict[str, float]:
    side, encoder = model.preprocessing.size[0], model.encoder
    pixels = torch.randn(batch, 3, side, side)
    features = torch.randn(batch, encoder.grid**2, encoder.feature_width)
    found: dict[str, float] = {
        "parameters, millions": sum(p.numel() for p in model.parameters()) / 1e6,
        "pixels of a picture, kB": 3 * side * side / 1e3,
        "cached features of a picture, kB": 2 * features[0].numel() / 1e3,  # they are kept as float16
    }
    for name, frozen, captions in (
        ("cached features, 5 captions", True, 5),
        ("whole, 5 captions", False, 5),
        ("whole, 1 caption", False, 1),
    ):
        ids = torch.randint(model.end_id, (batch, captions, _TOKENS))
        given = (Examples(ids, features=features) if frozen else Examples(ids, pixels=pixels),)
        stage = Stage(name="s", epochs=1, batch_size=1, rates=_RATES, frozen="backbone" if frozen else 0)
        optimizer = prepare_stage(model, stage)
        trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        # The counter takes a depthwise convolution's backward pass for that of a full one.
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(_OBJECTIVE, given)
        _step(model, optimizer, given)  # makes the optimizer's state
        seconds = min(_seconds(partial(_step, model, optimizer, given)) for _ in range(repeat))
        found |= {
            f"{name}: parameters trained, millions": trained / 1e6,
            f"{name}: GFLOP a picture": 3 * counter.get_total_flops() / batch / 1e9,
            f"{name}: seconds a picture": seconds / batch,
        }
    # For the last stage, which trains everything, without a moving average, which is as large as the model.
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), Progress(), model, {"optimizer": optimizer.state_dict()})
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return found | {"checkpoint, MB": size / 1e6}


def _step(model: VisionPrefixLM, optimizer: torch.optim.Optimizer, given: Batch) -> None:
    (model(_OBJECTIVE, given) / _OBJECTIVE.size(given)).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of processor time."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def _decoding(paths: list[Path]) -> dict[str, float]:
    seconds = _seconds(lambda: [images.squeeze(images.decode(path), (224, 224)) for path in paths])
    size = float(np.mean([path.stat().st_size for path in paths]))
    return {"kB": size / 1e3, "decoding it, ms on one core": 1e3 * seconds / len(paths)}


if __name__ == "__main__":
    main()

"""What a training step costs, and from that what training on COCO and on a billion pairs would.

Counted: parameters, bytes, and the floating-point operations of a forward pass (two for each multiplication with its
addition); a backward pass is taken for two of these. Measured: processor seconds, the size of a checkpoint, the time
to decode a picture, the memory that an example takes. The weights are random, which changes none of these. A GPU's
rate, price and links are assumed: see --help.
"""

import argparse
import tempfile
import time
import tracemalloc
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.utils.flop_counter import FlopCounterMode
from transformers import Dinov2Config, GPT2Config, ViTConfig

from captionist import images
from captionist.bundle import TOKENIZER, embedded
from captionist.data import Example
from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import GPT2, Language
from captionist.model.vision import build_encoder
from captionist.training.batches import CaptionTable
from captionist.training.checkpoint import Progress, save_checkpoint
from captionist.training.objectives import Batch, Examples, Objective
from captionist.training.objectives.caption import Captioning
from captionist.training.optim import prepare_stage
from captionist.training.recipe import Recipe, load_recipe
from captionist.training.stage import Stage
from harness.report import circumstances, show, write

_TOKENS = 12  # of a caption, about Flickr8k's mean
_OBJECTIVE = Objective(losses=(Captioning(),))


@dataclass(frozen=True)
class Assumed:
    """What was not measured; bytes are decimal."""

    flops: float  # of a GPU in training, a second
    price: float  # of a GPU, an hour
    link: float  # bytes a second that a GPU sends to others in its host
    network: float  # and to those in others


@dataclass(frozen=True)
class Plan:
    """What is to be trained."""

    kind: str  # which of the costs a picture has
    pictures: int
    epochs: int
    gpus: int
    batch: int  # pictures in a step, over all GPUs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/flickr8k/Images"))
    parser.add_argument("--batch", type=int, default=4, help="pictures of the step that is timed")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tflops", type=float, default=200, help="assumed of a GPU, in training")
    parser.add_argument("--price", type=float, default=3, help="assumed of a GPU, dollars an hour")
    parser.add_argument("--link", type=float, default=200, help="assumed of a GPU, GB/s to others in its host")
    parser.add_argument("--network", type=float, default=25, help="assumed of a GPU, GB/s to those in other hosts")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    models = {name: _model(load_recipe(Path(f"recipes/flickr8k-{name}.yaml"))) for name in ("small", "base")}
    costs = {name: _cost(model, given.batch, given.repeat) for name, model in models.items()}
    data = _data_cost(given.pictures)
    assumed = Assumed(given.tflops * 1e12, given.price, given.link * 1e9, given.network * 1e9)
    base = costs["base"]
    plans = {
        # Karpathy's train split, five captions a picture; flickr8k-base's two stages.
        "COCO, frozen": _plan(base, data, assumed, Plan("frozen_5", 113_287, epochs=5, gpus=8, batch=512)),
        "COCO, whole": _plan(base, data, assumed, Plan("whole_5", 113_287, epochs=5, gpus=8, batch=512)),
        "a billion pairs": _plan(base, data, assumed, Plan("whole_1", 10**9, epochs=1, gpus=64, batch=16384)),
    }
    _show(costs, data, plans)
    write(given.json, circumstances() | {"costs": costs, "data": data, "assumed": asdict(assumed), "plans": plans})


def _model(recipe: Recipe) -> VisionPrefixLM:
    """The recipe's shapes, on random weights; the small one's vocabulary is the embedded model's."""
    config = recipe.model.model_copy(update={"alignment": None})
    tokenizer = Tokenizer.from_file(str(embedded() / TOKENIZER))
    if config.encoder.family == "hybrid":
        vit: Any = Dinov2Config(hidden_size=384, num_attention_heads=6)
        gpt2 = GPT2Config(vocab_size=tokenizer.get_vocab_size(), n_positions=448, n_embd=384, n_layer=4, n_head=6)
    else:
        vit, gpt2 = ViTConfig(), GPT2Config()
    encoder: Any = build_encoder(config.encoder, vit.to_dict() | {"attn_implementation": "eager"})
    return VisionPrefixLM(config, encoder, Language(GPT2(gpt2, config.decoder.dropout), tokenizer))


def _stage(frozen: bool) -> Stage:
    rates = {"encoder": 1e-5, "neck": 1e-5, "projection": 1e-5, "decoder": 1e-5}
    name = "frozen" if frozen else "whole"
    return Stage.model_validate(
        {"name": name, "epochs": 1, "batch_size": 1, "rates": rates, "frozen": "backbone" if frozen else 0}
    )


def _cost(model: VisionPrefixLM, batch: int, repeat: int) -> dict[str, float]:
    found: dict[str, float] = {"parameters": sum(p.numel() for p in model.parameters())}
    side, encoder = model.preprocessing.size[0], model.encoder
    pixels = torch.randn(batch, 3, side, side)
    features = torch.randn(batch, encoder.grid**2, encoder.feature_width)
    found["pixel_bytes"] = 3 * side * side
    found["feature_bytes"] = 2 * encoder.grid**2 * encoder.feature_width  # they are kept as float16
    for name, frozen, captions in (("frozen_5", True, 5), ("whole_5", False, 5), ("whole_1", False, 1)):
        ids = torch.randint(model.end_id, (batch, captions, _TOKENS))
        given = (Examples(ids, features=features) if frozen else Examples(ids, pixels=pixels),)
        optimizer = prepare_stage(model, _stage(frozen))
        found[f"{name}_trained"] = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
        # The counter takes the backward pass of a depthwise convolution for that of a whole one.
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(_OBJECTIVE, given)
        found[f"{name}_flops"] = 3 * counter.get_total_flops() / batch
        _step(model, optimizer, given)  # which makes the optimizer's state
        seconds = []
        for _ in range(repeat):
            begun = time.process_time()
            _step(model, optimizer, given)
            seconds.append(time.process_time() - begun)
        found[f"{name}_seconds"] = min(seconds) / batch
    # Of the last stage, which trains everything, without a moving average, which is as large as the model.
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), Progress(), model, {"optimizer": optimizer.state_dict(), "average": None})
        found["checkpoint_bytes"] = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return found


def _step(model: VisionPrefixLM, optimizer: torch.optim.Optimizer, given: Batch) -> None:
    (model(_OBJECTIVE, given) / _OBJECTIVE.size(given)).backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _data_cost(folder: Path) -> dict[str, float]:
    paths = sorted(folder.glob("*.jpg"))[:500]
    begun = time.process_time()
    for path in paths:
        images.squeeze(images.decode(path), (224, 224))
    seconds = (time.process_time() - begun) / len(paths)
    tracemalloc.start()
    count = 20_000
    examples = [
        Example(f"{i:09}.jpg", folder / f"{i:09}.jpg", (f"a caption of {i} that is as long as most are",), "train")
        for i in range(count)
    ]
    table = CaptionTable([[list(range(1000 + i % 9, 1000 + i % 9 + _TOKENS))] for i in range(count)])
    memory = tracemalloc.get_traced_memory()[0] / len(table)
    tracemalloc.stop()
    assert len(examples) == count
    return {
        "jpeg_bytes": float(np.mean([path.stat().st_size for path in paths])),
        "decode_seconds": seconds,
        "example_memory": memory,
    }


def _plan(cost: dict[str, float], data: dict[str, float], assumed: Assumed, plan: Plan) -> dict[str, float]:
    """What the plan takes, with no allowance for waiting, validation and faults."""
    speed = plan.gpus * assumed.flops / cost[f"{plan.kind}_flops"]
    hours = plan.pictures * plan.epochs / speed / 3600
    # A ring's all-reduce, sent by each GPU.
    gradient = 4 * cost[f"{plan.kind}_trained"] * 2 * (plan.gpus - 1) / plan.gpus
    link = assumed.link if plan.gpus <= 8 else assumed.network
    read = cost["feature_bytes" if plan.kind.startswith("frozen") else "pixel_bytes"]
    return {
        "pictures": plan.pictures,
        "epochs": plan.epochs,
        "gpus": plan.gpus,
        "batch": plan.batch,
        "pictures_per_second": speed,
        "hours": hours,
        "dollars": hours * plan.gpus * assumed.price,
        "step_seconds": plan.batch / speed,
        "exchanged_bytes": gradient,
        "exchange_seconds": gradient / link,
        "cache_bytes": plan.pictures * read,
        "cache_bytes_per_second": speed * read,
        "jpeg_bytes": plan.pictures * data["jpeg_bytes"],
        "jpeg_bytes_per_second": speed * data["jpeg_bytes"],
        "decoding_cores": speed * data["decode_seconds"],
        "memory_bytes": plan.pictures * data["example_memory"],
    }


def _show(costs: dict[str, dict[str, float]], data: dict[str, float], plans: dict[str, dict[str, float]]) -> None:
    columns = ["", *(f"flickr8k-{name}" for name in costs)]
    rows = [
        ["parameters, millions", *(f"{c['parameters'] / 1e6:.1f}" for c in costs.values())],
        ["checkpoint, MB", *(f"{c['checkpoint_bytes'] / 1e6:.0f}" for c in costs.values())],
        ["pixels of a picture, kB", *(f"{c['pixel_bytes'] / 1e3:.0f}" for c in costs.values())],
        ["cached features of a picture, kB", *(f"{c['feature_bytes'] / 1e3:.0f}" for c in costs.values())],
    ]
    named = {"frozen_5": "cached features, 5 captions", "whole_5": "whole, 5 captions", "whole_1": "whole, 1 caption"}
    for kind, name in named.items():
        rows += [
            [f"{name}: parameters trained, millions", *(f"{c[f'{kind}_trained'] / 1e6:.1f}" for c in costs.values())],
            [f"{name}: GFLOP a picture", *(f"{c[f'{kind}_flops'] / 1e9:.1f}" for c in costs.values())],
            [f"{name}: seconds a picture", *(f"{c[f'{kind}_seconds']:.3f}" for c in costs.values())],
            [
                f"{name}: GFLOP/s",
                *(f"{c[f'{kind}_flops'] / c[f'{kind}_seconds'] / 1e9:.0f}" for c in costs.values()),
            ],
        ]
    show("A training step on one core, float32", columns, rows)
    show(
        "Data",
        ["", ""],
        [
            ["a JPEG, kB", f"{data['jpeg_bytes'] / 1e3:.1f}"],
            ["decoding it, ms on one core", f"{1e3 * data['decode_seconds']:.2f}"],
            ["an example of one caption in memory, bytes", f"{data['example_memory']:.0f}"],
        ],
    )
    units = {
        "pictures": ("pictures", 1.0),
        "epochs": ("epochs (chosen)", 1.0),
        "gpus": ("GPUs (chosen)", 1.0),
        "batch": ("pictures in a step (chosen)", 1.0),
        "pictures_per_second": ("pictures a second", 1.0),
        "hours": ("hours", 1.0),
        "dollars": ("dollars", 1.0),
        "step_seconds": ("computing a step, ms", 1e-3),
        "exchanged_bytes": ("gradients that a GPU sends a step, MB", 1e6),
        "exchange_seconds": ("sending them, ms", 1e-3),
        "cache_bytes": ("cache of pixels or features, GB", 1e9),
        "cache_bytes_per_second": ("read from it, GB/s", 1e9),
        "jpeg_bytes": ("JPEG, GB", 1e9),
        "jpeg_bytes_per_second": ("JPEG, if read anew, GB/s", 1e9),
        "decoding_cores": ("cores to decode them, if read anew", 1.0),
        "memory_bytes": ("examples in each process's memory, GB", 1e9),
    }
    table = [[name, *(f"{_short(p[key] / unit)}" for p in plans.values())] for key, (name, unit) in units.items()]
    show("flickr8k-base, at the assumed rate, price and link", ["", *plans], table)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()

"""`captionist model import`: a public checkpoint becomes a bundle that needs no torch."""

import json
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim

from captionist import bundle as bundles
from captionist import paths
from captionist.bundle import Bundle, BundleConfig, DecoderConfig
from captionist.captioner import Captioner
from captionist.errors import BundleError, CaptionistError
from captionist.exporting.graphs import WEIGHTS, Precision, export_decoder, export_graph, share_weights
from captionist.exporting.public.checkpoint import Checkpoint, open_checkpoint
from captionist.exporting.quantization import quantize_products, quantize_products_by_row

_TOLERANCE = 1e-3
_GRAPHS = (bundles.ENCODER, bundles.PREFILL, bundles.STEP)


def import_model(source: str, bundle: Path, precision: Precision = "int8") -> Bundle:
    """Write a checkpoint of GIT, BLIP or VisionEncoderDecoderModel as a bundle.

    source: a directory in the hub's layout, or a name on the hub. Raises BundleError if the bundle exists, the
    checkpoint cannot be used, or the new bundle does not work; nothing is left behind then.
    """
    if precision not in get_args(Precision):
        raise BundleError(f"{precision!r} is not a precision: choose one of {', '.join(get_args(Precision))}")
    if paths.exists(bundle):
        raise BundleError(f"{bundle} exists already: choose another name, or delete it first")
    checkpoint = open_checkpoint(source)
    partial = bundle.with_name(f".{bundle.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with torch.inference_mode():
            _write(checkpoint, partial, bundle.name, precision)
        partial.rename(bundle)
    except OSError as error:
        raise BundleError(f"{bundle} cannot be written ({error.strerror}): name another place") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Bundle.open(bundle)


def _write(checkpoint: Checkpoint, directory: Path, name: str, precision: Precision) -> None:
    model, decoder = checkpoint.model, checkpoint.model.decoder
    pixels = torch.rand(2, 3, *model.image)
    visual_tokens = model.encoder(pixels)
    logits, _, prefix_keys, _ = decoder.prefill(visual_tokens)
    count, width = visual_tokens.shape[1:]
    _, heads, _, head_width = prefix_keys[0].shape
    grid = model.image[0] // model.cell[0], model.image[1] // model.cell[1]
    config = BundleConfig(
        name=name,
        version="1",
        precision=precision,
        image=checkpoint.image,
        grid=grid,
        leading=count - grid[0] * grid[1],
        prefix_length=count,
        decoder=DecoderConfig(
            layers=len(prefix_keys),
            heads=heads,
            head_width=head_width,
            width=width,
            bos_id=decoder.begin,
            eos_id=model.eos,
            max_tokens=model.positions - 1,
        ),
        vocabulary_size=logits.shape[1],
        search=checkpoint.search.override(max_tokens=min(checkpoint.search.max_tokens, model.positions - 1)),
        lowercase=checkpoint.tokenizer.encode("A").ids == checkpoint.tokenizer.encode("a").ids,
        source=checkpoint.source,
    )
    _write_tokenizer(checkpoint, directory, config)

    export_graph(model.encoder, (pixels,), ["visual_tokens"], [{0: Dim("batch")}], directory / bundles.ENCODER)
    export_decoder(decoder, visual_tokens, model.positions - 2, directory)
    if precision == "int8":
        quantize_products(directory / bundles.ENCODER)
        quantize_products(directory / bundles.PREFILL, smooth_output=True)
        quantize_products_by_row(directory / bundles.STEP)
    share_weights([directory / graph for graph in _GRAPHS], directory / WEIGHTS, half=precision != "fp32")
    bundles.write_config(directory, config)
    (directory / bundles.SCORES).write_text(json.dumps({"note": "imported, and not scored here"}), encoding="utf-8")
    (directory / bundles.MODEL_CARD).write_text(_card(config), encoding="utf-8")
    bundles.write_checksums(directory)
    _try_out(directory, pixels[:1], logits[:1].log_softmax(-1), visual_tokens[:1])


def _write_tokenizer(checkpoint: Checkpoint, directory: Path, config: BundleConfig) -> None:
    """The embeddings may have more rows than the tokenizer has tokens; these become special tokens without text."""
    tokenizer, size = checkpoint.tokenizer, config.vocabulary_size
    have = tokenizer.get_vocab_size()
    if have > size:
        raise BundleError(f"{config.name}: its tokenizer has {have:,} tokens, its model {size:,}: fetch both again")
    tokenizer.add_special_tokens([f"[row {index}]" for index in range(have, size)])
    if max(tokenizer.get_vocab().values()) >= size:
        raise BundleError(f"{config.name}: its tokenizer has gaps in its ids: choose another checkpoint")
    tokenizer.save(str(directory / bundles.TOKENIZER))


def _try_out(directory: Path, pixels: Tensor, log_probs: Tensor, visual_tokens: Tensor) -> None:
    """Raise BundleError if the bundle fails on its first picture, or in fp32 says otherwise than the checkpoint."""
    try:
        captioner = Captioner(directory)
        height, width = pixels.shape[2:]
        captioner.caption(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
        first = captioner.decoder.prefill(visual_tokens.numpy()).log_probs
    except CaptionistError as error:
        raise BundleError(f"what was written does not work ({error}): choose another checkpoint") from error
    if captioner.bundle.config.precision == "fp32" and np.abs(first - log_probs.numpy()).max() > _TOLERANCE:
        raise BundleError("the graphs do not agree with the checkpoint: report this, with its name")


def _card(config: BundleConfig) -> str:
    source = config.source
    assert source is not None
    sums = "".join(f"\n- `{name}`: `{value}`" for name, value in source.weights.items())
    return (
        f"# {config.name}\n\n"
        f"Imported from `{source.name}`{f' at revision `{source.revision}`' if source.revision else ''} "
        f"({source.architecture}), in {config.precision}. Captionist did not train it and has not scored it; "
        "`captionist evaluate --model` scores it.\n\n"
        f"Licence, by its own card: {source.licence or 'not stated; find out before you use it'}.\n\n"
        "Until `captionist model calibrate` has seen people's captions, its confidence is the geometric mean of its "
        "tokens' probabilities, which only ranks captions.\n\n"
        f"SHA-256 of its weights:\n{sums}\n"
    )

"""The inputs and outputs of a bundle's graphs.

detector.onnx: see `inference.detector`
encoder.onnx: pixels [B, 3, H, W], objects [B, K, 6] -> visual_tokens [B, P, W]
prefill.onnx: visual_tokens [B, P, W] -> log_probs [B, V], attention [B, P], and for each layer i
    keys_i, values_i [B, heads, P + 1, width]
step.onnx: tokens int64 [R, T], picture int64 [R], and for each layer
    prefix_keys_i, prefix_values_i [B, heads, P + 1, width], keys_i, values_i [R, heads, S, width]
    -> log_probs [R, T, V], attention [R, T, P], and for each layer keys_out_i, values_out_i [R, heads, S + T, width]
image_head.onnx: visual_tokens [B, P, W], objects [B, K, 6] -> image_embeddings [B, E], unit vectors
sentence_head.onnx: sentences int64 [S, T], padded with V -> sentence_embeddings [S, E], unit vectors

Models with an alignment have the two heads; models with a detector have detector.onnx and the inputs `objects`. W is
D, the width that GPT-2 reads, plus `AlignmentConfig.features`. All but scene, tokens, picture and sentences are
float32.

Prefill reads the visual tokens and then the begin-of-text token. Its keys and values are kept once per picture, however
many beams there are; `picture` says which of them a row uses. A step reads the next T tokens of each row, after S
earlier ones (none at first). A step that reads one picture at a time has no `picture`.
"""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from captionist.bundle import CONFIG, DETECTOR, ENCODER, IMAGE_HEAD, PREFILL, SENTENCE_HEAD, STEP, BundleConfig
from captionist.errors import BundleError
from captionist.inference import detector

Shapes = dict[str, tuple[int | None, ...]]
"""The dimensions of each input and output, by name; None for one that varies from call to call. Where graphs use a
name for different things, the graph's name comes first."""

PICTURE = "picture"
_SMALL = 512


def is_small(width: int) -> bool:
    """Whether a decoder of that width computes a step sooner than a second thread wakes up.

    In int8, its step reads one picture's captions at a time.
    """
    return width <= _SMALL


def layered(layers: int, *names: str) -> list[str]:
    """Names of inputs or outputs that each layer has: the first name for all layers, then the next."""
    return [f"{name}_{layer}" for name in names for layer in range(layers)]


class Form:
    """The inputs and outputs of a bundle's graphs, according to its config.json."""

    def __init__(self, config: BundleConfig) -> None:
        objects, layers = ["objects"] if config.detector else [], config.decoder.layers
        self.inputs = {
            DETECTOR: detector.INPUTS,
            ENCODER: ["pixels", *objects],
            PREFILL: ["visual_tokens"],
            STEP: ["tokens", PICTURE, *layered(layers, "prefix_keys", "prefix_values", "keys", "values")],
            IMAGE_HEAD: ["visual_tokens", *objects],
            SENTENCE_HEAD: ["sentences"],
        }
        self.outputs = {
            DETECTOR: detector.OUTPUTS,
            ENCODER: ["visual_tokens"],
            PREFILL: ["log_probs", "attention", *layered(layers, "keys", "values")],
            STEP: ["log_probs", "attention", *layered(layers, "keys_out", "values_out")],
            IMAGE_HEAD: ["image_embeddings"],
            SENTENCE_HEAD: ["sentence_embeddings"],
        }
        decoder, alignment = config.decoder, config.alignment
        heads, size = decoder.heads, decoder.head_width
        prefix, embeddings = config.prefix_length, (None, alignment.width if alignment else None)
        classes = len(config.detector.classes) if config.detector else 0
        self.shapes: Shapes = {
            "scene": (None, None, None, 3),
            "scores": (None, None, classes),
            "boxes": (None, None, 4),
            "objects": (None, classes, detector.OBJECT_WIDTH),
            "pixels": (None, 3, config.image.height, config.image.width),
            "visual_tokens": (None, prefix, decoder.width + (alignment.features if alignment else 0)),
            "tokens": (None, None),
            PICTURE: (None,),
            "log_probs": (None, config.vocabulary_size),
            "attention": (None, prefix),
            f"{STEP} log_probs": (None, None, config.vocabulary_size),
            f"{STEP} attention": (None, None, prefix),
            "sentences": (None, None),
            **dict.fromkeys(("image_embeddings", "sentence_embeddings"), embeddings),
            **dict.fromkeys(layered(layers, "prefix_keys", "prefix_values"), (None, heads, prefix + 1, size)),
            **dict.fromkeys(layered(layers, "keys", "values", "keys_out", "values_out"), (None, heads, None, size)),
        }

    def check(self, path: Path, session: ort.InferenceSession) -> None:
        """Raises BundleError if a graph has another form."""
        inputs, outputs = ([node.name for node in part] for part in (session.get_inputs(), session.get_outputs()))
        expected = [name for name in self.inputs[path.name] if name != PICTURE or name in inputs]
        if (inputs, outputs) != (expected, self.outputs[path.name]):
            raise BundleError(f"{path} is not in the form that this captionist reads: export the model again")
        for node in (*session.get_inputs(), *session.get_outputs()):
            shape = self.shapes.get(f"{path.name} {node.name}") or self.shapes[node.name]
            # A dimension that the graph leaves open has a name, or None.
            fits = len(node.shape) == len(shape) and all(
                size is None or not isinstance(declared, int) or declared == size
                for declared, size in zip(node.shape, shape, strict=True)
            )
            if not fits:
                raise BundleError(
                    f"{path}: {node.name} is {_render(node.shape)}, but by {CONFIG} it should be {_render(shape)}: "
                    "export the model again"
                )


def _render(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join(str(size) if isinstance(size, int) else "any" for size in shape) + "]"

"""The graphs of a bundle on ONNX Runtime, behind the `Decoder` protocol.

encoder.onnx: pixels [B, 3, H, W] -> visual_tokens [B, P, D]
prefill.onnx: visual_tokens [B, P, D] -> logits [B, V], attention [B, P], keys, values [B, L, heads, P + 1, width]
step.onnx: tokens int64 [R], keys, values [R, L, heads, S, width]
    -> logits [R, V], attention [R, P], keys_out, values_out [R, L, heads, S + 1, width]

All but tokens are float32. Prefill reads the begin-of-text token after the visual ones.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from captionist.bundle import ENCODER, PREFILL, STEP, Bundle
from captionist.errors import BundleError
from captionist.inference.decoder import Step
from captionist.inference.threads import available_cores

Floats = NDArray[np.float32]
Cache = tuple[Floats, Floats]

_OUTPUTS = {
    ENCODER: ["visual_tokens"],
    PREFILL: ["logits", "attention", "keys", "values"],
    STEP: ["logits", "attention", "keys_out", "values_out"],
}
_INPUTS = {ENCODER: ["pixels"], PREFILL: ["visual_tokens"], STEP: ["tokens", "keys", "values"]}


@dataclass(frozen=True)
class OrtDecoder:
    """A `Decoder` whose state is its key-value cache: two float32 arrays [R, L, heads, S, width]."""

    prefill_session: ort.InferenceSession
    step_session: ort.InferenceSession
    eos_id: int
    max_tokens: int

    def prefill(self, visual_tokens: Floats) -> Step:
        """visual_tokens: float32 [B, P, D]."""
        logits, attention, keys, values = self.prefill_session.run(_OUTPUTS[PREFILL], {"visual_tokens": visual_tokens})
        return Step(logits, attention, (keys, values))

    def step(self, tokens: NDArray[np.int64], state: Cache) -> Step:
        """tokens: int64 [R]."""
        keys, values = state
        feeds = {"tokens": tokens, "keys": keys, "values": values}
        logits, attention, keys, values = self.step_session.run(_OUTPUTS[STEP], feeds)
        return Step(logits, attention, (keys, values))

    def reorder(self, state: Cache, rows: NDArray[np.int64]) -> Cache:
        """rows: int64 [R']. Nothing is copied where the rows stay as they are."""
        keys, values = state
        if np.array_equal(rows, np.arange(len(keys))):
            return state
        return keys.take(rows, axis=0), values.take(rows, axis=0)


class Engine:
    """A bundle's three sessions. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """threads: for each session; by default the cores that this process really has.

        Raises BundleError where a graph cannot be loaded or is not of the form above, ValueError for threads below 1.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be at least 1, but it is {threads}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or available_cores()
        options.log_severity_level = 3  # errors only: the warnings are about graph optimisation
        self._encoder = _load(bundle.path / ENCODER, options)
        self.decoder = OrtDecoder(
            _load(bundle.path / PREFILL, options),
            _load(bundle.path / STEP, options),
            bundle.config.decoder.eos_id,
            bundle.config.decoder.max_tokens,
        )

    def encode(self, pixels: Floats) -> Floats:
        """Pictures to visual tokens: float32 [B, 3, H, W] -> float32 [B, P, D]."""
        tokens: Floats = self._encoder.run(_OUTPUTS[ENCODER], {"pixels": pixels})[0]
        return tokens


def _load(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has an exception class for each status, with no base of their own
        raise BundleError(f"{path} cannot be loaded ({error}): see `captionist model verify`") from error
    inputs, outputs = ([node.name for node in nodes] for nodes in (session.get_inputs(), session.get_outputs()))
    if inputs != _INPUTS[path.name] or outputs != _OUTPUTS[path.name]:
        raise BundleError(
            f"{path} maps {inputs} to {outputs}, not {_INPUTS[path.name]} to {_OUTPUTS[path.name]}: "
            "export the model again with this captionist"
        )
    return session

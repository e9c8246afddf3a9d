"""Sentences that people wrote about other pictures; some may fit this one, too.

sentences.txt: N sentences, one a line, in plain lower-case words.
sentences.npz: embeddings int8 [N, E], the sentences' unit vectors in steps of scale, float32 []; named uint8 [N, K /
    8], which of the detector's K classes each sentence names, one bit per class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captionist.bundle import BANK_SENTENCES, BANK_VECTORS, BankConfig
from captionist.errors import BundleError
from captionist.inference.arrays import read_arrays

Floats = NDArray[np.float32]
_SEEN = 0.3  # an object with at least this score counts
_EVERYWHERE = 5  # added to each class's number of sentences, so that the rarest class does not outweigh all others
_STEPS = 127


@dataclass(frozen=True, eq=False)
class Bank:
    """The sentences of a bundle; embeddings float32 [N, E], unit vectors; named bool [N, K]."""

    sentences: tuple[str, ...]
    embeddings: Floats
    named: NDArray[np.bool_]
    config: BankConfig

    def support(self, named: NDArray[np.bool_], scores: Floats) -> Floats:
        """How well the classes that S sentences name match those that are seen: cosines, float32 [S].

        named: bool [S, K]; scores: float32 [K], of the detector. The rarer a class in the bank, the more it counts. 0
        if nothing is named, or nothing seen.
        """
        support: Floats = _unit(named * self._rarity) @ self._seen(scores)
        return support

    def fit(self, cosines: Floats, support: Floats) -> Floats:
        """How well S sentences fit a picture before they are compared with each other: float32 [S], a logit."""
        return self.config.cosine * cosines + self.config.support * support

    def nearest(self, image: Floats, scores: Floats) -> NDArray[np.int64]:
        """The indices of the sentences that fit a picture best, best first: `BankConfig.nearest` of them, or all.

        image: float32 [E], a unit vector; scores: float32 [K], of the detector.
        """
        fit = self.fit(self.embeddings @ image, self._class_vectors @ self._seen(scores))
        count = min(self.config.nearest, len(fit))
        best = np.argpartition(-fit, count - 1)[:count]
        return best[np.lexsort((best, -fit[best]))]

    @cached_property
    def _rarity(self) -> Floats:
        rarity: Floats = np.log1p(len(self.named) / (_EVERYWHERE + self.named.sum(0))).astype(np.float32)
        return rarity

    @cached_property
    def _class_vectors(self) -> Floats:
        return _unit(self.named * self._rarity)

    def _seen(self, scores: Floats) -> Floats:
        return _unit(np.where(scores > _SEEN, scores, 0) * self._rarity)


def read_bank(directory: Path, config: BankConfig, width: int, classes: int) -> Bank:
    """A bundle's bank. width, classes: E and K, as config.json has them. Raises BundleError if it is damaged."""
    path = directory / BANK_VECTORS
    try:
        sentences = tuple((directory / BANK_SENTENCES).read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise BundleError(f"{directory / BANK_SENTENCES} cannot be read ({error}): export the model again") from error
    steps, scale, bits = read_arrays(path, ("embeddings", "scale", "named")).values()
    expected = {
        "embeddings": (steps, np.int8, (len(sentences), width)),
        "scale": (scale, np.float32, ()),
        "named": (bits, np.uint8, (len(sentences), -(-classes // 8))),
    }
    for name, (array, dtype, shape) in expected.items():
        if array.dtype != dtype or array.shape != shape:
            raise BundleError(
                f"{path}: {name} is {array.dtype} {list(array.shape)}, but by {BANK_SENTENCES} and config.json it "
                f"should be {np.dtype(dtype)} {list(shape)}: export the model again"
            )
    if not sentences:
        raise BundleError(f"{directory / BANK_SENTENCES} holds no sentence: export the model again")
    named = np.unpackbits(bits, axis=1, count=classes).astype(np.bool_)
    return Bank(sentences, _unit(steps * scale), named, config)


def write_bank(directory: Path, sentences: Sequence[str], embeddings: Floats, named: NDArray[np.bool_]) -> None:
    """Write a bundle's bank: N sentences of one line each, float32 [N, E] unit vectors and bool [N, K]."""
    scale = np.float32(np.abs(embeddings).max(initial=1e-6) / _STEPS)
    (directory / BANK_SENTENCES).write_text("".join(f"{text}\n" for text in sentences), encoding="utf-8")
    np.savez_compressed(
        directory / BANK_VECTORS,
        embeddings=np.round(embeddings / scale).astype(np.int8),
        scale=scale,
        named=np.packbits(named, axis=1),
    )


def _unit(vectors: Floats) -> Floats:
    # numpy.linalg.norm would need as much memory again, which for a bank is a lot.
    lengths = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    unit: Floats = vectors / np.maximum(lengths, np.float32(1e-6))
    return unit

"""Where a step's examples come from: pictures with captions, or captions alone, ready to be cut into batches."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from captionist.model.language import encode_caption
from captionist.training.annotations import Annotation
from captionist.training.batches import CaptionTable
from captionist.training.groups import agreement
from captionist.training.pictures import PictureSet


class PictureSource:
    """The train pictures of one source; an example is a row of its caption table."""

    def __init__(self, name: str, pictures: PictureSet, tokenizer: Tokenizer, weight: float = 1.0) -> None:
        self.name, self.pictures = name, pictures
        self._tokenizer, self._weight = tokenizer, weight

    @property
    def references(self) -> list[tuple[str, ...]]:
        """What people say about each picture."""
        return [example.references for example in self.pictures.examples]

    @cached_property
    def captions(self) -> CaptionTable:
        """Each picture's captions."""
        captions = [[encode_caption(self._tokenizer, text) for text in texts] for texts in self.references]
        examples = self.pictures.examples
        weights = [[self._weight * w for w in e.weights or (1.0,) * len(e.references)] for e in examples]
        weighed = any(weight != 1 for row in weights for weight in row)
        return CaptionTable(captions, weights=weights if weighed else None)

    @cached_property
    def single_captions(self) -> CaptionTable:
        """Each picture's captions, unpacked."""
        return self.captions.unpacked()

    def table(self, packed: bool) -> CaptionTable:
        """A row for each picture or, unpacked, for each caption."""
        return self.captions if packed else self.single_captions

    def annotations(
        self, rows: NDArray[np.int64], _key: Sequence[int], _places: NDArray[np.int64]
    ) -> dict[str, Tensor]:
        """By name, float32 [B, ...] of these pictures."""
        return self.pictures.annotations(rows)


class TextSource:
    """Captions without pictures; an example is one of them, or a group of them in a row."""

    pictures: None = None

    def __init__(
        self,
        name: str,
        captions: Sequence[str],
        tokenizer: Tokenizer,
        max_tokens: int,
        weight: float = 1.0,
        group: int = 1,
        annotations: Sequence[Annotation] = (),
        groups: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """group: how many captions form one example, as if they were one picture's; 1 if there are annotations. groups:
        the numbers of the captions in each group, which are weighted by how far they agree; None: any captions form a
        group.
        """
        self.name = name
        self._annotations = annotations
        encoded = {index: encode_caption(tokenizer, caption) for index, caption in enumerate(captions)}
        if groups is None:
            # Neighbours describe the same picture; packed together, they would make batches less varied.
            order = np.random.default_rng(0).permutation(len(captions)).tolist()
            short = [index for index in order if len(encoded[index]) <= max_tokens]
            group = 1 if annotations else group
            kept = [short[i : i + group] for i in range(0, len(short), group)]
        else:
            cut = [[index for index in some if len(encoded[index]) <= max_tokens] for some in groups]
            kept = [some for some in cut if some]
        self.references = [tuple(captions[index] for index in some) for some in kept]
        weights = None if weight == 1 else [[weight] * len(some) for some in kept]
        if groups is not None:
            weights = [[weight * share for share in some] for some in agreement(self.references)]
        self._table = CaptionTable([[encoded[index] for index in some] for some in kept], weights=weights)

    def table(self, _packed: bool) -> CaptionTable:
        """A row for each text, or group of them."""
        return self._table

    def annotations(self, rows: NDArray[np.int64], key: Sequence[int], places: NDArray[np.int64]) -> dict[str, Tensor]:
        """By name, float32 [B, ...] for the texts `rows`, at `places` of the step that `key` names.

        They are drawn anew each time a text comes up.
        """
        made: dict[str, Tensor] = {}
        for number, annotation in enumerate(self._annotations):
            arrays = [
                annotation.simulate(" ".join(self.references[row]), np.random.default_rng((*key, number, int(place))))
                for row, place in zip(rows, places, strict=True)
            ]
            made[annotation.name] = torch.from_numpy(np.stack(arrays))
        return made


Source = PictureSource | TextSource

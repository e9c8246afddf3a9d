"""Dev captions after an epoch, and their scores."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from accelerate.utils import gather_object

from captionist.data import Example
from captionist.evaluation.cider import CiderD
from captionist.evaluation.scorers import bleu
from captionist.evaluation.tokenize import tokenize
from captionist.inference.search import SearchOptions, search
from captionist.model.decoder import TorchDecoder
from captionist.model.fusion import VisionPrefixLM
from captionist.training.recipe import ValidationConfig

Encode = Callable[[VisionPrefixLM, int, int], torch.Tensor]


class Validator:
    """Scores a model on the dev pictures by beam search; the work is shared among the processes."""

    def __init__(self, examples: Sequence[Example], config: ValidationConfig, process: int, processes: int) -> None:
        self.examples, self.config = examples, config
        self.process, self.processes = process, processes
        self._references = [[tokenize(reference) for reference in e.references] for e in examples]
        self._cider = CiderD(self._references)

    def captions(self, model: VisionPrefixLM, encode: Encode) -> list[str]:
        """A caption for every picture. `encode(model, start, stop)` gives the visual prefix of a range of them."""
        decoder = TorchDecoder(model)
        options = SearchOptions(num_beams=self.config.num_beams, length_penalty=self.config.length_penalty)
        mine = []
        starts = range(0, len(self.examples), self.config.batch_size)
        for start in starts[self.process :: self.processes]:
            stop = min(start + self.config.batch_size, len(self.examples))
            found = search(decoder, encode(model, start, stop), stop - start, options)
            mine += [(start + i, model.tokenizer.decode(list(h[0].tokens))) for i, h in enumerate(found)]
        everyone = mine if self.processes == 1 else gather_object(mine)
        return [caption for _, caption in sorted(everyone)]

    def scores(self, captions: list[str]) -> dict[str, float]:
        """CIDEr-D and BLEU-4 of the captions, times 100, and how many of them differ."""
        words = [tokenize(caption) for caption in captions]
        return {
            "cider": 100 * float(np.mean(self._cider.score(words, self._references))),
            "bleu_4": 100 * bleu(self._references, words)[3],
            "distinct": float(len(set(captions))),
        }

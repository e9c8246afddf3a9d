"""Dev captions after an epoch, and their scores."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from accelerate.utils import gather_object
from torch.nn.utils.rnn import pad_sequence

from captionist.data import Example, clean_references
from captionist.evaluation.bleu import bleu
from captionist.evaluation.cider import CiderD
from captionist.evaluation.retrieval import recall
from captionist.evaluation.tokenize import tokenize
from captionist.inference.search import search
from captionist.inference.tokenizer import word_starts
from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import IGNORE, encode_caption
from captionist.model.torch_decoder import TorchDecoder
from captionist.training.objectives import Examples, look
from captionist.training.recipe import Recipe

Show = Callable[[int, int], Examples]
"""Shows the model a range of dev pictures, without their captions."""


class Validator:
    """Scores a model on the dev pictures of one or more corpora; the work is shared among the processes.

    Captions are found by beam search. What counts is the mean over the corpora, by their weights.
    """

    def __init__(self, dev: Mapping[str, Sequence[Example]], recipe: Recipe, process: int, processes: int) -> None:
        self.dev, self.process, self.processes = dev, process, processes
        self.batch_size, self.lowercase = recipe.validation.batch_size, recipe.data.lowercase
        self.search = recipe.search.override(match_weight=0.0, retrieved=0)
        self._references = {name: [[tokenize(r) for r in e.references] for e in some] for name, some in dev.items()}
        self._cider = {name: CiderD(references) for name, references in self._references.items()}
        corpora = recipe.validation.corpora
        weights = {name: corpora[name].weight if corpora else 1.0 for name in dev}
        self._weights = {name: weight / sum(weights.values()) for name, weight in weights.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """The corpora whose scores are listed beside the mean; none if there is only one."""
        return tuple(self.dev) if len(self.dev) > 1 else ()

    def _ranges(self, corpus: str) -> list[tuple[int, int]]:
        count = len(self.dev[corpus])
        return [(start, min(start + self.batch_size, count)) for start in range(0, count, self.batch_size)]

    def captions(self, model: VisionPrefixLM, corpus: str, show: Show) -> list[str]:
        """A caption for every picture of a corpus."""
        decoder, word_start, mine = TorchDecoder(model), word_starts(model.tokenizer), []
        for start, stop in self._ranges(corpus)[self.process :: self.processes]:
            found = search(decoder, look(model, show(start, stop)), stop - start, self.search, word_start)
            mine += [(start + i, model.tokenizer.decode(list(h[0].tokens))) for i, h in enumerate(found)]
        everyone = mine if self.processes == 1 else gather_object(mine)
        return [caption for _, caption in sorted(everyone)]

    def recalls(self, model: VisionPrefixLM, corpus: str, show: Show) -> dict[str, float]:
        """How well `model.alignment` finds pictures' sentences and sentences' pictures; see `retrieval.recall`."""
        assert model.alignment is not None
        parts = [show(start, stop) for start, stop in self._ranges(corpus)]
        images = [model.embed(look(model, part), part.annotations.get("objects")) for part in parts]
        examples = clean_references(self.dev[corpus], self.lowercase)
        ids = [torch.tensor(encode_caption(model.tokenizer, text)) for e in examples for text in e.references]
        tokens = pad_sequence(ids, batch_first=True, padding_value=IGNORE)
        owners = np.array([i for i, example in enumerate(examples) for _ in example.references])
        sentences = model.alignment.sentences(tokens.to(images[0].device))
        return recall(torch.cat(images).cpu().numpy(), sentences.cpu().numpy(), owners)

    def scores(self, captions: Mapping[str, list[str]], recalls: Mapping[str, dict[str, float]]) -> dict[str, float]:
        """The means over the corpora of `_scores` and of the recalls; with several corpora, `NAME/...` of each."""
        found = {name: self._scores(name, some) | recalls.get(name, {}) for name, some in captions.items()}
        measures = next(iter(found.values()))
        mean = {m: sum(self._weights[name] * scores[m] for name, scores in found.items()) for m in measures}
        return mean | {f"{name}/{m}": score for name in self.columns for m, score in found[name].items()}

    def _scores(self, corpus: str, captions: list[str]) -> dict[str, float]:
        """CIDEr-D and BLEU-4 of the captions, times 100, and how many of them differ."""
        words, references = [tokenize(caption) for caption in captions], self._references[corpus]
        return {
            "cider": 100 * float(np.mean(self._cider[corpus].score(words, references))),
            "bleu_4": 100 * bleu(references, words)[3],
            "distinct": float(len(set(captions))),
        }

    def by_picture(self, captions: Mapping[str, list[str]]) -> dict[str, str]:
        """The captions by their pictures' ids, prefixed with the corpus's name if there are several."""
        return {
            f"{name}/{example.id}" if self.columns else example.id: caption
            for name, examples in self.dev.items()
            for example, caption in zip(examples, captions[name], strict=True)
        }

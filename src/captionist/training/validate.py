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
"""A range of dev pictures, as the model is shown them; their captions are not."""


class Validator:
    """Scores a model on the dev pictures by beam search; the work is shared among the processes."""

    def __init__(self, examples: Sequence[Example], recipe: Recipe, process: int, processes: int) -> None:
        self.examples, self.config, self.lowercase = examples, recipe.validation, recipe.data.lowercase
        self.search = recipe.search.override(match_weight=0.0, retrieved=0)
        self.process, self.processes = process, processes
        self._references = [[tokenize(reference) for reference in e.references] for e in examples]
        self._cider = CiderD(self._references)

    def captions(self, model: VisionPrefixLM, show: Show) -> list[str]:
        """A caption for every picture."""
        decoder = TorchDecoder(model)
        word_start = word_starts(model.tokenizer)
        mine = []
        starts = range(0, len(self.examples), self.config.batch_size)
        for start in starts[self.process :: self.processes]:
            stop = min(start + self.config.batch_size, len(self.examples))
            found = search(decoder, look(model, show(start, stop)), stop - start, self.search, word_start)
            mine += [(start + i, model.tokenizer.decode(list(h[0].tokens))) for i, h in enumerate(found)]
        everyone = mine if self.processes == 1 else gather_object(mine)
        return [caption for _, caption in sorted(everyone)]

    def recalls(self, model: VisionPrefixLM, show: Show) -> dict[str, float]:
        """How well `model.alignment` finds pictures' sentences and sentences' pictures; see `retrieval.recall`."""
        assert model.alignment is not None
        starts = range(0, len(self.examples), self.config.batch_size)
        parts = [show(start, min(start + self.config.batch_size, len(self.examples))) for start in starts]
        images = [model.embed(look(model, part), part.annotations.get("objects")) for part in parts]
        texts = [text for example in clean_references(self.examples, self.lowercase) for text in example.references]
        ids = [torch.tensor(encode_caption(model.tokenizer, text)) for text in texts]
        tokens = pad_sequence(ids, batch_first=True, padding_value=IGNORE)
        owners = np.array([i for i, example in enumerate(self.examples) for _ in example.references])
        sentences = model.alignment.sentences(tokens.to(images[0].device))
        return recall(torch.cat(images).cpu().numpy(), sentences.cpu().numpy(), owners)

    def scores(self, captions: list[str]) -> dict[str, float]:
        """CIDEr-D and BLEU-4 of the captions, times 100, and how many of them differ."""
        words = [tokenize(caption) for caption in captions]
        return {
            "cider": 100 * float(np.mean(self._cider.score(words, self._references))),
            "bleu_4": 100 * bleu(self._references, words)[3],
            "distinct": float(len(set(captions))),
        }


class Validators:
    """Scores a model on the dev pictures of one corpus or several; what counts is the mean, by their weights."""

    def __init__(self, dev: Mapping[str, Sequence[Example]], recipe: Recipe, process: int, processes: int) -> None:
        self._each = {name: Validator(some, recipe, process, processes) for name, some in dev.items()}
        corpora = recipe.validation.corpora
        weights = {name: corpora[name].weight if corpora else 1.0 for name in dev}
        self._weights = {name: weight / sum(weights.values()) for name, weight in weights.items()}

    @property
    def columns(self) -> tuple[str, ...]:
        """The corpora whose scores stand beside their mean; none where there is but one."""
        return tuple(self._each) if len(self._each) > 1 else ()

    def captions(self, model: VisionPrefixLM, show: Mapping[str, Show]) -> dict[str, list[str]]:
        """A caption for every picture, by corpus; see `Validator.captions`."""
        return {name: each.captions(model, show[name]) for name, each in self._each.items()}

    def recalls(self, model: VisionPrefixLM, show: Mapping[str, Show]) -> dict[str, dict[str, float]]:
        """By corpus; see `Validator.recalls`."""
        return {name: each.recalls(model, show[name]) for name, each in self._each.items()}

    def scores(self, captions: Mapping[str, list[str]], recalls: Mapping[str, dict[str, float]]) -> dict[str, float]:
        """The means of `Validator.scores` and of the recalls; where there are several corpora, `NAME/...` of each."""
        found = {name: each.scores(captions[name]) | recalls.get(name, {}) for name, each in self._each.items()}
        measures = next(iter(found.values()))
        mean = {m: sum(self._weights[name] * scores[m] for name, scores in found.items()) for m in measures}
        return mean | {f"{name}/{m}": score for name in self.columns for m, score in found[name].items()}

    def by_picture(self, captions: Mapping[str, list[str]]) -> dict[str, str]:
        """The captions by their pictures' ids, behind the corpus's name where there are several."""
        return {
            f"{name}/{example.id}" if self.columns else example.id: caption
            for name, each in self._each.items()
            for example, caption in zip(each.examples, captions[name], strict=True)
        }

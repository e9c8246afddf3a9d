"""What a picture is seen to hold, apart from its pixels: the detector's objects and ImageNet's classes.

A text without a picture gets what a picture for it might have had: what was really seen in captioned pictures whose
captions name the same things, so that misses, false alarms and scores are as frequent as there.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open

from captionist import images
from captionist.data import Example
from captionist.errors import RecipeError
from captionist.inference.class_words import ClassWords, words_of
from captionist.inference.detector import OBJECT_WIDTH, Detector
from captionist.model import stem
from captionist.model.config import HybridConfig
from captionist.model.detector import CLASSES, find_nanodet, load_detector, write_detector
from captionist.model.words import IMAGENET_NOUNS, NOUNS
from captionist.training.recipe import Recipe

_FEWEST = 20  # pictures whose captions name a class, for its scores to be drawn from them alone
_ALARM = 0.45  # a score that is rare for a class that nobody names
_QUIET = 0.5  # the share of such alarms that are turned down, since one text names less than five people do
_SIDE = 256  # pixels a side, as EfficientNet-Lite2 reads a picture here

Floats = NDArray[np.float32]


class _Donors:
    """What a network saw in captioned pictures, by what their captions name."""

    def __init__(self, weights: Path) -> None:
        """weights: the network's file."""
        self.version = hashlib.sha256(weights.read_bytes()).hexdigest()[:8]
        self.arrays: Floats = np.zeros((0,), np.float32)
        self.by_class: dict[int, list[int]] = defaultdict(list)
        self.by_noun: dict[str, list[int]] = defaultdict(list)

    def learn(self, examples: Sequence[Example], arrays: Floats) -> None:
        """examples: N of them; arrays: float32 [N, ...], what was seen in each, for `simulate` to draw from."""
        self.arrays = arrays
        for row, example in enumerate(examples):
            for number in np.flatnonzero(_class_words(example.references).any(0)):
                self.by_class[int(number)].append(row)
            for noun in _nouns(" ".join(example.references)):
                self.by_noun[noun].append(row)

    def draw(self, sentence: str, rng: np.random.Generator) -> int:
        """The number of a picture whose captions name something that the sentence names; if there is none, of any."""
        pools = [self.by_class[int(number)] for number in np.flatnonzero(_class_words([sentence])[0])]
        pools = [pool for pool in (*pools, *(self.by_noun[noun] for noun in _nouns(sentence))) if pool]
        if not pools:
            return int(rng.integers(len(self.arrays)))
        pool = pools[rng.integers(len(pools))]
        return pool[rng.integers(len(pool))]


_class_words = ClassWords(CLASSES)


def _nouns(text: str) -> list[str]:
    return sorted({noun for word in words_of(text) for noun in (word, word.removesuffix("s")) if noun in _KNOWN})


_KNOWN = frozenset(NOUNS)


class Objects(_Donors):
    """Each of the detector's classes, with its score, count and surest box; see `inference.detector.Detector`."""

    name = "objects"
    shape: tuple[int, ...] = (len(CLASSES), OBJECT_WIDTH)

    def __init__(self, nanodet: Path) -> None:
        self._nanodet = nanodet
        super().__init__(nanodet)
        self._named: list[tuple[int, int]] = []

    @cached_property
    def _detector(self) -> Detector:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "detector.onnx"
            write_detector(self._nanodet, path)
            return load_detector(path)

    def compute(self, example: Example) -> Floats:
        """float32 [80, 6]. Raises ImageError."""
        picture = images.decode(example.image, at_least=images.SCENE_SIDE)
        return self._detector(images.squeeze(picture, images.scene_shape(*picture.shape[:2])))

    def learn(self, examples: Sequence[Example], arrays: Floats) -> None:
        super().learn(examples, arrays)
        self._named = [(row, number) for number, rows in self.by_class.items() if number for row in rows]

    def simulate(self, sentence: str, rng: np.random.Generator) -> Floats:
        """float32 [80, 6], as in a picture that names the same things; this sentence's classes are as sure as named
        ones.
        """
        objects: Floats = self.arrays[self.draw(sentence, rng)].copy()
        named = _class_words([sentence])[0]
        for number in np.flatnonzero(named):
            rows = self.by_class[int(number)]
            if len(rows) >= _FEWEST:
                objects[number] = self.arrays[rows[rng.integers(len(rows))], number]
            elif self._named:  # for a rare class, as for any other class
                objects[number] = self.arrays[self._named[rng.integers(len(self._named))]]
        for number in np.flatnonzero(~named & (objects[:, 0] > _ALARM)):
            if rng.random() < _QUIET:
                objects[number, 0] *= rng.uniform(0.2, 0.8)
                objects[number, 1] = 0
        return objects


class Classes(_Donors):
    """The probabilities of ImageNet's classes, by EfficientNet-Lite2 as published."""

    name = "classes"
    shape: tuple[int, ...] = (len(IMAGENET_NOUNS),)

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        super().__init__(weights)

    @cached_property
    def _classifier(self) -> tuple[stem.EfficientNetLite2, torch.Tensor, torch.Tensor]:
        model = stem.EfficientNetLite2().eval()
        with safe_open(self._weights, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
        model.load_imagenet(weights)
        return model, weights["_fc.weight"], weights["_fc.bias"]

    def compute(self, example: Example) -> Floats:
        """float32 [1000]. Raises ImageError."""
        model, weight, bias = self._classifier
        preprocessing = images.Preprocessing(size=(_SIDE, _SIDE), mean=stem.MEAN, std=stem.STD)
        pixels = images.prepare(images.decode(example.image, at_least=2 * _SIDE), preprocessing)
        with torch.inference_mode():
            features = model(torch.from_numpy(pixels)[None]).mean((2, 3))
            found: Floats = F.linear(features, weight, bias).softmax(1)[0].numpy()
        return found

    def simulate(self, sentence: str, rng: np.random.Generator) -> Floats:
        """float32 [1000], of a picture that names the same things."""
        found: Floats = self.arrays[self.draw(sentence, rng)]
        return found


def objects(recipe: Recipe) -> Objects:
    """The annotation for a recipe whose model has words seen. Raises RecipeError."""
    if recipe.model.words is None:
        raise RecipeError("data.annotations: objects need model.words, which names the detector.")
    return Objects(find_nanodet(recipe.model.words.detector))


def classes(recipe: Recipe) -> Classes:
    """The annotation for a recipe whose encoder has a stem. Raises RecipeError."""
    encoder = recipe.model.encoder
    if not isinstance(encoder, HybridConfig):
        raise RecipeError("data.annotations: classes need a hybrid encoder, whose stem knows them.")
    path = Path(encoder.stem_weights) / "model.safetensors"
    if not path.is_file():
        raise RecipeError(f"{path} does not exist: in a checkout, `python -m recipes.starting_weights` makes it.")
    return Classes(path)

"""Each mistake in scoring changes the figures in its own way, and the first row is the honest score."""

import numpy as np
import pytest

from benchmarks.bleu import score, teacher_forced
from captionist.captioner import Captioner
from captionist.data import Example
from captionist.evaluation.bleu import bleu
from captionist.evaluation.tokenize import tokenize
from tests.pictures import write_png
from tests.tiny_bundle import SENTENCES


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """More than one batch of pictures, with references of different lengths."""
    folder = tmp_path_factory.mktemp("pictures")
    kinds = [
        ("A black dog runs on the grass.", "A dog is running."),
        ("Two men play football in a park on a sunny day.", "Men with a ball"),
        ("A girl.", "A young girl smiles at the camera."),
    ]
    return [
        Example(str(seed), write_png(folder / f"{seed}.png", seed), (*kinds[seed % 3], SENTENCES[0]), "dev")
        for seed in range(18)
    ]


def test_every_mistake_moves_the_figures_as_it_does_in_the_wild(captioner: Captioner, examples: list[Example]) -> None:
    candidates = ["A dog is in the grass."] * len(examples)
    found = score(examples, candidates, captioner)
    correct, characters, special, forced, memorised, smoothed, single, person, constant, letters = (
        np.array(row) for row in found.values()
    )
    references = [[tokenize(text) for text in example.references] for example in examples]
    assert tuple(correct) == pytest.approx(bleu(references, [tokenize(text) for text in candidates]))
    assert (characters > correct).all()
    assert (special > correct).all()
    assert (memorised > correct).all()
    assert (single <= correct).all()
    assert smoothed[3] > 0
    assert person[0] < 1
    assert (letters > constant).all()
    texts = [tokenize(text) for text in teacher_forced(examples, captioner)]
    assert tuple(forced) == pytest.approx(bleu(references, texts))

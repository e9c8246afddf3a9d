"""The model inside the package, on the photographs of examples/."""

from pathlib import Path

import numpy as np
import pytest

from captionist import Captioner
from captionist.bundle import Bundle
from captionist.inference.engine import Engine

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.jpg"))
KNOWN = [path for path in EXAMPLES if path.stem in ("dog", "palace", "river")]
"""Photographs like those with captions that it has learnt from; the others are different."""
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def captions() -> dict[str, str]:
    captioner = Captioner()
    return {path.stem: captioner.caption(path).text for path in EXAMPLES}


def test_it_is_whole_and_small() -> None:
    bundle = Bundle.open()
    bundle.verify()
    assert bundle.size <= 50 * MEGABYTE
    assert bundle.scores["split"] == "dev"


def test_every_example_gets_a_sentence_of_its_own(captions: dict[str, str]) -> None:
    assert len(EXAMPLES) >= 9
    assert len(set(captions.values())) == len(captions)


@pytest.mark.parametrize(
    ("name", "words"),
    [("dog", {"dog"}), ("river", {"boy"}), ("palace", {"people"})],
)
def test_it_names_what_it_was_trained_on(captions: dict[str, str], name: str, words: set[str]) -> None:
    assert words & set(captions[name].lower().rstrip(".").split())


def test_it_names_what_no_picture_of_its_captioned_corpora_taught_it() -> None:
    """Flickr8k has next to no cats: the word comes from the detector and from other people's sentences."""
    cat = Path(__file__).parents[1] / "docs" / "failures" / "cat.jpg"
    assert "cat" in Captioner().caption(cat).text.lower().rstrip(".").split()


def test_it_ranks_by_what_it_sees(captions: dict[str, str]) -> None:
    captioner = Captioner()
    assert captioner.defaults.retrieved > 0
    sentences = [captions[path.stem] for path in KNOWN]
    found = np.stack([captioner.match(path, sentences) for path in KNOWN])
    assert found.argmax(axis=1).tolist() == list(range(len(KNOWN)))
    assert found.argmax(axis=0).tolist() == list(range(len(KNOWN)))


def test_pictures_do_not_change_each_others_captions() -> None:
    """A scale in 8 bits for a whole batch would break this: pictures in a folder would get other captions than alone.

    Sums of floats may be made in another order, and then some numbers round to the next of 255 steps.
    """
    captioner = Captioner()
    engine = Engine(captioner.bundle)
    pictures = [captioner.prepare(path) for path in EXAMPLES]
    together = engine.decoder.prefill(engine.encode(pictures).visual_tokens)
    tokens = together.log_probs.argmax(1)
    after = engine.decoder.step(tokens, together.state)
    apart = []
    for row in range(len(pictures)):
        alone = engine.decoder.prefill(engine.encode(pictures[row : row + 1]).visual_tokens)
        assert np.allclose(alone.log_probs[0], together.log_probs[row], atol=1e-4)
        step = engine.decoder.step(tokens[row : row + 1], alone.state)
        apart.append(np.abs(step.log_probs[0] - after.log_probs[row]).max())
    assert max(apart) < 0.5
    assert np.median(apart) < 1e-4

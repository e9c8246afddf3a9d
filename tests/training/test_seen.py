"""What is seen in pictures, and what a text without one gets instead."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from captionist.data import Example
from captionist.errors import RecipeError
from captionist.model.detector import CLASSES
from captionist.model.words import IMAGENET_NOUNS
from captionist.training.annotations import build_annotations
from captionist.training.recipe import load_recipe
from captionist.training.seen import Classes, Objects
from tests.model.checkpoints import Checkpoints
from tests.model.tiny_nanodet import KINDS
from tests.training.corpus import COLOURS, SHAPES, draw
from tests.training.runs import frozen, write_recipe

DOG, CAT, BIRD = (CLASSES.index(kind) for kind in ("dog", "cat", "bird"))
Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Sixteen pictures whose captions name what the tiny detector sees in them; of yellow ones a horse."""
    folder, found = tmp_path_factory.mktemp("pictures"), []
    for colour in COLOURS:
        for shape in SHAPES:
            path = folder / f"{colour}-{shape}.png"
            path.write_bytes(cv2.imencode(".png", draw(colour, shape)[:, :, ::-1])[1].tobytes())
            found.append(Example(path.stem, path, (f"a {KINDS.get(colour, 'horse')} like a {shape}",), "train"))
    return found


@pytest.fixture(scope="module")
def objects(checkpoints: Checkpoints, examples: list[Example]) -> Objects:
    annotation = Objects(checkpoints.root / "nanodet" / "nanodet-g.onnx")
    seen = np.stack([annotation.compute(example) for example in examples])
    annotation.learn(examples * 6, np.concatenate([seen] * 6))
    return annotation


@pytest.fixture(scope="module")
def classes(checkpoints: Checkpoints, examples: list[Example]) -> Classes:
    annotation = Classes(Path(checkpoints.path("lite2")) / "model.safetensors")
    annotation.learn(examples, np.stack([annotation.compute(example) for example in examples]))
    return annotation


def test_the_detector_sees_the_whole_picture(objects: Objects, examples: list[Example]) -> None:
    seen = objects.compute(examples[0])
    assert seen.shape == objects.shape
    assert seen[:, 0].argmax() == DOG
    assert seen[DOG, 0] > 0.9
    assert seen[DOG, 1] >= 1
    assert seen[:, 1].sum() == seen[DOG, 1]  # nothing else is counted


def simulated(annotation: Objects | Classes, text: str, times: int = 60) -> Floats:
    rng = np.random.default_rng(0)
    return np.stack([annotation.simulate(text, rng) for _ in range(times)])


def test_a_text_gets_what_pictures_that_name_the_same_have(objects: Objects) -> None:
    cats, birds = simulated(objects, "two cats"), simulated(objects, "A bird !")
    assert (cats[:, :, 0].argmax(1) == CAT).all()
    assert (birds[:, :, 0].argmax(1) == BIRD).all()
    assert len(np.unique(cats[:, CAT], axis=0)) > 1  # not always the same one
    both = simulated(objects, "a dog and a cat")[:, [DOG, CAT], 0]
    assert (both > 0.8).any(1).all()


def test_what_the_detector_misses_is_missed_in_texts(objects: Objects) -> None:
    """It cannot see what the captions call a horse."""
    assert (simulated(objects, "a horse")[:, CLASSES.index("horse"), 0] < 0.1).all()


def test_a_class_that_no_caption_names_is_seen_as_often_as_others(objects: Objects) -> None:
    zebras = simulated(objects, "a zebra")[:, CLASSES.index("zebra"), 0]
    assert 0.5 < np.mean(zebras > 0.5) < 1  # three kinds in four are seen


def test_a_false_alarm_is_sometimes_turned_down(objects: Objects) -> None:
    """A text that names no class gets those of any picture; one caption alone names less than a picture's five."""
    alarms = simulated(objects, "a nice day")[:, [DOG, CAT, BIRD]]
    turned_down = (alarms[:, :, 0] > 0.25) & (alarms[:, :, 1] == 0)
    assert turned_down.any()
    assert (alarms[:, :, 1] > 0).any()


def test_what_is_simulated_is_no_one_elses(objects: Objects) -> None:
    """The arrays that it draws from stay as they were."""
    before = simulated(objects, "a dog")
    simulated(objects, "a nice day")
    np.testing.assert_array_equal(before, simulated(objects, "a dog"))


def test_imagenets_classes(classes: Classes, examples: list[Example]) -> None:
    seen = classes.compute(examples[0])
    assert seen.shape == (len(IMAGENET_NOUNS),)
    assert seen.sum() == pytest.approx(1, abs=1e-4)
    assert not np.allclose(seen, classes.compute(examples[5]))
    donors = {seen.tobytes() for seen in (classes.compute(example) for example in examples[4:8])}  # the cats
    assert {seen.tobytes() for seen in simulated(classes, "a cat")} == donors


def test_annotations_need_what_computes_them(checkpoints: Checkpoints, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, checkpoints, [frozen()])
    with pytest.raises(RecipeError, match=r"objects need model\.words"):
        build_annotations(load_recipe(path, ["data.annotations=[objects]"]))
    with pytest.raises(RecipeError, match="classes need a hybrid encoder"):
        build_annotations(load_recipe(path, ["data.annotations=[classes]"]))
    words = [f"model.words={{detector: {tmp_path}}}", "data.annotations=[objects]"]
    with pytest.raises(RecipeError, match=r"nanodet-g\.onnx does not exist.*starting_weights"):
        build_annotations(load_recipe(path, words))
    gone = {"family": "hybrid", "stem_weights": str(tmp_path), "weights": checkpoints.path("dinov2"), "blocks": 1}
    with pytest.raises(RecipeError, match=r"model\.safetensors does not exist.*starting_weights"):
        build_annotations(load_recipe(path, [f"model.encoder={gone}", "data.annotations=[classes]"]))

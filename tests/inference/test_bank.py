"""Sentences of other pictures: which ones are near, what they name, whether they agree, and damaged files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from captionist import BundleError
from captionist.bundle import BANK_SENTENCES, BANK_VECTORS, BankConfig
from captionist.inference.bank import Bank, read_bank, write_bank
from captionist.inference.class_words import ClassWords, words_of
from captionist.inference.consensus import consensus

WIDTH, CLASSES, COUNT = 6, 11, 40


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    drawn = np.random.default_rng(0)
    vectors = drawn.normal(size=(COUNT, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    named = drawn.random((COUNT, CLASSES)) < 0.2
    write_bank(tmp_path, [f"sentence {number}" for number in range(COUNT)], vectors, named)
    bank = read_bank(tmp_path, BankConfig(nearest=7), WIDTH, CLASSES)
    np.testing.assert_allclose(bank.embeddings, vectors, atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(bank.embeddings, axis=1), 1, atol=1e-5)
    assert np.array_equal(bank.named, named)
    assert bank.sentences[3] == "sentence 3"
    return bank


def test_the_nearest_are_those_that_fit_best(bank: Bank) -> None:
    drawn = np.random.default_rng(1)
    for _ in range(5):
        image = drawn.normal(size=WIDTH).astype(np.float32)
        seen = drawn.random(CLASSES).astype(np.float32)
        fit = bank.fit(bank.embeddings @ image, bank.support(bank.named, seen))
        assert bank.nearest(image, seen).tolist() == np.argsort(-fit)[:7].tolist()


def test_support_is_for_those_that_name_what_is_seen(bank: Bank) -> None:
    seen = np.zeros(CLASSES, np.float32)
    seen[2] = 0.9
    named = np.zeros((4, CLASSES), np.bool_)
    named[0, 2] = named[1, [2, 5]] = named[2, 5] = True
    right, half, wrong, nothing = bank.support(named, seen)
    assert right == pytest.approx(1)
    assert 0 < half < right
    assert wrong == nothing == 0
    assert bank.support(named, np.full(CLASSES, 0.1, np.float32)).tolist() == [0] * 4


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def forget(path: Path) -> None:
    path.with_name(BANK_SENTENCES).write_text("only one\n")


def other(path: Path) -> None:
    parts = dict(np.load(path))
    np.savez(path, **parts | {"embeddings": parts["embeddings"].astype(np.float32)})


def lack(path: Path) -> None:
    parts = dict(np.load(path))
    del parts["named"]
    np.savez(path, **parts)


def pickled(path: Path) -> None:
    np.savez(path, **dict(np.load(path)) | {"scale": np.array({"a": 1}, dtype=object)})


@pytest.mark.usefixtures("bank")
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (cut, "cannot be read"),
        (lack, "cannot be read"),
        (pickled, "cannot be read"),
        (Path.unlink, "cannot be read"),
        (forget, r"embeddings is int8 \[40, 6\].*should be int8 \[1, 6\]"),
        (other, "embeddings is float32"),
    ],
)
def test_a_damaged_bank_says_so(tmp_path: Path, damage: Callable[[Path], None], complaint: str) -> None:
    damage(tmp_path / BANK_VECTORS)
    with pytest.raises(BundleError, match=f"{complaint}.*export the model again"):
        read_bank(tmp_path, BankConfig(), WIDTH, CLASSES)


def test_a_bank_without_sentences_says_so(tmp_path: Path) -> None:
    write_bank(tmp_path, [], np.zeros((0, WIDTH), np.float32), np.zeros((0, CLASSES), np.bool_))
    with pytest.raises(BundleError, match="holds no sentence"):
        read_bank(tmp_path, BankConfig(), WIDTH, CLASSES)


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("Two puppies, a man and a DOG.", {"dog", "person"}),
        ("a hot dog on a plate", {"hot dog"}),
        ("a dog eats hot dogs", {"dog", "hot dog"}),
        ("a red stop sign", {"stop sign"}),
        ("they stop at the house", set()),
        ("a teddy bear", {"teddy bear"}),
        ("", set()),
    ],
)
def test_everyday_words_name_classes(text: str, classes: set[str]) -> None:
    known = ("person", "dog", "hot dog", "stop sign", "bear", "teddy bear")
    [named] = ClassWords(known)([text.replace("puppies", "puppy")])
    assert {name for name, there in zip(known, named, strict=True) if there} == classes


def test_consensus_is_the_weighted_mean_of_cosines() -> None:
    texts = ["a dog runs", "a dog sleeps", "two clouds", ""]
    weights = np.array([0.5, 0.25, 0.25, 0], np.float32)
    found = consensus(texts, weights)
    same = 3 / 5  # of five words and pairs each, three are the same
    np.testing.assert_allclose(found, [0.5 + 0.25 * same, 0.25 + 0.5 * same, 0.25, 0], atol=1e-6)


def test_words_are_plain() -> None:
    assert words_of("A man's black-and-white dog, 2 years old.") == [
        "a",
        "man's",
        "black",
        "and",
        "white",
        "dog",
        "2",
        "years",
        "old",
    ]

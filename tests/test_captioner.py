"""Pictures in, captions out, with the tiny model."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from captionist import (
    BundleError,
    Caption,
    Captioner,
    CorruptImageError,
    EmptyImageError,
    ImageNotFoundError,
    NotAnImageError,
)
from captionist.captions import CaptionResult
from captionist.images import ImageInput
from captionist.inference.search import Sampling
from tests.pictures import patchwork, write_png
from tests.test_choice import bundle_with, linear
from tests.tiny_bundle import GRID, write_tiny_bundle


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return Captioner(write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "aligned", aligned=True), threads=2)


def text_of(caption: Caption) -> tuple[str, ...]:
    return (caption.text, *(other.text for other in caption.alternatives))


def test_the_picture_decides_the_caption(captioner: Captioner) -> None:
    assert len({captioner.caption(patchwork(seed)).text for seed in range(8)}) >= 4


def test_a_caption_is_a_sentence_with_its_words_on_the_grid(captioner: Captioner) -> None:
    for seed in range(8):
        caption = captioner.caption(patchwork(seed))
        assert caption.text[0].isupper()
        assert caption.text.endswith(".")
        assert caption.log_probability < 0
        bare = [word.strip(".,-") for word in caption.text.lower().split()]
        assert [word.word.lower() for word in caption.word_attention] == bare
        for word in caption.word_attention:
            assert word.weights.shape == GRID
            assert word.weights.dtype == np.float32
            assert word.weights.sum() == pytest.approx(1, abs=1e-5)
        assert caption.alternatives == ()


def test_alternatives_follow_the_best_and_differ_from_it(captioner: Captioner) -> None:
    caption = captioner.caption(patchwork(1), num_captions=4)
    texts = text_of(caption)
    assert 2 <= len(texts) <= 4
    assert len(set(texts)) == len(texts)


def test_a_bad_picture_never_stops_the_others(captioner: Captioner, tmp_path: Path) -> None:
    good = write_png(tmp_path / "good.png", 2)
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:-40])
    sources: list[object] = [b"", good, b"just text", tmp_path / "none.png", cut, np.zeros((4, 4)), good]
    errors = [EmptyImageError, None, NotAnImageError, ImageNotFoundError, CorruptImageError, NotAnImageError, None]
    results = list(captioner.caption_many(sources, batch_size=3))  # type: ignore[arg-type]
    assert [result.source is source for result, source in zip(results, sources, strict=True)] == [True] * 7
    assert [type(result.error) if result.error else None for result in results] == errors
    assert [result.caption is None for result in results] == [error is not None for error in errors]


def test_nothing_is_read_before_it_is_asked_for(captioner: Captioner) -> None:
    read = []

    def stream() -> Iterator[NDArray[np.uint8]]:
        for seed in range(6):
            read.append(seed)
            yield patchwork(seed)

    results = captioner.caption_many(stream(), batch_size=2)
    assert read == []
    next(results)
    assert read == [0, 1]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("good", [0, 1, 2, 5, 8])
def test_what_was_read_before_the_sources_fail_is_captioned(captioner: Captioner, threads: int, good: int) -> None:
    def stream() -> Iterator[NDArray[np.uint8]]:
        yield from (patchwork(seed) for seed in range(good))
        raise OSError("the disk is gone")

    several = Captioner(captioner.bundle.path, threads=threads)
    got: list[CaptionResult] = []
    with pytest.raises(OSError, match="the disk is gone"):
        got.extend(several.caption_many(stream(), batch_size=2))
    texts = [captioner.caption(patchwork(seed)).text for seed in range(good)]
    assert [result.caption.text for result in got if result.caption] == texts


def test_many_batches_side_by_side_keep_their_order(captioner: Captioner) -> None:
    several = Captioner(captioner.bundle.path, threads=3)
    pictures = [patchwork(seed) for seed in range(23)]
    results = several.caption_many(pictures, batch_size=2)
    first = next(results)
    assert first.source is pictures[0]
    assert [r.source is p for r, p in zip(results, pictures[1:], strict=True)] == [True] * 22
    stopped = several.caption_many(pictures, batch_size=2)
    next(stopped)
    stopped.close()  # type: ignore[attr-defined]


def test_max_words_counts_words_of_the_sentence(captioner: Captioner) -> None:
    longest = [len(captioner.caption(patchwork(seed), max_words=3).text.split()) for seed in range(8)]
    assert max(longest) == 3


def test_a_seed_makes_sampling_repeatable(captioner: Captioner) -> None:
    def draw(seed: int) -> tuple[str, ...]:
        return text_of(captioner.caption(patchwork(1), num_captions=4, sample=Sampling(seed=seed)))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize("options", [{"num_beams": 0}, {"num_beams": 2, "num_captions": 3}, {"max_words": 0}])
def test_wrong_options_are_refused_at_once(captioner: Captioner, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"must (be at|lie)"):
        captioner.caption_many([], **options)  # type: ignore[arg-type]


def test_threads_may_share_a_captioner(captioner: Captioner) -> None:
    pictures = [patchwork(seed) for seed in range(12)]
    expected = [captioner.caption(picture).text for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda picture: captioner.caption(picture).text, pictures)) == expected


def test_no_embeddings_without_an_alignment_or_a_batch(captioner: Captioner, aligned: Captioner) -> None:
    with pytest.raises(BundleError, match="not trained to compare"):
        captioner.embed_many([])
    with pytest.raises(ValueError, match="batch_size"):
        aligned.embed_many([], 0)


def test_a_sentence_without_a_word_is_zeros(aligned: Captioner) -> None:
    found = aligned.sentence_embeddings(["", " ", "\n", "...", "?!", " A dog. "])
    assert not found[:-1].any()
    assert np.array_equal(found[-1:], aligned.sentence_embeddings(["a dog"]))
    assert not aligned.sentence_embeddings([""]).any()


@pytest.fixture(scope="module", params=["plain", "seeing", "choosing"])
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    """Models that caption alone, that have a detector, and that choose among sentences of other pictures, too."""
    path = tmp_path_factory.mktemp("bundle") / "tiny"
    if request.param == "choosing":
        return Captioner(bundle_with(path, linear(written=-100.0, cosine=1.0)), threads=2)
    return Captioner(write_tiny_bundle(path, aligned=True, seeing=request.param == "seeing"), threads=2)


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_many_pictures_give_what_each_gives_alone(kind: Captioner, batch_size: int) -> None:
    pictures: list[ImageInput] = [patchwork(seed, 40 + 30 * seed, 100) for seed in range(7)]
    captions = [result.caption for result in kind.caption_many(pictures, batch_size, num_captions=2)]
    embeddings = [result.embedding for result in kind.embed_many(pictures, batch_size)]
    for picture, caption, embedding in zip(pictures, captions, embeddings, strict=True):
        alone = kind.caption(picture, num_captions=2)
        assert caption is not None
        assert embedding is not None
        assert text_of(caption) == text_of(alone)
        assert caption.log_probability == pytest.approx(alone.log_probability, abs=1e-4)
        own = kind.image_embeddings(kind.encode([kind.prepare(picture)]))[0]
        np.testing.assert_allclose(embedding, own, atol=1e-5)
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)

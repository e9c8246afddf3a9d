"""Pictures and sentences in one space: the heads and the loss."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from captionist.model.alignment import Alignment
from captionist.model.fusion import VisionPrefixLM, load_model
from captionist.model.language import IGNORE, encode_caption
from tests.model.checkpoints import CAPTIONS, Checkpoints


@pytest.fixture
def alignment() -> Alignment:
    torch.manual_seed(0)
    return Alignment(vocabulary=20, width=8, size=6).eval()


def test_pictures_and_sentences_are_unit_vectors(alignment: Alignment) -> None:
    with torch.inference_mode():
        images = alignment.images(torch.randn(3, 4, 8))
        sentences = alignment.sentences(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert images.shape == (3, 6)
    assert sentences.shape == (2, 6)
    for found in (images, sentences):
        assert torch.allclose(found.norm(dim=1), torch.ones(len(found)))


def test_a_sentence_is_a_bag_of_its_words_and_filling_says_nothing(alignment: Alignment) -> None:
    with torch.inference_mode():
        alone = alignment.sentences(torch.tensor([[1, 2, 3]]))
        turned = alignment.sentences(torch.tensor([[3, 1, 2, IGNORE, IGNORE]]))
        other = alignment.sentences(torch.tensor([[1, 2, 2]]))
        nothing = alignment.sentences(torch.tensor([[IGNORE, IGNORE]]))
    assert torch.allclose(alone, turned)
    assert not torch.allclose(alone, other, atol=0.01)
    assert torch.equal(nothing, torch.zeros(1, 6))


def test_a_pictures_sentences_are_no_rivals_and_one_that_is_not_there_does_not_count(alignment: Alignment) -> None:
    images = F.normalize(torch.randn(3, 6), dim=1)
    sentences = F.normalize(torch.randn(3, 2, 6), dim=2)
    sentences[2, 1] = 0
    rows = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    with torch.inference_mode():
        loss = float(alignment.loss(images, sentences))
        expected = 0.0
        for picture, own in rows:
            share = 0.5 if picture < 2 else 1.0
            logit = {
                (i, c): float(images[i] @ sentences[p, k]) / 0.07 for i in range(3) for c, (p, k) in enumerate(rows)
            }
            mine = rows.index((picture, own))
            right = logit[picture, mine]
            rivals = [logit[picture, c] for c, (p, _) in enumerate(rows) if p != picture]
            others = [logit[i, mine] for i in range(3) if i != picture]
            for wrong in (rivals, others):
                expected += share * float(torch.tensor([right, *wrong]).logsumexp(0) - right) / 2
    assert loss == pytest.approx(expected, rel=1e-4)


def test_a_lonely_picture_has_nothing_to_learn(alignment: Alignment) -> None:
    image = F.normalize(torch.randn(1, 6), dim=1).requires_grad_()
    loss = alignment.loss(image, F.normalize(torch.randn(1, 2, 6), dim=2))
    (gradient,) = torch.autograd.grad(loss, image)
    assert float(loss.detach()) == pytest.approx(0, abs=1e-4)
    assert torch.isfinite(gradient).all()


def test_it_does_not_grow_sharper_without_end(alignment: Alignment) -> None:
    alignment.log_scale.data.fill_(20.0)
    assert float(alignment.scale().detach()) == 100.0
    assert math.isfinite(float(alignment.loss(torch.eye(6), torch.eye(6)[:, None]).detach()))


def test_it_is_saved_and_cut_with_the_vocabulary(checkpoints: Checkpoints, tmp_path: Path) -> None:
    model = checkpoints.model()
    assert model.alignment is None
    model.align(6)

    def embed(model: VisionPrefixLM, caption: str) -> torch.Tensor:
        assert model.alignment is not None
        with torch.inference_mode():
            return model.alignment.sentences(torch.tensor([encode_caption(model.tokenizer, caption)]))

    expected = embed(model, CAPTIONS[0])
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.config.alignment == 6
    assert torch.equal(embed(loaded, CAPTIONS[0]), expected)
    loaded.cut_vocabulary([CAPTIONS[0]])
    assert loaded.alignment is not None
    assert len(loaded.alignment.words.weight) == loaded.tokenizer.get_vocab_size() < model.tokenizer.get_vocab_size()
    assert torch.equal(embed(loaded, CAPTIONS[0]), expected)

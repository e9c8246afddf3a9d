"""The torch side of the Decoder protocol under the one search."""

import numpy as np
import pytest
import torch
from torch import Tensor

from captionist.inference.search import SearchOptions, search
from captionist.model.fusion import VisionPrefixLM
from captionist.model.torch_decoder import TorchDecoder
from tests.model.checkpoints import Checkpoints, plain_forward

PICTURES = 3
LONGEST = 12


@pytest.fixture
def model(checkpoints: Checkpoints) -> VisionPrefixLM:
    return checkpoints.model(prefix_grid=2)


@pytest.fixture
def prefix(model: VisionPrefixLM) -> Tensor:
    with torch.inference_mode():
        return model.encode(torch.randn(PICTURES, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


def test_a_beam_reports_the_model_s_own_probabilities(model: VisionPrefixLM, prefix: Tensor) -> None:
    """Rows are reordered at every step; a cache that followed the wrong caption would show in the sum."""
    options = SearchOptions(num_beams=4, num_captions=4, max_tokens=6)
    for picture, hypotheses in enumerate(search(TorchDecoder(model), prefix, PICTURES, options)):
        assert len(hypotheses) == 4
        assert len({h.tokens for h in hypotheses}) == 4
        for hypothesis in hypotheses:
            assert hypothesis.attention.shape == (len(hypothesis.tokens), model.prefix_length)
            with torch.inference_mode():
                logits, _ = plain_forward(model, prefix[picture : picture + 1], list(hypothesis.tokens))
            ended = torch.tensor([*hypothesis.tokens, model.end_id])
            total = float(logits.log_softmax(1)[torch.arange(len(ended)), ended].sum())
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-3)


def test_reorder_takes_rows_any_number_of_times(model: VisionPrefixLM, prefix: Tensor) -> None:
    decoder = TorchDecoder(model)
    state = decoder.prefill(prefix).state
    rows = np.array([2, 0, 2, 2])
    step = decoder.step(np.array([5, 5, 5, 6]), decoder.reorder(state, rows))
    straight = decoder.step(np.full(PICTURES, 5), state)
    for row, source in enumerate(rows[:3]):
        assert np.allclose(step.log_probs[row], straight.log_probs[source], atol=1e-5)
    assert not np.allclose(step.log_probs[3], straight.log_probs[2], atol=1e-2)


def test_what_the_search_is_told(model: VisionPrefixLM, prefix: Tensor) -> None:
    decoder = TorchDecoder(model)
    assert decoder.eos_id == model.end_id
    assert decoder.max_tokens == 64 - 4 - 1
    step = decoder.prefill(prefix)
    assert step.log_probs.dtype == step.attention.dtype == np.float32
    assert step.log_probs.shape == (PICTURES, model.tokenizer.get_vocab_size())
    assert not step.state[0].requires_grad


def test_the_longest_caption_fits(model: VisionPrefixLM, prefix: Tensor) -> None:
    """Every position that `max_tokens` promises has an embedding."""
    options = SearchOptions(num_beams=1, min_tokens=59, max_tokens=59)
    (found,) = search(TorchDecoder(model), prefix[:1], 1, options)
    assert len(found[0].tokens) == 59

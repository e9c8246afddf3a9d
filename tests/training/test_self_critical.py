"""Self-critical training: what is sampled, how it is weighed, and that it makes good captions likelier."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from captionist.model.detector import CLASSES
from captionist.model.fusion import VisionPrefixLM, load_model
from captionist.model.language import IGNORE, encode_caption
from captionist.training.dataset import Corpora, TrainingData
from captionist.training.objectives.self_critical import SelfCritic, sample_captions
from captionist.training.pictures import normalise
from captionist.training.recipe import load_recipe
from captionist.training.train import train
from tests.model.checkpoints import Checkpoints
from tests.training.runs import whole, write_recipe


@pytest.fixture(scope="module")
def model(overfitted: Path) -> VisionPrefixLM:
    return load_model(overfitted / "best").eval()


@pytest.fixture(scope="module")
def data(overfitted: Path, model: VisionPrefixLM) -> TrainingData:
    return read(overfitted, model)


def read(run: Path, model: VisionPrefixLM) -> TrainingData:
    config = load_recipe(run / "recipe.yaml").data
    corpora = Corpora(config)
    train = corpora.train(model.tokenizer)
    return TrainingData(config, model.tokenizer, train, corpora.dev(), model.config.encoder.resolution)


def critic_of(data: TrainingData) -> SelfCritic:
    return SelfCritic(data.tokenizer, {"root": data.sources["root"].references})


def test_samples_follow_the_models_distribution(model: VisionPrefixLM) -> None:
    prefix = torch.randn(1, model.prefix_length, model.decoder.config.n_embd)
    captions = sample_captions(model, prefix, torch.rand(1, 4000, 3, generator=torch.Generator().manual_seed(0)))
    with torch.no_grad():
        expected = model.prefill(prefix).logits[0].softmax(-1)
    first = torch.where(captions[0, :, 0] == IGNORE, model.end_id, captions[0, :, 0])
    drawn = torch.bincount(first, minlength=len(expected)) / 4000
    assert torch.allclose(drawn, expected, atol=0.03)


def test_samples_end_and_are_filled(model: VisionPrefixLM) -> None:
    torch.manual_seed(0)
    prefix = torch.randn(3, model.prefix_length, model.decoder.config.n_embd)
    captions = sample_captions(model, prefix, torch.rand(3, 5, 6))
    assert captions.shape[:2] == (3, 5)
    assert captions.shape[2] <= 6
    assert not (captions == model.end_id).any()
    filling = captions == IGNORE
    assert (filling.int().diff(dim=2) >= 0).all()  # once filled, filled to the end


def test_a_reference_beats_a_wrong_caption_and_advantages_cancel(data: TrainingData) -> None:
    right, wrong = (data.sources["root"].table(True).rows(np.array([index]))[0] for index in (0, 1))
    length = max(right.shape[1], wrong.shape[1])
    both = torch.full((1, 2, length), IGNORE)
    both[0, 0, : right.shape[1]], both[0, 1, : wrong.shape[1]] = right[0], wrong[0]
    advantages = critic_of(data).advantages(both, "root", np.array([0]))
    assert advantages[0, 0] > 0
    assert advantages.sum().item() == pytest.approx(0, abs=1e-6)


def test_what_nobody_knows_of_costs(model: VisionPrefixLM) -> None:
    critic = SelfCritic(model.tokenizer, {"root": [["a red square", "a dark field with a dog"]]}, invention=2.0)
    plain = SelfCritic(model.tokenizer, {"root": [["a red square", "a dark field with a dog"]]})
    captions = pad_sequence(
        [torch.tensor(encode_caption(model.tokenizer, c)) for c in ("a dog", "a cat", "a cat in the snow", "a tree")],
        batch_first=True,
        padding_value=IGNORE,
    )[None]
    objects = torch.zeros(1, len(CLASSES), 6)
    row = np.array([0])

    def cost(seen: torch.Tensor | None) -> list[float]:
        lost = plain.rewards(captions, "root", row) - critic.rewards(captions, "root", row, seen)
        return [round(each, 4) for each in lost[0].tolist()]

    assert (
        cost(None) == cost(objects) == [0, 2, 4, 2]
    )  # a cat is one of the detector's classes, snow and a tree are not
    objects[0, CLASSES.index("cat"), 0] = 0.6
    assert cost(objects) == [0, 0, 2, 2]


def mean_reward(run: Path) -> float:
    """Mean CIDEr-D of many samples of a run's last model, over its train pictures."""
    model = load_model(run / "last").eval()
    data = read(run, model)
    pictures = data.sources["root"].pictures
    assert pictures is not None
    rows = np.arange(len(pictures.examples))
    (pixels,) = pictures.batches([rows])
    with torch.no_grad():
        prefix = model.encode(normalise(torch.from_numpy(pixels), model.encoder))
    torch.manual_seed(0)
    captions = sample_captions(model, prefix, torch.rand(len(rows), 50, data.config.max_caption_tokens))
    return float(np.mean(critic_of(data).rewards(captions, "root", rows).numpy()))


@pytest.mark.slow
def test_it_raises_the_expected_reward(tmp_path: Path, checkpoints: Checkpoints) -> None:
    rates = {"encoder": 1e-4, "projection": 3e-4, "decoder": 3e-4}
    critical = {"objective": "self_critical", "name": "critical", "epochs": 20, "samples": 8, "rates": rates}
    before = train(write_recipe(tmp_path, checkpoints, [whole(epochs=5)]), [], runs=tmp_path / "before")
    after = train(
        write_recipe(tmp_path, checkpoints, [whole(epochs=5), whole() | critical]), [], runs=tmp_path / "after"
    )
    assert mean_reward(after) > 1.2 * mean_reward(before)

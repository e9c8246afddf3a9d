"""Heads that learn to judge captions written by the model itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from captionist.model.fusion import VisionPrefixLM, load_model
from captionist.model.language import IGNORE
from captionist.training.objectives import Examples
from captionist.training.objectives.examples import Seen, look
from captionist.training.objectives.judging import Judging, Writer
from captionist.training.objectives.self_critical import SelfCritic
from captionist.training.train import train
from tests.model.checkpoints import SIZE, Checkpoints
from tests.training.runs import frozen, heads, write_recipe

REFERENCES = [["a red circle", "the red circle"], ["a blue bar", "the blue bar"], ["a green square"]]


def pictures(rows: list[int]) -> Examples:
    pixels = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))[rows]
    captions = torch.full((len(rows), 1, 3), 5)
    return Examples(captions, pixels=pixels, source="root", rows=np.array(rows))


@pytest.fixture(scope="module")
def model(checkpoints: Checkpoints) -> VisionPrefixLM:
    model = checkpoints.model(prefix_grid=2)
    model.align(8)
    return model


def test_each_picture_is_written_of_once_whatever_it_comes_up_with(model: VisionPrefixLM) -> None:
    critic = SelfCritic(model.tokenizer, {"root": REFERENCES})
    [both] = Writer(critic, 4, 2, 6)(model, (pictures([0, 1]),))
    writer = Writer(critic, 4, 2, 6)
    [text] = writer(model, (Examples(torch.full((2, 1, 3), 5), source="texts", rows=np.arange(2)),))
    assert text.written is None
    [second] = writer(model, (pictures([1]),))
    [again] = writer(model, (pictures([2, 1, 0]),))
    assert both.written is not None
    assert second.written is not None
    assert again.written is not None
    assert both.rewards is not None
    assert again.rewards is not None
    assert both.written.shape == (2, 6, 6)
    assert (both.written[:, 4:] == IGNORE).all()  # they have too few captions to judge one by the others
    assert torch.equal(second.written[0], both.written[1])
    assert torch.equal(again.written[[2, 1]], both.written)
    assert torch.equal(again.rewards[[2, 1]], both.rewards)


def test_what_people_say_is_judged_by_what_the_others_say(model: VisionPrefixLM) -> None:
    said = ["a red circle", "the red circle", "a red circle on a field", "a dark field", "a red circle"]
    critic = SelfCritic(model.tokenizer, {"root": [*REFERENCES, said]})
    captions, values = critic.judged_references("root", np.array([3, 0]), 4, 8)
    assert [model.tokenizer.decode([t for t in row.tolist() if t != IGNORE]).strip() for row in captions[0]] == said[:4]
    assert values[0, 0] > values[0, 2] > values[0, 3] > 0
    assert (captions[1] == IGNORE).all()


def test_heads_that_prefer_what_is_better_lose_less(model: VisionPrefixLM) -> None:
    alignment = model.alignment
    assert alignment is not None
    shown = pictures([0, 1])
    with torch.inference_mode():
        tokens = look(model, shown)
        images = model.embed(tokens)
        written = torch.arange(12).view(2, 2, 3)
        cosines = torch.einsum("be,bse->bs", images, alignment.sentences(written))

        def loss(rewards: torch.Tensor) -> float:
            examples = Examples(shown.captions, written=written, rewards=rewards)
            return float(Judging(1.0)(model, [Seen(examples, tokens)]))

        assert loss(10 * cosines) < loss(torch.zeros(2, 2)) < loss(-10 * cosines)
        assert Judging(1.0)(model, [Seen(shown, tokens)]) == 0  # nothing was written
        padded = torch.cat((written, torch.full((2, 1, 3), IGNORE)), 1)
        more = Examples(shown.captions, written=padded, rewards=torch.cat((cosines, torch.zeros(2, 1)), 1))
        assert float(Judging(1.0)(model, [Seen(more, tokens)])) == pytest.approx(loss(cosines))


def test_a_stage_of_it_teaches_the_heads_alone(checkpoints: Checkpoints, tmp_path: Path) -> None:
    stages = [frozen(epochs=3), heads(epochs=2, judging=1.0, samples=3)]
    run = train(write_recipe(tmp_path, checkpoints, stages, alignment=8), [], runs=tmp_path / "runs")
    plain = train(
        write_recipe(tmp_path, checkpoints, [frozen(epochs=3), heads(epochs=2)], alignment=8),
        [],
        runs=tmp_path / "plain",
    )
    judging, finding = (load_model(each / "last").state_dict() for each in (run, plain))
    assert torch.equal(judging["decoder.wte.weight"], finding["decoder.wte.weight"])
    assert not torch.equal(judging["alignment.words.weight"], finding["alignment.words.weight"])

"""A stage that draws from several sources: what a step shows, weighs, keeps out and gets in addition to the pixels."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from captionist.errors import RecipeError
from captionist.model.fusion import VisionPrefixLM
from captionist.model.language import IGNORE
from captionist.training.annotations import ANNOTATIONS, build_annotations
from captionist.training.dataset import Corpora, TrainingData
from captionist.training.feed import Feed
from captionist.training.objectives import Batch, Examples, Objective, build_objective, look
from captionist.training.objectives.caption import Captioning
from captionist.training.objectives.contrastive import Contrast
from captionist.training.recipe import Recipe, load_recipe
from captionist.training.train import train
from tests.model.checkpoints import Checkpoints
from tests.training.corpus import write_corpus
from tests.training.runs import NameLength, frozen, read_csv, whole, write_recipe

SHARES = {"root": 4, "more": 2, "extra": 3}


@pytest.fixture(scope="module")
def model(checkpoints: Checkpoints) -> VisionPrefixLM:
    return checkpoints.model(prefix_grid=2)


def mixed(folder: Path, checkpoints: Checkpoints, *stages: dict[str, Any], **changes: Any) -> Path:
    """A recipe with a second corpus, of eight pictures, and five texts beside the root's sixteen."""
    (folder / "extra.txt").write_text("a dog\na cat\na bird\na fish\nan old horse\n", encoding="utf-8")
    more = {"corpus": str(write_corpus(folder / "more", train=8, second_captions=True)), "weight": 0.5}
    sources = {"more": more, "extra": {"text": [str(folder / "extra.txt")]}}
    return write_recipe(folder, checkpoints, list(stages), sources=sources, **changes)


def feed(recipe: Recipe, model: VisionPrefixLM, process: int = 0, processes: int = 1) -> Feed:
    """The feed of the recipe's first stage."""
    corpora, stage = Corpora(recipe.data), recipe.stages[0]
    texts = {name: corpora.text(name) for name in recipe.text_sources}
    annotations = build_annotations(recipe)
    side = recipe.model.encoder.resolution
    data = TrainingData(
        recipe.data, model.tokenizer, corpora.train(model.tokenizer), corpora.dev(), side, texts, annotations
    )
    draws = build_objective(stage, data).draws
    sources = [data.sources[name] for name in stage.shares]
    return Feed(stage, (7, 0), sources, model.encoder, torch.device("cpu"), draws, process, processes)


def rows(batch: Batch) -> dict[str, list[int]]:
    return {examples.source: [] if examples.rows is None else examples.rows.tolist() for examples in batch}


@pytest.fixture
def recipe(tmp_path: Path, checkpoints: Checkpoints) -> Recipe:
    stage = whole(epochs=3, batch_size=None, sources=SHARES, augment=True)
    return load_recipe(mixed(tmp_path, checkpoints, stage))


def test_every_step_has_its_share_of_each_source(recipe: Recipe, model: VisionPrefixLM) -> None:
    """An epoch is a round of the first source; each of the others finishes its round before any example comes again."""
    fed = feed(recipe, model)
    seen = [rows(batch) for epoch in range(3) for (batch,) in fed.epoch(epoch, 0)]
    assert fed.steps == 4
    assert all({name: len(step[name]) for name in step} == SHARES for step in seen)
    for epoch in range(3):
        assert sorted(row for step in seen[epoch * 4 : epoch * 4 + 4] for row in step["root"]) == list(range(16))
        assert sorted(row for step in seen[epoch * 4 : epoch * 4 + 4] for row in step["more"]) == list(range(8))
    assert len({tuple(step["extra"]) for step in seen}) > 6
    assert {row for step in seen for row in step["extra"]} == set(range(5))  # although each round leaves two out


def test_a_step_follows_from_its_number_alone(recipe: Recipe, model: VisionPrefixLM) -> None:
    whole_epoch = [batch for (batch,) in feed(recipe, model).epoch(1, 0)]
    for resumed, before in zip(feed(recipe, model).epoch(1, 2), whole_epoch[2:], strict=True):
        for mine, theirs in zip(resumed[0], before, strict=True):
            assert torch.equal(mine.captions, theirs.captions)
            assert mine.pixels is theirs.pixels is None or torch.equal(mine.pixels, theirs.pixels)  # type: ignore[arg-type]


def test_processes_share_every_source(recipe: Recipe, model: VisionPrefixLM) -> None:
    alone, *both = (next(feed(recipe, model, p, n).epoch(0, 0)) for p, n in ((0, 1), (0, 2), (1, 2)))
    for name, share in rows(alone[0]).items():
        assert sorted(row for (batch,) in both for row in rows(batch)[name]) == sorted(share)
    first, second = (batch[0] for (batch,) in both)
    together = alone[0][0]
    assert together.pixels is not None
    assert first.pixels is not None
    assert second.pixels is not None
    assert torch.equal(together.pixels[::2], first.pixels)  # augmented in the same way
    assert torch.equal(together.pixels[1::2], second.pixels)


def test_a_source_that_has_less_is_in_the_last_parts(tmp_path: Path, checkpoints: Checkpoints) -> None:
    stage = whole(batch_size=None, sources={"root": 4, "extra": 1}, accumulate=3)
    recipe = load_recipe(mixed(tmp_path, checkpoints, stage))
    parts = next(feed(recipe, checkpoints.model(prefix_grid=2)).epoch(0, 0))
    assert [[examples.source for examples in part] for part in parts] == [["root"], ["root"], ["root", "extra"]]


def test_a_caption_counts_as_much_as_it_weighs(model: VisionPrefixLM) -> None:
    captions, pixels = torch.tensor([[[5, 6, 7], [8, 9, IGNORE]]]), torch.randn(1, 3, 32, 32)

    def loss(captions: Tensor, weights: list[float] | None = None) -> float:
        given = Examples(captions, None if weights is None else torch.tensor([weights]), pixels)
        with torch.inference_mode():
            return float(model(Objective(losses=(Captioning(),)), (given,)))

    alone = [loss(captions[:, :1]), loss(captions[:, 1:])]
    assert loss(captions, [0.5, 2]) == pytest.approx(0.5 * alone[0] + 2 * alone[1], rel=1e-4)
    assert loss(captions, [1, 1]) == pytest.approx(loss(captions), rel=1e-5)


def test_the_weights_of_a_source_and_of_its_captions_multiply(tmp_path: Path, checkpoints: Checkpoints) -> None:
    folder = write_corpus(tmp_path / "pictures", train=2) / "Images"
    lines: list[dict[str, Any]] = [
        {"file_name": "train_red_circle.png", "captions": ["a ball", "red"], "weights": [0.5, 1]},
        {"file_name": "train_red_square.png", "text": "a box"},
    ]
    (tmp_path / "pseudo" / "train").mkdir(parents=True)
    for line in lines:
        name = line["file_name"]
        (tmp_path / "pseudo" / "train" / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "pseudo" / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    stage = whole(batch_size=None, sources={"root": 4, "pseudo": 2})
    sources = {"pseudo": {"corpus": str(tmp_path / "pseudo"), "weight": 0.2}}
    recipe = load_recipe(write_recipe(tmp_path, checkpoints, [stage], sources=sources))
    ((root, pseudo),) = next(feed(recipe, checkpoints.model()).epoch(0, 0))
    assert root.weights is None
    assert pseudo.weights is not None
    assert pseudo.rows is not None
    torch.testing.assert_close(pseudo.weights[pseudo.rows.argsort()], torch.tensor([[0.1, 0.2], [0.2, 0.0]]))


def test_pictures_of_several_sources_are_each_others_rivals(checkpoints: Checkpoints) -> None:
    model = checkpoints.model()
    model.align(8)
    captions, pixels = torch.tensor([[[5, 6], [7, 8]], [[9, 3], [IGNORE, IGNORE]]]), torch.randn(2, 3, 32, 32)
    objective = Objective(losses=(Contrast(),))
    apart = (Examples(captions[:1], pixels=pixels[:1]), Examples(captions[1:, :1], pixels=pixels[1:]))
    with torch.inference_mode():
        together = float(model(objective, (Examples(captions, pixels=pixels),)))
        text_beside = (*apart, Examples(captions[:1]))
        assert float(model(objective, text_beside)) == pytest.approx(together, rel=1e-4)
    assert together > 0.1


def test_a_run_on_several_sources_scored_on_several_corpora(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """And decoded by workers it is the same run."""
    stages = [
        frozen(batch_size=None, sources=SHARES, augment=True, views=1, feature_dropout=0.2),
        whole(batch_size=None, sources={"more": 2, "extra": 2, "root": 2}),
    ]
    other = write_corpus(tmp_path / "other", dev=4, second_captions=True)
    corpora = {"shapes": {"corpus": str(tmp_path / "corpus"), "weight": 3}, "few": {"corpus": str(other), "limit": 3}}
    recipe = mixed(tmp_path, checkpoints, *stages, validation={"corpora": corpora})
    ahead = train(recipe, [], runs=tmp_path / "ahead")
    captions = json.loads((ahead / "captions.json").read_text(encoding="utf-8"))
    assert {name.partition("/")[0] for name in captions} == {"shapes", "few"}
    assert len(captions) == 16 + 3
    for epoch in read_csv(ahead / "epochs.csv"):
        for measure in ("cider", "bleu_4"):
            mean = (3 * float(epoch[f"shapes/{measure}"]) + float(epoch[f"few/{measure}"])) / 4
            assert float(epoch[measure]) == pytest.approx(mean, abs=2e-3)
    workers = train(recipe, ["data.decode=workers", "data.workers=1"], runs=tmp_path / "workers")
    weights = [(run / "last" / "model.safetensors").read_bytes() for run in (ahead, workers)]
    assert weights[0] == weights[1]


def test_no_source_teaches_what_scores_the_run(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Dev pictures and captions of the root, of every source and of every corpus of validation are kept out."""
    root = write_corpus(tmp_path / "root", train=16, dev=1)
    (tmp_path / "text.txt").write_text("A red circle .\na red square\na green bar\na dog\n", encoding="utf-8")
    more, scoring = write_corpus(tmp_path / "more", train=4, dev=2), write_corpus(tmp_path / "scoring", train=1, dev=3)
    sources = {"more": {"corpus": str(more)}, "extra": {"text": [str(tmp_path / "text.txt")]}}
    data = {"root": str(root), "cache": str(tmp_path / "cache"), "sources": sources}
    stage = whole(batch_size=None, sources={"root": 1, "more": 1})
    validation = {"corpora": {"scoring": {"corpus": str(scoring)}}}
    recipe = load_recipe(write_recipe(tmp_path, checkpoints, [stage], data=data, validation=validation))
    corpora = Corpora(recipe.data, recipe.validation.corpora)
    found = corpora.train(checkpoints.model().tokenizer)
    held_out = {"train_red_circle.png", "train_red_square.png", "train_red_triangle.png"}
    for name, examples in found.items():
        names = {example.image.name for example in examples}
        assert names, name
        assert not held_out & names, name
    assert corpora.text("extra") == ["a green bar", "a dog"]
    assert list(corpora.dev()) == ["scoring"]


def test_annotations_stand_beside_pictures_and_are_simulated_for_texts(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: VisionPrefixLM
) -> None:
    made = NameLength()
    monkeypatch.setitem(ANNOTATIONS, "length", lambda _recipe: made)
    path = mixed(tmp_path, checkpoints, frozen(batch_size=None, sources={"root": 4, "extra": 3}))
    recipe = load_recipe(path, ["data.annotations=[length]"])
    steps = [batch for (batch,) in feed(recipe, model).epoch(0, 0)]
    # Annotations are computed only once, for all train pictures, including those that no stage draws.
    again = [batch for (batch,) in feed(recipe, model).epoch(0, 0)]
    assert (made.computed, made.learnt) == (24, (24, (24, 2)))
    names = [example.image.name for example in Corpora(recipe.data).train(model.tokenizer)["root"]]
    simulated = []
    for (pictures, texts), (_, same) in zip(steps, again, strict=True):
        assert pictures.rows is not None
        assert pictures.annotations["length"].tolist() == [[len(names[row])] * 2 for row in pictures.rows]
        drawn = texts.annotations["length"]
        assert torch.equal(drawn, same.annotations["length"])
        sentences = [model.tokenizer.decode([t for t in row[0].tolist() if t != IGNORE]) for row in texts.captions]
        assert [int(value) for value in drawn[:, 0]] == [len(sentence.strip()) for sentence in sentences]
        simulated += drawn[:, 0].tolist()
    assert len(set(simulated)) == len(simulated)
    with pytest.raises(TypeError, match="length"):  # it is an argument that this model does not have
        look(model, steps[0][0])
    with pytest.raises(RecipeError, match=r"there is no darkness; there are: .*length"):
        build_annotations(load_recipe(path, ["data.annotations=[darkness]"]))

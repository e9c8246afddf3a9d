"""`train` from a recipe to a run directory, on sixteen drawn pictures."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from captionist.data import clean_caption, open_corpus
from captionist.errors import BundleError, DataError, RecipeError, TrainingError
from captionist.exporting.card import model_card
from captionist.exporting.export import _history, export
from captionist.inference.search import SearchOptions, search
from captionist.model.fusion import load_model
from captionist.model.torch_decoder import TorchDecoder
from captionist.training import dataset
from captionist.training.pictures import PictureSet, normalise
from captionist.training.recipe import load_recipe
from captionist.training.train import train
from tests.model.checkpoints import SIZE, Checkpoints
from tests.training.corpus import NAMES
from tests.training.runs import frozen, read_csv, text, whole, write_recipe


def losses(run: Path) -> list[float]:
    return [float(row["loss"]) for row in read_csv(run / "steps.csv")]


def test_it_learns_sixteen_pictures_word_for_word(overfitted: Path) -> None:
    """The whole chain, checked by its result: each picture gets its own caption, which ends where it should."""
    recipe = load_recipe(overfitted / "recipe.yaml")
    examples = open_corpus(recipe.data.root, recipe.data.format).split("train")
    model = load_model(overfitted / "last").eval()
    (pictures,) = PictureSet(examples, SIZE, recipe.data).batches([np.arange(len(examples))])
    with torch.inference_mode():
        prefix = model.encode(normalise(torch.from_numpy(pictures), model.encoder))
    found = search(TorchDecoder(model), prefix, len(examples), SearchOptions(num_beams=1))
    written = [model.tokenizer.decode(list(hypotheses[0].tokens)).strip() for hypotheses in found]
    assert written == [clean_caption(example.references[0], lowercase=True) for example in examples]
    assert len(set(written)) == len(NAMES)


def test_a_run_directory_holds_everything(overfitted: Path) -> None:
    for name in ("best", "last"):
        load_model(overfitted / name)
    assert load_recipe(overfitted / "recipe.yaml").seed == 7
    environment = json.loads((overfitted / "environment.json").read_text(encoding="utf-8"))
    assert environment["seed"] == 7
    assert environment["versions"]["torch"] == version("torch")
    assert {"commit", "device", "precision", "python", "processes", "started"} <= environment.keys()
    assert environment["precision"] == "no"
    assert "parameters" in (overfitted / "train.log").read_text(encoding="utf-8")
    picture = cv2.imread(str(overfitted / "loss.png"))
    assert picture is not None
    assert picture.std() > 10
    (checkpoint,) = overfitted.glob("checkpoint-*")
    assert (checkpoint / "progress.json").is_file()


def test_logs_tell_the_course(overfitted: Path) -> None:
    steps, epochs = read_csv(overfitted / "steps.csv"), read_csv(overfitted / "epochs.csv")
    assert [int(row["step"]) for row in steps] == list(range(1, 141))
    assert [int(row["step"]) for row in epochs] == [*range(4, 121, 4), *range(121, 141)]
    assert [int(row["epoch"]) for row in epochs] == [*range(1, 31), *range(1, 21)]
    assert losses(overfitted)[0] > 2
    assert losses(overfitted)[119] < 0.05
    assert all(float(row["gradient_norm"]) > 0 and float(row["pictures_per_second"]) > 0 for row in steps)
    assert max(float(row["cider"]) for row in epochs) > 700
    events = EventAccumulator(str(overfitted / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("train/loss")
    assert [event.step for event in scalars] == list(range(1, 141))
    assert [event.value for event in scalars] == pytest.approx(losses(overfitted), abs=1e-4)
    assert len(events.Scalars("dev/cider")) == 50


def test_dev_captions_are_kept_by_picture(overfitted: Path) -> None:
    captions = json.loads((overfitted / "captions.json").read_text(encoding="utf-8"))
    assert len(captions) == 16
    assert captions["dev_red_circle.png"].strip() == "a red circle"


@pytest.mark.parametrize("stage", [frozen(), whole()], ids=["frozen", "whole"])
def test_a_loss_that_is_not_finite_stops_the_run(checkpoints: Checkpoints, tmp_path: Path, stage: Any) -> None:
    stages = [stage | {"rates": {"projection": 1e30, "decoder": 1e30}}]
    recipe = write_recipe(tmp_path, checkpoints, stages)
    with pytest.raises(TrainingError, match=rf"The loss is nan in stage {stage['name']}, epoch 1, step 2\."):
        train(recipe, [], runs=tmp_path / "runs")


def test_the_course_does_not_depend_on_accumulation(checkpoints: Checkpoints, tmp_path: Path) -> None:
    courses = []
    for accumulate in (1, 2, 3):
        recipe = write_recipe(tmp_path, checkpoints, [frozen(accumulate=accumulate), whole(accumulate=accumulate)])
        courses.append(losses(train(recipe, [], runs=tmp_path / f"runs-{accumulate}")))
    assert len(courses[0]) == 8
    assert courses[1] == pytest.approx(courses[0], abs=1e-4)
    assert courses[2] == pytest.approx(courses[0], abs=1e-4)


def test_a_seed_gives_a_course(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [whole(augment=True)])
    first, same, other = (
        losses(train(recipe, [override], runs=tmp_path / name))
        for name, override in (("a", "seed=7"), ("b", "seed=7"), ("c", "seed=8"))
    )
    assert first == same
    assert first != other


def test_a_frozen_backbone_is_shown_augmented_pictures_from_the_cache(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen(augment=True, views=2)])
    shown = losses(train(recipe, [], runs=tmp_path / "augmented"))
    kept = list((tmp_path / "cache").glob("features-*.npy"))
    assert len(kept) == 1 + 2 + 1  # the train pictures, two views of them, the dev pictures
    assert len({path.read_bytes() for path in kept}) == 3  # dev is made of the train pictures here
    plain = losses(train(recipe, ["stages.0.augment=false"], runs=tmp_path / "plain"))
    assert set((tmp_path / "cache").glob("features-*.npy")) == set(kept)
    assert shown != plain


def test_a_text_stage_teaches_language_before_pictures(checkpoints: Checkpoints, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("A red circle .\nA blue bar .\n\n" * 4, encoding="utf-8")
    recipe = write_recipe(tmp_path, checkpoints, [text(epochs=4), frozen()])
    run = train(recipe, [f"data.text=[{more}]"], runs=tmp_path / "runs")
    steps = read_csv(run / "steps.csv")
    learnt = [float(row["loss"]) for row in steps if row["stage"] == "language"]
    assert len(learnt) == 4 * 2  # 24 captions, five to a group, two groups to a step
    assert learnt[-1] < 0.7 * learnt[0]
    assert [row["stage"] for row in read_csv(run / "epochs.csv")] == ["frozen"]  # text alone has no dev score


def test_a_text_file_that_cannot_be_read(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [text()])
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        train(recipe, [f"data.text=[{tmp_path / 'nowhere.txt'}]"], runs=tmp_path / "runs")


def test_limits(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen()])
    overrides = ["data.limit=8", "validation.limit=3"]
    run = train(recipe, overrides, runs=tmp_path / "runs")
    assert len(read_csv(run / "steps.csv")) == 2
    assert len(json.loads((run / "captions.json").read_text(encoding="utf-8"))) == 3


def test_the_best_epoch_is_kept_and_the_average_is_what_is_scored(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [whole(epochs=2, average=0.5)])
    run = train(recipe, [], runs=tmp_path / "runs")
    (checkpoint,) = run.glob("checkpoint-*")
    model, last, best = (load_model(path).projection.weight for path in (checkpoint, run / "last", run / "best"))
    average = torch.load(checkpoint / "state.pt", weights_only=True)["average"]["projection.weight"]
    assert torch.equal(last, average)
    assert not torch.equal(last, model)
    scores = [float(row["cider"]) for row in read_csv(run / "epochs.csv")]
    assert torch.equal(best, last) is (scores[1] > scores[0])


def test_two_runs_in_one_process_have_their_own_logs(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [text()])
    first, second = (train(recipe, [], runs=tmp_path / name) for name in ("a", "b"))
    load_model(first / "last")
    assert not (first / "best").exists()  # text alone has no dev score
    lines = [(run / "train.log").read_text(encoding="utf-8").count("million parameters") for run in (first, second)]
    assert lines == [1, 1]


def test_a_run_may_go_on_from_another_ones_model(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen(epochs=4)])
    first = train(recipe, [], runs=tmp_path / "a")
    second = train(recipe, [f"start={first / 'last'}"], runs=tmp_path / "b")
    assert losses(second)[0] < 0.9 * losses(first)[0]
    with pytest.raises(RecipeError, match=r"another model\.prefix_grid"):
        train(recipe, [f"start={first / 'last'}", "model.prefix_grid=1"], runs=tmp_path / "c")
    with pytest.raises(RecipeError, match="neither a run's model"):
        train(recipe, [f"start={tmp_path}"], runs=tmp_path / "d")


@pytest.mark.slow
def test_a_run_may_go_on_from_a_bundle(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen(epochs=4)])
    first = train(recipe, [], runs=tmp_path / "a")
    bundle = export(first, tmp_path / "bundle")
    second = train(recipe, [f"start={bundle.path}"], runs=tmp_path / "b")
    assert losses(second)[0] < 0.9 * losses(first)[0]
    assert read_csv(second / "epochs.csv")[0]["cider"] == read_csv(first / "epochs.csv")[-1]["cider"]
    weights = bundle.path / "weights.bin"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match=r"weights\.bin was altered"):
        train(recipe, [f"start={bundle.path}"], runs=tmp_path / "c")
    assert not (tmp_path / "c").exists()
    weights.write_bytes(content)
    with pytest.raises(TrainingError, match="as 2 x 2 visual tokens"):
        train(recipe, [f"start={bundle.path}", "model.prefix_grid=1"], runs=tmp_path / "d")
    fingerprint = bundle.fingerprint
    shutil.rmtree(bundle.path)  # what the card says of it must be known by now
    card = export(second, tmp_path / "better").model_card
    assert card.count("Recipe `tiny`") == 2
    assert f"It started from the bundle bundle ({fingerprint[:12]})." in card


def test_a_run_may_go_on_from_the_mean_of_several(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen(epochs=2)])
    first = train(recipe, [], runs=tmp_path / "a")
    go_on = f"start={first / 'last'}"
    starts = [train(recipe, [go_on, f"seed={seed}"], runs=tmp_path / f"b{seed}") / "last" for seed in (1, 2)]
    one, two = (load_file(start / "model.safetensors") for start in starts)
    mean = f"start=[{', '.join(map(str, starts))}]"
    run = train(recipe, [mean, "stages.0.epochs=0", "model.decoder.dropout=0.5"], runs=tmp_path)
    for name, weights in load_file(run / "best" / "model.safetensors").items():
        assert torch.allclose(weights, (one[name] + two[name]) / 2, atol=1e-6), name
    assert [row["epoch"] for row in read_csv(run / "epochs.csv")] == ["0"]
    history = _history(run)
    assert [part.name for part in history] == [first.name, *(start.parent.name for start in starts), run.name]
    model = load_model(run / "best")
    card = model_card(load_recipe(run / "recipe.yaml"), model, {"note": "Not scored."}, "fp32", history, "")
    assert card.count("Recipe `tiny`") == 4
    assert f"It started from {starts[0].parent.name} and {starts[1].parent.name}, whose weights were averaged." in card


def test_visual_tokens_learn_to_name_what_captions_say(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_FEWEST", 2)  # the corpus is small
    recipe = write_recipe(tmp_path, checkpoints, [frozen(epochs=8)])
    plain = train(recipe, [], runs=tmp_path / "plain")
    naming = train(recipe, ["stages.0.naming=1.0"], runs=tmp_path / "naming")
    added = [both - alone for both, alone in zip(losses(naming), losses(plain), strict=True)]
    assert added[0] > 0.3
    assert sum(added[-4:]) < 0.9 * sum(added[:4])


def test_dev_captions_are_searched_for_as_the_recipe_says(checkpoints: Checkpoints, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, checkpoints, [frozen()])
    run = train(recipe, ["search.num_beams=2", "search.max_words=2", "search.min_tokens=2"], runs=tmp_path / "runs")
    captions = json.loads((run / "captions.json").read_text(encoding="utf-8"))
    assert {len(caption.split()) for caption in captions.values()} <= {1, 2}

"""Recipes: what is in the repository is valid, and a mistake is named."""

import json
from pathlib import Path

import pytest
import yaml

from captionist.errors import RecipeError
from captionist.training.recipe import dump_recipe, load_recipe
from tests.training.runs import frozen, heads, text

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_repository_s_recipes_are_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.stages


def test_encoder_families_have_a_recipe() -> None:
    assert {path.stem for path in RECIPES} >= {"flickr8k-base", "flickr8k-clip", "flickr8k-small"}
    assert {load_recipe(path).model.encoder.family for path in RECIPES} == {"vit", "clip", "hybrid"}


def test_feedback_goes_on_from_the_embedded_model_s_kind() -> None:
    """A run starts from the same `model` only."""
    small, feedback = (load_recipe(RECIPES[0].with_name(f"{name}.yaml")) for name in ("captionist-small", "feedback"))
    assert feedback.model == small.model
    assert feedback.start == (Path("captionist-small"),)


@pytest.fixture
def base() -> Path:
    return next(path for path in RECIPES if path.stem == "flickr8k-base")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_dumped_recipe_reads_the_same(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path, ["data.limit=3", "stages.0.average=0.9"])
    copy = tmp_path / "recipe.yaml"
    copy.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(copy) == recipe


def test_overrides(base: Path) -> None:
    recipe = load_recipe(
        base,
        [
            "stages.0.epochs=2",
            "stages.1.frozen=3",
            "data.root=some dir/flickr",
            "data.text=[a.txt, b.txt]",
            "data.limit=null",
            "stages.0.rates.decoder=1e-3",
            "search.num_beams=5",
            "notes=a = b",
            "precision=bf16",
        ],
    )
    assert recipe.stages[0].epochs == 2
    assert recipe.stages[1].frozen == 3
    assert recipe.data.root == Path("some dir/flickr")
    assert recipe.data.text == (Path("a.txt"), Path("b.txt"))
    assert recipe.data.limit is None
    assert recipe.stages[0].rates.decoder == 1e-3
    assert recipe.search.num_beams == 5
    assert recipe.notes == "a = b"
    assert recipe.precision == "bf16"
    assert load_recipe(base, ["notes="]).notes == ""


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("stages.0.epoch=2", r"stages\.0\.epoch\b"),
        ("modle.prefix_grid=2", "modle"),
        ("stages.0.epochs=many", r"stages\.0\.epochs"),
        ("stages.0.frozen=all", r"stages\.0\.frozen"),
        ("stages.0.rates.decoder=-1", r"stages\.0\.rates\.decoder"),
        ("model.encoder.resolution=wide", r"model\.encoder\.vit\.resolution"),
        ("model.encoder.family=cnn", r"model\.encoder"),
        ("stages.7.epochs=2", r"stages\.7\.epochs"),
        ("stages.first.epochs=2", r"stages\.first\.epochs"),
        ("name.first=x", r"name\.first"),
        ("stages=[]", "stages"),
        ("data.root=[1, 2", r"data\.root"),
        ("name=Not A Name", "name"),
        ("no-equals-sign", "no-equals-sign"),
        ("search.num_beams='5'", "search: num_beams must be a whole number, but it is '5'"),
        ("search.length_penalty=.nan", "search: length_penalty must be a finite number"),
        ("search.beams=5", "search: unknown option 'beams': did you mean num_beams"),
        ("search.retrieved=5", "a bank and search.retrieved need each other"),
    ],
)
def test_a_wrong_override_is_named(base: Path, override: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe(base, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: [", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"- a\n- b\n", "not a recipe"),
        (b"", "not a recipe"),
        (b"name: tiny\n", "stages is missing"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=rf"(?s)broken\.yaml.*{message}"):
        load_recipe(path)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.yaml", tmp_path):
        with pytest.raises(RecipeError, match=rf"{path.name}: cannot be read.*recipes/"):
            load_recipe(path)


RICH = {
    "name": "rich",
    "data": {
        "root": "corpus",
        "teacher": "minilm",
        "annotations": ["objects", "classes"],
        "sources": {
            "more": {"corpus": "more"},
            "extra": {"text": ["extra.txt"]},
            "grouped": {"text": ["grouped.txt"], "group": 3},
        },
    },
    "model": {
        "encoder": {"family": "hybrid", "stem_weights": "lite2", "weights": "dinov2", "resolution": 96},
        "decoder": {"weights": "gpt2"},
        "prefix_grid": 2,
        "words": {"detector": "nanodet"},
        "alignment": 8,
    },
    "stages": [frozen(), heads(batch_size=None, sources={"root": 2, "extra": 2}, teacher=1.0)],
}
"""Of everything that a recipe may hold something; no file that it names is there."""


def first(stage: dict[str, object]) -> str:
    return f"stages.0={json.dumps(stage)}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (first(frozen(sources={"root": 2})), "either batch_size or sources"),
        (first(frozen(batch_size=None)), "either batch_size or sources"),
        (
            first(frozen(batch_size=None, sources={"root": 2, "mode": 1})),
            "no source is called mode; there are root",
        ),
        (first(text(batch_size=None, sources={"extra": 2, "more": 2})), "more has pictures"),
        (first(heads(batch_size=None, sources={"root": 2, "extra": 2})), "extra has no pictures, which contrastive"),
        (first(frozen(batch_size=None, sources={"extra": 2})), "no source has pictures"),
        (
            first(frozen(objective="self_critical", batch_size=None, sources={"root": 2, "extra": 2})),
            "extra has no groups, by which self_critical",
        ),
        (first(frozen(invention=0.1)), "invention is for objective self_critical"),
        (first(heads(accumulate=2)), "whole batch"),
        (first(heads(packed=False)), "packed"),
        (first(heads(contrastive=0.5)), "contrastive is for objective caption"),
        (first(heads(resolution=32)), "frozen backbone"),
        (first(heads(frozen=0, resolution=32)), "resolution must be from 64 .* to 96"),
        (first({"objective": "self_critical", **frozen(naming=0.5)}), "naming is for objectives"),
        (first(text(classes=0.5)), "classes is for objectives caption and contrastive"),
        (first(frozen(judging=1.0)), "judging is for objective contrastive"),
        (first(heads(judging=1.0, rates={"decoder": 0.1})), "the heads alone may have a rate"),
        ("stages.0.teacher=1.0", "teacher is for objective contrastive"),
        ("stages.1.teacher=0.0", "extra has no pictures, which contrastive needs"),
        ("stages.1.sources={extra: 4}", "no source has pictures"),
        ("data.teacher=null", "grouped's group needs data.teacher"),
        ("data={root: corpus, sources: {extra: {text: [t.txt]}}}", "data.annotations objects"),
        ("data.sources.more.group=5", "group is for text"),
        ("data.sources.more.text=[a.txt]", "either corpus or text"),
        ("data.sources.text={corpus: more}", "text is a source that every recipe has"),
        ("data={root: corpus, exclude: [other], leak_check: false}", "exclude needs leak_check: true"),
        ("validation.corpora={a: {corpus: more, weight: 0}}", "a weight above 0"),
        ("model.alignment=null", r"compares pictures and sentences: give model\.alignment"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RICH), encoding="utf-8")
    assert load_recipe(path).stages
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, [override])


@pytest.mark.parametrize(
    ("stage", "model", "message"),
    [
        (frozen(classes=0.5), {"words": None}, "need model.words"),
        (frozen(classes=0.5), {}, "classes needs data.annotations classes"),
        (heads(teacher=1.0), {}, "teacher needs data.teacher"),
        (frozen(), {"alignment": None}, r"search\.match_weight needs model\.alignment"),
        (heads(frozen=0, resolution=64), {"prefix_grid": None}, "hybrid encoder and model.prefix_grid"),
    ],
)
def test_what_a_stage_needs_of_model_and_data_is_said(
    tmp_path: Path, stage: dict[str, object], model: dict[str, object], message: str
) -> None:
    data = {"root": "corpus", "annotations": ["objects"]}
    recipe = {**RICH, "data": data, "model": {**RICH["model"], **model}, "stages": [stage]}  # type: ignore[dict-item]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | {"search": {"match_weight": 1.0}}), encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        load_recipe(path)

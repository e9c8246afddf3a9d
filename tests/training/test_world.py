"""A world in small: words seen, texts without pictures, and two commands from a recipe to a bundle that chooses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from captionist import Captioner
from captionist.bundle import BANK_SENTENCES
from captionist.data import open_corpus
from captionist.exporting.export import export
from captionist.model.config import WordsConfig
from captionist.model.fusion import VisionPrefixLM, build_model, load_model
from captionist.training.objectives import Examples, Objective
from captionist.training.objectives.caption import Captioning
from captionist.training.objectives.classes import Classifying
from captionist.training.recipe import load_recipe
from captionist.training.train import train
from tests.model.checkpoints import SIZE, Checkpoints
from tests.training.corpus import NAMES, write_corpus
from tests.training.runs import frozen, heads, read_csv, write_recipe

TEXTS = [
    *(f"a {colour} {shape} on a dark field" for colour, shape in NAMES),
    "two dogs run over the green grass",
    "a man in a red shirt climbs a dark rock",
]
_RATES = {"neck": 3e-3, "projection": 3e-3, "decoder": 3e-3, "words": 3e-3, "classifier": 3e-3}
Json = dict[str, Any]


def world(**changes: Any) -> Json:
    """A stage on pictures and texts at once."""
    shares = {"root": 8, "texts": 6}
    return {"name": "world", "sources": shares, "epochs": 2, "classes": 0.5, "naming": 0.2, "rates": _RATES} | changes


def write_world(folder: Path, checkpoints: Checkpoints, *stages: Json, **changes: Any) -> Path:
    """A recipe of a hybrid that sees words, on the tiny corpus and texts in a file."""
    (folder / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    data = {
        "root": str(write_corpus(folder / "corpus")),
        "cache": str(folder / "cache"),
        "annotations": ["objects", "classes"],
        "sources": {"texts": {"text": [str(folder / "texts.txt")]}},
        "leak_check": False,
    }
    model = {
        "encoder": checkpoints.hybrid(blocks=1).model_dump(mode="json"),
        "decoder": {"weights": checkpoints.path("gpt2"), "vocabulary": "corpus", "dropout": 0.0},
        "prefix_grid": 2,
        "words": {"detector": checkpoints.path("nanodet"), "objects": 2, "nouns": 1},
        "alignment": 16,
    }
    return write_recipe(folder, checkpoints, list(stages), **({"data": data, "model": model} | changes))


@pytest.fixture(scope="module")
def model(checkpoints: Checkpoints) -> VisionPrefixLM:
    torch.manual_seed(0)
    words = WordsConfig(detector=checkpoints.path("nanodet"), objects=2, nouns=1)
    config = checkpoints.config(checkpoints.vit(), prefix_grid=2).model_copy(update={"words": words, "alignment": 8})
    return build_model(config, []).eval()


def annotated(count: int) -> dict[str, torch.Tensor]:
    drawn = torch.Generator().manual_seed(1)
    classes = torch.rand(count, 1000, generator=drawn)
    return {"objects": torch.rand(count, 80, 6, generator=drawn), "classes": classes / classes.sum(1, keepdim=True)}


def test_a_text_has_words_seen_and_no_picture(model: VisionPrefixLM) -> None:
    """What is written of it depends on its objects, and what it costs is the same beside pictures as without."""
    captions, some = torch.tensor([[[5, 6, 7]], [[5, 6, 7]]]), annotated(2)
    texts = Examples(captions, annotations=some)
    pictures = Examples(captions, pixels=torch.randn(2, 3, SIZE, SIZE), annotations=some)
    objective = Objective(losses=(Captioning(),))
    with torch.inference_mode():
        both, alone, seen = (float(model(objective, batch)) for batch in ((pictures, texts), (texts,), (pictures,)))
        first, second = (
            float(model(objective, (Examples(captions[:1], annotations={n: a[i : i + 1] for n, a in some.items()}),)))
            for i in (0, 1)
        )
    assert both == pytest.approx(alone + seen, rel=1e-4)
    assert alone == pytest.approx(first + second, rel=1e-4)
    assert abs(first - second) > 1e-3


def test_what_is_written_of_a_text_is_what_was_read_of_it(model: VisionPrefixLM) -> None:
    some = annotated(2)
    with torch.inference_mode():
        prefix = model.unseen(2, **some)
        read = model.read(prefix, torch.tensor([[[5, 6]], [[5, 6]]])).logits.view(2, 3, -1)
        step = model.prefill(prefix)
        torch.testing.assert_close(step.logits, read[:, 0], atol=1e-4, rtol=1e-4)
        none = model.no_tokens(step.keys, 2)
        step = model.step(torch.tensor([[5], [5]]), torch.arange(2), step.keys, step.values, none, none)
    torch.testing.assert_close(step.logits[:, 0], read[:, 1], atol=1e-4, rtol=1e-4)
    assert step.attention.shape == (2, 1, prefix.shape[1])


def test_only_pictures_teach_the_classifier(model: VisionPrefixLM) -> None:
    captions, some = torch.tensor([[[5, 6, 7]], [[5, 6, 7]]]), annotated(2)
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    objective = Objective(losses=(Classifying(0.5),))
    assert model.words is not None
    with torch.inference_mode():
        batch = tuple(Examples(captions, pixels=given, annotations=some) for given in (pixels, None))
        loss = float(model(objective, batch))
        features = model.encoder.backbone(pixels)
        found = model.words.classes(model.pooling @ features)
    assert loss == pytest.approx(float(-0.5 * (some["classes"] * found.log()).sum()), rel=1e-4)


@pytest.fixture(scope="module")
def run(checkpoints: Checkpoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    stages = [
        frozen(epochs=1, batch_size=8, packed=False, rates=_RATES),
        world(),
        heads(epochs=4, batch_size=8),
    ]
    bank, search = {"source": "texts", "credit": "nobody's"}, {"num_beams": 1, "retrieved": 3}
    recipe = write_world(folder, checkpoints, *stages, bank=bank, search=search)
    return train(recipe, [], runs=folder / "runs")


def test_all_of_it_trains(run: Path) -> None:
    trained = load_model(run / "last")
    torch.manual_seed(7)
    recipe = load_recipe(run / "recipe.yaml")
    begun = build_model(recipe.model, [])
    assert trained.words is not None
    assert begun.words is not None
    assert trained.words.no_picture.abs().max() > 0
    assert trained.words.offsets.abs().max() > 0
    for mine, theirs in ((trained.words.facts, begun.words.facts), (trained.words.classifier, begun.words.classifier)):
        assert not torch.allclose(mine.weight, theirs.weight)
    last = read_csv(run / "epochs.csv")[-1]
    assert float(last["image_to_text_10"]) > 0  # the heads see objects, too


@pytest.mark.slow
def test_two_commands_make_a_bundle_that_chooses(run: Path, tmp_path: Path) -> None:
    bundle = export(run, tmp_path / "small")
    bundle.verify()
    config = bundle.config
    assert config.detector is not None
    assert config.bank is not None
    assert config.bank.ranked
    assert config.search.retrieved == 3
    assert (bundle.path / BANK_SENTENCES).read_text(encoding="utf-8").splitlines() == TEXTS
    scores = json.loads((bundle.path / "scores.json").read_text(encoding="utf-8"))
    assert scores["parity"]["captions"] == 16
    assert set(scores["ranking"]["corpora"]) == {"corpus"}
    assert "nobody's" in bundle.model_card
    captioner = Captioner(bundle.path)
    for example in open_corpus(load_recipe(run / "recipe.yaml").data.root).split("dev")[:3]:
        caption = captioner.caption(example.image)
        assert caption.text
        assert 0 < caption.confidence <= 1

"""Heads that learn from a sentence encoder: its vectors of captions, kept on disk, and their effect."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertModel

from captionist.errors import RecipeError
from captionist.exporting.export import export
from captionist.model.fusion import load_model
from captionist.training.objectives import Examples
from captionist.training.objectives.contrastive import Contrast, Contrastive, TaughtContrast
from captionist.training.teacher import Teacher
from captionist.training.train import train
from tests.model.checkpoints import SIZE, Checkpoints
from tests.training.corpus import NAMES
from tests.training.runs import frozen, heads, write_recipe

WIDTH = 12
TEXTS = [f"a {colour} {shape} on a dark field" for colour, shape in NAMES]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny, random sentence encoder."""
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 0.5}
    BertModel(BertConfig(vocab_size=len(words), hidden_size=WIDTH, **shape)).save_pretrained(folder)
    tokenizer: Any = Tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_what_it_says_is_kept(weights: Path, tmp_path: Path) -> None:
    references: dict[str, list[tuple[str, ...]]] = {
        "a": [("A red circle.", "the dark field"), ("a blue bar",)],
        "b": [("a red circle",)],
    }
    teacher = Teacher(weights, tmp_path, references)
    vectors = teacher.vectors("a", np.array([1, 0]), 3)
    assert vectors.shape == (2, 3, WIDTH)
    assert vectors.any(2).tolist() == [[True, False, False], [True, True, False]]
    torch.testing.assert_close(vectors[vectors.any(2)].norm(dim=1), torch.ones(3), atol=2e-3, rtol=0)
    # The padding up to its neighbours' length changes nothing, and neither do capitals and full stops.
    torch.testing.assert_close(teacher.vectors("b", np.array([0]), 1)[0, 0], vectors[1, 0], atol=2e-3, rtol=0)
    (kept, other) = sorted(tmp_path.glob("sentences-*.npy"), key=lambda path: -path.stat().st_size)
    assert np.load(kept).shape == (3, WIDTH)
    np.save(kept, np.zeros((3, WIDTH), np.float16))
    assert not Teacher(weights, tmp_path, references).vectors("a", np.array([0]), 2).any()  # read, not made again
    assert other.exists()
    with pytest.raises(RecipeError, match=r"config\.json does not exist.*starting_weights"):
        Teacher(tmp_path, tmp_path, references)


def test_the_loss_is_contrast_and_distance(checkpoints: Checkpoints, weights: Path, tmp_path: Path) -> None:
    """Except for the contrast, it vanishes if the sentence head says what the teacher says."""
    references = {"root": [(text,) for text in TEXTS[:3]], "texts": [(text,) for text in TEXTS[3:5]]}
    teacher = Teacher(weights, tmp_path, references)
    model = checkpoints.model(prefix_grid=2)
    model.align(WIDTH)
    alignment = model.alignment
    assert alignment is not None
    alignment.learn_from(WIDTH)
    pixels = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    captions = torch.arange(20, 35).view(5, 1, 3)
    batch = (
        Examples(captions[:3], pixels=pixels, source="root", rows=np.arange(3)),
        Examples(captions[3:], source="texts", rows=np.arange(2)),
    )

    def loss(kind: TaughtContrast | Contrast) -> float:
        with torch.inference_mode():
            return float(model(Contrastive(losses=(kind,)), batch))

    apart = loss(TaughtContrast(teacher, 1.0)) - loss(TaughtContrast(teacher, 0.0))
    assert apart > 1
    assert loss(TaughtContrast(teacher, 2.0)) - loss(TaughtContrast(teacher, 0.0)) == pytest.approx(2 * apart, rel=1e-3)
    assert loss(TaughtContrast(teacher, 0.0, own=1.5)) - loss(TaughtContrast(teacher, 0.0)) == pytest.approx(
        loss(Contrast()), rel=1e-3
    )
    assert Contrastive(losses=()).size(batch) == 3


@pytest.fixture(scope="module")
def recipe(checkpoints: Checkpoints, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "texts.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    stage = heads(epochs=8, batch_size=None, sources={"root": 16, "texts": 8}, teacher=4.0)
    sources = {"texts": {"text": [str(folder / "texts.txt")], "group": 3, "near": 4}}
    path = write_recipe(folder, checkpoints, [stage, frozen(batch_size=16)], alignment=WIDTH, sources=sources)
    path.write_text(path.read_text(encoding="utf-8").replace("data:\n", f"data:\n  teacher: {weights}\n"), "utf-8")
    return path


def test_groups_are_references_of_captions_that_are_sampled(recipe: Path, tmp_path: Path) -> None:
    """The same pictures and draws without the texts give another model."""
    rates = "rates={projection: 3.0e-3, decoder: 3.0e-3}"
    stage = [
        f"stages.0.{part}" for part in ("objective=self_critical", "invention=0.1", "teacher=0", "epochs=1", rates)
    ]
    stage.append("stages.1.epochs=0")
    both = train(recipe, stage, runs=tmp_path / "runs")
    pictures = train(recipe, [*stage, "stages.0.sources={root: 16}"], runs=tmp_path / "pictures")
    with_texts, without = (load_model(each / "last").decoder.wte.weight for each in (both, pictures))
    assert not torch.equal(with_texts, without)


@pytest.mark.slow
def test_the_sentence_head_comes_nearer_to_the_teacher(recipe: Path, weights: Path, tmp_path: Path) -> None:
    run = train(recipe, ["stages.1.epochs=0"], runs=tmp_path / "runs")
    model = load_model(run / "best").eval()
    alignment = model.alignment
    assert alignment is not None
    assert alignment.teacher is not None
    assert not torch.allclose(alignment.teacher.weight, torch.eye(WIDTH), atol=1e-3)
    ids = [model.tokenizer.encode(" " + text).ids for text in TEXTS]
    teacher = Teacher(weights, tmp_path, {"texts": [(text,) for text in TEXTS]})
    with torch.inference_mode():
        taught = alignment.taught(teacher.vectors("texts", np.arange(len(TEXTS)), 1))[:, 0]
        own = torch.cat([alignment.sentences(torch.tensor([row])) for row in ids])
    assert float((own * taught).sum(1).mean()) > 0.7
    resumed = train(run / "recipe.yaml", [], resume=run, runs=tmp_path / "runs")  # where nothing is left to do
    assert load_model(resumed / "last").alignment.teacher is None  # type: ignore[union-attr]  # stage 1 needs none
    bundle = export(run, tmp_path / "small", "fp32")
    assert bundle.config.alignment is not None

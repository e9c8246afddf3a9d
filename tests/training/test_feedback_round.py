"""Learning from feedback, from end to end: a model that never saw yellow is corrected, and the gate lets it through."""

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.feedback_round import prepare
from captionist.captioner import Captioner
from captionist.cli import main
from captionist.data import open_corpus
from captionist.errors import DataError
from captionist.evaluation.compare import compare_captions, held_out
from captionist.exporting.export import _common_captions, _train_examples, export
from captionist.model.fusion import load_model
from captionist.model.language import load_tokenizer
from captionist.training.dataset import Corpora
from captionist.training.recipe import load_recipe
from captionist.training.train import train
from tests.model.checkpoints import Checkpoints
from tests.training.corpus import NAMES, caption, draw
from tests.training.runs import whole, write_recipe

_NEW = "yellow"


def write_noisy_corpus(root: Path, new: int, others: int) -> Path:
    """Each drawing several times, with other noise each time; in dev once, without."""
    (root / "Images").mkdir(parents=True)
    noise = np.random.default_rng(0)
    rows: list[str] = []
    for split in ("train", "dev"):
        names = []
        for colour, shape in NAMES:
            copies = 1 if split == "dev" else new if colour == _NEW else others
            for number in range(copies):
                names.append(f"{split}_{colour}_{shape}_{number}.png")
                picture = draw(colour, shape).astype(np.int64)
                if split == "train":
                    picture += noise.integers(-12, 13, picture.shape)
                encoded = cv2.imencode(".png", picture.clip(0, 255).astype(np.uint8)[:, :, ::-1])[1]
                (root / "Images" / names[-1]).write_bytes(encoded.tobytes())
                rows.append(f"{names[-1]}#0\t{caption(colour, shape)}\n")
        (root / f"Flickr_8k.{split}Images.txt").write_text("\n".join(names), encoding="utf-8")
    (root / "Flickr8k.token.txt").write_text("".join(rows), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The original without yellow, and 160 corrected pictures of it."""
    folder = tmp_path_factory.mktemp("round")
    data = write_noisy_corpus(folder / "data", new=40, others=3)
    return prepare(data, folder / "round", pictures=160, about=_NEW)


def test_the_simulated_export_is_what_training_reads(corpora: tuple[Path, Path], checkpoints: Checkpoints) -> None:
    original, feedback = corpora
    assert not any(_NEW in text for e in open_corpus(original).split("train") for text in e.references)
    exported = open_corpus(feedback)
    assert not exported.problems
    assert len(exported.examples) == 160
    config = load_recipe(write_recipe(feedback.parent, checkpoints, [whole()])).data
    config = config.model_copy(update={"root": original, "also": (feedback,), "repeat": 2})
    read = Corpora(config)
    examples, dev = read.train(load_tokenizer(checkpoints.path("gpt2")))["root"], read.dev()["root"]
    assert len(dev) == len(NAMES)
    ids = [example.id for example in examples]
    added = [name for name in ids if name.startswith("feedback/")]
    assert len(ids) - len(added) == 12 * 3
    assert len(added) == 2 * len(set(added)) == 2 * len(exported.split("train"))
    assert not {f"feedback/{example.id}" for example in held_out(exported)} & set(added)


@pytest.mark.slow
def test_a_round_ends_with_a_verdict(
    corpora: tuple[Path, Path], checkpoints: Checkpoints, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original, feedback = corpora
    recipe = write_recipe(tmp_path, checkpoints, [whole(epochs=20)])
    root = f"data.root={original}"
    before = train(recipe, [root], runs=tmp_path / "before")
    old = export(before, tmp_path / "old", "fp32").path
    mixed = [root, f"data.also=[{feedback}]", f"start={before / 'best'}", "stages.0.epochs=6"]
    after = train(recipe, mixed, runs=tmp_path / "after")
    new = export(after, tmp_path / "new", "fp32").path

    def verdict(*arguments: Path | str) -> tuple[int, str]:
        command = ["compare", *map(str, arguments), "--data", str(original), "--corrections", str(feedback)]
        with pytest.raises(SystemExit) as left:
            main(command)
        return int(left.value.code or 0), capsys.readouterr().out.splitlines()[-1]

    told = tmp_path / "told.json"
    verdict(old, new, "--json", str(told))
    judged = json.loads(told.read_text(encoding="utf-8"))["corrections"]
    references = {example.id: example.references for example in held_out(open_corpus(feedback))}
    before_it, after_it = ({picture: both[n] for picture, both in judged["captions"].items()} for n in (0, 1))
    dev = [example.references for example in open_corpus(original).split("dev")]
    assert judged["cider"] == asdict(compare_captions(references, before_it, after_it, among=dev).cider)
    assert judged["cider"] != asdict(compare_captions(references, before_it, after_it).cider)

    picture = held_out(open_corpus(feedback))[0].image
    assert _NEW not in Captioner(old).caption(picture).text
    assert _NEW in Captioner(new).caption(picture).text
    code, line = verdict(old, new)
    assert (code, line.partition(":")[0]) == (0, "promote"), line
    code, line = verdict(new, old)
    assert (code, line.partition(":")[0]) == (1, "keep"), line

    settings = load_recipe(after / "recipe.yaml")  # int8 drops rare words, but not those of the corrections
    common = _common_captions(load_model(after / "best"), settings, _train_examples(settings))
    assert any(_NEW in text for text in common)


def test_nothing_to_correct_is_an_error(corpora: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 would be corrected"):
        prepare(corpora[0], tmp_path / "round", pictures=5, about="elephant")
    with pytest.raises(DataError, match="0 kept"):
        prepare(corpora[0], tmp_path / "round", pictures=1000)
    assert not (tmp_path / "round").exists()

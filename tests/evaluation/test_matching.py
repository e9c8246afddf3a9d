"""CLIPScore and RefCLIPScore: by hand, of a bundle's own alignment, and of a CLIP."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from captionist.captioner import Captioner
from captionist.data import Example
from captionist.evaluation.clip import Clip
from captionist.evaluation.evaluate import Evaluation, evaluate
from captionist.evaluation.matching import Embedded, clip_scores
from tests.evaluation.clips import write_tiny_clip
from tests.pictures import write_png
from tests.tiny_bundle import SENTENCES, write_tiny_bundle

pytestmark = pytest.mark.usefixtures("no_java")


@dataclass(frozen=True)
class Setting:
    captioner: Captioner
    examples: list[Example]

    def evaluate(self, clip: Clip | None = None) -> Evaluation:
        return evaluate(self.examples, self.captioner, clip=clip)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    folder = tmp_path_factory.mktemp("matching")
    pictures = [write_png(folder / f"{seed}.png", seed) for seed in range(4)]
    return Setting(
        Captioner(write_tiny_bundle(folder / "tiny", aligned=True), threads=1),
        [Example(path.name, path, tuple(SENTENCES[i:] + SENTENCES[:1]), "dev") for i, path in enumerate(pictures)],
    )


def test_the_formulas_by_hand() -> None:
    unit = np.eye(2, dtype=np.float32)
    slanted = np.array([0.6, 0.8], np.float32)
    embedded = Embedded(
        clip="",
        images=np.array([unit[0], unit[0], unit[0]]),
        candidates=np.array([slanted, -unit[0], slanted]),
        references=np.array([unit[0], unit[1], unit[1], -slanted]),
        owners=np.array([0, 0, 1, 2]),
    )
    score, with_references = clip_scores(embedded)
    assert score == pytest.approx([2.5 * 0.6, 0, 2.5 * 0.6], abs=1e-6)  # below 0 counts as 0
    # The best reference counts; without any agreement the harmonic mean is 0.
    assert with_references == pytest.approx([2 * 1.5 * 0.8 / (1.5 + 0.8), 0, 0], abs=1e-6)


def test_the_own_alignment_is_not_called_clip(setting: Setting) -> None:
    evaluation, captioner = setting.evaluate(), setting.captioner
    expected = [2.5 * max(captioner.match(row.image, [row.candidate])[0], 0) for row in evaluation.rows]
    measure = evaluation.scores.measures()["match score"]
    assert measure.value == pytest.approx(100 * np.mean(expected), rel=1e-4)
    assert measure.low < measure.value < measure.high
    assert "match score, references" in evaluation.scores.measures()
    assert not any("CLIPScore" in name for name in evaluation.scores.measures())
    assert evaluation.scores.notes[-1].endswith("not comparable with published CLIPScores.")
    assert evaluation.recall is not None
    assert (evaluation.recall.pictures, evaluation.recall.sentences) == (4, 5 + 4 + 3 + 2)
    content = json.loads(evaluation.to_json())
    assert content["recall"]["percent"].keys() >= {"image_to_text_1", "image_to_text_5", "text_to_image_10"}
    assert (content["scores"]["clip"], content["scores"]["clip_score"]["value"]) == ("", measure.value)


def test_a_judge_of_its_own_choice_is_told(setting: Setting, tmp_path: Path) -> None:
    captioner = Captioner(write_tiny_bundle(tmp_path / "ranked", aligned=True, match_weight=2.0), threads=1)
    assert "match_weight 2" in evaluate(setting.examples, captioner).scores.notes[-1]
    assert "match_weight" not in evaluate(setting.examples, captioner, match_weight=0.0).scores.notes[-1]


def test_a_clip_judges_in_its_place(setting: Setting, tmp_path: Path) -> None:
    clip = Clip(str(write_tiny_clip(tmp_path / "clip")))
    evaluation = setting.evaluate(clip)
    images = clip.images([row.image for row in evaluation.rows])
    candidates = clip.sentences([row.candidate for row in evaluation.rows])
    measures = evaluation.scores.measures()
    assert measures["CLIPScore"].value == pytest.approx(
        250 * np.maximum((images * candidates).sum(1), 0).mean(), rel=1e-4
    )
    assert measures["CLIPScore"].value > 0
    assert "match score" not in measures
    assert evaluation.scores.notes[-1] == f"CLIPScore and RefCLIPScore by {clip.clip}."
    assert evaluation.recall == setting.evaluate().recall  # which stays the model's own


def test_without_an_alignment_there_is_nothing_to_say(setting: Setting, tmp_path: Path) -> None:
    evaluation = evaluate(setting.examples, Captioner(write_tiny_bundle(tmp_path / "plain"), threads=1))
    assert evaluation.recall is None
    assert not {"match score", "CLIPScore"} & evaluation.scores.measures().keys()
    assert not any("match" in note for note in evaluation.scores.notes)

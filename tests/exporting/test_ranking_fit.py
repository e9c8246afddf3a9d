"""A tiny bundle learns to choose, and how sure it may be."""

from pathlib import Path

import numpy as np
import pytest

from captionist import Captioner
from captionist.bundle import Bundle
from captionist.data import Example
from captionist.errors import BundleError, ScoreError
from captionist.evaluation.calibration import Ranked, calibrate_ranked, calibrates, reliability
from captionist.exporting.bank import add_bank
from captionist.exporting.ranking_fit import add_ranker, collect
from tests.pictures import write_png
from tests.tiny_bundle import write_tiny_bundle

SENTENCES = ["a red dog runs through the grass", "two children play on the green beach", "a man rides his blue bicycle"]
ENDINGS = ("today", "alone", "again", "slowly", "happily")


def corpus(directory: Path, count: int) -> list[Example]:
    """Pictures whose references are sentences of the bank, so that these are worth more than any beam."""
    return [
        Example(
            f"{directory.name}-{seed}.png",
            write_png(directory / f"{seed}.png", seed),
            tuple(f"{SENTENCES[seed % 3]} {ending}" for ending in ENDINGS),
            "dev",
        )
        for seed in range(count)
    ]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = write_tiny_bundle(tmp_path / "tiny", aligned=True, seeing=True, match_weight=1.0)
    add_bank(path, SENTENCES, "nobody's")
    return path


def test_a_bundle_learns_that_its_sentences_are_better(tmp_path: Path, bundle: Path) -> None:
    examples = {"one": corpus(tmp_path / "one", 24), "two": corpus(tmp_path / "two", 24)}
    told = add_ranker(bundle, examples, 3)
    config = Bundle.open(bundle).config
    assert config.bank is not None
    assert config.bank.ranked
    assert (config.search.retrieved, config.search.match_weight) == (3, 0)
    Bundle.open(bundle).verify()
    for name, gain in told["ranking"]["corpora"].items():
        assert gain["pictures"] == sum(not calibrates(example.id) for example in examples[name])
        assert gain["chosen"] > gain["beam"] + 1
        assert gain["written"] < 0.5
        assert gain["reliability"] is None  # of so few pictures
    captioner = Captioner(bundle)
    written = [captioner.caption(example.image).text.lower().rstrip(".") for example in examples["one"]]
    assert np.mean([text in SENTENCES for text in written]) > 0.5


def test_what_competes_is_worth_what_people_say(tmp_path: Path, bundle: Path) -> None:
    examples = corpus(tmp_path / "one", 6)
    (tmp_path / "one" / "2.png").write_bytes(b"no picture")
    contests = collect(Captioner(bundle), examples, "one", 2)
    assert [contest.picture for contest in contests] == [f"one-{seed}.png" for seed in (0, 1, 3, 4, 5)]
    for contest, seed in zip(contests, (0, 1, 3, 4, 5), strict=True):
        assert contest.candidates.written.sum() >= 1
        assert (~contest.candidates.written).sum() == 2
        said = [text == SENTENCES[seed % 3] for text in contest.candidates.texts]
        assert not any(said) or contest.values.argmax() == said.index(True)


def test_too_few_pictures_teach_nothing(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(ScoreError, match="one has too few pictures"):
        add_ranker(bundle, {"one": corpus(tmp_path / "one", 5)})
    with pytest.raises(BundleError, match="no sentences"):
        add_ranker(write_tiny_bundle(tmp_path / "new", aligned=True), {"one": corpus(tmp_path / "one", 24)})


def test_confidence_is_learnt_from_the_evidence_on_several_corpora() -> None:
    """Captions are acceptable by a law of their cosine, and nothing else."""
    drawn = np.random.default_rng(0)
    corpora = []
    for name in ("a", "b"):
        references, ranked = {}, []
        for number in range(1500):
            picture = f"{name}{number}.jpg"
            references[picture] = [f"a dog with number {number} runs"] * 3 + [f"{number + 1} clouds"]
            cosines = drawn.uniform(-1, 1, 3)
            evidence = [{"words": float(drawn.uniform(5, 15)), "cosine": float(cosine)} for cosine in cosines]
            chances = 1 / (1 + np.exp(-1 - 2 * cosines))
            ranked.append(Ranked(picture, evidence, [1000.0 if drawn.random() < p else 0.0 for p in chances]))
        corpora.append((references, ranked))
    calibration = calibrate_ranked(corpora)
    assert calibration is not None
    assert calibration.intercept == pytest.approx(1, abs=0.4)
    assert calibration.weights["cosine"] == pytest.approx(2, abs=0.4)
    assert calibration.weights["words"] == pytest.approx(0, abs=0.05)
    for references, ranked in corpora:
        kept = reliability(
            {each.picture: each.cider[0] for each in ranked},
            {each.picture: calibration.confidence(0, each.evidence[0]) for each in ranked},
            calibration,
            references,
        )
        assert kept is not None
        assert kept.error < 0.08
        assert kept.discrimination > 0.7
    turned = [
        (references, [r if calibrates(r.picture) else Ranked(r.picture, r.evidence, [0.0] * 3) for r in ranked])
        for references, ranked in corpora
    ]
    assert calibrate_ranked(turned) == calibration
    assert calibrate_ranked([(references, ranked[:20]) for references, ranked in corpora]) is None

"""Two bundles on the same pictures, and the gate: with real bundles, and against a slow computation by hand."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from captionist import bundle
from captionist.bundle import Bundle
from captionist.captioner import Captioner
from captionist.data import Example, open_corpus
from captionist.errors import ScoreError
from captionist.evaluation.bleu import bleu
from captionist.evaluation.cider import CiderD
from captionist.evaluation.compare import Comparison, Difference, compare, compare_captions, gate, held_out
from captionist.evaluation.rouge import rouge_l
from captionist.images import decode
from tests.conftest import Run
from tests.evaluation.samples import random_corpus
from tests.pictures import write_png

EXAMPLES = Path(__file__).parents[2] / "examples"
PARTS = 3  # of each side of a photograph
ZERO = Difference(50.0, 50.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def embedded() -> Captioner:
    return Captioner(threads=1)


@pytest.fixture(scope="module")
def corpus(embedded: Captioner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """27 parts of photographs, in dev, for which the references are what the embedded model says."""
    root = tmp_path_factory.mktemp("corpora") / "photos"
    (root / "Images").mkdir(parents=True)
    rows, names = [], []
    for path in (EXAMPLES / f"{name}.jpg" for name in ("dog", "palace", "river")):
        photo = decode(path)
        height, width = (side // PARTS for side in photo.shape[:2])
        for place in range(PARTS**2):
            row, column = divmod(place, PARTS)
            part = photo[row * height : (row + 1) * height, column * width : (column + 1) * width]
            names.append(f"{path.stem}{place}.png")
            target = root / "Images" / names[-1]
            target.write_bytes(cv2.imencode(".png", part[:, :, ::-1])[1].tobytes())
            rows.append(f"{names[-1]},{embedded.caption(target).text}\n")
    (root / "captions.txt").write_text("image,caption\n" + "".join(rows), encoding="utf-8")
    (root / "Flickr_8k.devImages.txt").write_text("\n".join(names), encoding="utf-8")
    return root


def test_a_bundle_against_itself_differs_by_nothing(embedded: Captioner, corpus: Path) -> None:
    steps: list[int] = []
    examples = open_corpus(corpus).split("dev")[:6]
    comparison = compare(examples, embedded, embedded, lambda: steps.append(1))
    assert len(steps) == 2 * 6
    for name, found in comparison.differences().items():
        assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0), name
        assert found.old == found.new > 0
    assert gate(comparison).word == "not worse"
    assert gate(comparison, comparison).word == "keep"  # nothing was gained


@pytest.mark.slow
def test_a_better_bundle_is_promoted_and_a_worse_one_is_not(unaligned: Path, corpus: Path, run: Run) -> None:
    both = ["--data", corpus, "--corrections", corpus]
    better = run("compare", unaligned, "captionist-small", *both)
    assert (better.code, better.err) == (0, "")
    assert better.out.splitlines()[-1].startswith("promote: CIDEr-D changes by +")
    worse = run("compare", "captionist-small", unaligned, *both)
    assert worse.code == 1
    assert worse.out.splitlines()[-1].startswith("keep: CIDEr-D changes by -")


@pytest.mark.slow
def test_captions_that_are_cut_are_not_let_through(embedded: Captioner, corpus: Path, tmp_path: Path, run: Run) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(embedded.bundle.path, cut)
    config = Bundle.open(cut).config
    search = config.search.override(max_tokens=4)
    bundle.write_config(cut, config.model_copy(update={"search": search}))
    outcome = run("compare", "captionist-small", cut, "--data", corpus, "--json", tmp_path / "result.json")
    assert outcome.code == 1
    assert "not above the margin of -1.0" in outcome.out
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert content["verdict"]["word"] == "keep"
    assert (content["margin"], content["split"], content["corrections"]) == (1.0, "dev", None)
    assert content["dev"]["pictures"] == len(content["dev"]["captions"]) == 27
    assert content["dev"]["bleu_4"]["high"] < 0
    assert all(len(new.split()) <= 4 < len(old.split()) for old, new in content["dev"]["captions"].values())
    assert run("compare", "captionist-small", cut, "--data", corpus, "--margin", 1000).code == 0


def test_the_intervals_are_those_of_scoring_every_resample_anew() -> None:
    """The means of drawn pictures' scores, and nltk's corpus BLEU of the drawn pictures, one resample at a time."""
    references, old = random_corpus(30)
    new = [group[0] if place % 3 else said for place, (group, said) in enumerate(zip(references, old, strict=True))]
    ids = [f"{place:02d}" for place in range(30)]

    def texts(words: list[list[str]]) -> dict[str, str]:
        return {name: " ".join(said) for name, said in zip(ids, words, strict=True)}

    joined = {name: [" ".join(words) for words in group] for name, group in zip(ids, references, strict=True)}
    found = compare_captions(joined, texts(old), texts(new), resamples=200)

    scorer = CiderD(references)
    gains: dict[str, list[float]] = {"CIDEr-D": [], "BLEU-4": [], "ROUGE-L": []}
    draws = np.random.default_rng(0)
    for _ in range(200):
        drawn = draws.integers(30, size=30)
        group = [references[i] for i in drawn]
        before, after = ([said[i] for i in drawn] for said in (old, new))
        gains["CIDEr-D"].append(float(np.mean(scorer.score(after, group)) - np.mean(scorer.score(before, group))))
        gains["ROUGE-L"].append(float(np.mean(rouge_l(group, after)) - np.mean(rouge_l(group, before))))
        gains["BLEU-4"].append(bleu(group, after)[3] - bleu(group, before)[3])
    for name, difference in found.differences().items():
        low, high = np.percentile(100 * np.array(gains[name]), [2.5, 97.5])
        assert (difference.low, difference.high) == pytest.approx((low, high), abs=1e-9), name
        assert low < difference.difference < high
        assert difference.difference == pytest.approx(difference.new - difference.old)
    assert found.bleu_4.old == pytest.approx(100 * bleu(references, old)[3])
    assert found.cider.new == pytest.approx(100 * scorer.score(new, references).mean())


def test_a_word_that_all_corrections_share_is_worth_what_it_is_among_others() -> None:
    """All snow: by their own frequencies alone, the word "snow" would carry no weight."""
    snow = {name: [f"the {name} in the snow"] for name in ("dog", "man", "girl")}
    without, with_it = ({name: f"the {name} in the {end}" for name in snow} for end in ("water", "snow"))
    alone = compare_captions(snow, without, with_it).cider
    others = [["a boat on the sea"], ["two men on a road"]] * 3
    among = compare_captions(snow, without, with_it, among=others).cider
    assert among.difference > alone.difference + 1
    wordless = [["."], *([".", *group] for group in others)]
    assert compare_captions(snow, without, with_it, among=wordless).cider == among


def comparison(low: float, pictures: int = 100) -> Comparison:
    captions = {str(number): ("A dog.", "A dog.") for number in range(pictures)}
    return Comparison(dataclasses.replace(ZERO, low=low), ZERO, ZERO, captions)


@pytest.mark.parametrize(
    ("dev", "margin", "corrections", "pictures", "word"),
    [
        (-0.9, 1.0, 0.1, 20, "promote"),
        (-1.0, 1.0, 0.1, 20, "keep"),
        (-2.0, 2.5, 1.0, 20, "promote"),
        (-0.9, 1.0, 0.0, 20, "keep"),
        (5.0, 1.0, 5.0, 19, "keep: .*; only 19 corrected pictures are held out, and 20 are needed"),
        (-0.9, 1.0, None, 0, "not worse"),
        (-1.1, 1.0, None, 0, "keep"),
    ],
)
def test_the_gate(dev: float, margin: float, corrections: float | None, pictures: int, word: str) -> None:
    corrected = None if corrections is None else comparison(corrections, pictures)
    verdict = gate(comparison(dev), corrected, margin)
    assert re.match(word, str(verdict))


def test_corrections_are_judged_by_what_training_leaves_out(tmp_path: Path) -> None:
    """An export has no split files, so that training takes four pictures of five by their names."""
    for seed in range(40):
        write_png(tmp_path / "Images" / f"{seed:032x}.png", seed)
    rows = "".join(f"{seed:032x}.png,a patchwork\n" for seed in range(40))
    (tmp_path / "captions.txt").write_text("image,caption\n" + rows, encoding="utf-8")
    corrections = open_corpus(tmp_path)
    chosen = {example.id for example in held_out(corrections)}
    assert 0 < len(chosen) < 20
    assert chosen.isdisjoint(example.id for example in corrections.split("train"))


def test_a_picture_that_cannot_be_read_is_named_and_left_out(captioner: Captioner, tmp_path: Path) -> None:
    pictures = [write_png(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    pictures[1].write_bytes(b"not a picture")
    examples = [Example(path.name, path, ("a dog runs", "a cat sleeps"), "dev") for path in pictures]
    found = compare(examples, captioner, captioner)
    assert sorted(found.captions) == ["0.png", "2.png"]
    assert len(found.failures) == 1
    assert "1.png" in found.failures[0]
    with pytest.raises(ScoreError, match=r"no picture to.*1\.png"):
        compare(examples[1:2], captioner, captioner)
    with pytest.raises(ScoreError, match="no picture to"):
        compare([], captioner, captioner)


def test_bad_input_is_one_line(unaligned: Path, corpus: Path, tmp_path: Path, run: Run) -> None:
    all_trains = tmp_path / "all-trains"
    shutil.copytree(corpus, all_trains)
    (all_trains / "Flickr_8k.devImages.txt").rename(all_trains / "Flickr_8k.trainImages.txt")
    for arguments, message in [
        ([unaligned, tmp_path / "gone", "--data", corpus], "there is no bundle"),
        ([tmp_path, unaligned, "--data", corpus], "not a complete bundle"),
        ([unaligned, unaligned, "--data", corpus, "--split", "test"], "no picture in split 'test'"),
        ([unaligned, unaligned, "--data", all_trains], "no picture in split 'dev'"),
        ([unaligned, unaligned, "--data", corpus, "--corrections", tmp_path / "gone"], "no such directory"),
        ([unaligned, unaligned, "--data", corpus, "--corrections", all_trains], "none of its 27 pictures is held out"),
    ]:
        outcome = run("compare", *arguments)
        assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1), arguments
        assert message in outcome.err

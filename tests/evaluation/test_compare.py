"""Two bundles on the same pictures, and the gate: with real bundles, and against a slow computation by hand."""

import dataclasses
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from captionist import bundle
from captionist.bundle import Bundle
from captionist.captioner import Captioner
from captionist.cli import main
from captionist.data import Example, open_corpus
from captionist.errors import DataError, ScoreError
from captionist.evaluation.bleu import bleu
from captionist.evaluation.cider import CiderD
from captionist.evaluation.compare import Comparison, Difference, compare, compare_captions, gate, held_out
from captionist.evaluation.rouge import rouge_l
from captionist.images import decode
from tests.evaluation.samples import CANDIDATES, REFERENCES, random_corpus
from tests.pictures import write_png
from tests.tiny_bundle import write_tiny_bundle

EXAMPLES = Path(__file__).parents[2] / "examples"
PARTS = 3  # of each side of a photograph
ZERO = Difference(50.0, 50.0, 0.0, 0.0, 0.0)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def embedded() -> Captioner:
    return Captioner(threads=1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def corpus(embedded: Captioner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """27 parts of photographs, in dev, of which people are taken to have said what the embedded model says."""
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


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "120")

    def call(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main(["compare", *map(str, arguments)])
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, err

    return call


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
def test_a_better_bundle_is_promoted_and_a_worse_one_is_not(tiny: Path, corpus: Path, command: Command) -> None:
    both = ["--data", corpus, "--corrections", corpus]
    code, out, err = command(tiny, "captionist-small", *both)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("promote: CIDEr-D changes by +")
    code, out, _ = command("captionist-small", tiny, *both)
    assert code == 1
    assert out.splitlines()[-1].startswith("keep: CIDEr-D changes by -")


@pytest.mark.slow
def test_captions_that_are_cut_are_not_let_through(
    embedded: Captioner, corpus: Path, tmp_path: Path, command: Command
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(embedded.bundle.path, cut)
    config = Bundle.open(cut).config
    search = config.search.override(max_tokens=4)
    bundle.write_config(cut, config.model_copy(update={"search": search}))
    code, out, _ = command("captionist-small", cut, "--data", corpus, "--json", tmp_path / "result.json")
    assert code == 1
    assert "not above the margin of -1.0" in out
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert content["verdict"]["word"] == "keep"
    assert (content["margin"], content["split"], content["corrections"]) == (1.0, "dev", None)
    assert content["dev"]["pictures"] == len(content["dev"]["captions"]) == 27
    assert content["dev"]["bleu_4"]["high"] < 0
    assert all(len(new.split()) <= 4 < len(old.split()) for old, new in content["dev"]["captions"].values())
    assert command("captionist-small", cut, "--data", corpus, "--margin", 1000)[0] == 0


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
    """All snow: by their own frequencies alone, "snow" would carry no weight, whoever says it."""
    snow = {name: [f"the {name} in the snow"] for name in ("dog", "man", "girl")}
    without, with_it = ({name: f"the {name} in the {end}" for name in snow} for end in ("water", "snow"))
    alone = compare_captions(snow, without, with_it).cider
    others = [["a boat on the sea"], ["two men on a road"]] * 3
    among = compare_captions(snow, without, with_it, among=others).cider
    assert among.difference > alone.difference + 1
    wordless = [["."], *([".", *group] for group in others)]
    assert compare_captions(snow, without, with_it, among=wordless).cider == among


def test_pairing_shows_what_two_intervals_hide() -> None:
    """One picture in ten gains a little, whatever the pictures: alone, both bundles' intervals are as wide as ever."""
    draw = random.Random(0)
    references, old = random_corpus(200)
    new = [group[0] if draw.random() < 0.1 else said for group, said in zip(references, old, strict=True)]
    ids = [f"{place:03d}" for place in range(200)]
    joined = {name: [" ".join(words) for words in group] for name, group in zip(ids, references, strict=True)}
    before, after = ({n: " ".join(w) for n, w in zip(ids, said, strict=True)} for said in (old, new))
    found = compare_captions(joined, before, after).cider
    alone = compare_captions(joined, dict.fromkeys(ids, ""), after).cider  # against nothing: its own interval
    assert found.low > 0
    assert found.high - found.low < 0.6 * (alone.high - alone.low)


def comparison(low: float, pictures: int = 100) -> Comparison:
    captions = {str(number): ("A dog.", "A dog.") for number in range(pictures)}
    return Comparison(dataclasses.replace(ZERO, low=low), ZERO, ZERO, captions)


@pytest.mark.parametrize(
    ("dev", "corrections", "word"),
    [
        (-0.9, 0.1, "promote"),
        (-1.0, 0.1, "keep"),
        (-0.9, 0.0, "keep"),
        (5.0, -3.0, "keep"),
        (-0.9, None, "not worse"),
        (-1.1, None, "keep"),
    ],
)
def test_the_gate(dev: float, corrections: float | None, word: str) -> None:
    verdict = gate(comparison(dev), None if corrections is None else comparison(corrections))
    assert verdict.word == word
    assert len(verdict.reasons) == (1 if corrections is None else 2)


def test_a_few_corrections_promote_nothing() -> None:
    verdict = gate(comparison(5.0), comparison(5.0, pictures=19))
    assert verdict.word == "keep"
    assert "only 19 corrected pictures are held out, and 20 are needed" in str(verdict)
    assert gate(comparison(5.0), comparison(5.0, pictures=20)).word == "promote"


def test_a_wider_margin_lets_more_through() -> None:
    assert gate(comparison(-2.0), comparison(1.0), margin=2.5).word == "promote"


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


def test_a_picture_that_cannot_be_read_is_named_and_left_out(tiny: Path, tmp_path: Path) -> None:
    captioner = Captioner(tiny, threads=1)
    pictures = [write_png(tmp_path / f"{seed}.png", seed) for seed in range(3)]
    pictures[1].write_bytes(b"not a picture")
    examples = [Example(path.name, path, ("a dog runs", "a cat sleeps"), "dev") for path in pictures]
    found = compare(examples, captioner, captioner)
    assert sorted(found.captions) == ["0.png", "2.png"]
    assert len(found.failures) == 1
    assert "1.png" in found.failures[0]
    with pytest.raises(ScoreError, match=r"not one picture.*1\.png"):
        compare(examples[1:2], captioner, captioner)
    with pytest.raises(ScoreError, match="not one picture"):
        compare([], captioner, captioner)


def test_captions_of_other_pictures_are_refused() -> None:
    with pytest.raises(ScoreError, match="no candidate"):
        compare_captions(REFERENCES, CANDIDATES, {"beach": "A dog."})


def test_bad_input_is_one_line(tiny: Path, corpus: Path, tmp_path: Path, command: Command) -> None:
    all_trains = tmp_path / "all-trains"
    shutil.copytree(corpus, all_trains)
    (all_trains / "Flickr_8k.devImages.txt").rename(all_trains / "Flickr_8k.trainImages.txt")
    for arguments, message in [
        ([tiny, tmp_path / "gone", "--data", corpus], "there is no bundle"),
        ([tmp_path, tiny, "--data", corpus], "not a complete bundle"),
        ([tiny, tiny, "--data", corpus, "--split", "test"], "no picture in split 'test'"),
        ([tiny, tiny, "--data", all_trains], "no picture in split 'dev'"),
        ([tiny, tiny, "--data", corpus, "--corrections", tmp_path / "gone"], "no such directory"),
        ([tiny, tiny, "--data", corpus, "--corrections", all_trains], "none of its 27 pictures is held out"),
    ]:
        code, out, err = command(*arguments)
        assert (code, out) == (1, ""), arguments
        assert err.count("\n") == 1
        assert message in err


def test_wrong_usage_is_another_code(tiny: Path, corpus: Path, tmp_path: Path, command: Command) -> None:
    assert command(tiny, "--data", corpus)[0] == 2
    assert command(tiny, tiny)[0] == 2
    assert command(tiny, tiny, "--data", corpus, "--margin", -1)[0] == 2
    assert command(tiny, tiny, "--data", corpus, "--json", tmp_path / "no" / "file.json")[0] == 2


def test_no_held_out_correction_is_an_error(corpus: Path) -> None:
    opened = open_corpus(corpus)
    examples = tuple(dataclasses.replace(example, split="train") for example in opened.examples)
    with pytest.raises(DataError, match="collect more corrections"):
        held_out(dataclasses.replace(opened, examples=examples))

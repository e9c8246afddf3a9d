"""`captionist model calibrate`: a bundle's confidence, fitted to what people say of a corpus."""

import shutil
from pathlib import Path

import pytest

from captionist import Captioner
from captionist.bundle import Bundle
from captionist.data import Example
from captionist.errors import BundleError
from captionist.evaluation.calibrated import calibrate_model
from tests.conftest import Run
from tests.pictures import write_png


@pytest.fixture(scope="module")
def examples(unaligned: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Example]:
    """Pictures for which people agree with the surer half of the captions."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [write_png(folder / f"{seed}.png", seed) for seed in range(320)]
    captions = [result.caption for result in Captioner(unaligned).caption_many(paths)]
    middle = sorted(caption.confidence for caption in captions if caption)[len(captions) // 2]
    return [
        Example(
            path.name,
            path,
            (caption.text,) * 3
            if caption.confidence > middle
            else (f"clouds {path.stem}", f"hills {path.stem}", "sea"),
            "dev",
        )
        for path, caption in zip(paths, captions, strict=True)
        if caption
    ]


@pytest.mark.slow
def test_it_learns_which_captions_people_accept(unaligned: Path, examples: list[Example], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(unaligned, tmp_path / "copy"))
    told = calibrate_model(Bundle.open(copy), examples)
    assert told is not None
    assert told.discrimination > 0.9
    assert Bundle.open(copy).verify()
    before, after = ([c.caption(e.image).confidence for e in examples[:9]] for c in map(Captioner, (unaligned, copy)))
    assert before != after
    # Once more: it must start from the tokens' probability again, not from the present confidence.
    fitted = Bundle.open(copy).config.calibration
    calibrate_model(Bundle.open(copy), examples)
    assert Bundle.open(copy).config.calibration == fitted


@pytest.mark.slow
def test_too_few_pictures_change_nothing(unaligned: Path, examples: list[Example]) -> None:
    before = {file: file.read_bytes() for file in unaligned.iterdir()}
    with pytest.raises(BundleError, match="these 50 pictures are not enough to calibrate with: use 200"):
        calibrate_model(Bundle.open(unaligned), examples[:50])
    assert {file: file.read_bytes() for file in unaligned.iterdir()} == before


def test_a_model_that_ranks_is_refused(run: Run, tmp_path: Path) -> None:
    write_png(tmp_path / "Images" / "a.png", 0)
    (tmp_path / "captions.txt").write_text("image,caption\na.png,a dog\n")
    outcome = run("model", "calibrate", "captionist-small", "--data", tmp_path, "--split", "train")
    assert outcome.code == 1
    assert "ranks captions" in outcome.err

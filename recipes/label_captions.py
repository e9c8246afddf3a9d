"""Captions for pictures that have only labels: python -m recipes.label_captions LABELLED OUT [--model BUNDLE]

LABELLED/metadata.jsonl has a line for each picture, with `file_name` and `labels`. From its sentences, a bundle with a
bank chooses those that fit a picture, agree with each other, and name its first label. OUT becomes a corpus of the
pictures for which it is sure enough, with weights, which a recipe's `data.sources` can name; all of it is for training.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captionist.captioner import Captioner
from captionist.errors import BundleError, DataError, ImageError
from captionist.inference.bank import Bank, read_bank
from captionist.inference.class_words import words_of
from captionist.inference.consensus import consensus

_METADATA = "metadata.jsonl"
_WEIGHTS = (0.7, 0.5, 0.4)  # of the captions of a picture, the surest first
_FEWEST, _MOST = 5, 40  # sentences that agree with each other
_SURE = 0.22  # agreement below which a picture is left out
_FIT, _AGREEMENT = 0.5, 60.0  # how much each counts
_SEVERAL = {
    "person": {"man", "woman", "people"},
    "horse": {"horseback"},
    "house exterior": {"house", "building", "home"},
}


class Captioned(NamedTuple):
    """How many pictures got captions, and how many there were."""

    captioned: int
    pictures: int


def caption_labelled(labelled: Path, out: Path, model: Path | str | None = None) -> Captioned:
    """Write the corpus `out`; its pictures are copied.

    Raises DataError if `labelled` has no labels or `out` exists, BundleError if the model has no bank.
    """
    captioner = Captioner(model)
    bank = _bank(captioner)
    lines = _labelled(labelled)
    try:
        (out / "train").mkdir(parents=True)
    except FileExistsError:
        raise DataError(f"{out} is there already: choose another name, or delete it first.") from None
    named = [set(words_of(sentence)) for sentence in bank.sentences]
    written: list[str] = []
    for name, label in lines:
        wanted = words_for(label)
        places = [place for place, words in enumerate(named) if words & wanted]
        captions = _choose(captioner, bank, labelled / name, places) if len(places) >= _FEWEST else []
        if captions:
            target = f"{len(written)}{Path(name).suffix}"
            shutil.copyfile(labelled / name, out / "train" / target)
            weights = _WEIGHTS[: len(captions)]
            written.append(json.dumps({"file_name": target, "captions": captions, "weights": weights}))
    (out / "train" / _METADATA).write_text("".join(f"{line}\n" for line in written), encoding="utf-8")
    return Captioned(len(written), len(lines))


def words_for(label: str) -> set[str]:
    """The words of which a caption must have one: the label's last, for some labels others, and their plurals."""
    words = words_of(label)
    found = _SEVERAL.get(" ".join(words), set()) | set(words[:1] if words[-1:] == ["room"] else words[-1:])
    return found | {f"{word}s" for word in found}


def _bank(captioner: Captioner) -> Bank:
    config = captioner.bundle.config
    if config.bank is None or config.alignment is None:
        raise BundleError(f"{captioner.bundle.path} has no sentences: use a model whose config.json has a bank")
    classes = config.detector.classes if config.detector else ()
    return read_bank(captioner.bundle.path, config.bank, config.alignment.width, len(classes))


def _labelled(directory: Path) -> list[tuple[str, str]]:
    try:
        text = (directory / _METADATA).read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
        return [(str(row["file_name"]), str(row["labels"][0])) for row in rows]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{directory / _METADATA} cannot be read ({error!r}): each line needs file_name and labels, such as "
            '{"file_name": "a.jpg", "labels": ["tench"]}.'
        ) from error


def _choose(captioner: Captioner, bank: Bank, picture: Path, places: Sequence[int]) -> list[str]:
    """Those of the sentences with these indices that fit best; none if they disagree, or it cannot be read."""
    try:
        encoding = captioner.encode([captioner.prepare(picture)])
    except ImageError:
        return []
    chosen = np.array(places)
    cosines = bank.embeddings[chosen] @ captioner.image_embeddings(encoding)[0]
    support = np.zeros(len(chosen), np.float32)
    if encoding.objects is not None:
        support = bank.support(bank.named[chosen], encoding.objects[0, :, 0])
    fit = bank.fit(cosines, support)
    best = np.argsort(-fit, kind="stable")[:_MOST]
    texts, fit = [bank.sentences[place] for place in chosen[best]], fit[best]
    weights = np.exp(fit - fit.max())
    agreement = consensus(texts, weights / weights.sum())
    order = np.argsort(-(_FIT * fit + _AGREEMENT * agreement), kind="stable")[: len(_WEIGHTS)]
    return [texts[place] for place in order] if agreement[order[0]] >= _SURE else []


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m recipes.label_captions")
    parser.add_argument("labelled", type=Path, metavar="LABELLED")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--model", metavar="BUNDLE", help="a bundle, or an embedded model's name")
    given = parser.parse_args(arguments)
    found = caption_labelled(given.labelled, given.out, given.model)
    sys.stdout.write(f"{found.captioned:,} of {found.pictures:,} pictures got captions: {given.out}\n")


if __name__ == "__main__":
    main()

"""A round of feedback without users: pictures that a model never saw become an export, references become corrections.

`python -m benchmarks.feedback_round --data flickr8k --about snow --out round` writes `round/original`, the corpus
without those pictures, and `round/feedback`, the export. It prints the commands that run the round, and trains nothing
itself. docs/feedback.md describes them.
"""

import argparse
import hashlib
import random
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from captionist import images
from captionist.data import Example, open_corpus
from captionist.errors import DataError
from captionist.server.feedback_export import as_corpus
from captionist.server.routes.feedback import KEPT_SIDE
from captionist.server.store.tables import Feedback

_COMMANDS = """captionist train recipes/flickr8k-small.yaml data.root={out}/original      # prints its run: OLD
captionist export OLD {out}/old --precision int8
captionist train recipes/feedback.yaml data.root={out}/original 'data.also=[{out}/feedback]' start={out}/old   # NEW
captionist export NEW {out}/new --precision int8
captionist compare {out}/old {out}/new --data {out}/original --corrections {out}/feedback"""


def prepare(data: Path, out: Path, pictures: int, about: str | None = None, seed: int = 0) -> tuple[Path, Path]:
    """Write both corpora into `out`, a new folder, and return their paths: the original one and the export.

    Args: data: a corpus with a train and a dev split; pictures: how many are corrected, drawn at random from the train
    split; about: a word, so that only pictures are drawn for which most references say it, and none of them stays in
    the original. Raises DataError if there is no such picture, or none would be left.
    """
    corpus = open_corpus(data)
    train, dev = corpus.split("train"), corpus.split("dev")
    unseen = [example for example in train if about is None or _is_about(example, about)]
    corrected = random.Random(seed).sample(unseen, min(pictures, len(unseen)))
    withheld = {example.id for example in (corrected if about is None else unseen)}
    kept = [example for example in train if example.id not in withheld]
    if not corrected or not kept:
        raise DataError(
            f"{data}: of {len(train):,} train pictures {len(corrected):,} would be corrected, {len(kept):,} kept"
        )
    out.mkdir(parents=True)
    _write_original(out / "original", {"train": kept, "dev": dev})
    archive = out / "feedback.zip"
    with archive.open("wb") as file:
        file.writelines(as_corpus(_feedback(corrected)))
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(out / "feedback")
    archive.unlink()
    return out / "original", out / "feedback"


def _is_about(example: Example, word: str) -> bool:
    return 2 * sum(word in text.lower().split() for text in example.references) > len(example.references)


def _write_original(root: Path, splits: dict[str, Sequence[Example]]) -> None:
    """Flickr8k's own layout; the pictures are links."""
    (root / "Images").mkdir(parents=True)
    rows = []
    for split, examples in splits.items():
        for example in examples:
            (root / "Images" / example.id).symlink_to(str(example.image.resolve()))
            rows += [f"{example.id}#{number}\t{text}\n" for number, text in enumerate(example.references)]
        names = "".join(f"{example.id}\n" for example in examples)
        (root / f"Flickr_8k.{split}Images.txt").write_text(names, encoding="utf-8")
    (root / "Flickr8k.token.txt").write_text("".join(rows), encoding="utf-8")


def _feedback(examples: Sequence[Example]) -> Iterator[tuple[Feedback, bytes]]:
    """What the service would have stored: the picture as it keeps it, and a row for each correction."""
    for example in examples:
        jpeg = images.encode_jpeg(images.thumbnail(images.decode(example.image), KEPT_SIDE))
        digest = hashlib.sha256(jpeg).hexdigest()
        for text in example.references:
            yield Feedback(picture_sha256=digest, rating="bad", correction=text), jpeg


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--about", help="only pictures of which most references say this word")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    prepare(options.data, options.out, options.pictures, options.about)
    print(_COMMANDS.format(out=options.out))  # noqa: T201


if __name__ == "__main__":
    main()

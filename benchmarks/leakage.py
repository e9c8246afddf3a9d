"""How well copies of evaluation pictures are told from other pictures: python -m benchmarks.leakage FLICKR8K.

On the corpus's own split, where train and dev are known to be different pictures: how near they come to each other, how
many captions they share, and how many changed copies of dev pictures are recognised.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from captionist import images
from captionist.data import Example, clean_caption, difference_hash, leave_out_lines, open_corpus
from captionist.data.leakage import MAX_DISTANCE
from harness.report import circumstances, show, write

Pixels = NDArray[np.uint8]
Hashes = NDArray[np.uint64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="Flickr8k, with its split files")
    parser.add_argument("--copies", type=int, default=500, help="so many dev pictures are copied")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    opened, copies = open_corpus(given.corpus), given.copies
    train, dev = opened.split("train"), opened.split("dev")
    train_hashes, dev_hashes = hash_all(train), hash_all(dev)
    nearest = Counter(int(np.bitwise_count(dev_hashes ^ one).min()) for one in train_hashes)
    shared = shared_captions(train, dev)
    captions = [text for example in train for text in example.references]
    common = len(captions) - len(leave_out_lines(captions, dev))
    step = max(len(dev) // copies, 1)
    found = copies_found(dev[::step][:copies], dev_hashes[::step][:copies])

    near = sorted(nearest.items())[:5]
    show("Train pictures by bits to the nearest dev picture", ("bits", "pictures"), [(str(a), str(b)) for a, b in near])
    rows = [(str(count), str(pictures)) for count, pictures in sorted(shared.items())]
    show("Train pictures by captions shared with one dev picture", ("captions", "pictures"), rows)
    rows = [(f"{len(captions):,}", str(common))]
    show("Train captions that a dev picture has too", ("captions", "in common"), rows)
    title = f"Copies of {min(copies, len(dev))} dev pictures within {MAX_DISTANCE} bits"
    show(title, ("copy", "share"), [(name, f"{share:.1%}") for name, share in found.items()])
    write(
        given.json,
        {
            "circumstances": circumstances(),
            "nearest": nearest,
            "shared_captions": shared,
            "common": common,
            "copies": found,
        },
    )


def hash_all(examples: Sequence[Example]) -> Hashes:
    """uint64 [N]."""
    return np.array([difference_hash(example.image) for example in examples], np.uint64)


def shared_captions(train: Sequence[Example], dev: Sequence[Example]) -> Counter[int]:
    """How many train pictures share 0, 1, ... captions with the dev picture that they share most with."""
    texts = [{clean_caption(text, lowercase=True) for text in example.references} for example in dev]
    counts: Counter[int] = Counter()
    for example in train:
        mine = {clean_caption(text, lowercase=True) for text in example.references}
        counts[max(len(mine & theirs) for theirs in texts)] += 1
    return counts


def copies_found(examples: Sequence[Example], hashes: Hashes) -> dict[str, float]:
    """The share of pictures recognised after each change."""

    def resized(height: int, width: int) -> Callable[[Pixels], Pixels]:
        return lambda rgb: images.squeeze(rgb, (height, width))

    def grey(rgb: Pixels) -> Pixels:
        return np.asarray(cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)

    def same(rgb: Pixels) -> Pixels:
        return rgb

    changes: dict[str, tuple[Callable[[Pixels], Pixels], int]] = {
        "JPEG quality 90": (same, 90),
        "JPEG quality 50": (same, 50),
        "JPEG quality 20": (same, 20),
        "500 x 333, quality 85": (resized(333, 500), 85),
        "333 x 500, quality 85": (resized(500, 333), 85),
        "1000 x 800, quality 85": (resized(800, 1000), 85),
        "112 x 112, quality 75": (resized(112, 112), 75),
        "grey, quality 90": (grey, 90),
        "without 2 % at each edge, quality 90": (lambda rgb: rgb[4:-4, 4:-4], 90),
        "mirrored, quality 90": (lambda rgb: rgb[:, ::-1], 90),
    }
    found = dict.fromkeys(changes, 0)
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.jpg"
        for example, original in zip(examples, hashes, strict=True):
            rgb = images.decode(example.image)
            for name, (change, quality) in changes.items():
                bgr = np.ascontiguousarray(change(rgb)[:, :, ::-1])
                cv2.imwrite(str(copy), bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
                found[name] += (difference_hash(copy) ^ int(original)).bit_count() <= MAX_DISTANCE
    return {name: count / len(examples) for name, count in found.items()}


if __name__ == "__main__":
    main()

"""Pictures per second from a folder: `caption_many`, and transformers in batches, in turn, with the same weights.

Ours searches as its bundle says, transformers with five beams.
Ratios are taken within each round; the result is their median.
"""

import argparse
import statistics
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from benchmarks._contestants import Kind, Search, Worker
from harness.pictures import photographs
from harness.report import circumstances, show, verdict, write

_TARGET = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a bundle; by default the embedded one")
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/flickr8k/Images"))
    parser.add_argument("--count", type=int, default=500, help="pictures in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=16, help="pictures in a batch of transformers")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pictures = photographs(given.pictures, given.count)
    pictures = list(islice(cycle(pictures), given.count))
    ours, theirs = Worker(Kind.OURS, given.model), Worker(Kind.TRANSFORMERS, given.model)
    rounds = _rounds(ours, theirs, pictures, given.rounds, given.batch)
    ratio = statistics.median(each["ours"] / each["transformers"] for each in rounds)
    speeds = {name: f"{statistics.median(each[name] for each in rounds):.1f}" for name in rounds[0]}
    rows = [
        ["ours, default search", speeds["ours"], f"{ratio:.2f}", f"{_TARGET:g}", verdict(ratio >= _TARGET)],
        [f"transformers, 5 beams, batches of {given.batch}", speeds["transformers"], "1", "", ""],
    ]
    show(f"{given.count} pictures", ["", "pictures/s", "ratio", "target", ""], rows)
    write(given.json, circumstances() | {"rounds": rounds, "ratio": ratio})


def _rounds(ours: Worker, theirs: Worker, pictures: Sequence[bytes], count: int, batch: int) -> list[dict[str, float]]:
    """Pictures per second, for both, in each round."""
    rounds = []
    for number in range(count + 1):
        part = pictures if number else pictures[: 2 * batch]  # the first is for warming up
        batches = [part[start : start + batch] for start in range(0, len(part), batch)]
        slow = sum(theirs.seconds(each, Search.DEFAULT) for each in batches)
        rounds.append({"ours": len(part) / ours.seconds(part, Search.DEFAULT), "transformers": len(part) / slow})
    return rounds[1:]


if __name__ == "__main__":
    main()

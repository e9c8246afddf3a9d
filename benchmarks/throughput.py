"""Pictures a second from a folder: `caption_many`, and transformers in batches, turn by turn, with the same weights.

Ratios are taken within each round; told is their median.
"""

import argparse
import statistics
from itertools import cycle, islice
from pathlib import Path

from benchmarks._contestants import Kind, Worker
from benchmarks._pictures import photographs
from benchmarks._report import circumstances, show, verdict, write

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
    rounds = []
    for number in range(given.rounds + 1):
        part = pictures if number else pictures[: 2 * given.batch]  # the first is to warm up
        batches = [part[start : start + given.batch] for start in range(0, len(part), given.batch)]
        slow = sum(theirs.seconds(batch, 3) for batch in batches)
        rounds.append({"ours": len(part) / ours.seconds(part, 3), "transformers": len(part) / slow})
    rounds = rounds[1:]
    ratio = statistics.median(told["ours"] / told["transformers"] for told in rounds)
    speeds = {name: statistics.median(told[name] for told in rounds) for name in rounds[0]}
    show(
        f"{given.count} pictures, 3 beams",
        ["", "pictures/s", "ratio", "target", ""],
        [
            ["ours", f"{speeds['ours']:.1f}", f"{ratio:.2f}", f"{_TARGET:g}", verdict(ratio >= _TARGET)],
            [f"transformers, batches of {given.batch}", f"{speeds['transformers']:.1f}", "1", "", ""],
        ],
    )
    write(given.json, circumstances() | {"rounds": rounds, "ratio": ratio, "target": _TARGET})


if __name__ == "__main__":
    main()

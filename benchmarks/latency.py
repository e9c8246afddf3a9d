"""One picture at a time, JPEG bytes to sentence: Captionist, and what a user would run instead, turn by turn.

Every contestant is a process of its own. In each turn it gets five pictures, one after the other, and the next
contestant the same five, so that ratios are of moments near each other, and nobody starts each picture with caches that
hold somebody else's weights; told are the medians of the pictures' ratios. "Same weights" are those of the embedded
model. ViT-B/16 + GPT-2 small have random ones and write a fixed number of tokens: only their cost means anything.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._contestants import Kind, Worker, write_base_bundle
from harness.pictures import photographs
from harness.report import circumstances, show, verdict, write

_TARGETS = (
    ("transformers, same weights", "ours", 1, 6.0),
    ("transformers, same weights", "ours", 3, 8.0),
    ("ViT-B/16 + GPT-2 small in transformers", "ours", 1, 30.0),
    ("ViT-B/16 + GPT-2 small in transformers", "ViT-B/16 + GPT-2 small in ours", 1, 4.0),
)
_BEAMS = (1, 3, 5)  # from three on ours ranks them, which the others do not do
_TURN = 5  # pictures
_PAUSE = 0.03  # seconds, in which the threads of whoever was before fall asleep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a bundle; by default the embedded one")
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/flickr8k/Images"))
    parser.add_argument("--count", type=int, default=40, help="pictures")
    parser.add_argument("--compile", action="store_true", help="torch.compile, too, which needs a C++ compiler")
    parser.add_argument("--base", type=Path, metavar="TOKENIZER", help="ViT-B/16 + GPT-2 small, too")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pictures = photographs(given.pictures, given.count)
    with tempfile.TemporaryDirectory() as folder:
        workers = _workers(given, Path(folder))
        times = {beams: _measure(workers, pictures, beams) for beams in _BEAMS}
    result = circumstances() | {
        "pictures": len(pictures),
        "milliseconds": times,
        "ratios": {beams: {name: _ratio(told, name, "ours") for name in told} for beams, told in times.items()},
        "targets": [
            {"slow": slow, "fast": fast, "beams": beams, "target": target, "ratio": _ratio(times[beams], slow, fast)}
            for slow, fast, beams, target in _TARGETS
            if slow in workers and fast in workers
        ],
    }
    rows = []
    for name in workers:
        told = ((statistics.median(times[beams][name]), result["ratios"][beams][name]) for beams in times)
        rows.append([name, *(f"{value:.1f}" for pair in told for value in pair)])
    columns = [column for beams in _BEAMS for column in (f"{beams} beams ms" if beams > 1 else "greedy ms", "to ours")]
    show("One picture", ["", *columns], rows)
    show(
        "Targets",
        ["", "beams", "target", "ratio", ""],
        [
            [
                f"{t['fast']}, against {t['slow']}",
                str(t["beams"]),
                f"{t['target']:g}",
                f"{t['ratio']:.2f}",
                verdict(t["ratio"] >= t["target"]),
            ]
            for t in result["targets"]
        ],
    )
    write(given.json, result)


def _workers(given: argparse.Namespace, folder: Path) -> dict[str, Worker]:
    workers = {"ours": Worker(Kind.OURS, given.model)}
    workers["transformers, same weights"] = Worker(Kind.TRANSFORMERS, given.model)
    if given.compile:
        workers["transformers, same weights, compiled"] = Worker(Kind.COMPILED, given.model)
    if given.base:
        write_base_bundle(folder / "base", str(given.base))
        workers["ViT-B/16 + GPT-2 small in ours"] = Worker(Kind.OURS_BASE, folder / "base")
        workers["ViT-B/16 + GPT-2 small in transformers"] = Worker(Kind.TRANSFORMERS_BASE)
    return workers


def _measure(workers: dict[str, Worker], pictures: Sequence[bytes], beams: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        for picture in pictures[:3]:
            worker.seconds([picture], beams)  # warm
    for start in range(0, len(pictures), _TURN):
        for name, worker in workers.items():
            time.sleep(_PAUSE)
            times[name] += [1000 * worker.seconds([picture], beams) for picture in pictures[start : start + _TURN]]
    return times


def _ratio(times: dict[str, list[float]], slow: str, fast: str) -> float:
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


if __name__ == "__main__":
    main()

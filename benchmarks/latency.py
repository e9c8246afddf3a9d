"""One picture at a time, JPEG bytes to sentence: Captionist, and what a user would run instead, in turn.

Every contestant is its own process. In each turn, it gets five pictures, one after the other, and the next contestant
gets the same five. So ratios compare moments close to each other, and nobody starts each picture with somebody else's
weights in the caches. The results are medians of the pictures' ratios. "Same weights" are the embedded model's.
ViT-B/16 + GPT-2 small has random weights and writes a fixed number of tokens: only its cost means anything. By default,
ours searches as its bundle says, with sentences about other pictures competing; all others take five beams.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks._contestants import Kind, Search, Worker, write_base_bundle
from harness.pictures import photographs
from harness.report import circumstances, show, verdict, write

_TARGETS = (
    ("transformers, same weights", "ours", Search.DEFAULT, 5.0),
    ("ViT-B/16 + GPT-2 small in transformers", "ours", Search.GREEDY, 30.0),
    ("ViT-B/16 + GPT-2 small in transformers", "ViT-B/16 + GPT-2 small in ours", Search.GREEDY, 4.0),
)
_TO_GREEDY = 1.4  # the default search may cost at most this many times as much
_TURN = 5  # pictures
_PAUSE = 0.03  # seconds for the previous contestant's threads to fall asleep


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
        times = {search: _measure(workers, pictures, search) for search in Search}
    rows = []
    for name in workers:
        told = ((statistics.median(taken[name]), _ratio(taken[name], taken["ours"])) for taken in times.values())
        rows.append([name, *(f"{value:.1f}" for pair in told for value in pair)])
    show("One picture", ["", *(f"{search.value}, {what}" for search in Search for what in ("ms", "to ours"))], rows)
    rows = []
    for slow, fast, search, target in _TARGETS:
        if slow in workers and fast in workers:
            ratio = _ratio(times[search][slow], times[search][fast])
            label = f"{fast}, against {slow}, {search.value}"
            rows.append([label, f"at least {target:g}", f"{ratio:.2f}", verdict(ratio >= target)])
    ratio = _ratio(times[Search.DEFAULT]["ours"], times[Search.GREEDY]["ours"])
    rows.append(["ours, default to greedy", f"at most {_TO_GREEDY:g}", f"{ratio:.2f}", verdict(ratio <= _TO_GREEDY)])
    show("Targets", ["", "target", "ratio", ""], rows)
    milliseconds = {search.value: taken for search, taken in times.items()}
    write(given.json, circumstances() | {"pictures": len(pictures), "milliseconds": milliseconds})


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


def _measure(workers: dict[str, Worker], pictures: Sequence[bytes], search: Search) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        for picture in pictures[:3]:
            worker.seconds([picture], search)  # warm
    for start in range(0, len(pictures), _TURN):
        for name, worker in workers.items():
            time.sleep(_PAUSE)
            times[name] += [1000 * worker.seconds([picture], search) for picture in pictures[start : start + _TURN]]
    return times


def _ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


if __name__ == "__main__":
    main()

"""Pictures per second into a table, from a folder: this process, and one and two actors on Ray, in turn.

The count starts after the first rows, so that it holds for a long run; the time until then is given beside it. Ray
listens on all interfaces, so run this in a network of its own, as in
unshare --net sh -c 'ip link set lo up && exec "$@"' sh python -m benchmarks.collections
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

# By default, Ray gives way to everything else that runs; the process that captions locally does not.
os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}

import ray

from captionist import Captioner
from captionist.collection.addresses import Address, find_addresses
from captionist.collection.captioning import Runner, caption_collection, local_runner
from captionist.collection.on_ray import ray_runner
from captionist.collection.table import Table
from harness.report import circumstances, show, write


def measure(runner: Runner, addresses: Sequence[Address]) -> dict[str, float]:
    """Pictures per second after the first rows, and the seconds until those."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Table(f"{folder}/t", {}) as table:
        begun = time.monotonic()
        caption_collection(addresses, table, runner, lambda _: times.append(time.monotonic()))
    first = sum(at - times[0] < 0.01 for at in times)  # rows come in blocks
    return {"pictures_per_second": (len(times) - first) / (times[-1] - times[0]), "first_rows": times[0] - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, default=Path("../shared/data/flickr8k/Images"))
    parser.add_argument("--count", type=int, default=1000, help="pictures in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    around = circumstances()
    addresses = find_addresses([str(given.pictures)])[0][: given.count]
    ray.init(log_to_driver=False, logging_level="ERROR")
    runners = {
        "this process, 1 thread": local_runner(Captioner(threads=1)),
        "this process, all cores": local_runner(Captioner()),
        "Ray, 1 actor": ray_runner(None, 1),
        "Ray, 2 actors": ray_runner(None, 2),
    }
    rounds = [{name: measure(runner, addresses) for name, runner in runners.items()} for _ in range(given.rounds)]

    def median(name: str, figure: str) -> float:
        return statistics.median(told[name][figure] for told in rounds)

    speeds = {name: median(name, "pictures_per_second") for name in runners}
    show(
        f"{len(addresses)} pictures, median of {given.rounds} rounds; load before: {around['load_before']:.1f}",
        ["", "pictures/s", "to 1 actor", "seconds to the first rows"],
        [
            [name, f"{speed:.1f}", f"{speed / speeds['Ray, 1 actor']:.2f}", f"{median(name, 'first_rows'):.1f}"]
            for name, speed in speeds.items()
        ],
    )
    write(given.json, around | {"pictures": len(addresses), "rounds": rounds, "speeds": speeds})


if __name__ == "__main__":
    main()

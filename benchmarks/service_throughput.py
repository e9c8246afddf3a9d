"""Throughput at saturation: the service, the engine alone, and the same model behind LitServe, in turn.

All of them get the same pictures. The others are stopped (SIGSTOP) meanwhile, so that no idle process takes time.
Ratios are taken within each round, and the result is their median, since a shared machine is sometimes faster,
sometimes slower.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import uvloop

from harness.load import closed_loop, throughput
from harness.pictures import photographs
from harness.processes import Elsewhere, HttpProcess, Measured, Service, free_port
from harness.report import circumstances, show, verdict, write
from harness.requests import caption_request

_PHOTOGRAPHS = Path("../shared/data/flickr8k/Images")
_TARGETS = {"engine": 0.9, "LitServe": 1.5}  # ratios of the service's throughput to theirs
_COLUMNS = {
    "throughput": "pictures/s",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "cpu_ms_a_picture": "CPU ms/picture",
    "generator_cores": "generator, cores",
    "others_cores": "others, cores",
    "rss_mb": "RSS MB",
}
Turn = Callable[[], dict[str, float]]


class Engine(Measured):
    """The engine alone; see `_engine`."""

    def __init__(self, python: str, *arguments: str) -> None:
        super().__init__([python, "-m", "benchmarks._engine", *arguments])
        self.measure(1)

    def measure(self, seconds: float) -> dict[str, float]:
        """Its throughput for so many seconds."""
        assert self.process.stdin
        before, told, elsewhere = self.cpu_seconds(), self.log.stat().st_size, Elsewhere(self)
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.flush()
        while not (line := self.log.read_bytes()[told:]).endswith(b"\n"):
            if self.process.poll() is not None:
                raise self.fail("the engine ended")
            time.sleep(0.02)
        moments: list[float] = json.loads(line)["moments"]
        cpu = self.cpu_seconds() - before
        return {
            "throughput": throughput(moments),
            "cpu_ms_a_picture": 1000 * cpu / len(moments),
            "others_cores": elsewhere.cores(),
        }


def main() -> None:
    given = _arguments()
    pictures = photographs(given.pictures)
    result = circumstances() | {
        "arguments": {k: v for k, v in vars(given).items() if isinstance(v, int | float)},
        "pictures": len(pictures),
    }
    with ExitStack() as stack:
        contestants = _start(stack, given, pictures)
        for process, _ in contestants.values():
            process.pause()
        rounds = []
        for _ in range(given.rounds):
            figures = {}
            for name, (process, turn) in contestants.items():
                process.resume()
                figures[name] = turn()
                process.pause()
            rounds.append(figures)
    medians = {
        name: {figure: statistics.median(each[name][figure] for each in rounds) for figure in rounds[0][name]}
        for name in rounds[0]
    }
    ratios = {
        name: {
            figure: statistics.median(each["service"][figure] / each[name][figure] for each in rounds)
            for figure in shared
        }
        for name in medians
        if name != "service" and (shared := medians[name].keys() & {"throughput", "p99_ms"})
    }
    _show(medians, ratios)
    write(given.json, result | {"rounds": rounds, "medians": medians, "service_to": ratios})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of each turn")
    parser.add_argument("--clients", type=int, default=32, help="each with one request at a time")
    parser.add_argument("--batch", type=int, default=8, help="most pictures in a run of the engine, for all")
    parser.add_argument("--pictures", type=Path, default=_PHOTOGRAPHS, help="folder of JPEGs, beside examples/")
    parser.add_argument("--litserve", metavar="PYTHON", help="of an environment with LitServe; see _litserve_app")
    parser.add_argument(
        "--litserve-options",
        action="append",
        metavar="OPTIONS",
        help="of _litserve_app; several times: several set-ups",
    )
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _start(stack: ExitStack, given: argparse.Namespace, pictures: Sequence[bytes]) -> dict[str, tuple[Measured, Turn]]:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    for number, picture in enumerate(pictures):
        (folder / f"{number:04}").write_bytes(picture)
    requests = [caption_request(picture) for picture in pictures]
    python, cores = sys.executable, str(len(os.sched_getaffinity(0)))

    def engine(*arguments: str) -> tuple[Measured, Turn]:
        process = Engine(python, str(folder), "--batch", str(given.batch), *arguments)
        stack.enter_context(process)
        return process, lambda: process.measure(given.seconds)

    def server(process: HttpProcess) -> tuple[Measured, Turn]:
        stack.enter_context(process)
        uvloop.run(closed_loop(process.port, requests, given.clients, 2))  # warm
        return process, lambda: _measure(process, requests, given)

    contestants = {
        "engine": engine(),
        # The harder mark: caption_many leaves a core idle while it decodes, but two of them in parallel do not.
        "engine, a thread a core": engine("--threads", "1", "--side-by-side", cores),
        "service": server(Service(max_batch=given.batch, log_format="json")),
    }
    if given.litserve:
        for options in given.litserve_options or [f"--workers {cores} --threads 1"]:
            contestants[f"LitServe {options}"] = server(_litserve(given, options))
    return contestants


def _litserve(given: argparse.Namespace, options: str) -> HttpProcess:
    port = free_port()
    app = str(Path(__file__).with_name("_litserve_app.py"))
    # -P: the folder of the app has a collections.py that is not Python's.
    command = [given.litserve, "-P", app, "--port", str(port), "--batch", str(given.batch), *options.split()]
    return HttpProcess(command, port, "/health", environment={"PYTHONPATH": str(Path("src").resolve())})


def _measure(process: HttpProcess, requests: Sequence[bytes], given: argparse.Namespace) -> dict[str, float]:
    before, elsewhere = process.cpu_seconds(), Elsewhere(process)
    load = uvloop.run(closed_loop(process.port, requests, given.clients, given.seconds, warm_up=1.5))
    good = load.statuses.get(200, 0)
    if good < len(load.answers):
        raise process.fail(f"not all were captioned: {load.statuses}")
    return {
        "throughput": load.goodput,
        "p50_ms": load.milliseconds(0.5),
        "p99_ms": load.milliseconds(0.99),
        "cpu_ms_a_picture": 1000 * (process.cpu_seconds() - before) / good,
        "generator_cores": load.cpu_seconds / (load.ended - load.begun),
        "others_cores": elsewhere.cores(),
        "rss_mb": process.rss() / 1e6,
    }


def _show(medians: dict[str, dict[str, float]], ratios: dict[str, dict[str, float]]) -> None:
    rows = [[name, *(f"{told[key]:.4g}" if key in told else "" for key in _COLUMNS)] for name, told in medians.items()]
    show("Throughput at saturation, medians of rounds", ["", *_COLUMNS.values()], rows)
    rows = []
    for name, told in ratios.items():
        target = _TARGETS[name.split()[0].rstrip(",")]
        p99 = f"{told['p99_ms']:.2f}" if "p99_ms" in told else ""
        faster = told["throughput"]
        rows.append([f"service / {name}", f"{faster:.2f}", f"{target}", verdict(faster >= target), p99])
    show("Median of the rounds' ratios", ["", "throughput", "target", "", "p99"], rows)


if __name__ == "__main__":
    main()

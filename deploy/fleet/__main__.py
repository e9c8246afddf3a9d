"""Let everything happen to a fleet, and draw it: `python -m deploy.fleet [--out docs/fleet]`.

Needs haproxy, podman and an image: `deploy/container/build.sh captionist`. Takes about seven minutes.
"""

import argparse
import asyncio
import sys
from dataclasses import asdict
from pathlib import Path

from deploy.fleet.containers import CPUS
from deploy.fleet.drawing import draw
from deploy.fleet.record import write
from deploy.fleet.scenarios import SCENARIOS, Pace, play
from harness.report import circumstances, show, verdict


def main() -> int:
    """The command; 1 where something was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", help=f"of {', '.join(SCENARIOS)}; by default all")
    parser.add_argument("--image", default="localhost/captionist:latest")
    parser.add_argument("--out", type=Path, help="a folder for pictures and recordings")
    parser.add_argument("--hold", type=float, default=25, help="seconds that a load lasts at least")
    parser.add_argument("--datapoint", type=float, default=2, help="seconds that stand for a minute of CloudWatch")
    parser.add_argument("--start-grace", type=float, default=40, help="seconds within which a task has to be ready")
    given = parser.parse_args()
    pace = Pace(given.hold, given.datapoint, given.start_grace)
    met = True
    for name in given.scenarios or SCENARIOS:
        scenario, before = SCENARIOS[name], circumstances()
        outcome = asyncio.run(play(scenario, given.image, pace))
        show(scenario.title, ("", "figure"), [(what, str(count)) for what, count in outcome.counts.items()])
        show("", ("", ""), [(claim, verdict(holds)) for claim, holds in outcome.claims.items()])
        met = met and all(outcome.claims.values())
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
            write(
                given.out / f"{name}.json", {"circumstances": before, "cpus": CPUS, **asdict(pace), **asdict(outcome)}
            )
            draw(scenario.title, outcome.seconds, outcome.events, given.out / f"{name}.png")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())

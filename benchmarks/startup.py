"""The cost of the first caption: `captionist caption` as a whole process, the library in one; and the memory of the
service, at rest and after half a minute with as many clients as it accepts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import uvloop

from harness.load import closed_loop
from harness.pictures import EXAMPLES
from harness.processes import Service
from harness.report import circumstances, show, verdict, write
from harness.requests import caption_request

_TARGET = 0.9  # seconds
_MEMORY = 450.0  # MB
_CLIENTS = 32
_LIBRARY = """
import json, resource, sys, time
begun = time.perf_counter()
from captionist import Captioner
imported = time.perf_counter()
captioner = Captioner()
loaded = time.perf_counter()
captioner.caption(sys.argv[1])
first = time.perf_counter()
captioner.caption(sys.argv[1])
second = time.perf_counter()
print(json.dumps({
    "import": imported - begun, "load": loaded - imported, "first caption": first - loaded,
    "second caption": second - first, "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=30, help="of load on the service")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    picture = str(min(EXAMPLES.glob("*.jpg")))
    command = str(Path(sys.executable).with_name("captionist"))
    whole, library = [], []
    for _ in range(given.rounds + 1):
        begun = time.perf_counter()
        subprocess.run([command, "caption", picture], check=True, capture_output=True)
        whole.append(time.perf_counter() - begun)
        told = subprocess.run([sys.executable, "-c", _LIBRARY, picture], check=True, capture_output=True).stdout
        library.append(json.loads(told))
    whole, library = whole[1:], library[1:]  # the first does not find the files in the disk's cache
    middle = {name: statistics.median(told[name] for told in library) for name in library[0]}
    seconds = statistics.median(whole)
    rows = [["captionist caption, the whole process, s", f"{seconds:.2f}", f"{_TARGET:g}", verdict(seconds < _TARGET)]]
    rows += [[name if "MB" in name else f"{name}, s", f"{value:.3g}", "", ""] for name, value in middle.items()]
    rest, peak = _service(given.seconds)
    rows.append(["the service at rest, MB", f"{rest:.0f}", "", ""])
    rows.append(["its peak under load, MB", f"{peak:.0f}", f"{_MEMORY:g}", verdict(peak < _MEMORY)])
    show("Start and memory", ["", "median", "target", ""], rows)
    write(given.json, circumstances() | {"whole": whole, "library": library, "service_mb": [rest, peak]})


def _service(seconds: float) -> tuple[float, float]:
    requests = [caption_request(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.jpg"))]
    with Service(log_format="json") as service:
        rest = _peak(service.pid)
        uvloop.run(closed_loop(service.port, requests, _CLIENTS, seconds))
        return rest, _peak(service.pid)


def _peak(pid: int) -> float:
    """The most memory that a process has had, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()

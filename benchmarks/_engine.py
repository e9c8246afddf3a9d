"""The engine alone, in its own process: captions the pictures of a folder for as many seconds as a line asks for.

A line of standard input is the number of seconds; a line of standard output is {"moments": [...]}: when each picture
was done.
"""

import argparse
import json
import sys
import threading
import time
from pathlib import Path

from captionist import Captioner


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, help="of each run of the engine; its own default if not given")
    parser.add_argument("--side-by-side", type=int, default=1, help="loops over the pictures, each in a thread")
    given = parser.parse_args()
    pictures = [path.read_bytes() for path in sorted(given.folder.iterdir())]
    captioner = Captioner(threads=given.threads)
    for _ in captioner.caption_many(pictures[:16], given.batch):
        pass  # warm
    for line in sys.stdin:
        answer = _run(captioner, pictures, given.batch, given.side_by_side, float(line))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _run(captioner: Captioner, pictures: list[bytes], batch: int, loops: int, seconds: float) -> dict[str, list[float]]:
    done: list[float] = []
    begun = time.monotonic()

    def loop(number: int) -> None:
        # Each loop begins elsewhere, so that they do not all caption the same pictures at once.
        offset = number * len(pictures) // loops
        ordered = pictures[offset:] + pictures[:offset]
        while True:
            for _ in captioner.caption_many(ordered, batch):
                done.append(time.monotonic())
                if done[-1] - begun > seconds:
                    return

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(loops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"moments": done}


if __name__ == "__main__":
    main()

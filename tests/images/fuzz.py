"""Damages one sample in all kinds of ways, and decodes it, for so many seconds: `fuzz KIND SECONDS [SEED]`.

Prints what became of the files. Ends with an error if anything but an ImageError was raised. A crash ends the process,
which is why this is a separate one.
"""

import sys
import time
from collections import Counter

import numpy as np

from captionist.errors import ImageError
from captionist.images import ImageLimits, decode
from tests.images.samples import SAMPLES

LIMITS = ImageLimits(max_pixels=1_000_000)


def damaged(content: bytes, random: np.random.Generator) -> bytes:
    """Bytes changed, most of them in the headers; pieces cut out, doubled, or taken from another place."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 5))):
        if not data:
            break
        reach = min(int(random.choice([32, 128, 512, len(data)])), len(data))
        at, other, length = int(random.integers(reach)), int(random.integers(len(data))), int(random.integers(1, 40))
        match random.integers(6):
            case 0 | 1:
                data[at] = random.integers(256)
            case 2:
                data[at : at + 4] = random.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\x01"])
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[other : other + length]
            case 5:
                del data[other:]
    return bytes(data)


def main(kind: str, seconds: float, seed: int = 0) -> None:
    random, counts = np.random.default_rng(seed), Counter[str]()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = damaged(SAMPLES[kind], random)
        try:
            rgb = decode(content, limits=LIMITS, at_least=int(random.choice([16, 1000])))
            assert rgb.dtype == np.uint8
            assert rgb.ndim == 3
            counts["read"] += 1
        except ImageError as error:
            counts[type(error).__name__] += 1
        except BaseException:
            sys.stdout.write(f"{kind}: {content.hex()}\n")
            raise
    sys.stdout.write(f"{kind} {dict(counts)}\n")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), *map(int, sys.argv[3:]))

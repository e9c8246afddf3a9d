"""Exact search over many random vectors: the file, loading it, a search, and memory, in a separate process."""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from captionist.index import ImageIndex
from harness.report import circumstances, show, write

_SEARCHES = """
import json, resource, sys, time
import numpy as np
from captionist.index import ImageIndex
begun = time.perf_counter(), time.process_time()
index = ImageIndex.load(sys.argv[1])
loading = time.perf_counter() - begun[0], time.process_time() - begun[1]
searches = []
for row in range(int(sys.argv[2])):
    query = index.embeddings[row].astype(np.float32)
    begun = time.perf_counter(), time.process_time()
    assert index.search(query)[0].path == index.paths[row]
    searches.append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"loading": loading, "searches": searches, "peak": peak}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000, help="vectors")
    parser.add_argument("--width", type=int, default=384, help="of each")
    parser.add_argument("--searches", type=int, default=7)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="captionist-benchmark-") as folder:
        path = Path(folder) / "index.npz"
        _random(given.count, given.width).save(path)
        size = path.stat().st_size
        command = [sys.executable, "-c", _SEARCHES, str(path), str(given.searches)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    wall, processor = (statistics.median(column) for column in zip(*told["searches"], strict=True))
    rows = [
        ["the file, bytes a picture", f"{size / given.count:.0f}", ""],
        ["load and check, ms", *(f"{1000 * seconds:.0f}" for seconds in told["loading"])],
        ["search, ms", f"{1000 * wall:.0f}", f"{1000 * processor:.0f}"],
        ["memory of the process at most, MB", f"{told['peak'] / 1e6:.0f}", ""],
    ]
    show(f"{given.count:,} random vectors of {given.width}", ["", "", "processor time, all threads"], rows)
    write(given.json, circumstances(of_model=False) | {"count": given.count, "width": given.width, "file": size} | told)


def _random(count: int, width: int) -> ImageIndex:
    generator = np.random.default_rng(0)
    embeddings = np.empty((count, width), np.float16)
    for rows in np.array_split(embeddings, max(1, count // 10_000)):
        vectors = generator.standard_normal(rows.shape, np.float32)
        rows[:] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    paths = tuple(f"photos/{row:09}.jpg" for row in range(count))
    return ImageIndex("random", paths, embeddings, np.full((count, 2), -1, np.int64))


if __name__ == "__main__":
    main()

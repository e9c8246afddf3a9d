"""Public captioners at full size: the bundle that `captionist model import` makes, and transformers in eager torch.

Weights are random and the same on both sides, ours in int8, theirs in float32, and captions have a fixed number of
tokens: only the cost means anything. Contestants are separate processes and take turns with the same pictures, so that
ratios compare moments close to each other, even on a machine that others use.
"""

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoImageProcessor,
    BlipForConditionalGeneration,
    GitForCausalLM,
    VisionEncoderDecoderModel,
)

from benchmarks._contestants import STEPS, Ours
from captionist.images import decode
from harness.hub import Family, save
from harness.pictures import photographs
from harness.report import circumstances, show, write

_CLASSES: dict[str, Any] = {
    "git": GitForCausalLM,
    "blip": BlipForConditionalGeneration,
    "vit-gpt2": VisionEncoderDecoderModel,
}
_BATCH = 8  # pictures that transformers gets at a time, as many as ours


class Transformers:
    """The checkpoint as its card on the hub describes: image processor, model, `generate`."""

    def __init__(self, hub: Path, family: str) -> None:
        self._model = _CLASSES[family].from_pretrained(hub, attn_implementation="eager").eval()
        self._processor = AutoImageProcessor.from_pretrained(hub)

    @torch.inference_mode()
    def run(self, pictures: Sequence[bytes], num_beams: int) -> list[str]:
        written: list[str] = []
        for start in range(0, len(pictures), _BATCH):
            images = [decode(picture) for picture in pictures[start : start + _BATCH]]
            pixels = self._processor(images=images, return_tensors="pt").pixel_values
            tokens = self._model.generate(
                pixel_values=pixels, num_beams=num_beams, do_sample=False, min_new_tokens=STEPS, max_new_tokens=STEPS
            )
            written += map(str, tokens.tolist())
        return written


def _peak() -> int:
    """The most memory, in bytes, that this process has had. A child inherits its parent's figure in getrusage."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _work(pipe: Connection, folder: Path, family: str, ours: bool) -> None:
    begun = time.perf_counter()
    contestant = Ours(folder / "bundle", STEPS).run if ours else Transformers(folder / "hub", family).run
    pipe.send(time.perf_counter() - begun)
    while True:
        pictures, beams = pipe.recv()
        if not pictures:
            pipe.send(_peak())
            return
        begun = time.perf_counter()
        contestant(pictures, num_beams=beams)
        pipe.send(time.perf_counter() - begun)


def _measured(arguments: Sequence[str], given: bytes = b"") -> dict[str, float]:
    """Seconds and peak memory of the command line with these arguments."""
    script = (
        "import sys\nfrom captionist.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    begun = time.perf_counter()
    told = subprocess.run([sys.executable, "-c", script, *arguments], input=given, capture_output=True, check=True)
    return {"seconds": time.perf_counter() - begun, "peak_bytes": int(told.stdout.split()[-1]) * 1024}


def _compare(folder: Path, family: Family, pictures: list[bytes], batch: int, tiny: bool) -> dict[str, Any]:
    save(folder / "hub", family, full=not tiny)
    bundle = str(folder / "bundle")
    result: dict[str, Any] = {"import": _measured(["model", "import", str(folder / "hub"), bundle])}
    result["checkpoint_bytes"], result["bundle_bytes"] = (
        sum(file.stat().st_size for file in (folder / name).iterdir()) for name in ("hub", "bundle")
    )
    spawn, pipes = multiprocessing.get_context("spawn"), {}
    for name in ("ours", "transformers"):
        pipes[name], theirs = spawn.Pipe()
        spawn.Process(target=_work, args=(theirs, folder, family, name == "ours"), daemon=True).start()
    result["start_seconds"] = {name: pipe.recv() for name, pipe in pipes.items()}

    def turn(name: str, some: list[bytes], beams: int) -> float:
        pipes[name].send((some, beams))
        seconds: float = pipes[name].recv()
        return seconds

    for beams in (1, 3):
        for name in pipes:
            turn(name, pictures[:1], beams)
        taken = [{name: turn(name, [picture], beams) for name in pipes} for picture in pictures]
        many = {name: turn(name, (pictures * batch)[:batch], beams) / batch for name in pipes}
        result[f"{beams} beams"] = {
            "one": {name: statistics.median(each[name] for each in taken) for name in pipes},
            "one_ratio": statistics.median(each["transformers"] / each["ours"] for each in taken),
            "folder": many,
            "folder_ratio": many["transformers"] / many["ours"],
        }
    for name, pipe in pipes.items():
        pipe.send(([], 0))
        result.setdefault("peak_bytes", {})[name] = pipe.recv()
    result["caption"] = _measured(["caption", "-", "--model", bundle], pictures[0])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(_CLASSES), default=list(_CLASSES))
    parser.add_argument("--pictures", type=Path, default=Path("examples"))
    parser.add_argument("--count", type=int, default=9, help="pictures, one at a time")
    parser.add_argument("--folder", type=int, default=100, help="pictures, in batches of eight")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the benchmark out")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    pictures = photographs(given.pictures, given.count)
    around = circumstances(of_model=False)
    result: dict[str, Any] = around | {"pictures": len(pictures), "folder": given.folder, "families": {}}
    for family in given.families:
        with tempfile.TemporaryDirectory() as folder:
            result["families"][family] = _compare(Path(folder), family, pictures, given.folder, given.tiny)
    _show(result["families"])
    write(given.json, result)


def _show(families: dict[str, dict[str, Any]]) -> None:
    rows = []
    for family, found in families.items():
        for beams in (1, 3):
            told = found[f"{beams} beams"]
            figures = [told[kind][name] * 1000 for kind in ("one", "folder") for name in ("ours", "transformers")]
            ratios = [told["one_ratio"], told["folder_ratio"]]
            rows.append([f"{family}, {beams} beams", *(f"{f:.0f}" for f in figures), *(f"{r:.1f}" for r in ratios)])
    columns = [f"{kind}: {name}, ms" for kind in ("one", "folder") for name in ("ours", "transformers")]
    columns += ["one: times", "folder: times"]
    show("A picture", ["", *columns], rows)
    columns = ["import, s", "its peak, GB", "checkpoint, MB", "bundle, MB", "captionist caption, s", "its peak, MB"]
    rows = []
    for family, found in families.items():
        came, ran = found["import"], found["caption"]
        sizes = [found["checkpoint_bytes"] / 1e6, found["bundle_bytes"] / 1e6]
        figures = [came["seconds"], came["peak_bytes"] / 1e9, *sizes, ran["seconds"], ran["peak_bytes"] / 1e6]
        rows.append([family, *(f"{figure:.3g}" for figure in figures)])
    show("Import and memory", ["", *columns], rows)


if __name__ == "__main__":
    main()

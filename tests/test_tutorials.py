"""The tutorial that is a notebook runs from its first cell to its last, on a small corpus."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.pictures import patchwork
from tests.training.corpus import NAMES

ROOT = Path(__file__).parents[1]
_INSTALL = "pip install torch==2.13.0 && pip install '.[train]'\n"
_FETCH = "python -m recipes.starting_weights weights"


def _write_pictures(root: Path) -> None:
    """Forty pictures, each with two sentences, in the layout of the tutorial; some are dev by their names."""
    (root / "Images").mkdir(parents=True)
    lines = ["image,caption"]
    for number in range(40):
        Image.fromarray(patchwork(number)).save(root / "Images" / f"{number}.png")
        colour, shape = NAMES[number % len(NAMES)]
        lines += [f"{number}.png,A {colour} {shape} on a table.", f"{number}.png,There is a {colour} {shape}."]
    (root / "captions.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_the_notebook_fine_tunes_a_model(tmp_path: Path) -> None:
    _write_pictures(tmp_path / "my-pictures")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    notebook = json.loads((ROOT / "docs" / "tutorials" / "fine-tune.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    scripts = [cell.removeprefix("%%bash\n").replace(_INSTALL, "") for cell in cells]
    assert _FETCH in scripts
    if (ROOT / "weights").is_dir():  # which that has made
        (tmp_path / "weights").symlink_to(ROOT / "weights")
        scripts.remove(_FETCH)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    told = ""
    for script in scripts:
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        told += done.stdout
    assert "CIDEr-D" in told
    assert (tmp_path / "mine" / "weights.bin").stat().st_size > 1_000_000

"""The embedded model on a processor that has nothing newer than AVX2, where Linux can make this one look like it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CAPTIONS = f"""
import json, numpy, pathlib
from captionist import Captioner
captioner = Captioner()
EXAMPLES = pathlib.Path({str(ROOT / "examples")!r})
print(json.dumps({{
    "features": [name for name, here in numpy._core._multiarray_umath.__cpu_features__.items() if here],
    "captions": [captioner.caption(path).text for path in sorted(EXAMPLES.glob("*.jpg"))],
}}))
"""


@pytest.fixture(scope="module")
def avx2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What hides the rest, to be loaded before a program."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("avx2") / "avx2.so"
    source = ROOT / "benchmarks" / "avx2.c"
    subprocess.run([compiler, "-Wall", "-Werror", "-O2", "-shared", "-fPIC", source, "-o", library], check=True)
    return library


def test_it_says_the_same_as_on_this_processor(avx2: Path) -> None:
    """Sums of floats are made in another order, which may put another of a picture's captions first."""
    hidden = subprocess.run(
        [sys.executable, "-c", CAPTIONS], env=os.environ | {"LD_PRELOAD": str(avx2)}, capture_output=True, text=True
    )
    if "cannot hide" in hidden.stderr:
        pytest.skip("this machine cannot hide its instructions")
    assert hidden.returncode == 0, hidden.stderr
    told = json.loads(hidden.stdout)
    here = json.loads(subprocess.run([sys.executable, "-c", CAPTIONS], capture_output=True, check=True).stdout)
    assert not any("AVX512" in name or name == "X86_V4" for name in told["features"])
    assert "AVX2" in told["features"]
    assert sum(a != b for a, b in zip(told["captions"], here["captions"], strict=True)) <= 1

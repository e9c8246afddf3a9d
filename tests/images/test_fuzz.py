import os
import subprocess
import sys

import pytest

from tests.images.samples import SAMPLES

SECONDS = os.environ.get("FUZZ_SECONDS", "5")
"""For each decoder; raise it for a longer hunt."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", SAMPLES)
def test_a_decoder_survives_whatever_it_is_given(kind: str) -> None:
    command = [sys.executable, "-m", "tests.images.fuzz", kind, SECONDS, str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    assert "CorruptImageError" in done.stdout

"""Every benchmark runs to its end, with the smallest sizes; what it measures then means nothing."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from safetensors.torch import save_file
from transformers import Dinov2Config, Dinov2Model

from tests.collection.test_ray import NAMESPACE
from tests.model.checkpoints import lite2_weights, save_gpt2
from tests.training.corpus import write_corpus

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow

# How each is called, and the title of a table or other output of it.
SMALLEST = {
    "bleu": ("corpus", "teacher forcing"),
    "collections": ("--pictures examples --count 3 --rounds 1", "3 pictures"),
    "feedback_kills": ("--kills 2", "Feedback under SIGKILL"),
    "feedback_round": ("--data corpus --pictures 2 --out round", "captionist compare"),
    "latency": ("--count 2", "Targets"),  # --base needs the whole of GPT-2's vocabulary
    "leakage": ("corpus --copies 2", "Copies of 2 dev pictures"),
    "public": ("--tiny --families git --count 2 --folder 2", "Import and memory"),
    "roofline": ("--repeat 1", "Target"),
    "search": ("--count 1000 --searches 1", "1,000 random vectors"),
    "service_overload": ("--seconds 4 --pictures none", "Overload"),
    "service_throughput": ("--rounds 1 --seconds 3 --clients 4 --pictures none", "Throughput at saturation"),
    "startup": ("--rounds 1 --seconds 2", "Start and memory"),
    "throughput": ("--count 2 --rounds 1 --batch 2", "2 pictures"),
    "training_cost": ("--pictures examples --batch 1 --repeat 1", "A training step"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As a checkout, with random starting weights of the embedded model's shapes."""
    made = tmp_path_factory.mktemp("checkout")
    for name in ("benchmarks", "examples", "harness", "recipes", "src"):
        (made / name).symlink_to(ROOT / name)
    weights = made / "weights"
    weights.mkdir()
    save_gpt2(weights / "gpt2-4l-384", n_embd=384, n_head=6, n_layer=4, n_positions=448)
    Dinov2Model(Dinov2Config(hidden_size=384, num_attention_heads=6, num_hidden_layers=2)).save_pretrained(
        weights / "vit-s14"
    )
    (weights / "efficientnet-lite2").mkdir()
    save_file(lite2_weights(), weights / "efficientnet-lite2" / "model.safetensors")
    write_corpus(made / "corpus")
    return made


@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs_to_its_end(folder: Path, name: str) -> None:
    if name == "collections" and (find_spec("ray") is None or subprocess.run([*NAMESPACE, "true"]).returncode):
        pytest.skip("Ray, or a network namespace for it, is missing")
    arguments, title = SMALLEST[name]
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments.split()]
    if name == "collections":
        command = [*NAMESPACE, *command]
    environment = os.environ | {"PYTHONPATH": f"{folder}:{folder / 'src'}", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert title in done.stdout


def test_none_is_forgotten() -> None:
    written = {path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")}
    assert written - {"tables"} == SMALLEST.keys()

"""Bundles of public checkpoints write what transformers' `generate` writes, and work wherever bundles work.

The weights are random, saved by transformers itself: they prove what the graphs compute, not what was learnt.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoImageProcessor, PreTrainedModel

from captionist import Captioner
from captionist.bundle import ENCODER, PREFILL, STEP, Bundle
from captionist.errors import TrainingError
from captionist.exporting import quantization
from captionist.exporting.public.bring import import_model
from captionist.images import decode
from captionist.model.config import DecoderConfig, ModelConfig, VitConfig
from captionist.model.restore import load_bundle
from harness.hub import FAMILIES, Family, save
from tests.conftest import Run
from tests.exporting.test_public_decoders import EXAMPLES

LONGEST = 24


def photographs(count: int) -> list[NDArray[np.uint8]]:
    """So many cuts of the examples, wide and upright."""
    drawn, found = np.random.default_rng(0), []
    for number in range(count):
        rgb = decode(EXAMPLES[number % len(EXAMPLES)])
        height, width = (int(side * drawn.uniform(0.4, 1)) for side in rgb.shape[:2])
        top, left = drawn.integers(0, rgb.shape[0] - height + 1), drawn.integers(0, rgb.shape[1] - width + 1)
        found.append(np.ascontiguousarray(rgb[top : top + height, left : left + width]))
    return found


def theirs(model: Any, hub: Path, pictures: list[NDArray[np.uint8]], beams: int, end: int) -> list[tuple[int, ...]]:
    """The token ids that transformers' `generate` writes, up to the end."""
    processor, found = AutoImageProcessor.from_pretrained(hub), []
    for picture in pictures:
        with torch.inference_mode():
            ids = model.generate(
                pixel_values=processor(images=picture, return_tensors="pt").pixel_values,
                num_beams=beams,
                do_sample=False,
                max_length=LONGEST + 1,
                length_penalty=1.0,
                early_stopping="never",  # until no unfinished caption can win any more, as our search has it
            )[0].tolist()[1:]
        found.append(tuple(ids[: ids.index(end)] if end in ids else ids))
    return found


def ours(captioner: Captioner, pictures: list[NDArray[np.uint8]], beams: int) -> list[tuple[int, ...]]:
    options = captioner.options(num_beams=beams, max_tokens=LONGEST, min_tokens=0, length_penalty=1.0)
    encoding = captioner.encode([captioner.prepare(picture) for picture in pictures])
    return [found[0].tokens for found in captioner.hypotheses(encoding, options)]


def same_captions(model: PreTrainedModel, hub: Path, captioner: Captioner, count: int) -> None:
    """Greedy and with 3 beams. At the longest length, transformers leaves the end's probability out of the score: such
    captions are compared only in greedy search.
    """
    pictures, end = photographs(count), captioner.bundle.config.decoder.eos_id
    for beams in (1, 3):
        expected, written = theirs(model, hub, pictures, beams, end), ours(captioner, pictures, beams)
        ended = [
            place for place, ids in enumerate(expected) if beams == 1 or max(map(len, (ids, written[place]))) < LONGEST
        ]
        assert len(ended) >= 5
        assert len(set(expected)) >= 5  # they look at the picture
        assert [written[place] for place in ended] == [expected[place] for place in ended]


Imported = tuple[PreTrainedModel, Path, Path]


@pytest.fixture(scope="module")
def git(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    directory = tmp_path_factory.mktemp("git")
    model = save(directory / "hub", "git")
    import_model(str(directory / "hub"), directory / "bundle", "fp32")
    return model, directory / "hub", directory / "bundle"


def test_a_bundle_writes_what_transformers_writes(git: Imported) -> None:
    model, hub, bundle = git
    same_captions(model, hub, Captioner(bundle), 18)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_writes_what_transformers_writes(family: Family, tmp_path: Path) -> None:
    model = save(tmp_path / "hub", family)
    import_model(str(tmp_path / "hub"), tmp_path / "bundle", "fp32")
    same_captions(model, tmp_path / "hub", Captioner(tmp_path / "bundle"), 50)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_integers_come_close(family: Family, tmp_path: Path) -> None:
    """First words' log-probabilities in int8 are those of float32 up to a few hundredths of their spread."""
    save(tmp_path / "hub", family)
    exact = Captioner(import_model(str(tmp_path / "hub"), tmp_path / "fp32", "fp32").path)
    small = Captioner(import_model(str(tmp_path / "hub"), tmp_path / "int8", "int8").path)
    prepared = [exact.prepare(picture) for picture in photographs(20)]
    said = [c.decoder.prefill(c.encode(prepared).visual_tokens).log_probs for c in (exact, small)]
    assert np.abs(said[1] - said[0]).mean() < 0.1 * said[0].std()
    # Output layers that are transposed embeddings become integers, too.
    for name in (ENCODER, PREFILL, STEP):
        graph = onnx.load(small.bundle.path / name, load_external_data=False).graph
        weights = {tensor.name.removesuffix(".half") for tensor in graph.initializer if len(tensor.dims) == 2}
        assert not [n for n in graph.node if n.op_type in ("MatMul", "Gemm", "Transpose") and weights & set(n.input)]


def test_a_batch_writes_what_its_pictures_alone_write(git: Imported) -> None:
    captioner, pictures = Captioner(git[2]), photographs(5)
    together = [result.caption for result in captioner.caption_many(pictures)]
    assert together == [captioner.caption(picture) for picture in pictures]


def test_a_bundle_runs_without_torch(git: Imported) -> None:
    script = (
        "import sys; sys.modules.update(torch=None, transformers=None, onnx=None); from captionist import Captioner; "
        "print(Captioner(sys.argv[1]).caption(sys.argv[2]))"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(git[2]), str(EXAMPLES[0])], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == Captioner(git[2]).caption(EXAMPLES[0]).text


def test_heat_maps_leave_the_class_token_out(git: Imported) -> None:
    captioner = Captioner(git[2])
    assert (captioner.bundle.config.grid, captioner.bundle.config.leading) == ((4, 4), 1)
    caption = next(c for c in map(captioner.caption, photographs(9)) if c.word_attention)
    for word in caption.word_attention:
        assert word.weights.shape == (4, 4)
        assert word.weights.sum() == pytest.approx(1, abs=1e-5)
    text = caption.text.lower().rstrip(".").removeprefix("##")  # random weights may begin inside a word
    assert [word.word.lower() for word in caption.word_attention] == text.split()


def test_where_it_came_from_is_told(git: Imported, run: Run) -> None:
    shown = run("model", "show", git[2]).out
    source = Bundle.open(git[2]).config.source
    assert source is not None
    assert (source.name, source.architecture, source.licence) == ("hub", "GitForCausalLM", "mit")
    assert source.weights["model.safetensors"] in shown
    assert "Licence, by its own card: mit" in shown
    assert run("model", "verify", git[2]).code == 0


def test_it_cannot_match_and_says_so(git: Imported, run: Run) -> None:
    outcome = run("match", EXAMPLES[0], "a dog", "--model", git[2])
    assert outcome.code == 1
    assert "was not trained to compare pictures with sentences" in outcome.err
    assert run("caption", EXAMPLES[0], "--model", git[2], "--retrieved", 2).code == 2


@pytest.mark.slow
def test_weights_of_a_large_graph_are_kept_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if protobuf could hold almost nothing, instead of 2 GiB."""
    monkeypatch.setattr(quantization, "_LARGE", 1000)
    save(tmp_path / "hub", "git")
    made = import_model(str(tmp_path / "hub"), tmp_path / "int8", "int8")
    assert made.verify() == 8  # no file beside those that every bundle has
    for name in (ENCODER, PREFILL, STEP):
        graph = onnx.load(made.path / name, load_external_data=False).graph
        assert {e.value for t in graph.initializer for e in t.external_data if e.key == "location"} == {"weights.bin"}
    assert Captioner(made.path).caption(EXAMPLES[0]).text is not None


def test_the_tokenizer_says_nothing_for_rows_that_it_does_not_know(git: Imported) -> None:
    content = json.loads((git[2] / "config.json").read_text(encoding="utf-8"))
    captioner = Captioner(git[2])
    assert content["vocabulary_size"] == len(captioner.tokenizer)
    assert captioner.tokenizer.decode([0, 101, 102]) == ""


def test_it_is_not_trained_further(git: Imported) -> None:
    vision = VitConfig(weights="", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    with pytest.raises(TrainingError, match="was imported, and is not trained here"):
        load_bundle(Bundle.open(git[2]), ModelConfig(encoder=vision, decoder=DecoderConfig(weights="")))

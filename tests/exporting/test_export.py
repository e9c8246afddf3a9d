"""From a run to a bundle: the graphs compute what the model computes, whatever the precision."""

import re
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import yaml
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn
from torch.export import Dim
from torch.nn.utils.rnn import pad_sequence

from captionist import Captioner
from captionist.bundle import ENCODER, PREFILL, STEP, Bundle
from captionist.data import Example, open_corpus
from captionist.errors import BundleError, TrainingError
from captionist.evaluation.calibration import calibrates
from captionist.evaluation.mistakes import Mistakes
from captionist.evaluation.report import ReportRow
from captionist.exporting.card import model_card
from captionist.exporting.export import _common_captions, _failures, calibrate_bundle, compare, export
from captionist.exporting.graphs import (
    WEIGHTS,
    Precision,
    _Encode,
    export_graph,
    round_to_half,
    share_weights,
    write_graphs,
)
from captionist.exporting.quantization import quantize_products
from captionist.images import ImageFile, decode, prepare
from captionist.inference.encoding import Encoding, Prepared
from captionist.inference.engine import Engine
from captionist.inference.search import SearchOptions, search
from captionist.model.fusion import VisionPrefixLM, load_model
from captionist.model.language import IGNORE, encode_caption
from captionist.model.torch_decoder import TorchDecoder
from captionist.training.recipe import load_recipe
from tests.model.checkpoints import Checkpoints
from tests.training.corpus import NAMES

REPOSITORY = Path(__file__).parents[2]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Bundles = dict[Precision, Bundle]

pytestmark = pytest.mark.slow  # everything here waits for a model that is trained and exported three times


@pytest.fixture(scope="module")
def bundles(overfitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    """One of each precision. fp32 finds its corpus gone."""
    folder = tmp_path_factory.mktemp("bundles")
    moved = folder / "run"
    moved.mkdir()
    (moved / "best").symlink_to(overfitted / "best")
    (moved / "environment.json").write_bytes((overfitted / "environment.json").read_bytes())
    recipe = yaml.safe_load((overfitted / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["data"]["root"] = str(folder / "gone")
    (moved / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    runs = {"fp32": moved, "fp16": overfitted, "int8": overfitted}
    return {precision: export(runs[precision], folder / f"tiny-{precision}", precision) for precision in PRECISIONS}


@pytest.fixture(scope="module")
def examples(overfitted: Path) -> list[ImageFile]:
    recipe = load_recipe(overfitted / "recipe.yaml")
    return [example.image for example in open_corpus(recipe.data.root).split("dev")]


def torch_model(run: Path, precision: Precision) -> VisionPrefixLM:
    model = load_model(run / "best").eval()
    if precision != "fp32":
        round_to_half(model)
    return model


@pytest.mark.parametrize("precision", PRECISIONS)
def test_graphs_say_what_the_model_says(
    bundles: Bundles, overfitted: Path, examples: list[ImageFile], precision: Precision
) -> None:
    """Prefill and every step along a caption; in int8, only the captions are compared."""
    model, engine = torch_model(overfitted, precision), Engine(bundles[precision], threads=1)
    pixels = np.stack([prepare(decode(path), model.preprocessing) for path in examples])
    with torch.inference_mode():
        theirs = model.encode(torch.from_numpy(pixels))
    ours = engine.encode([Prepared(picture, None) for picture in pixels]).visual_tokens
    greedy, torch_decoder = SearchOptions(num_beams=1), TorchDecoder(model)
    captions = [h[0].tokens for h in search(torch_decoder, theirs, len(pixels), greedy)]
    assert [h[0].tokens for h in search(engine.decoder, ours, len(pixels), greedy)] == captions
    if precision == "int8":
        return
    a, b = torch_decoder.prefill(theirs), engine.decoder.prefill(ours)
    for place in range(6):
        assert np.abs(a.log_probs - b.log_probs).max() < 1e-3
        assert np.abs(a.attention - b.attention).max() < 1e-3
        tokens = np.array([caption[place % len(caption)] for caption in captions])
        a, b = torch_decoder.step(tokens, a.state), engine.decoder.step(tokens, b.state)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_heads_say_what_the_model_says(
    bundles: Bundles, overfitted: Path, examples: list[ImageFile], precision: Precision
) -> None:
    model, captioner = torch_model(overfitted, precision), Captioner(bundles[precision].path)
    assert model.alignment is not None
    sentences = [f"A {colour} {shape}." for colour, shape in NAMES]
    with torch.inference_mode():
        tokens = [torch.tensor(encode_caption(model.tokenizer, text.lower().rstrip("."))) for text in sentences]
        expected = model.alignment.sentences(pad_sequence(tokens, batch_first=True, padding_value=IGNORE)).numpy()
        visual_tokens = model.encode(
            torch.from_numpy(np.stack([captioner.prepare(example).pixels for example in examples]))
        )
        images = model.embed(visual_tokens).numpy()
    for written in (sentences, [text.replace(".", " .") for text in sentences]):
        assert np.abs(captioner.sentence_embeddings(written) - expected).max() < 1e-5
    assert np.abs(captioner.image_embeddings(Encoding(visual_tokens.numpy(), None)) - images).max() < 1e-5
    found = np.stack([captioner.match(example, sentences) for example in examples])
    assert np.abs(found - images @ expected.T).max() < (0.05 if precision == "int8" else 1e-4)
    # They are named after what they show, in the order of the names but for the alphabet's.
    right = [
        sentences.index(f"A {' '.join(example.name.removesuffix('.png').split('_')[1:])}.") for example in examples
    ]
    assert (found.argmax(axis=1) == right).mean() > 0.9


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_bundle_is_whole_and_tells_what_it_is(bundles: Bundles, precision: Precision) -> None:
    bundle = bundles[precision]
    assert bundle.verify() >= 8
    assert bundle.config.precision == precision
    assert bundle.config.name == f"tiny-{precision}"
    assert bundle.config.search.num_beams == 1
    assert bundle.config.lowercase
    for said in (
        f"weights in {precision}",
        "Recipe `tiny` with seed 7",
        "together, epochs: 30; on pictures and their captions\n",
    ):
        assert said in bundle.model_card


def test_a_bundle_is_scored_as_users_will_run_it(bundles: Bundles) -> None:
    bundle = bundles["fp16"]
    parity = bundle.scores["parity"]
    assert parity["pictures"] == parity["captions"] == bundle.scores["pictures"] == 16
    assert 0 <= parity["log_probs"] < 1e-3
    assert bundle.scores["bleu_1"]["value"] > 90
    assert "The weights are those after epoch" in bundle.model_card
    for line in Mistakes(**bundle.scores["mistakes"]).lines():
        assert f"- {line}\n" in bundle.model_card
    assert bundle.config.calibration is None  # sixteen pictures are too few
    for said in ("| BLEU-4 |", "| CIDEr-D |", "agree with the torch model on 16 of 16 pictures", "corpus --split dev"):
        assert said in bundle.model_card


def test_confidence_is_calibrated_on_what_was_evaluated(bundles: Bundles, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    confidence = drawn.uniform(0.2, 0.9, 600)
    cider = np.where(drawn.random(600) < confidence, 1000.0, 0.0)
    rows = tuple(
        ReportRow(
            f"{number}.jpg",
            tmp_path,
            "A dog.",
            (*[f"a dog {number}"] * 4, "clouds"),
            float(cider[number]),
            float(confidence[number]),
        )
        for number in range(600)
    )
    copy = tmp_path / "copy"
    shutil.copytree(bundles["fp16"].path, copy)
    told = calibrate_bundle(copy, rows)
    calibration = Bundle.open(copy).config.calibration
    assert calibration is not None
    assert calibration.slope > 0
    assert sum(group["captions"] for group in told["reliability"]["bins"]) == sum(not calibrates(r.id) for r in rows)
    assert told["reliability"]["discrimination"] > 0.6


def test_a_run_whose_corpus_is_gone_is_exported_unscored(bundles: Bundles) -> None:
    assert "Not scored when it was exported" in bundles["fp32"].scores["note"]
    assert "Not scored when it was exported" in bundles["fp32"].model_card


def test_prefill_and_step_share_their_weights(bundles: Bundles, overfitted: Path) -> None:
    """weights.bin holds every weight once; two separate graphs would hold the decoder's twice."""
    model = torch_model(overfitted, "fp32")
    decoder, whole = (sum(p.nbytes for p in module.parameters()) for module in (model.decoder, model))
    size = (bundles["fp32"].path / WEIGHTS).stat().st_size
    assert size < whole + 0.3 * decoder
    places = []
    for name in (PREFILL, STEP):
        graph = onnx.load(bundles["fp32"].path / name, load_external_data=False).graph
        external = [
            tuple(entry.value for entry in tensor.external_data) for tensor in graph.initializer if tensor.external_data
        ]
        assert external
        places.append(set(external))
    assert len(places[0] & places[1]) > 0.8 * len(places[1])


def test_precisions_take_less_space(bundles: Bundles) -> None:
    full, half, eighth = ((bundles[precision].path / WEIGHTS).stat().st_size for precision in PRECISIONS)
    assert half < 0.55 * full
    assert eighth < half
    for name in (ENCODER, PREFILL, STEP):
        kinds = [
            [node.op_type for node in onnx.load(bundles[precision].path / name).graph.node] for precision in PRECISIONS
        ]
        assert ["MatMulInteger" in found for found in kinds] == [False, False, True]


def test_the_card_shows_failures_that_it_is_sure_of(bundles: Bundles, overfitted: Path) -> None:
    def row(name: str, cider: float, confidence: float) -> ReportRow:
        return ReportRow(name, Path(name), f"caption of {name}", ["a | b", "another"], cider, confidence)

    rows = [row(f"wrong-{i}.jpg", 1.0, i / 100) for i in range(12)] + [row("right.jpg", 5.0, 0.99)]
    failures = _failures(rows)
    assert [f["picture"] for f in failures] == [f"wrong-{i}.jpg" for i in range(11, 1, -1)]
    model, recipe = load_model(overfitted / "best"), load_recipe(overfitted / "recipe.yaml")
    card = model_card(recipe, model, bundles["fp16"].scores | {"failures": failures}, "fp16", [], "")
    assert "| wrong-11.jpg | caption of wrong-11.jpg | a \\| b |" in card


def test_captions_with_a_rare_token_are_told_from_common_ones(
    overfitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captionist.exporting.export._RARE", 0.01)
    model, recipe = load_model(overfitted / "best"), load_recipe(overfitted / "recipe.yaml")
    captions = ("a dog .",) * 50 + ("a dog 7 .",)
    train = [Example("1.jpg", Path("1.jpg"), captions, "train")]
    assert _common_captions(model, recipe, train) == ["a dog"] * 50


@pytest.fixture(scope="module")
def hybrid(checkpoints: Checkpoints) -> VisionPrefixLM:
    return checkpoints.model(checkpoints.hybrid())


@pytest.fixture(scope="module")
def pixels(hybrid: VisionPrefixLM) -> NDArray[np.float32]:
    side = hybrid.config.encoder.resolution
    return np.random.default_rng(0).uniform(-1, 1, (8, 3, side, side)).astype(np.float32)


@pytest.fixture(scope="module")
def hybrid_int8(hybrid: VisionPrefixLM, pixels: NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hybrid-int8")
    write_graphs(hybrid, folder, "int8", [Prepared(picture, None) for picture in pixels])
    return folder


@pytest.mark.parametrize("graph", [ENCODER, PREFILL, STEP])
def test_no_processor_can_overflow_in_int8(hybrid_int8: Path, graph: str) -> None:
    """Without VNNI, two neighbouring products of an unsigned byte and a weight are added up in 16 bits."""
    found = [numpy_helper.to_array(tensor) for tensor in onnx.load(hybrid_int8 / graph).graph.initializer]
    weights = [values for values in found if values.dtype == np.int8 and values.ndim > 1]
    assert len(weights) >= 8
    assert max(2 * 255 * int(np.abs(values.astype(int)).max()) for values in weights) < 2**15


def test_int8_convolutions_say_nearly_what_the_model_says(
    hybrid: VisionPrefixLM, pixels: NDArray[np.float32], hybrid_int8: Path
) -> None:
    """All but the first ones are done in integers, within the ranges of the pictures that they were calibrated on."""
    graph = onnx.load(hybrid_int8 / ENCODER).graph
    eight = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node.input[1] in eight for node in graph.node if node.op_type == "Conv"]
    assert convolutions == [False] * 6 + [True] * (len(convolutions) - 6)
    assert len(convolutions) > 60
    (ours,) = ort.InferenceSession(hybrid_int8 / ENCODER).run(None, {"pixels": pixels})
    with torch.inference_mode():
        theirs = hybrid.encode(torch.from_numpy(pixels)).numpy()
    # With random weights, small errors grow: for a trained model, the difference is within a tenth.
    assert 0 < np.linalg.norm(ours - theirs) < 0.5 * np.linalg.norm(theirs - theirs.mean((0, 1)))


def test_outliers_before_the_output_layer_cost_little_in_int8(tmp_path: Path) -> None:
    """As in a trained decoder, whose last norm makes a few numbers large and whose embeddings make up for it."""
    generator = torch.Generator().manual_seed(0)
    norm, vocabulary = nn.LayerNorm(64), nn.Linear(64, 500, bias=False)
    norm.weight.data[:3] = 60.0
    vocabulary.weight.data[:, :3] *= 0.02
    hidden = torch.randn(12, 3, 64, generator=generator)

    class Output(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.vocabulary = norm, vocabulary

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.vocabulary(self.norm(hidden)[:, -1:])
            return logits

    def error(smooth_output: bool) -> float:
        path = tmp_path / "output.onnx"
        export_graph(Output(), (hidden,), ["logits"], [{}], path)
        quantize_products(path, smooth_output)
        (ours,) = ort.InferenceSession(path).run(None, {"hidden": hidden.numpy()})
        return float(np.abs(ours - Output()(hidden).detach().numpy()).mean())

    assert error(smooth_output=True) < 0.5 * error(smooth_output=False)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_graphs_name_no_path_of_the_machine(bundles: Bundles, precision: Precision) -> None:
    for file in bundles[precision].path.iterdir():
        content = file.read_bytes()
        for place in (REPOSITORY, Path(torch.__file__).parent, Path.home()):
            assert str(place).encode() not in content, f"{place} in {file.name}"
        assert b"site-packages" not in content
        assert not re.search(rb"\.py\b", content)


def test_an_existing_bundle_is_left_alone(bundles: Bundles, overfitted: Path) -> None:
    path = bundles["fp32"].path
    with pytest.raises(BundleError, match=rf"{path.name} exists already"):
        export(overfitted, path, "fp32")
    assert bundles["fp32"].verify() >= 8


def test_an_unknown_precision(overfitted: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="'fp8' is not a precision: choose one of fp32, fp16, int8"):
        export(overfitted, tmp_path / "bundle", "fp8")  # type: ignore[arg-type]


def test_a_run_without_a_model_leaves_nothing_behind(overfitted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_bytes((overfitted / "recipe.yaml").read_bytes())
    with pytest.raises(TrainingError, match="best holds no model"):
        export(run, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_disagreement_shows(bundles: Bundles, overfitted: Path) -> None:
    """The check that guards every export is able to fail."""
    recipe = load_recipe(overfitted / "recipe.yaml")
    dev = open_corpus(recipe.data.root).split("dev")
    model = torch_model(overfitted, "fp32")
    assert compare(model, bundles["fp32"].path, dev).log_probs < 1e-3
    model.projection.weight.data *= -1
    parity = compare(model, bundles["fp32"].path, dev)
    assert parity.log_probs > 0.1
    assert parity.captions < parity.pictures


@pytest.mark.parametrize("family", ["vit", "deit", "dinov2", "clip", "siglip", "hybrid"])
def test_every_encoder_can_be_exported(checkpoints: Checkpoints, tmp_path: Path, family: str) -> None:
    """At another resolution than the checkpoint's, in half precision, for any number of pictures."""
    encoder = checkpoints.hybrid(resolution=96) if family == "hybrid" else checkpoints.vit(family, resolution=48)
    model = checkpoints.model(encoder, prefix_grid=2)
    round_to_half(model)
    side = model.config.encoder.resolution
    graph = tmp_path / ENCODER
    export_graph(_Encode(model), (torch.zeros(2, 3, side, side),), ["visual_tokens"], [{0: Dim("batch")}], graph)
    share_weights([graph], tmp_path / WEIGHTS, half=True)
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for count in (1, 3):
        pixels = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))
        with torch.inference_mode():
            expected = model.encode(pixels).numpy()
        (ours,) = session.run(["visual_tokens"], {"pixels": pixels.numpy()})
        assert np.abs(ours - expected).max() < 1e-3 * max(1, np.abs(expected).max())

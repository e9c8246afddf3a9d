"""The graphs behind the decoder protocol, and how many threads they get."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from captionist.bundle import CONFIG, ENCODER, STEP, Bundle
from captionist.errors import BundleError, CaptionistError
from captionist.inference.encoding import Prepared
from captionist.inference.engine import Engine
from captionist.inference.search import SearchOptions, search
from captionist.inference.threads import available_cores
from tests.tiny_bundle import HEADS, PREFIX, SIZE, WIDTH, write_tiny_bundle


@pytest.fixture(scope="module", params=[False, True], ids=["together", "by picture"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", by_picture=request.param)
    return Engine(Bundle.open(path), threads=1)


@pytest.fixture
def visual_tokens(engine: Engine) -> NDArray[np.float32]:
    pixels = np.random.default_rng(0).normal(size=(3, 3, SIZE, SIZE)).astype(np.float32)
    return engine.encode([Prepared(picture, None) for picture in pixels]).visual_tokens


def test_the_cache_grows_by_one_position_a_step(engine: Engine, visual_tokens: NDArray[np.float32]) -> None:
    assert visual_tokens.shape == (3, PREFIX, WIDTH)
    step = engine.decoder.prefill(visual_tokens)
    vocabulary = step.log_probs.shape[1]
    for length in range(1, 4):
        step = engine.decoder.step(np.array([1, 2, 3]), step.state)
        assert step.log_probs.shape == (3, vocabulary)
        assert step.attention.shape == (3, PREFIX)
        assert [part.shape for part in step.state.prefix] == [(3, HEADS, PREFIX + 1, WIDTH // HEADS)] * 2
        assert [part.shape for part in step.state.own] == [(3, HEADS, length, WIDTH // HEADS)] * 2


def test_reordered_rows_go_on_as_their_originals_would(engine: Engine, visual_tokens: NDArray[np.float32]) -> None:
    decoder = engine.decoder
    step = decoder.step(np.array([1, 2, 3]), decoder.prefill(visual_tokens).state)
    rows, tokens = np.array([2, 0, 2]), np.array([4, 5, 6])
    mixed = decoder.step(tokens, decoder.reorder(step.state, rows))
    for place, row in enumerate(rows):
        alone = decoder.step(tokens[place : place + 1], decoder.reorder(step.state, rows[place : place + 1]))
        np.testing.assert_allclose(mixed.log_probs[place], alone.log_probs[0], atol=1e-5)
        np.testing.assert_allclose(mixed.attention[place], alone.attention[0], atol=1e-6)
        assert row in (0, 2)


def test_what_is_read_at_once_is_what_is_read_token_by_token(
    engine: Engine, visual_tokens: NDArray[np.float32]
) -> None:
    decoder, tokens = engine.decoder, np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 1, 1]])
    state = decoder.reorder(decoder.prefill(visual_tokens).state, np.array([2, 0, 2, 1]))
    whole, step = decoder.read(tokens, state), None
    for place in range(tokens.shape[1]):
        step = decoder.step(tokens[:, place], step.state if step else state)
        np.testing.assert_allclose(whole.log_probs[:, place], step.log_probs, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(whole.attention[:, place], step.attention, atol=1e-6)
    assert step
    np.testing.assert_allclose(whole.state.own, step.state.own, atol=1e-6)
    assert whole.state.picture.tolist() == [2, 0, 2, 1]


def test_log_probabilities_are_those_of_the_graphs(engine: Engine, visual_tokens: NDArray[np.float32]) -> None:
    """Every caption is fed again token by token, without beams."""
    options = SearchOptions(num_beams=3, num_captions=3, max_tokens=6)
    for picture, found in enumerate(search(engine.decoder, visual_tokens, 3, options)):
        for hypothesis in found:
            step, total = engine.decoder.prefill(visual_tokens[picture : picture + 1]), 0.0
            for place, token in enumerate((*hypothesis.tokens, engine.decoder.eos_id)):
                total += float(step.log_probs[0, token])
                if place < len(hypothesis.tokens):
                    np.testing.assert_allclose(hypothesis.attention[place], step.attention[0], atol=1e-5)
                    step = engine.decoder.step(np.array([token]), step.state)
            assert hypothesis.log_probability == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_score_that_is_not_a_number_is_an_error(tmp_path: Path, value: float) -> None:
    """It makes all of its row so, in the graph itself."""
    path = write_tiny_bundle(tmp_path / "tiny")
    graph = onnx.load(path / STEP)
    [bias] = [tensor for tensor in graph.graph.initializer if tensor.name == "out_bias"]
    damaged = numpy_helper.to_array(bias).copy()
    damaged[7] = value
    bias.CopyFrom(numpy_helper.from_array(damaged, bias.name))
    onnx.save(graph, path / STEP)
    engine = Engine(Bundle.open(path), threads=1)
    first = engine.decoder.prefill(np.zeros((1, PREFIX, WIDTH), np.float32))
    with pytest.raises(CaptionistError, match="not numbers"):
        engine.decoder.step(np.array([1]), first.state)


def test_a_damaged_graph_is_an_error(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "tiny")
    (path / STEP).write_bytes((path / STEP).read_bytes()[:100])
    with pytest.raises(BundleError, match="model verify"):
        Engine(Bundle.open(path))


def test_graphs_of_another_form_are_an_error(tmp_path: Path) -> None:
    path = write_tiny_bundle(tmp_path / "tiny")
    text = (path / CONFIG).read_text()
    (path / CONFIG).write_text(text.replace('"layers": 1', '"layers": 2'))
    with pytest.raises(BundleError, match=r"not in the form.*export the model again"):
        Engine(Bundle.open(path))
    (path / CONFIG).write_text(text)
    (path / STEP).write_bytes((path / ENCODER).read_bytes())
    with pytest.raises(BundleError, match="export the model again"):
        Engine(Bundle.open(path))


@pytest.mark.parametrize(
    ("section", "changes", "graph"),
    [
        ("image", {"height": 32}, "pixels"),
        (None, {"prefix_length": 9, "grid": [3, 3]}, "visual_tokens"),
        ("decoder", {"heads": 3}, "keys_0"),
        (None, {"vocabulary_size": 9999}, "log_probs"),
    ],
)
def test_a_configuration_that_contradicts_the_graphs_is_an_error(
    tmp_path: Path, section: str | None, changes: dict[str, Any], graph: str
) -> None:
    path = write_tiny_bundle(tmp_path / "tiny")
    config = json.loads((path / CONFIG).read_text())
    (config[section] if section else config).update(changes)
    (path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(BundleError, match=f"{graph} is "):
        Engine(Bundle.open(path))


def test_a_graph_that_fails_as_it_runs_is_an_error_of_one_line(engine: Engine) -> None:
    with pytest.raises(BundleError, match=r"^encoder\.onnx failed .*$"):
        engine.encode([Prepared(np.zeros((3, SIZE, SIZE + 1), np.float32), None)])


def test_no_threads_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="threads"):
        Engine(Bundle.open(write_tiny_bundle(tmp_path / "tiny")), threads=0)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_cores_are_those_of_the_container(tmp_path: Path, files: dict[str, str], quota: int | None) -> None:
    unlimited = available_cores(tmp_path / "none")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_cores(tmp_path) == (unlimited if quota is None else min(quota, unlimited))

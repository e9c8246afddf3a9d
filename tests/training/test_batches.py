"""Which examples a step sees follows from the seed alone."""

import numpy as np
import pytest

from captionist.errors import TrainingError
from captionist.model.language import IGNORE
from captionist.training.batches import CaptionTable, check_shares, epoch_batches, share
from captionist.training.objectives.objective import count_tokens
from captionist.training.stage import Stage
from tests.training.runs import frozen, heads


@pytest.mark.parametrize(("size", "batch_size", "batches"), [(12, 4, 3), (14, 4, 3), (3, 8, 1), (1, 1, 1)])
def test_an_epoch_is_a_permutation(size: int, batch_size: int, batches: int) -> None:
    """But for the last, smaller batch, which is left out."""
    found = epoch_batches(size, batch_size, (1, 0, 0))
    assert [len(batch) for batch in found] == [min(batch_size, size)] * batches
    seen = np.concatenate(found)
    assert len(set(seen.tolist())) == len(seen)
    assert set(seen.tolist()) <= set(range(size))


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2, 5, 20])
def test_shares_are_disjoint_and_complete(processes: int, parts: int) -> None:
    batch = np.random.default_rng(0).permutation(13)
    shares = [share(batch, process, processes, parts) for process in range(processes)]
    assert sorted(int(i) for pieces in shares for piece in pieces for i in piece) == list(range(13))
    for pieces in shares:
        assert 1 <= len(pieces) <= parts
        assert all(len(piece) for piece in pieces)
        sizes = [len(piece) for piece in pieces]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("stage", "examples", "processes"),
    [(heads(batch_size=15), 20, 2), (heads(), 15, 2), (frozen(), 20, 5), (frozen(batch_size=5, accumulate=3), 20, 2)],
)
def test_processes_that_would_wait_in_vain_are_refused(stage: dict[str, object], examples: int, processes: int) -> None:
    settings = Stage.model_validate(stage)
    sizes = {name: min(count, examples) for name, count in settings.shares.items()}
    check_shares(settings, sizes, 1)
    with pytest.raises(TrainingError, match="change its batch_size"):
        check_shares(settings, sizes, processes)


def test_uneven_shares_of_as_many_parts_are_taken() -> None:
    check_shares(Stage.model_validate(frozen(batch_size=5, accumulate=2)), {"root": 5}, 2)


def test_a_table_is_filled_to_the_longest() -> None:
    table = CaptionTable([[[5, 6, 7], [8]], [[9, 0]], [[1, 2, 3, 4, 5, 6]]])
    assert len(table) == 3
    chosen = np.array([1, 0])
    assert table.rows(chosen).tolist() == [
        [[9, 0, IGNORE], [IGNORE] * 3],
        [[5, 6, 7], [8, IGNORE, IGNORE]],
    ]


def test_unpacked_every_caption_has_a_row_and_knows_its_picture() -> None:
    packed = CaptionTable([[[1, 2], [3]], [], [[4, 5, 6]]])
    table = packed.unpacked()
    assert len(table) == 3
    assert table.pictures(np.array([2, 0, 1])).tolist() == [2, 0, 0]
    assert table.rows(np.array([1, 2])).tolist() == [[[3, IGNORE, IGNORE]], [[4, 5, 6]]]
    assert packed.pictures(np.array([2, 1])).tolist() == [2, 1]


def test_counted_tokens_are_those_of_the_loss() -> None:
    """The loss is divided by this number: tokens, and one end per caption; a missing caption has none."""
    table = CaptionTable([[[5, 6, 7], [8]], [[9, 0]]])
    assert count_tokens(table.rows(np.array([0, 1]))) == (3 + 1) + (1 + 1) + (2 + 1)


def test_weights_stand_beside_their_captions() -> None:
    captions = [[[1, 2], [3]], [[4, 5, 6]]]
    table = CaptionTable(captions, weights=[[0.5, 0.25], [2]])
    weights, single = table.weights(np.array([1, 0])), table.unpacked().weights(np.array([1, 2]))
    assert weights is not None
    assert single is not None
    assert weights.tolist() == [[2, 0], [0.5, 0.25]]
    assert single.tolist() == [[0.25], [2]]
    assert CaptionTable(captions).weights(np.array([1, 0])) is None

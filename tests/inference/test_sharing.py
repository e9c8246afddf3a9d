"""Failing work, shared out among threads; tests/test_faults.py covers what happens to pictures."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from captionist.inference.sharing import each_or_error, paired, share_out


@pytest.mark.parametrize("threads", [1, 3])
def test_ctrl_c_stops_at_once_and_nothing_takes_the_place_of_another(threads: int) -> None:
    def work(batch: Sequence[int]) -> list[int]:
        if 4 in batch:
            raise KeyboardInterrupt
        return list(batch)

    got: list[int] = []

    def collect(results: Iterator[int]) -> None:
        got.extend(results)

    with pytest.raises(KeyboardInterrupt):
        collect(share_out(iter(range(12)), 2, threads, lambda _: work))
    assert got == [0, 1, 2, 3]
    with pytest.raises(KeyboardInterrupt):
        each_or_error(work, range(5))


def test_work_that_loses_a_picture_has_failed() -> None:
    """Otherwise its last results would go to the wrong pictures."""
    answers = each_or_error(lambda some: [one for one in some if one != 2], range(4))
    assert [answers[place] for place in (0, 1, 3)] == [0, 1, 3]
    assert isinstance(answers[2], RuntimeError)


class Picture(NamedTuple):
    name: str
    image: object


class Became(NamedTuple):
    source: object


def test_results_are_paired_by_their_source_whatever_their_order() -> None:
    """Equal pictures are not the same; the same picture asked for twice has two results."""
    pictures = [Picture("a", [1]), Picture("b", [1]), Picture("c", b"")]
    pictures.append(Picture("d", pictures[2].image))
    results = [Became(one.image) for one in (pictures[2], pictures[1], pictures[3], pictures[0])]
    assert [item.name for item, _ in paired(pictures, results)] == ["c", "b", "d", "a"]

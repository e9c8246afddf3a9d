"""What a runner may do to rows, and what becomes of them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from captionist.captioner import Captioner
from captionist.captions import CaptionResult
from captionist.collection.addresses import Address, find_addresses
from captionist.collection.blocks import Claims, Row, caption_block
from captionist.collection.captioning import caption_collection
from captionist.collection.table import Table
from captionist.errors import CollectionError
from captionist.ownfiles import TABLE_MANIFEST
from tests.collection.tables import rows

A, B, C = (Address(name, f"/{name}") for name in "abc")
SAME, OTHER = "5" * 64, "0" * 64


def result(tmp_path: Path, runner_rows: Sequence[Row], addresses: Sequence[Address]) -> dict[str, Any]:
    """The final content of the table: caption or error, by path."""

    def runner(_: Sequence[Address], __: Iterable[str]) -> Iterator[Row]:
        yield from runner_rows

    told: list[Row] = []
    with Table(str(tmp_path / "t"), {}) as table:
        caption_collection(addresses, table, runner, told.append)
    found = [(row["path"], row["caption"] or row["error"]) for row in rows(tmp_path / "t")]
    assert {(row.path, row.caption or row.error) for row in told} <= set(found)
    assert len(dict(found)) == len(found)
    return dict(found)


def test_the_same_bytes_have_the_same_answer_in_whatever_order_it_comes(tmp_path: Path) -> None:
    answered = Row("b", SAME, "A dog.", -1.0, 0.5)
    assert result(tmp_path, [Row("a", SAME), answered, Row("c", SAME)], [A, B, C]) == dict.fromkeys("abc", "A dog.")


def test_a_block_that_was_done_twice_gives_its_rows_once(tmp_path: Path) -> None:
    block = [Row("a", SAME, "A dog.", -1.0, 0.5), Row("b", OTHER, error="cut short")]
    assert result(tmp_path, block * 2, [A, B]) == {"a": "A dog.", "b": "cut short"}


def test_an_answer_that_never_comes_is_an_error_and_tried_again(tmp_path: Path) -> None:
    lost = [Row("a", SAME), Row("b", None, error="gave up")]
    assert "run again" in result(tmp_path, lost, [A, B])["a"]
    assert result(tmp_path, [Row("a", SAME, "A dog."), Row("b", SAME)], [A, B]) == dict.fromkeys("ab", "A dog.")


def test_unfinished_files_of_a_killed_run_are_cleared_away(tmp_path: Path) -> None:
    result(tmp_path, [Row("a", SAME, "A dog.")], [A])
    (tmp_path / "t" / ".unfinished-part-1.parquet").write_bytes(b"PAR1")
    result(tmp_path, [], [A])
    assert not list((tmp_path / "t").glob(".unfinished*"))


def test_a_run_that_was_killed_while_it_wrote_its_first_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / f".unfinished-{TABLE_MANIFEST}").touch()
    assert result(tmp_path, [Row("a", SAME, "A dog.")], [A]) == {"a": "A dog."}


def test_a_refused_run_leaves_what_another_is_writing(tmp_path: Path) -> None:
    """In a bucket, where no lock keeps it out."""
    table = tmp_path / "t"
    result(tmp_path, [Row("a", SAME, "A dog.")], [A])
    (table / ".unfinished-part-1.parquet").touch()
    with pytest.raises(ValueError, match="another model or other options"):
        Table(str(table), {"other": "options"})
    assert (table / ".unfinished-part-1.parquet").exists()


def test_a_claim_that_is_made_again_still_holds() -> None:
    claims = Claims([OTHER])
    for _ in range(2):
        assert claims.claim([(SAME, "a"), (SAME, "b"), (OTHER, "c")]) == [True, False, False]


def test_a_picture_is_captioned_once(model: Path, photos: Path) -> None:
    seen: list[bytes] = []

    class Counting(Captioner):
        def caption_many(self, images: Iterable[Any], *_: Any, **options: Any) -> Iterator[CaptionResult]:
            seen.extend(images)
            return super().caption_many(seen, **options)

    addresses, _ = find_addresses([str(photos)])
    block = [addresses[0], *addresses[-2:]]
    assert [row.caption is None for row in caption_block(Counting(model), block, Claims().claim)] == [
        False,
        False,
        True,
    ]
    assert seen == [Path(one.location).read_bytes() for one in block[:2]]


def test_whatever_reading_a_picture_raises_is_in_its_row(
    model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses, _ = find_addresses([str(photos)])

    def failing(address: Address, _limits: object) -> bytes:
        if address is addresses[2]:
            raise MemoryError("no room")
        return Path(address.location).read_bytes()

    monkeypatch.setattr("captionist.collection.blocks.read", failing)
    answers = caption_block(Captioner(model), addresses[:4], Claims().claim)
    assert [(row.caption is None, row.sha256 is None) for row in answers] == [(place == 2,) * 2 for place in range(4)]
    assert "MemoryError: no room" in str(answers[2].error)


def test_a_table_below_a_url_is_passed_over(photos: Path) -> None:
    (photos / "table").mkdir()
    for name in (TABLE_MANIFEST, "part-1.parquet", "deeper/part-2.parquet"):
        (photos / "table" / name).parent.mkdir(exist_ok=True)
        (photos / "table" / name).touch()
    addresses, errors = find_addresses([f"file://{photos}"])
    assert (len(addresses), errors) == (40, [])
    addresses, errors = find_addresses([f"file://{photos}/table"])
    assert (addresses, len(errors)) == ([], 1)


def test_a_name_that_is_not_utf8_is_a_line_where_pyarrow_needs_it(photos: Path) -> None:
    addresses, errors = find_addresses([f"file://{photos}/caf\udce9", str(photos / "00.png")])
    assert [one.name for one in addresses] == [str(photos / "00.png")]
    assert "not UTF-8" in errors[0][1]
    with pytest.raises(CollectionError, match="not UTF-8"):
        Table(f"{photos}/caf\udce9", {})

"""Flickr8k in its two layouts, whole and with every kind of fault."""

import random
from collections import Counter
from pathlib import Path

import pytest

from captionist.data import Corpus, open_corpus
from tests.data.files import add_pictures, problems, splits

PHANTOM = "2258277193_586949ec62.jpg.1"


def token_rows(*names: str, captions: int = 5) -> str:
    return "".join(f"{name}#{i}\tA dog number {i} runs .\n" for name in names for i in range(captions))


def names(corpus: Corpus, split: str) -> list[str]:
    return [example.id for example in corpus.split(split)]


@pytest.mark.parametrize("text_folder", [".", "Flickr8k_text"])
@pytest.mark.parametrize("picture_folder", ["Images", "Flicker8k_Dataset", "Flickr8k_Dataset"])
def test_original_layout(tmp_path: Path, text_folder: str, picture_folder: str) -> None:
    text = tmp_path / text_folder
    text.mkdir(exist_ok=True)
    add_pictures(tmp_path / picture_folder, ["b.jpg", "a.jpg", "c.jpg", "d.jpg"])
    (text / "Flickr8k.token.txt").write_text(token_rows("b.jpg", "a.jpg", "c.jpg", "d.jpg"))
    (text / "Flickr_8k.trainImages.txt").write_text("b.jpg\na.jpg\n")
    (text / "Flickr_8k.devImages.txt").write_text("c.jpg\n")
    (text / "Flickr_8k.testImages.txt").write_text("d.jpg\n")

    corpus = open_corpus(tmp_path)

    assert (corpus.format, corpus.problems) == ("flickr8k", ())
    assert (names(corpus, "train"), names(corpus, "dev"), names(corpus, "test")) == (
        ["a.jpg", "b.jpg"],
        ["c.jpg"],
        ["d.jpg"],
    )
    first = corpus.split("train")[0]
    assert first.references == tuple(f"A dog number {i} runs ." for i in range(5))
    assert first.image == tmp_path / picture_folder / "a.jpg"


def test_every_fault_of_the_original_layout_is_listed(tmp_path: Path) -> None:
    add_pictures(
        tmp_path / "Images", ["good.jpg", "nosplit.jpg", "uncaptioned.jpg", "empty.jpg", "mute.jpg", "Thumbs.db"]
    )
    (tmp_path / "Images" / "empty.jpg").write_bytes(b"")
    (tmp_path / "Flickr8k.token.txt").write_bytes(
        b"good.jpg#0\tA good dog .\n"
        b"good.jpg#1 A dog without a tab .\n"
        b"good.jpg#2\t \n"
        b"good.jpg#3\tA caf\xe9 dog .\n"
        b"\n"
        b"#4\tA dog without a name .\n"
        b"good.jpg#4\tThe caf\xc3\xa9 dog .\n"
        b"good.jpg#5\t . !\n"
        b"nosplit.jpg#0\tA cat .\n"
        b"lost.jpg#0\tA bird .\n"
        b"lost.jpg#1\tThe bird .\n"
        b"../../secret.jpg#0\tA way out .\n"
        b"empty.jpg#0\tNothing .\n" + f"{PHANTOM}#0\tA phantom .\n".encode()
    )
    (tmp_path / "Flickr_8k.trainImages.txt").write_bytes(b"good.jpg\nunknown.jpg\nmute.jpg\n\xff.jpg\nempty.jpg\n")

    corpus = open_corpus(tmp_path)

    assert problems(corpus) == {
        ("short_row", "Flickr8k.token.txt:2"),
        ("short_row", "Flickr8k.token.txt:3"),
        ("bad_encoding", "Flickr8k.token.txt:4"),
        ("short_row", "Flickr8k.token.txt:6"),
        ("short_row", "Flickr8k.token.txt:8"),
        ("bad_encoding", "Flickr_8k.trainImages.txt:4"),
        ("missing_picture", "lost.jpg"),
        ("missing_picture", "../../secret.jpg"),
        ("missing_picture", PHANTOM),
        ("empty_picture", "empty.jpg"),
        ("unknown_name", "unknown.jpg"),
        ("unknown_name", "mute.jpg"),
        ("picture_without_captions", "uncaptioned.jpg"),
    }
    lost = next(problem for problem in corpus.problems if problem.subject == "lost.jpg")
    assert lost.detail == "captions lost: 2, split: none"
    assert [(example.id, example.split, example.references) for example in corpus.examples] == [
        ("good.jpg", "train", ("A good dog .", "The café dog .")),
        ("nosplit.jpg", "none", ("A cat .",)),
    ]


def test_byte_order_mark_and_crlf_are_tolerated(tmp_path: Path) -> None:
    add_pictures(tmp_path / "Images", ["a.jpg", "b.jpg"])
    (tmp_path / "Flickr8k.token.txt").write_bytes(b"\xef\xbb\xbfa.jpg#0\tA dog .\r\nb.jpg#0\tA cat .\r\n")
    (tmp_path / "Flickr_8k.trainImages.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\nb.jpg\r\n")
    corpus = open_corpus(tmp_path)
    assert corpus.problems == ()
    assert [example.references for example in corpus.split("train")] == [("A dog .",), ("A cat .",)]


def test_kaggle_layout(tmp_path: Path) -> None:
    add_pictures(tmp_path / "Images", ["a.jpg", "b.jpg"])
    (tmp_path / "captions.txt").write_bytes(
        b"\xef\xbb\xbfimage,caption\r\n"
        b'a.jpg,"A dog , a cat ."\r\n'
        b'a.jpg,"A boy in a "" Kiss "" shirt ."\r\n'
        b"a.jpg,A copy that quotes nothing , not even commas .\r\n"
        b'b.jpg,A shirt saying " OK " .\r\n'
    )
    corpus = open_corpus(tmp_path)
    assert corpus.problems == ()
    assert [example.references for example in corpus.examples] == [
        ("A dog , a cat .", 'A boy in a " Kiss " shirt .', "A copy that quotes nothing , not even commas ."),
        ('A shirt saying " OK " .',),
    ]


def test_every_fault_of_the_kaggle_layout_is_listed(tmp_path: Path) -> None:
    add_pictures(tmp_path / "Images", ["a.jpg", "uncaptioned.jpg", "empty.jpg"])
    (tmp_path / "Images" / "empty.jpg").write_bytes(b"")
    (tmp_path / "captions.txt").write_bytes(
        b"image,caption\n"
        b"a.jpg\n"
        b"a.jpg,\n"
        b",No name .\n"
        b'a.jpg,"An unbalanced mark must not swallow what follows\n'
        b"a.jpg,A dog .\n"
        b"a.jpg,\xff\xfe\n"
        b"lost.jpg,A cat .\n"
        b"empty.jpg,A bird .\n"
    )
    corpus = open_corpus(tmp_path)
    assert problems(corpus) == {
        ("short_row", "captions.txt:2"),
        ("short_row", "captions.txt:3"),
        ("short_row", "captions.txt:4"),
        ("short_row", "captions.txt:5"),
        ("bad_encoding", "captions.txt:7"),
        ("missing_picture", "lost.jpg"),
        ("empty_picture", "empty.jpg"),
        ("picture_without_captions", "uncaptioned.jpg"),
    }
    assert [example.references for example in corpus.examples] == [("A dog .",)]


def kaggle_splits(root: Path, rows: list[str]) -> dict[str, str]:
    """Read the rows as a Kaggle corpus: each picture's split."""
    (root / "captions.txt").write_text("image,caption\n" + "".join(f"{name},A dog .\n" for name in rows))
    corpus = open_corpus(root)
    assert len({example.id for example in corpus.examples}) == len(corpus.examples)
    return splits(corpus)


def test_kaggle_split_of_a_picture_depends_on_its_name_alone(tmp_path: Path) -> None:
    everyone = [f"{number}_{number * 7919:x}.jpg" for number in range(400)]
    add_pictures(tmp_path / "Images", everyone)
    rows = [name for name in everyone for _ in range(5)]
    whole = kaggle_splits(tmp_path, rows)
    assert set(whole) == set(everyone)

    generator = random.Random(0)
    for _ in range(20):
        part = generator.sample(rows, generator.randint(1, len(rows)))  # other pictures, rows and order
        assert kaggle_splits(tmp_path, part).items() <= whole.items()

    shares = {split: count / len(whole) for split, count in Counter(whole.values()).items()}
    assert shares == pytest.approx({"train": 0.8, "dev": 0.1, "test": 0.1}, abs=0.05)


def test_the_hash_split_stays_what_it_was(tmp_path: Path) -> None:
    """Scores of a model trained on an earlier version would leak if a picture moved."""
    pinned = {
        "1000268201_693b08cb0e.jpg": "dev",
        "1001773457_577c3a7d70.jpg": "train",
        "1015584366_dfcec3c85a.jpg": "test",
    }
    add_pictures(tmp_path / "Images", pinned)
    assert kaggle_splits(tmp_path, list(pinned)) == pinned


def test_split_files_beside_the_kaggle_file_count(tmp_path: Path) -> None:
    add_pictures(tmp_path / "Images", ["a.jpg", "b.jpg"])
    (tmp_path / "captions.txt").write_text("image,caption\na.jpg,A dog .\nb.jpg,A cat .\n")
    (tmp_path / "Flickr_8k.testImages.txt").write_text("a.jpg\n")
    corpus = open_corpus(tmp_path)
    assert splits(corpus) == {"a.jpg": "test", "b.jpg": "none"}
    assert corpus.split_origin == "the corpus's split files"


def test_the_original_without_split_files_is_split_by_picture(tmp_path: Path) -> None:
    everyone = [f"{number}.jpg" for number in range(50)]
    add_pictures(tmp_path / "Images", everyone)
    (tmp_path / "Flickr8k.token.txt").write_text(token_rows(*everyone))
    original = splits(open_corpus(tmp_path))
    (tmp_path / "Flickr8k.token.txt").unlink()
    assert original == kaggle_splits(tmp_path, everyone)


def test_a_link_that_goes_round_is_one_missing_picture(tmp_path: Path) -> None:
    add_pictures(tmp_path / "Images", ["good.jpg"])
    (tmp_path / "Images" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "Flickr8k.token.txt").write_text(token_rows("good.jpg", "loop.jpg"))
    assert problems(open_corpus(tmp_path)) == {("missing_picture", "loop.jpg")}

"""Shards, whole and with every kind of fault; nothing of them is unpacked."""

import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from captionist.data import Corpus, open_corpus, open_with
from captionist.errors import DataError, ImageError
from captionist.images import ImageLimits, decode
from tests.data.files import problems, splits
from tests.data.tars import DOG, PALACE, RIVER, write_tar

PHOTOS = ("photo.v2.jpg", "photo.v3.jpg", "photo.v5.png", "photo.v5.txt")
LONG = "f" * 120 + "/" + "x" * 80  # does not fit a plain header


def bytes_read() -> int:
    """What this process has read so far."""
    found = re.search(r"rchar: (\d+)", Path("/proc/self/io").read_text())
    assert found
    return int(found[1])


def captions(corpus: Corpus) -> dict[str, tuple[str, ...]]:
    return {example.id: example.references for example in corpus.examples}


def detail(corpus: Corpus, subject: str) -> str:
    (found,) = (problem.detail for problem in corpus.problems if problem.subject == subject)
    return found


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_pictures_are_read_from_within_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: int) -> None:
    monkeypatch.setattr(tarfile.TarFile, "format", format)
    write_tar(
        tmp_path / "train-000000.tar",
        ("./1.jpg", DOG),
        ("./1.txt", "A dog runs.\nA dog on grass.\n"),
        (f"{LONG}.caption", "A palace."),
        ("1.cls", "7"),
        (f"{LONG}.JPG", PALACE),
    )
    write_tar(
        tmp_path / "val-000000.tar",
        ("1.json", '{"caption": "A river.", "url": null}'),
        ("1.txt", ""),
        ("1.jpeg", RIVER),
        ("2.jpg", DOG),
        ("2.json", '["A dog.", "A dog runs."]'),
    )
    corpus = open_corpus(tmp_path)
    assert (corpus.format, corpus.problems) == ("webdataset", ())
    assert captions(corpus) == {
        "train-000000.tar/1.jpg": ("A dog runs.", "A dog on grass."),
        f"train-000000.tar/{LONG}.JPG": ("A palace.",),
        "val-000000.tar/1.jpeg": ("A river.",),
        "val-000000.tar/2.jpg": ("A dog.", "A dog runs."),
    }
    assert [example.split for example in corpus.examples] == ["train", "train", "dev", "dev"]
    assert [e.image.read_bytes() for e in corpus.examples] == [DOG, PALACE, RIVER, DOG]
    assert (decode(corpus.examples[0].image) == decode(DOG)).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train-000000.tar", "val-000000.tar"]


@pytest.mark.parametrize(
    ("label", "split"),
    [
        ("train/0.tar", "train"),
        ("validation/0.tar", "dev"),
        ("coco-val-0003.tar", "dev"),
        ("Train2017_00.tar", "train"),
        ("test/train-0.tar", "test"),
        ("more-0.tar", "none"),
    ],
)
def test_a_shard_s_path_has_its_split(tmp_path: Path, label: str, split: str) -> None:
    write_tar(tmp_path / "dev-0.tar", ("1.jpg", RIVER), ("1.txt", "A river."))
    write_tar(tmp_path / label, ("1.jpg", DOG), ("1.txt", "A dog."))
    assert splits(open_corpus(tmp_path)) == {"dev-0.tar/1.jpg": "dev", f"{label}/1.jpg": split}


def test_without_names_a_key_decides_whatever_its_shard(tmp_path: Path) -> None:
    samples = [(f"{key}{suffix}", content) for key in range(40) for suffix, content in ((".jpg", DOG), (".txt", "A"))]
    write_tar(tmp_path / "one" / "00000.tar", *samples)
    write_tar(tmp_path / "two" / "00000.tar", *samples[:30])
    write_tar(tmp_path / "two" / "00001.tar", *samples[30:])
    one, two = (open_corpus(tmp_path / folder) for folder in ("one", "two"))
    assert {example.split for example in one.examples} == {"train", "dev", "test"}

    def by_key(corpus: Corpus) -> dict[str, str]:
        return {example.id.split("/")[1]: example.split for example in corpus.examples}

    assert by_key(one) == by_key(two)
    assert "hash of the key" in one.split_origin


def test_every_fault_is_listed(tmp_path: Path) -> None:
    """Here, names are not paths on disk, but other programs would turn some of them into such."""
    (tmp_path / "x.jpg").write_bytes(PALACE)
    shard = write_tar(
        tmp_path / "corpus" / "train-0.tar",
        ("good.jpg", DOG),
        ("good.txt", b"A dog.\nA caf\xe9.\n\n"),
        ("good.txt", "A cat."),
        ("good.jpg", RIVER),
        ("good.png", RIVER),
        ("../../x.jpg", RIVER),
        ("../../x.txt", "A way out."),
        ("/etc/y.jpg", RIVER),
        ("uncaptioned.jpg", RIVER),
        ("lost.txt", "A lost dog.\nA dog."),
        ("gone .txt", "A dog."),
        ("empty.jpg", b""),
        ("empty.txt", "Nothing."),
        ("cut.jpg", RIVER),
        ("cut.json", '{"caption": "A ri'),
        ("odd.jpg", RIVER),
        ("odd.json", b'{"caption": "A caf\xe9."}'),
        ("url.jpg", RIVER),
        ("url.json", '{"url": "about:blank"}'),
        ("deep.jpg", RIVER),
        ("deep.json", "[" * 100_000),
        ("huge.jpg", RIVER),
        ("huge.txt", "A river. " * 200_000),
        ("dots.jpg", RIVER),
        ("dots.txt", "..."),
        ("photo.v2.jpg", RIVER),
        ("photo.v3.jpg", RIVER),
        ("photo.v4.txt", "A river."),
        ("photo.v5.jpg", RIVER),
        ("photo.v5.png", RIVER),
        ("photo.v5.txt", "Two rivers."),
        ("photo.v5.txt", "Three rivers."),
        (".DS_Store", "x"),
        ("README", "x"),
    )
    with tarfile.open(shard, "a") as archive:
        for kind, name in ((tarfile.SYMTYPE, "soft.jpg"), (tarfile.LNKTYPE, "hard.jpg"), (tarfile.DIRTYPE, "folder")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "../../x.jpg"
            archive.addfile(info)
    corpus = open_corpus(tmp_path / "corpus")
    listed = {(kind, subject.removeprefix("train-0.tar/")) for kind, subject in problems(corpus)}
    bad = ("../../x.jpg", "../../x.txt", "/etc/y.jpg", "soft.jpg", "hard.jpg")
    lost = ("uncaptioned.jpg", "cut.jpg", "odd.jpg", "url.jpg", "deep.jpg", "huge.jpg", "dots.jpg")
    assert listed == {
        *(("bad_encoding", name) for name in ("good.txt:2", "odd.json")),
        *(("short_row", name) for name in ("cut.json", "url.json", "deep.json", "huge.txt", "dots.txt:1")),
        *(("picture_without_captions", name) for name in lost),
        *(("bad_member", name) for name in (*bad, "good.txt", "good.jpg", "good.png", *PHOTOS)),
        *(("missing_picture", name) for name in ("lost", "gone", "photo.v4")),
        ("empty_picture", "empty.jpg"),
    }
    assert detail(corpus, "train-0.tar/hard.jpg").startswith("not a file: pack what it points to")
    assert captions(corpus) == {"train-0.tar/good.jpg": ("A dog.",), "train-0.tar/photo.v5.jpg": ("Two rivers.",)}
    assert corpus.examples[0].image.read_bytes() == DOG


def test_names_that_share_a_dotted_stem_are_samples_of_their_own(tmp_path: Path) -> None:
    """But what belongs to a picture named after the stem alone, such as a mask, is no sample."""
    members = [(f"img.{n:04}.{end}", DOG if end == "jpg" else f"Dog {n}.") for n in range(50) for end in ("jpg", "txt")]
    beside = (("1.jpg", RIVER), ("1.txt", "A river."), ("1.mask.png", PALACE), ("1.mask.txt", "A mask."))
    write_tar(tmp_path / "train-0.tar", *members, ("2024.05.01/3.7.JPEG", PALACE), ("2024.05.01/3.7.json", '["Old."]'))
    write_tar(tmp_path / "train-1.tar", *beside)
    corpus = open_corpus(tmp_path)
    assert corpus.problems == ()
    assert captions(corpus) == {
        **{f"train-0.tar/img.{n:04}.jpg": (f"Dog {n}.",) for n in range(50)},
        "train-0.tar/2024.05.01/3.7.JPEG": ("Old.",),
        "train-1.tar/1.jpg": ("A river.",),
    }


def test_a_name_that_is_not_utf_8_is_as_good_as_another(tmp_path: Path) -> None:
    """In whatever order: the two of them are two names."""
    members = (
        ("caf\xe8.jpg", PALACE),
        ("caf\xe9.jpg", DOG),
        ("caf\xe9.txt", "A dog."),
        ("caf\xe8.txt", "A palace."),
    )
    write_tar(tmp_path / "train-0.tar", *members, format=tarfile.USTAR_FORMAT, encoding="latin-1")
    corpus = open_corpus(tmp_path)
    assert captions(corpus) == {
        r"train-0.tar/caf\xe8.jpg": ("A palace.",),
        r"train-0.tar/caf\xe9.jpg": ("A dog.",),
    }
    assert [example.image.read_bytes() for example in corpus.examples] == [PALACE, DOG]


def cut(size: int) -> Callable[[Path], None]:
    return lambda shard: os.truncate(shard, size)


def overwrite(offset: int) -> Callable[[Path], None]:
    def damage(shard: Path) -> None:
        with shard.open("r+b") as file:
            file.seek(offset)
            file.write(b"damaged " * 64)

    return damage


def go_back(shard: Path) -> None:
    """The second picture has a negative length, which leads back to the first one."""
    header = tarfile.TarInfo("2.jpg")
    header.size = -SECOND - 512
    with shard.open("r+b") as file:
        file.seek(SECOND)
        file.write(header.tobuf(tarfile.GNU_FORMAT))


SIZES = [-(-len(content) // 512) * 512 for content in (DOG, PALACE)]
SECOND = 512 + SIZES[0] + 1024  # where the header of 2.jpg begins


@pytest.mark.parametrize(
    ("damage", "said", "left"),
    [
        (cut(SECOND + 512 + 30_000), "cut short inside 2.jpg", 1),
        (cut(SECOND + 512), "cut short inside 2.jpg", 1),
        (cut(SECOND + 100), "cut short after 1.txt", 1),
        (cut(SECOND), "cut short after 1.txt", 1),
        (cut(SECOND + 512 + SIZES[1] + 1024), "cut short after 2.txt", 2),
        (overwrite(SECOND), "damaged after 1.txt", 1),
        (go_back, "damaged after 1.txt", 1),
        (overwrite(0), "cannot be read as a tar archive", 0),
        (cut(100), "cannot be read as a tar archive", 0),
        (cut(0), "cannot be read as a tar archive (empty file)", 0),
    ],
)
def test_a_damaged_shard_is_used_up_to_there(
    tmp_path: Path, damage: Callable[[Path], None], said: str, left: int
) -> None:
    write_tar(tmp_path / "train-1.tar", ("9.jpg", RIVER), ("9.txt", "A river."))
    members = (("1.jpg", DOG), ("1.txt", "A dog."), ("2.jpg", PALACE), ("2.txt", "A palace."))
    damage(write_tar(tmp_path / "train-0.tar", *members))
    corpus = open_corpus(tmp_path)
    names = ["train-0.tar/1.jpg", "train-0.tar/2.jpg"][:left]
    assert list(splits(corpus)) == [*names, "train-1.tar/9.jpg"]
    assert detail(corpus, "train-0.tar").startswith(said)
    assert "fetch or pack it again" in detail(corpus, "train-0.tar")


@pytest.mark.parametrize(
    ("name", "mode", "kind"), [("0.tar.gz", "w:gz", "gzip"), ("0.tar", "w:gz", "gzip"), ("0.tar.xz", "w:xz", "xz")]
)
def test_a_compressed_shard_is_refused_by_name(tmp_path: Path, name: str, mode: str, kind: str) -> None:
    write_tar(tmp_path / name, ("1.jpg", DOG), ("1.txt", "A dog."), mode=mode)
    with pytest.raises(DataError, match=rf"1 damaged_shard; the first: {name} \(compressed with {kind}.*decompress it"):
        open_corpus(tmp_path)
    write_tar(tmp_path / "1.tar", ("1.jpg", DOG), ("1.txt", "A dog."))
    assert problems(open_corpus(tmp_path)) == {("damaged_shard", name)}


def test_opening_reads_no_picture(tmp_path: Path) -> None:
    """Thirty megabytes of them."""
    for shard in range(4):
        samples = ((f"{key:04d}", picture) for key in range(50) for picture in (DOG, RIVER))
        members = (
            member
            for number, (key, picture) in enumerate(samples)
            for member in ((f"{key}-{number}.jpg", picture), (f"{key}-{number}.txt", "A picture."))
        )
        write_tar(tmp_path / f"{shard:06d}.tar", *members)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    before = bytes_read()
    corpus = open_corpus(tmp_path)
    assert bytes_read() - before < 0.05 * size
    assert len(corpus.examples) == 400
    before = bytes_read()
    decode(corpus.examples[250].image)
    assert bytes_read() - before < 2 * len(RIVER)


def test_a_picture_that_is_gone_or_too_large_is_named(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "0.tar", ("1.jpg", DOG), ("1.txt", "A dog."))
    (example,) = open_corpus(tmp_path).examples
    with pytest.raises(ImageError, match=r"0\.tar/1\.jpg: .* more than the limit of 9"):
        decode(example.image, limits=ImageLimits(max_bytes=9))
    os.truncate(shard, 20_000)
    with pytest.raises(ImageError, match=r"0\.tar/1\.jpg: "):
        decode(example.image)
    shard.unlink()
    with pytest.raises(ImageError, match=r"0\.tar/1\.jpg: cannot be read"):
        decode(example.image)


def test_a_picture_in_two_corpora_is_found_in_shards_too(tmp_path: Path) -> None:
    write_tar(tmp_path / "a" / "train-0.tar", ("1.jpg", DOG), ("1.txt", "A dog."))
    write_tar(tmp_path / "b" / "train-0.tar", ("2.jpg", DOG), ("2.txt", "A dog."))
    with pytest.raises(DataError, match=r"b/train-0\.tar/2\.jpg, which is .*a/train-0\.tar/1\.jpg"):
        open_with(tmp_path / "a", [tmp_path / "b"])

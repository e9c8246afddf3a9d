"""Opens a corpus whatever its format. A new format is one line in READERS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from captionist import paths
from captionist.data import coco, flickr8k, flickr30k, imagefolder, webdataset
from captionist.data.records import Corpus
from captionist.errors import DataError


@dataclass(frozen=True, slots=True)
class Reader:
    """How one format is recognised and read."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path], Corpus]
    looks_for: str


READERS: dict[str, Reader] = {
    "flickr8k": Reader(flickr8k.recognises, flickr8k.read, flickr8k.LOOKS_FOR),
    "flickr30k": Reader(flickr30k.recognises, flickr30k.read, flickr30k.LOOKS_FOR),
    "coco": Reader(coco.recognises, coco.read, coco.LOOKS_FOR),
    "imagefolder": Reader(imagefolder.recognises, imagefolder.read, imagefolder.LOOKS_FOR),
    "webdataset": Reader(webdataset.recognises, webdataset.read, webdataset.LOOKS_FOR),
}


def open_corpus(root: Path, format: str = "auto") -> Corpus:
    """Read the corpus in the directory `root`.

    Args:
        root: the directory that holds captions and pictures, by one of the layouts in docs/corpora.md.
        format: a key of READERS, or "auto" to recognise it by the files in `root`.

    Raises:
        DataError: `root` is not a directory, its layout is none that is read, the format is unknown, or nothing
            usable is in it.
    """
    if reason := paths.obstacle(root / "."):  # the dot: to be entered, and not only seen
        raise DataError(f"{root}: cannot be entered ({reason}); check the path and its permissions.")
    if not paths.isdir(root):
        raise DataError(f"{root}: no such directory; give the one that holds the captions and the picture folder.")
    if format == "auto":
        reader = next((reader for reader in READERS.values() if reader.recognises(root)), None)
        if reader is None:
            looked_for = "; ".join(f"for {name}: {reader.looks_for}" for name, reader in READERS.items())
            raise DataError(f"{root}: not a corpus of a known layout. Looked for these files, {looked_for}.")
    elif format in READERS:
        reader = READERS[format]
    else:
        raise DataError(f"corpora in the format {format!r} are not read; choose from auto, {', '.join(READERS)}.")
    return reader.read(root)

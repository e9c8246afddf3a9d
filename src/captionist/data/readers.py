"""Opens a corpus whatever its format. A new format is one line in READERS."""

from pathlib import Path
from typing import Protocol

from captionist import paths
from captionist.data import coco, flickr8k, flickr30k, imagefolder, webdataset
from captionist.data.records import Corpus
from captionist.errors import DataError


class Reader(Protocol):
    """A module that reads one format; LOOKS_FOR tells people which files it is recognised by."""

    LOOKS_FOR: str

    def recognises(self, root: Path) -> bool: ...
    def read(self, root: Path) -> Corpus: ...


READERS: dict[str, Reader] = {
    "flickr8k": flickr8k,
    "flickr30k": flickr30k,
    "coco": coco,
    "imagefolder": imagefolder,
    "webdataset": webdataset,
}


def open_corpus(root: Path, format: str = "auto") -> Corpus:
    """Read the corpus in the directory `root`.

    Args:
        root: the directory that holds captions and pictures, in one of the layouts in docs/corpora.md.
        format: a key of READERS, or "auto" to recognise it by the files in `root`.

    Raises:
        DataError: `root` is not a directory, its layout or the format is unknown, or it holds nothing usable.
    """
    if reason := paths.obstacle(root / "."):  # the dot: it must be possible to enter it, not only to see it
        raise DataError(f"{root}: cannot be entered ({reason}); check the path and its permissions.")
    if not paths.isdir(root):
        raise DataError(f"{root}: no such directory; give the one that holds the captions and the picture folder.")
    if format == "auto":
        reader = next((reader for reader in READERS.values() if reader.recognises(root)), None)
        if reader is None:
            looked_for = "; ".join(f"for {name}: {reader.LOOKS_FOR}" for name, reader in READERS.items())
            raise DataError(f"{root}: not a corpus of a known layout. Looked for these files, {looked_for}.")
    elif format in READERS:
        reader = READERS[format]
    else:
        raise DataError(f"corpora in the format {format!r} are not read; choose from auto, {', '.join(READERS)}.")
    return reader.read(root)

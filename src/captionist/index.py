"""Pictures' embeddings in one file, and exact search among them. It knows no model: vectors come from a `Captioner`."""

import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captionist.errors import ImageIndexError
from captionist.files import replacing
from captionist.ownfiles import INDEX_FORMAT

# Rows that are float32 at a time: 4 MB at a width of 256, which fit in the processor's cache.
_BLOCK = 4096
_NO_STAMP = (-1, -1)
_UNIT = 0.01  # how far from 1 the length of a unit vector may be after rounding to float16


class Stamp(NamedTuple):
    """What shows whether a file has changed: its size in bytes, and when it was last written, in nanoseconds."""

    size: int
    modified: int

    @classmethod
    def of(cls, path: str | Path) -> "Stamp | None":
        """None if no such file is found."""
        try:
            status = Path(path).stat()
        except (OSError, ValueError):
            return None
        return cls(status.st_size, status.st_mtime_ns)


class IndexedPicture(NamedTuple):
    """A path as it was given, the picture as a unit vector [E], and the stamp of the file that was read."""

    path: str
    embedding: NDArray[np.floating]
    stamp: Stamp | None = None


class Match(NamedTuple):
    """A picture that was found, and its cosine to the query, -1 to 1."""

    path: str
    cosine: float


@dataclass(frozen=True, eq=False)
class ImageIndex:
    """N pictures that one model has embedded.

    model: the model's fingerprint (see `Bundle.fingerprint`). paths: as they were given. embeddings: unit vectors,
    float16 [N, E]. stamps: int64 [N, 2]; -1 if there is none.
    """

    model: str
    paths: tuple[str, ...]
    embeddings: NDArray[np.float16]
    stamps: NDArray[np.int64]

    @classmethod
    def build(cls, model: str, pictures: Iterable[IndexedPicture]) -> "ImageIndex":
        """Raises ValueError if there is no picture, a path appears twice, or an embedding is not a unit vector as wide
        as the others.
        """
        given = list(pictures)
        if not given:
            raise ValueError("an index needs at least one picture")
        if any("\0" in picture.path for picture in given):
            raise ValueError("a path must not hold a NUL character")
        if repeated := [path for path, times in Counter(picture.path for picture in given).items() if times > 1]:
            raise ValueError(f"{repeated[0]!r} is given twice: a path stands for one picture")
        index = cls(
            model,
            tuple(picture.path for picture in given),
            np.stack([picture.embedding for picture in given]).astype(np.float16),
            np.array([picture.stamp or _NO_STAMP for picture in given], np.int64),
        )
        index._check()
        return index

    def save(self, path: str | Path) -> None:
        """Write the file as a whole, or not at all. Raises ImageIndexError."""
        names = "".join(f"{name}\0" for name in self.paths).encode("utf-8", "surrogateescape")
        with replacing(Path(path), ImageIndexError) as file:
            np.savez(
                file,
                about=np.array([INDEX_FORMAT, self.model]),
                paths=np.frombuffer(names, np.uint8),
                embeddings=self.embeddings,
                stamps=self.stamps,
            )

    @classmethod
    def load(cls, path: str | Path) -> "ImageIndex":
        """Read a file that `save` wrote. Raises ImageIndexError, also if it is damaged or something else."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                index = cls._read(file)
            index._check()
        except FileNotFoundError as error:
            raise ImageIndexError(f"there is no index {path}: make one with `captionist index PATH...`") from error
        except OSError as error:
            raise ImageIndexError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
        except Exception as error:  # for damaged bytes, zipfile and numpy raise all kinds of errors
            raise ImageIndexError(
                f"{path} is damaged, or not an index that this captionist can read ({error}): name another file, or "
                "delete it and build it again if it was an index"
            ) from error
        return index

    @classmethod
    def _read(cls, file: BinaryIO) -> "ImageIndex":
        with zipfile.ZipFile(file) as members:
            # `save` does not compress, and compressed data could grow beyond all memory.
            if any(member.compress_type for member in members.infolist()):
                raise ValueError("it is compressed")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            about = archive["about"]
            if about.shape != (2,) or about[0] != INDEX_FORMAT:
                raise ValueError(f"it does not begin with {INDEX_FORMAT!r}")
            names = archive["paths"].tobytes().decode("utf-8", "surrogateescape")
            return cls(str(about[1]), tuple(names.split("\0")[:-1]), archive["embeddings"], archive["stamps"])

    def _check(self) -> None:
        shape = self.embeddings.shape
        if self.embeddings.dtype != np.float16 or len(shape) != 2 or not 0 < shape[0] == len(self.paths):
            raise ValueError(f"{len(self.paths)} paths do not fit embeddings {self.embeddings.dtype} {list(shape)}")
        if self.stamps.dtype != np.int64 or self.stamps.shape != (len(self.paths), 2):
            raise ValueError(f"{len(self.paths)} paths do not fit stamps {self.stamps.dtype} {list(self.stamps.shape)}")
        for _, block in self._blocks():
            if not (np.abs(np.linalg.norm(block, axis=1) - 1) < _UNIT).all():  # false for NaN, too
                raise ValueError("not all embeddings are unit vectors")

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[IndexedPicture]:
        for path, embedding, (size, modified) in zip(self.paths, self.embeddings, self.stamps.tolist(), strict=True):
            yield IndexedPicture(path, embedding, Stamp(size, modified) if size >= 0 else None)

    def search(self, query: NDArray[np.float32], top: int = 10) -> list[Match]:
        """The `top` pictures nearest to a unit vector, float32 [E], best first; all of them are looked at.

        Raises ValueError for a vector of another width, or top below 1.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, but it is {top}")
        if query.shape != self.embeddings.shape[1:]:
            raise ValueError(f"the query must be [{self.embeddings.shape[1]}], but it is {list(query.shape)}")
        cosines = np.empty(len(self), np.float32)
        for start, block in self._blocks():
            np.matmul(block, query, out=cosines[start : start + len(block)])
        rest = max(0, len(self) - top)
        best = np.argpartition(cosines, rest)[rest:]
        best = best[np.lexsort((best, -cosines[best]))]  # equal ones in the order of the index
        return [Match(self.paths[row], float(cosines[row])) for row in best]

    def _blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Some rows at a time in float32, with the number of the first; a million at once would take gigabytes."""
        for start in range(0, len(self), _BLOCK):
            yield start, self.embeddings[start : start + _BLOCK].astype(np.float32)

"""Captions in the XMP sidecars of a photo library."""

from collections import Counter
from contextlib import suppress
from enum import Enum
from pathlib import Path

from captionist.errors import SidecarError
from captionist.files import replacing
from captionist.paths import exists, isfile
from captionist.sources import is_companion
from captionist.xmp import EMPTY, Xmp

_MOST = 20_000_000  # bytes of a sidecar
_PACKET = b"<x:xmpmeta", b"</x:xmpmeta>"


class Outcome(Enum):
    """What happened to a sidecar."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    """It already says the same."""
    LEFT = "left"
    """We described the picture in an earlier run."""
    KEPT = "kept"
    """Somebody else described the picture."""


class Sidecars:
    """Writes captions as `dc:description` into sidecars; a picture is never touched."""

    def __init__(self, overwrite: bool = False, renew: bool = False) -> None:
        """overwrite: also replace descriptions that we did not write. renew: those that we wrote are outdated."""
        self._overwrite, self._renew = overwrite, renew
        self._stems: dict[Path, Counter[str]] = {}

    def settled(self, picture: Path) -> Outcome | None:
        """Before a picture is captioned: LEFT or KEPT if it needs no caption, else None."""
        if self._overwrite:
            return None
        try:
            _, sidecar, others = self._look(picture)
        except SidecarError:  # `write` will raise it
            return None
        if sidecar.is_ours and not self._renew:
            return Outcome.LEFT
        known = _by_others([sidecar, *others]) or _by_others(_embedded(picture, only_small=True))
        return Outcome.KEPT if known else None

    def write(self, picture: Path, caption: str) -> Outcome:
        """Write into photo.jpg.xmp if it exists, else into photo.xmp if it exists and is no other picture's, else into
        a new photo.jpg.xmp.

        A description that we did not write is kept, whether it is in the sidecar, in a photo.xmp that several pictures
        share, or in the picture's own XMP, which a sidecar would hide. Raises SidecarError; the sidecar is then
        unchanged.
        """
        path, sidecar, others = self._look(picture)
        if not self._overwrite and _by_others([sidecar, *others, *_embedded(picture)]):
            return Outcome.KEPT
        if sidecar.is_ours and sidecar.description == caption:
            return Outcome.UNCHANGED
        with replacing(path or picture.with_name(f"{picture.name}.xmp"), SidecarError) as file:
            file.write(sidecar.describe(caption))
        return Outcome.WRITTEN

    def _look(self, picture: Path) -> tuple[Path | None, Xmp, list[Xmp]]:
        """The picture's sidecar, if it has one, its content, and that of any it shares with other pictures."""
        full, short = _there(picture.name, picture), _there(picture.stem, picture)
        shared = short is not None and self._is_shared(picture)
        path = full or (None if shared else short)
        others = [_read(short)] if short and shared and not full and not self._overwrite else []
        return path, _read(path) if path else Xmp(EMPTY), others

    def _is_shared(self, picture: Path) -> bool:
        """Whether photo.xmp may belong to another picture: to photo.heic, or to one named just photo."""
        folder = picture.parent
        if folder not in self._stems:
            try:
                names = [one.name for one in folder.iterdir()]
            except OSError:  # may be entered, but not listed
                return True
            self._stems[folder] = Counter(Path(name).stem.lower() for name in names if not is_companion(name))
        return self._stems[folder][picture.stem.lower()] > 1 or (
            picture.suffix != "" and exists(picture.with_suffix(""))
        )


def _by_others(found: list[Xmp]) -> bool:
    return any(xmp.description and not xmp.is_ours for xmp in found)


def _there(name: str, picture: Path) -> Path | None:
    paths = (picture.with_name(f"{name}{suffix}") for suffix in (".xmp", ".XMP"))
    return next((path for path in paths if exists(path)), None)


def _read(path: Path) -> Xmp:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
        if len(data) > _MOST:
            raise ValueError(f"it is larger than {_MOST:,} bytes")
        return Xmp(data)
    except OSError as error:
        raise SidecarError(f"the sidecar {path} cannot be read ({error.strerror}): check its permissions") from error
    except ValueError as error:
        raise SidecarError(
            f"the sidecar {path} is left as it is, because {error}: repair it, or move it away"
        ) from error


def _embedded(picture: Path, only_small: bool = False) -> list[Xmp]:
    """The picture's own XMP, which every format stores uncompressed.

    only_small: skip pictures that may be too large to be captioned, or can be read only once.
    """
    with suppress(OSError, ValueError):
        if only_small and not (isfile(picture) and picture.stat().st_size <= _MOST):
            return []
        data = picture.read_bytes()
        start = data.find(_PACKET[0])
        end = data.find(_PACKET[1], start)
        if 0 <= start < end:
            return [Xmp(data[start : end + len(_PACKET[1])])]
    return []

"""Shards for the tests: tar archives of real pictures and captions."""

import io
import tarfile
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[2] / "examples"
DOG, PALACE, RIVER = ((EXAMPLES / f"{name}.jpg").read_bytes() for name in ("dog", "palace", "river"))


def write_tar(path: Path, *members: tuple[str, bytes | str], mode: str = "w:", **options: Any) -> Path:
    """A tar archive of these files, in their order; `mode` and the options are tarfile's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, **options) as archive:  # type: ignore[call-overload]
        for name, content in members:
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path

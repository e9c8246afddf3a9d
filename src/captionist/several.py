"""Whether bytes are more than one picture file, as `cat a.jpg b.jpg` makes them.

What cameras append to their own files does not count: other views and gain maps, listed in the first picture's index
(CIPA DC-007, "MPF"), and depth maps and videos, whose lengths are in its XMP. The ends of TIFF, HEIC, AVIF and JPEG
2000 files are not looked for.
"""

import re
from contextlib import suppress
from io import BytesIO

from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile

from captionist.decoding import check_png
from captionist.errors import ImageError, NotAnImageError, UnsupportedImageError
from captionist.formats import identify
from captionist.jpeg import read_jpeg

_APPENDED = re.compile(rb'(?:Item:Length|Item:Padding|MicroVideoOffset)="(\d{1,10})"')


def holds_several(data: bytes) -> bool:
    """Whether another picture, in a supported format or not, directly follows the first; False if the first is damaged
    or not a picture.
    """
    try:
        end = _end(data)
    except ImageError:
        return False
    try:
        identify(data[end : end + 4096])
    except UnsupportedImageError:
        return True
    except NotAnImageError:
        return False
    return True


def _end(data: bytes) -> int:
    """Where the first file ends. Raises ImageError if it is damaged or not a picture."""
    kind = identify(data)
    if kind == "JPEG":
        end = read_jpeg(data).end
        head = data[:end]
        return max(end + sum(map(int, _APPENDED.findall(head))), _last_view(head))
    if kind == "PNG":
        return check_png(data)
    if kind == "WebP":
        return 8 + int.from_bytes(data[4:8], "little")
    if kind == "BMP":
        return int.from_bytes(data[2:6], "little") or len(data)
    if kind == "GIF":
        file = BytesIO(data)
        with suppress(Exception), GifImageFile(file) as picture:
            return file.tell() if picture.n_frames else 0
    return len(data)


def _last_view(head: bytes) -> int:
    """Where the last picture listed in a JPEG's index ends; 0 if there is none."""
    with suppress(Exception):  # whatever Pillow raises for a damaged index
        picture = JpegImageFile(BytesIO(head))
        views = (picture._getmp() or {}).get(0xB002, [])
        base = picture.info["mpoffset"]
        return max((base + view["DataOffset"] + view["Size"] for view in views if view["DataOffset"]), default=0)
    return 0

"""Whether bytes are more than one picture file, as `cat a.jpg b.jpg` makes them.

What cameras append to their own files does not count: other views and gain maps, which the first picture's index (CIPA
DC-007, "MPF") lists, depth maps and videos, whose lengths stand in its XMP. Where a TIFF, HEIC, AVIF or JPEG 2000 ends
is not looked for.
"""

import re
import struct
from contextlib import suppress
from io import BytesIO

from PIL.GifImagePlugin import GifImageFile

from captionist.decoding import check_png
from captionist.errors import ImageError, NotAnImageError, UnsupportedImageError
from captionist.formats import identify
from captionist.jpeg import read_jpeg

_APPENDED = re.compile(rb'(?:Item:Length|Item:Padding|MicroVideoOffset)="(\d{1,10})"')
_MPF, _MPF_ENTRIES = b"MPF\0", 0xB002


def holds_several(data: bytes) -> bool:
    """Whether another picture, of a format that is read or not, stands right behind the first; no where the first is
    damaged or none."""
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
    """Where the first file ends. Raises ImageError where it is damaged or none."""
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
    """Where the last of the pictures ends that a JPEG's index lists behind it; 0 where there is none."""
    base, end = head.find(_MPF) + len(_MPF), 0
    if base < len(_MPF):
        return 0
    order = "<" if head[base : base + 2] == b"II" else ">"
    try:
        (directory,) = struct.unpack_from(f"{order}I", head, base + 4)
        (count,) = struct.unpack_from(f"{order}H", head, base + directory)
        for entry in range(count):
            tag, _, size, place = struct.unpack_from(f"{order}HHII", head, base + directory + 2 + 12 * entry)
            for view in range(size // 16 if tag == _MPF_ENTRIES else 0):
                _, length, offset = struct.unpack_from(f"{order}III", head, base + place + 16 * view)
                end = max(end, base + offset + length if offset else 0)  # 0: the first picture itself
    except struct.error:
        pass
    return end

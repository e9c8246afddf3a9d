"""A caption shown on its picture: one heat map for every word."""

import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from captionist.captions import Caption
from captionist.errors import CaptionistError
from captionist.files import replacing
from captionist.images import encode_jpeg
from captionist.ownfiles import SHEET_START

Pixels = NDArray[np.uint8]

_CELL = 240  # pixels: the longer side of the picture in every cell
_COLUMNS = 5
_GAP = 12
_LABEL = 26
_INK = (32, 32, 32)


def draw(rgb: Pixels, caption: Caption) -> Pixels:
    """A sheet with the caption, the picture and one heat map for every word: uint8 RGB [H, W, 3] -> uint8 RGB sheet.

    Warm colours mark where a word looked more than the words of this caption do on average (see `Caption.heat_maps`).
    """
    size = [max(1, round(side * _CELL / max(rgb.shape[:2]))) for side in rgb.shape[1::-1]]
    picture = np.asarray(Image.fromarray(rgb).resize(size))
    cells = [(picture, "")]
    for word, heat in zip(caption.word_attention, caption.heat_maps(), strict=True):
        cells.append((_overlay(picture, heat), word.word))
    height, width = picture.shape[0] + _LABEL + _GAP, _GAP + min(_COLUMNS, len(cells)) * (_CELL + _GAP)
    header = _broken(caption.text, width - 2 * _GAP)
    top = 2 * _GAP + int(ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), header, _font(22))[3])
    sheet = Image.new("RGB", (width, top + -(-len(cells) // _COLUMNS) * height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.multiline_text((_GAP, _GAP), header, _INK, _font(22))
    for place, (cell, label) in enumerate(cells):
        x, y = _GAP + place % _COLUMNS * (_CELL + _GAP), top + place // _COLUMNS * height
        sheet.paste(Image.fromarray(cell), (x + (_CELL - cell.shape[1]) // 2, y))
        points = next(points for points in range(18, 0, -1) if points == 6 or _font(points).getlength(label) <= _CELL)
        pen.text((x + _CELL / 2, y + cell.shape[0] + _LABEL / 2), label, _INK, _font(points), anchor="mm")
    return np.array(sheet)


def _overlay(picture: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """The picture, darkened and coloured by heat, float32 [rows, cols] from 0 to 1."""
    height, width = picture.shape[:2]
    smooth = cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((smooth * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = 0.25 + 0.45 * smooth[:, :, None]
    return np.asarray(picture * (1 - share) + colours * share, np.uint8)


def _broken(text: str, width: int) -> str:
    """The text in lines of at most so many pixels, broken between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _font(22).getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class SheetFolder:
    """A folder of sheets, named after their pictures; names that are taken are numbered."""

    def __init__(self, folder: Path) -> None:
        """Raises CaptionistError if the folder cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaptionistError(f"{folder} cannot be made ({error.strerror}): name another folder") from error
        self._folder = folder
        self._taken: set[str] = set()

    def save(self, stem: str, sheet: Pixels) -> Path:
        """Write a sheet as <stem>.jpg; as <stem>-2.jpg and so on if this object has already written that name, or if
        the file of that name is no sheet (it may be the picture itself). A sheet is written as a whole or not at all.

        Raises CaptionistError if it cannot be written.
        """
        name, number = stem, 1
        # On some file systems, A.jpg and a.jpg are the same file.
        while name.casefold() in self._taken or _is_foreign(self._folder / f"{name}.jpg"):
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        path = self._folder / f"{name}.jpg"
        jpeg = encode_jpeg(sheet)
        with replacing(path) as file:
            file.write(SHEET_START + jpeg[2:])
        return path


def _is_foreign(path: Path) -> bool:
    """Whether a file of this name exists that is not a sheet."""
    try:
        with path.open("rb") as file:
            return file.read(len(SHEET_START)) != SHEET_START
    except OSError:
        return os.path.lexists(path)  # a file that cannot be opened may exist; one with too long a name cannot

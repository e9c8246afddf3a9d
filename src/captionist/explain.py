"""A caption shown on its picture: one heat map for every word."""

import os
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from captionist.captions import Caption
from captionist.errors import CaptionistError
from captionist.files import replacing
from captionist.images import encode_jpeg
from captionist.ownfiles import SHEET_START

Image = NDArray[np.uint8]

_CELL = 240  # pixels: the longer side of the picture in every cell
_COLUMNS = 5
_GAP = 12
_LABEL = 26
_LINE = 30
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK, _PAPER = (32, 32, 32), 255


def draw(rgb: Image, caption: Caption) -> Image:
    """A sheet with the caption, the picture and one heat map for every word: uint8 RGB [H, W, 3] -> uint8 RGB sheet.

    Warm colours mark where a word looked more than the words of this caption do on average (see `Caption.heat_maps`).
    """
    picture = _fit(rgb)
    cells = [_labelled(picture, "")]
    if caption.word_attention:
        for word, heat in zip(caption.word_attention, caption.heat_maps(), strict=True):
            cells.append(_labelled(_overlay(picture, heat), word.word))
    columns = min(_COLUMNS, len(cells))
    height, width = cells[0].shape[:2]
    total = _GAP + columns * (width + _GAP)
    header = _header(caption.text, total)
    rows = -(-len(cells) // columns)
    sheet = np.full((header.shape[0] + rows * (height + _GAP), total, 3), _PAPER, np.uint8)
    sheet[: header.shape[0]] = header
    for place, cell in enumerate(cells):
        top = header.shape[0] + place // columns * (height + _GAP)
        left = _GAP + place % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def _fit(rgb: Image) -> Image:
    """The picture with its longer side at the size of a cell."""
    height, width = rgb.shape[:2]
    scale = _CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    return np.asarray(small, np.uint8)


def _overlay(picture: Image, heat: NDArray[np.float32]) -> Image:
    """The picture, darkened and coloured by heat, float32 [rows, cols] from 0 to 1."""
    height, width = picture.shape[:2]
    smooth = cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    colours = cv2.applyColorMap((smooth * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[:, :, ::-1]
    share = 0.25 + 0.45 * smooth[:, :, None]
    return np.asarray(picture * (1 - share) + colours * share, np.uint8)


def _labelled(picture: Image, word: str) -> Image:
    """A cell: the picture in the middle of a square's width, the word centred below it."""
    height, width = picture.shape[:2]
    cell = np.full((height + _LABEL, _CELL, 3), _PAPER, np.uint8)
    left = (_CELL - width) // 2
    cell[:height, left : left + width] = picture
    scale = 0.6
    while _text_width(word, scale) > _CELL and scale > 0.2:
        scale -= 0.05
    start = ((_CELL - _text_width(word, scale)) // 2, height + _LABEL - 8)
    cv2.putText(cell, word, start, _FONT, scale, _INK, 1, cv2.LINE_AA)
    return cell


def _header(text: str, width: int) -> Image:
    """The caption over the sheet, broken into lines between words."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _text_width(longer, 0.7) > width - 2 * _GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    header = np.full((_GAP + len(lines) * _LINE, width, 3), _PAPER, np.uint8)
    for number, line in enumerate(lines, 1):
        cv2.putText(header, line, (_GAP, number * _LINE), _FONT, 0.7, _INK, 1, cv2.LINE_AA)
    return header


def _text_width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(text, _FONT, scale, 1)[0][0])


class SheetFolder:
    """A folder of sheets, named after their pictures; names that are taken are numbered."""

    def __init__(self, folder: Path) -> None:
        """Raises CaptionistError where the folder cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CaptionistError(f"{folder} cannot be made ({error.strerror}): name another folder") from error
        self._folder = folder
        self._taken: set[str] = set()

    def save(self, stem: str, sheet: Image) -> Path:
        """Write a sheet as <stem>.jpg, or <stem>-2.jpg and so on where this folder object wrote that already, or a file
        of that name is no sheet and may be the very picture. A sheet is there as a whole or not at all.

        Raises CaptionistError where it cannot be written.
        """
        name, number = stem, 1
        # Some file systems take A.jpg and a.jpg for one.
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
    """Whether there is something under this name that is not a sheet."""
    try:
        with path.open("rb") as file:
            return file.read(len(SHEET_START)) != SHEET_START
    except OSError:
        return os.path.lexists(path)  # what cannot be opened may be there; a name too long cannot

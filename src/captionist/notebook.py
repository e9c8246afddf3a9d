"""A caption as a notebook shows it: over its picture, with a heat map for the word under the mouse."""

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from captionist.images import encode_jpeg

if TYPE_CHECKING:
    from captionist.captions import Caption

_WARM = (255, 96, 0)
# No script, since notebooks from others do not run any: a word's map lies inside its element and shows on hover.
_STYLE = (
    "<style>.captionist{position:relative;display:inline-block;margin:0}.captionist>img{display:block}"
    ".captionist span>img{position:absolute;top:0;left:0;display:none;pointer-events:none}"
    ".captionist span:hover{text-decoration:underline}.captionist span:hover>img{display:block}</style>"
)


def html(caption: "Caption") -> str:
    """A self-contained figure; without a picture, only the sentence."""
    told = f"{escape(caption.text)} <small>({caption.confidence:.0%})</small>"
    picture = caption.picture
    if picture is None:
        return f"<p>{told}</p>"
    height, width = picture.shape[:2]
    size = f'width="{width}" height="{height}"'
    words = " ".join(
        f'<span>{escape(word.word)}<img alt="" {size} src="{_overlay(heat, width, height)}"></span>'
        for word, heat in zip(caption.word_attention, caption.heat_maps(), strict=True)
    )
    shown = f'<img alt="{escape(caption.text)}" {size} src="{_data(encode_jpeg(picture), "jpeg")}">'
    told = f"{words}. <small>({caption.confidence:.0%})</small>" if words else told
    return f'{_STYLE}<figure class="captionist">{shown}<figcaption>{told}</figcaption></figure>'


def _overlay(heat: NDArray[np.float32], width: int, height: int) -> str:
    """A map, float32 [rows, cols] of 0 to 1, as a picture that is transparent where the map is 0."""
    smooth = cv2.resize(heat, (max(width // 4, 1), max(height // 4, 1)), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    bgra = np.empty((*smooth.shape, 4), np.uint8)
    bgra[..., :3], bgra[..., 3] = _WARM[::-1], smooth * 180
    return _data(cv2.imencode(".png", bgra)[1].tobytes(), "png")


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{b64encode(content).decode()}"

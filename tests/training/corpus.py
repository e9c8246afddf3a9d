"""Sixteen drawn pictures with true captions, in Flickr8k's original layout."""

from itertools import product
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 40
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230), "yellow": (230, 220, 40)}
SHAPES = ("circle", "square", "triangle", "bar")
NAMES = tuple(product(COLOURS, SHAPES))


def draw(colour: str, shape: str) -> NDArray[np.uint8]:
    """uint8 RGB [SIDE, SIDE, 3]: one shape on a dark field."""
    picture = np.full((SIDE, SIDE, 3), 25, np.uint8)
    ink = COLOURS[colour]
    if shape == "circle":
        cv2.circle(picture, (20, 20), 13, ink, -1)
    elif shape == "square":
        cv2.rectangle(picture, (9, 9), (31, 31), ink, -1)
    elif shape == "triangle":
        cv2.fillPoly(picture, [np.array([(20, 5), (36, 35), (4, 35)])], ink)
    else:
        cv2.rectangle(picture, (2, 16), (38, 22), ink, -1)
    return picture


def caption(colour: str, shape: str) -> str:
    """How the corpus has it: as people type, not yet cleaned."""
    return f"A {colour} {shape} ."


def write_corpus(root: Path, train: int = 16, dev: int = 16, second_captions: bool = False) -> Path:
    """The same pictures are in both splits, under two names: so a dev score shows what was memorised."""
    (root / "Images").mkdir(parents=True)
    rows = []
    for split, count in (("train", train), ("dev", dev)):
        for colour, shape in NAMES[:count]:
            name = f"{split}_{colour}_{shape}.png"
            (root / "Images" / name).write_bytes(cv2.imencode(".png", draw(colour, shape)[:, :, ::-1])[1].tobytes())
            rows.append(f"{name}#0\t{caption(colour, shape)}\n")
            if second_captions:
                rows.append(f"{name}#1\tThere is a {shape} , and it is {colour} .\n")
        names = "".join(f"{split}_{colour}_{shape}.png\n" for colour, shape in NAMES[:count])
        (root / f"Flickr_8k.{split}Images.txt").write_text(names, encoding="utf-8")
    (root / "Flickr8k.token.txt").write_text("".join(rows), encoding="utf-8")
    return root

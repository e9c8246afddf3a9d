"""What is in a picture, and where: a detector's graph, and what is made of all that it gives.

detector.onnx: scene uint8 [1, h, w, 3], RGB -> scores [1, cells, K], probabilities,
    boxes [1, cells, 4], left, top, right and bottom as shares of the picture; float32 both
"""

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from captionist.bundle import DETECTOR
from captionist.inference.sessions import run

Floats = NDArray[np.float32]

INPUTS, OUTPUTS = ["scene"], ["scores", "boxes"]
OBJECT_WIDTH = 6
"""The numbers for each class: its best score, the count of its objects, and the box of the surest one."""
_SEEN = 0.25  # an object with a higher score is counted
_SAME = 0.5  # intersection over union; boxes with more are of the same object
_MOST = 60  # boxes per class that are looked at


class Detector:
    """The detector of a bundle. Safe to call from several threads."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session

    def __call__(self, scene: NDArray[np.uint8]) -> Floats:
        """A picture, uint8 [h, w, 3] RGB in one of `images.scene_shape`'s sizes -> objects, float32 [K, 6].

        For each class its best score, how many objects of it there are (distinct ones, of a score above 0.25), and
        left, top, right and bottom of the surest one's box, as shares of the picture. Raises BundleError if it
        fails.
        """
        scores, boxes = (part[0] for part in run(self._session, DETECTOR, {"scene": scene[None]}))
        best = scores.argmax(0)
        objects = np.zeros((scores.shape[1], OBJECT_WIDTH), np.float32)
        objects[:, 0] = scores[best, np.arange(len(best))]
        objects[:, 2:] = boxes[best]
        for kind in np.flatnonzero(objects[:, 0] > _SEEN):
            found = np.flatnonzero(scores[:, kind] > _SEEN)
            surest = found[np.argsort(-scores[found, kind], kind="stable")][:_MOST]
            objects[kind, 1] = _count(boxes[surest])
        return objects


def _count(boxes: Floats) -> int:
    """How many of a class's boxes, float32 [N, 4], surest first, remain when each strikes out those that overlap it."""
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    width = np.minimum(right[:, None], right) - np.maximum(left[:, None], left)
    height = np.minimum(bottom[:, None], bottom) - np.maximum(top[:, None], top)
    shared = width.clip(0) * height.clip(0)
    same = shared > _SAME * np.maximum(areas[:, None] + areas - shared, 1e-9)
    count, standing = 0, np.ones(len(boxes), bool)
    for place in range(len(boxes)):
        if standing[place]:
            count += 1
            standing &= ~same[place]
    return count


def box_shares(objects: Floats, words: int, nouns: int, grid: tuple[int, int]) -> Floats:
    """Where in the picture the tokens after the grid's are: float32 [words + nouns, rows * columns], in shares.

    A word, one of the surest classes of `objects`, float32 [K, 6], is where its box is. A noun comes from the whole
    picture, and is equally everywhere.
    """
    rows, columns = grid
    surest = np.argsort(-objects[:, 0], kind="stable")[:words]
    left, top, right, bottom = objects[surest, 2:].T
    placed = _overlap(top, bottom, rows)[:, :, None] * _overlap(left, right, columns)[:, None]
    everywhere = np.full((nouns, rows * columns), 1 / (rows * columns), np.float32)
    return np.concatenate((placed.reshape(len(surest), -1), everywhere))


def _overlap(start: Floats, end: Floats, cells: int) -> Floats:
    """What share of each of N intervals within 0..1 lies in each cell: float32 [N, cells]. A point lies in one."""
    edges = np.linspace(0, 1, cells + 1, dtype=np.float32)
    length = (np.minimum(end[:, None], edges[1:]) - np.maximum(start[:, None], edges[:-1])).clip(0)
    middle = np.minimum((start + end) / 2 * cells, cells - 1).astype(np.int64)
    point = np.eye(cells, dtype=np.float32)[middle]
    total = length.sum(1, keepdims=True)
    shares: Floats = np.where(total > 1e-6, length / np.maximum(total, 1e-6), point)
    return shares

"""Overlap of boxes, and the suppression of those that say the same thing twice. Pure arithmetic on arrays.

Overlap is intersection over union (IoU) of boxes as areas of the plane: a box from x_min to x_max is x_max - x_min
wide, without the pixel that some old code adds. Knows no layout, no picture and no threshold of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["areas", "iou", "suppress"]

Floats = NDArray[np.float32]

_BLOCK = 64
"""Boxes that are held against each other at once: a matrix of so many a side, small enough for the nearest cache."""


def areas(boxes: Floats) -> Floats:
    """Return the area of each box, shape (boxes,); 0 for one that is turned inside out."""
    sides: Floats = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def iou(first: Floats, second: Floats) -> Floats:
    """Return the overlap of every box with every other, shape (first, second), 0 to 1.

    Args:
        first: (first, 4): x_min, y_min, x_max, y_max.
        second: (second, 4), in the same unit.
    """
    shared, union = _shared(first, areas(first), second, areas(second))
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def suppress(boxes: Floats, labels: NDArray[np.int64] | None, threshold: float, most: int) -> NDArray[np.intp]:
    """Keep the best of every group of boxes that overlap: greedy non-maximum suppression.

    From the first box to the last, each that is kept removes the later ones whose overlap with it is above the
    threshold. The outcome is exactly that of the plain loop; boxes are taken in blocks so that it is fast.

    Args:
        boxes: (boxes, 4): x_min, y_min, x_max, y_max; the best first.
        labels: (boxes,): only boxes of one label remove each other. None: all do.
        threshold: Highest overlap that two kept boxes may have; 1 removes none.
        most: Kept boxes after which to stop.

    Returns:
        Indices of the kept boxes, in order.
    """
    waiting = np.arange(len(boxes))
    if threshold >= 1:
        return waiting[:most]
    kept: list[int] = []
    sizes = areas(boxes)
    while len(waiting) and len(kept) < most:
        block, waiting = waiting[:_BLOCK], waiting[_BLOCK:]
        clash = _clashes(boxes, sizes, labels, block, block, threshold)
        found = block[_survivors(clash)][: most - len(kept)]
        kept += found.tolist()
        if len(waiting) and len(kept) < most:
            waiting = _left(boxes, sizes, labels, found, waiting, threshold)
    return np.array(kept, np.intp)


def _left(
    boxes: Floats,
    sizes: Floats,
    labels: NDArray[np.int64] | None,
    found: NDArray[np.intp],
    waiting: NDArray[np.intp],
    threshold: float,
) -> NDArray[np.intp]:
    """Return those that no found box removes, a piece at a time so that memory stays small whatever waits."""
    pieces = [waiting[at : at + 4096] for at in range(0, len(waiting), 4096)]
    return np.concatenate(
        [piece[~_clashes(boxes, sizes, labels, found, piece, threshold).any(axis=0)] for piece in pieces]
    )


def _survivors(clash: NDArray[np.bool_]) -> list[int]:
    """Go through a block from its first box: who survives removes those that it clashes with."""
    # A row of the matrix as the bits of one whole number: the loop then costs a few machine words a box.
    packed = np.packbits(clash, axis=1, bitorder="little")
    rows = [int.from_bytes(row.tobytes(), "little") for row in packed]
    removed, kept = 0, []
    for i, row in enumerate(rows):
        if not removed >> i & 1:
            kept.append(i)
            removed |= row
    return kept


def _clashes(
    boxes: Floats,
    sizes: Floats,
    labels: NDArray[np.int64] | None,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    threshold: float,
) -> NDArray[np.bool_]:
    shared, union = _shared(boxes[first], sizes[first], boxes[second], sizes[second])
    clash: NDArray[np.bool_] = shared > np.float32(threshold) * union
    if labels is not None:
        clash &= labels[first][:, None] == labels[second]
    return clash


def _shared(first: Floats, first_areas: Floats, second: Floats, second_areas: Floats) -> tuple[Floats, Floats]:
    """Return intersection and union of every pair."""
    low_x, low_y, high_x, high_y = (first[:, i, None] for i in range(4))
    width = np.minimum(high_x, second[:, 2]) - np.maximum(low_x, second[:, 0])
    height = np.minimum(high_y, second[:, 3]) - np.maximum(low_y, second[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    return shared, first_areas[:, None] + second_areas - shared

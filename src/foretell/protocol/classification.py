"""The classification extension: the best classes of a row as texts, `score:index[:label]`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.protocol.status import Refused

__all__ = ["classify"]


def classify(found: NDArray[Any], classes: int, labels: tuple[str, ...]) -> NDArray[Any]:
    """Return (rows, min(classes, width)) texts, best first; equal scores in the order of their classes.

    Args:
        found: Scores of shape (rows, width).
        classes: How many of the best to tell.
        labels: Names of the classes; told where there is one for each of the `width`.

    Raises:
        Refused: The output is not a row of numbers for each row.
    """
    if found.ndim != 2 or found.dtype.kind not in "fiu":
        raise Refused("classification: the output is not a row of scores for each row", code="bad_parameter")
    width = found.shape[1]
    best = np.argsort(-found.astype(np.float64), axis=1, kind="stable")[:, : min(classes, width)]
    names = [f":{label}" for label in labels] if len(labels) == width else [""] * width
    texts = np.empty(best.shape, object)
    for row, places in enumerate(best.tolist()):
        texts[row] = [f"{found[row, at]:f}:{at}{names[at]}" for at in places]
    return texts

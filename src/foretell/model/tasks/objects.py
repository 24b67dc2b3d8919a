"""Objects found in pictures: four arrays of fixed shape per picture, so that they batch and travel as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretell.signature import TensorSpec

__all__ = ["Objects", "object_specs"]


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of some pictures, the best first in each; what is beyond `counts` is empty."""

    boxes: NDArray[np.float32]
    """(pictures, most, 4): x_min, y_min, x_max, y_max in pixels of the original picture, inside it; 0 where empty."""
    scores: NDArray[np.float32]
    """(pictures, most), 0 to 1, falling; 0 where empty."""
    labels: NDArray[np.int64]
    """(pictures, most): index in the classes; -1 where empty."""
    counts: NDArray[np.int64]
    """(pictures,): how many objects each picture has."""

    @classmethod
    def none(cls, pictures: int, most: int) -> Objects:
        """Return arrays for so many pictures, with nothing found yet."""
        return cls(
            np.zeros((pictures, most, 4), np.float32),
            np.zeros((pictures, most), np.float32),
            np.full((pictures, most), -1, np.int64),
            np.zeros(pictures, np.int64),
        )

    def arrays(self) -> list[NDArray[np.generic]]:
        """Return the arrays in the order of `object_specs`: the outputs of a model of pictures."""
        return [self.boxes, self.scores, self.labels, self.counts]


def object_specs(most: int) -> tuple[TensorSpec, ...]:
    """Return what the arrays of `Objects` are as tensors: names, datatypes and shapes."""
    return (
        TensorSpec("boxes", "FP32", (-1, most, 4)),
        TensorSpec("scores", "FP32", (-1, most)),
        TensorSpec("labels", "INT64", (-1, most)),
        TensorSpec("counts", "INT64", (-1,)),
    )

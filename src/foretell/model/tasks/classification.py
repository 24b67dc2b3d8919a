"""Classification: a label per row, with its probability where the model gives one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.signature import Label

__all__ = ["Classification"]


@dataclass(frozen=True)
class Classification:
    """Read labels and probabilities from the outputs of a classifier."""

    classes: tuple[Label, ...]
    """Classes in the order of the columns of the probabilities. May be empty where only labels are given."""
    label_output: int | None = None
    """Index of the output with a label per row, (rows,) or (rows, 1); None: the most probable class."""
    probability_output: int | None = None
    """Index of the output with (rows, classes); (rows,) or (rows, 1) is the second of two classes."""
    label_is_index: bool = False
    """The label output holds positions in `classes`, not the labels themselves."""

    @property
    def name(self) -> str:
        """Always `classification`."""
        return "classification"

    @cached_property
    def _labels(self) -> NDArray[Any]:
        """Classes as an array that `take` can index: one dtype if they agree, objects if not."""
        kinds = {type(c) for c in self.classes}
        return np.array(self.classes, dtype=None if len(kinds) == 1 and kinds != {str} else object)

    def values(self, outputs: list[NDArray[Any]]) -> NDArray[Any]:
        """Return the label of each row, shape (rows,)."""
        if self.label_output is None:
            probabilities = self.probabilities(outputs)
            assert probabilities is not None, "a classification has labels or probabilities. This is a bug."
            return self._named(probabilities.argmax(axis=1))
        found = outputs[self.label_output].reshape(-1)
        return self._named(found) if self.label_is_index else found

    def _named(self, index: NDArray[Any]) -> NDArray[Any]:
        named: NDArray[Any] = self._labels.take(index)
        return named

    def probabilities(self, outputs: list[NDArray[Any]]) -> NDArray[Any] | None:
        """Return (rows, classes), or None where the model gives no probabilities."""
        if self.probability_output is None:
            return None
        found = outputs[self.probability_output]
        if found.ndim == 2 and found.shape[1] == len(self.classes):
            return found
        second = found.reshape(-1)
        return np.stack([1 - second, second], axis=1)

    def table(self, outputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return columns `prediction`, `probability` and `probability_<label>` for every label."""
        probabilities = self.probabilities(outputs)
        values = self.values(outputs)
        if probabilities is None:
            return {"prediction": values}
        if self.label_output is None:
            chosen = probabilities.max(axis=1)
        else:
            position = {label: i for i, label in enumerate(self.classes)}
            index = np.fromiter((position[v] for v in values.tolist()), np.intp, len(values))
            chosen = np.take_along_axis(probabilities, index[:, None], axis=1)[:, 0]
        columns = {"prediction": values, "probability": chosen}
        return columns | {f"probability_{c}": probabilities[:, i] for i, c in enumerate(self.classes)}

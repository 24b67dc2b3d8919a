"""Classification: a label per row, with its probability where the model gives one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid
from foretell.signature import Label

__all__ = ["Classification"]

_MANY_ROWS = 64
_FEW_CLASSES = 32


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
    logits: bool = False
    """The probability output holds logits: their softmax is the probabilities. Networks are often exported so."""
    top: int = 0
    """How many classes are given for each row, the most probable first; 0: all, in their own order."""

    def __post_init__(self) -> None:
        if not isinstance(self.top, int) or isinstance(self.top, bool) or self.top < 0:
            raise ArtifactInvalid(f"task: top {self.top!r}, expected a whole number, 0 for all classes")
        if type(self.logits) is not bool:
            raise ArtifactInvalid(f"task: logits {self.logits!r}, expected true or false")

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
            return self._named(_greatest(probabilities))
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
            return _softmax(found) if self.logits else found
        second = found.reshape(-1)
        if self.logits:
            second = 0.5 + 0.5 * np.tanh(0.5 * second)  # the logistic function, which no large number overflows
        return np.stack([1 - second, second], axis=1)

    def best(self, outputs: list[NDArray[Any]], count: int) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Return the most probable classes of each row as positions in `classes`, and their probabilities.

        Args:
            outputs: Of the runtime.
            count: How many; all where there are fewer.

        Returns:
            Two arrays of shape (rows, count), falling; equal ones in the order of the classes.

        Raises:
            AttributeError: The model gives labels alone.
        """
        probabilities = self.probabilities(outputs)
        if probabilities is None:
            raise AttributeError("best: this model gives labels without probabilities; use .labels")
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(probabilities, order, axis=1)

    def records(self, outputs: list[NDArray[Any]]) -> list[Any]:
        """Return for each row `{"label", "probability", "probabilities"}`, or the label alone where it is alone."""
        values: list[Any] = self.values(outputs).tolist()
        probabilities = self.probabilities(outputs)
        if not self.classes:
            return values
        if probabilities is None:
            return [{"label": label} for label in values]
        chosen = self._chosen(probabilities, lambda: values).tolist()
        if self.top:
            return self._best_records(outputs, values, chosen)
        names = [str(c) for c in self.classes]
        return [
            {"label": label, "probability": probability, "probabilities": dict(zip(names, row, strict=True))}
            for label, probability, row in zip(values, chosen, probabilities.tolist(), strict=True)
        ]

    def table(self, outputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return `prediction`, `probability` and, for every label, `probability_<label>`.

        With `top`, after the first two: `prediction_2`, `probability_2` and so on for the next most probable.
        """
        probabilities = self.probabilities(outputs)
        values = self.values(outputs)
        if probabilities is None:
            return {"prediction": values}
        columns = {"prediction": values, "probability": self._chosen(probabilities, values.tolist)}
        if self.top:
            order, best = self.best(outputs, self.top)
            for i in range(1, order.shape[1]):
                columns |= {f"prediction_{i + 1}": self._named(order[:, i]), f"probability_{i + 1}": best[:, i]}
            return columns
        return columns | {f"probability_{c}": probabilities[:, i] for i, c in enumerate(self.classes)}

    def _chosen(self, probabilities: NDArray[Any], values: Callable[[], list[Any]]) -> NDArray[Any]:
        """Return the probability of the label of each row."""
        if self.label_output is None:
            return _highest(probabilities)
        position = {label: i for i, label in enumerate(self.classes)}
        labels = values()
        index = np.fromiter((position[v] for v in labels), np.intp, len(labels))
        chosen: NDArray[Any] = np.take_along_axis(probabilities, index[:, None], axis=1)[:, 0]
        return chosen

    def _best_records(self, outputs: list[NDArray[Any]], values: list[Any], chosen: list[float]) -> list[Any]:
        order, best = self.best(outputs, self.top)
        found = []
        for label, probability, places, row in zip(values, chosen, order.tolist(), best.tolist(), strict=True):
            # Two classes of ImageNet share a name with another: the more probable one stands for both.
            named: dict[str, float] = {}
            for place, p in zip(places, row, strict=True):
                named.setdefault(str(self.classes[place]), p)
            found.append({"label": label, "probability": probability, "probabilities": named})
        return found


def _greatest(probabilities: NDArray[Any]) -> NDArray[np.intp]:
    """Return `probabilities.argmax(axis=1)`; numpy takes each row alone, which is slow for two classes."""
    rows, width = probabilities.shape
    greatest: NDArray[np.intp]
    if rows < _MANY_ROWS or width != 2:
        greatest = probabilities.argmax(axis=1)
        return greatest
    first, second = probabilities[:, 0], probabilities[:, 1]
    greatest = (~(second <= first) & (first == first)).astype(np.intp)  # the first of those that are no numbers
    return greatest


def _highest(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return `probabilities.max(axis=1)`, a class at a time where the rows are many."""
    rows, width = probabilities.shape
    if rows < _MANY_ROWS or not 2 <= width <= _FEW_CLASSES:
        highest: NDArray[Any] = probabilities.max(axis=1)
        return highest
    highest = np.maximum(probabilities[:, 0], probabilities[:, 1])
    for i in range(2, width):
        np.maximum(highest, probabilities[:, i], out=highest)
    return highest


def _softmax(logits: NDArray[Any]) -> NDArray[Any]:
    # In place after the first step: a thousand classes for each of many pictures.
    powers: NDArray[Any] = logits - logits.max(axis=1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=1, keepdims=True)
    return powers

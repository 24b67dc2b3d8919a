"""Regression and ranking: a number per row, or several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from foretell.signature import Label

__all__ = ["Regression"]


@dataclass(frozen=True, slots=True)
class Regression:
    """Read numbers from one output of shape (rows,), (rows, 1) or (rows, targets)."""

    output: int = 0
    """Index of the output that holds the numbers."""
    name: str = "regression"
    """`regression`, or `ranking` where only the order of the numbers means something."""

    @property
    def classes(self) -> tuple[Label, ...]:
        """None: a regression has no classes."""
        return ()

    def values(self, outputs: list[NDArray[Any]]) -> NDArray[Any]:
        """Return shape (rows,), or (rows, targets) for several targets."""
        found = outputs[self.output]
        return found[:, 0] if found.ndim == 2 and found.shape[1] == 1 else found

    def probabilities(self, outputs: list[NDArray[Any]]) -> None:
        """Return None: numbers have no probabilities."""
        return

    def records(self, outputs: list[NDArray[Any]]) -> list[Any]:
        """Return the numbers as plain values, one per row."""
        found: list[Any] = self.values(outputs).tolist()
        return found

    def table(self, outputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return column `prediction`, or `prediction_0`, `prediction_1` ... for several targets."""
        values = self.values(outputs)
        if values.ndim == 1:
            return {"prediction": values}
        return {f"prediction_{i}": values[:, i] for i in range(values.shape[1])}

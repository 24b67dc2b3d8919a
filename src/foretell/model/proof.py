"""Compare what two runs of a model say of the same rows. Pure: arrays in, a verdict out.

A row has *moved* when its answer differs by more than the tolerance. Rounding moves every row a little;
a row on the other side of a tree's threshold moves a lot. So a proof counts rows, and a graph that computes in
float32 may move a few of them where float64 would not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.formats.base import Answers

__all__ = ["Comparison", "Tolerance", "compare", "default_tolerance"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far two answers may be apart, and how many rows may be farther."""

    difference: float
    """Regression: of |a - b| / (|a| + spread of all a). Classification: of |p - q|, absolute."""
    moved_share: float
    """Share of the rows that may differ by more, or flip their label."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison found."""

    rows: int
    max_absolute: float
    """Largest |a - b| over values, or over probabilities."""
    max_relative: float
    """Largest |a - b| / (|a| + spread); for probabilities the same as `max_absolute`."""
    moved_rows: int
    flipped_labels: int
    first_moved: int | None
    """Index of the first row that moved or flipped."""
    tolerance: float
    allowed_rows: int
    """Rows that might have moved."""

    @property
    def holds(self) -> bool:
        """Whether no more rows moved, and no more labels flipped, than may."""
        return max(self.moved_rows, self.flipped_labels) <= self.allowed_rows

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a report."""
        return asdict(self) | {"holds": self.holds}


def default_tolerance(*, float32: bool) -> Tolerance:
    """Return the tolerance for a graph that computes in float32, or in float64.

    float32 has 24 bits: sums of many hundred terms, added in another order, agree to about 1e-5 of their size, and a
    value next to a threshold may fall on its other side. In float64 neither is an excuse.
    """
    return Tolerance(3e-5, 1e-3) if float32 else Tolerance(1e-6, 0.0)


def compare(original: Answers, converted: Answers, tolerance: Tolerance, *, labels: bool) -> Comparison:
    """Compare answers for the same rows, in the same order.

    Args:
        original: Of the original model.
        converted: Of the converted one; arrays of the same shapes.
        tolerance: How far apart they may be.
        labels: Whether `values` are labels of a classification.
    """
    rows = len(original.values)
    flipped = np.zeros(rows, bool)
    pair: tuple[NDArray[Any], NDArray[Any]] | None = (original.values, converted.values)
    if labels:
        flipped = original.values.astype(str) != converted.values.astype(str)
        pair = None
        if original.probabilities is not None and converted.probabilities is not None:
            pair = (original.probabilities, converted.probabilities)
    absolute, relative = _differences(*pair, spread=not labels) if pair else (np.zeros(rows), np.zeros(rows))
    moved = relative > tolerance.difference
    bad = np.flatnonzero(moved | flipped)
    return Comparison(
        rows=rows,
        max_absolute=float(absolute.max(initial=0)),
        max_relative=float(relative.max(initial=0)),
        moved_rows=int(moved.sum()),
        flipped_labels=int(flipped.sum()),
        first_moved=int(bad[0]) if len(bad) else None,
        tolerance=tolerance.difference,
        allowed_rows=int(tolerance.moved_share * rows),
    )


def _differences(a: NDArray[Any], b: NDArray[Any], *, spread: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the largest absolute and relative difference of each row; where both are NaN there is none."""
    if a.size == 0 or len(a) != len(b) or a.size != b.size:
        return np.full(len(a), np.inf), np.full(len(a), np.inf)
    a, b = (np.asarray(x, np.float64).reshape(len(x), -1) for x in (a, b))
    with np.errstate(invalid="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        absolute = np.where(same, 0.0, np.nan_to_num(np.abs(a - b), nan=np.inf))
        finite = a[np.isfinite(a)]
        scale = np.abs(a) + (finite.std() if finite.size else 0.0) if spread else np.ones_like(a)
        relative = np.where(same, 0.0, np.nan_to_num(absolute / scale, nan=np.inf))
    return absolute.max(axis=1, initial=0), relative.max(axis=1, initial=0)

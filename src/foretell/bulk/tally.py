"""How predictions are distributed, counted in bounded memory.

Tallies of parts add up to the tally of the whole, in any order and by any division, so that a job that was
interrupted says the same as one that was not. Numbers are counted in buckets whose width is a share of their
value; where there are too many buckets, neighbours are joined until there are not. Knows no model and no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["QUANTILES", "LabelTally", "NumberTally", "Tally"]

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

_SHIFT = 46
"""Bits of a float64 that are cut off: 64 buckets from one power of two to the next, each at most 1.6 % wide."""
_MOST_BUCKETS = 1024
_MOST_LABELS = 10_000
_TARGET = re.compile(r"prediction(_\d+)?")

Codes = NDArray[np.int64]


@dataclass
class NumberTally:
    """Counts of one column of numbers."""

    count: int = 0
    """Finite ones."""
    missing: int = 0
    infinite: int = 0
    low: float | None = None
    high: float | None = None
    total: Fraction = Fraction(0)
    """Exact for the tallies that were added; that of one part is a float64."""
    level: int = 0
    """How often neighbours were joined: a bucket is `2 ** level` of the narrowest ones."""
    codes: Codes = field(default_factory=lambda: np.zeros(0, np.int64))
    """Buckets that are not empty, rising."""
    counts: Codes = field(default_factory=lambda: np.zeros(0, np.int64))

    @classmethod
    def of(cls, values: NDArray[Any]) -> NumberTally:
        """Count numbers of shape (rows,)."""
        values = values.astype(np.float64, copy=False)
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
        if not (np.isfinite(low) and np.isfinite(high)):  # NaN survives in both
            finite = values[np.isfinite(values)]
            found, missing = cls.of(finite), int(np.isnan(values).sum())
            found.missing, found.infinite = missing, len(values) - len(finite) - missing
            return found
        found = cls(len(values))
        if len(values):
            found.low, found.high, found.total = low, high, _sum(values)
            found._count(values, low)
        return found

    def _count(self, values: NDArray[np.float64], low: float) -> None:
        # In place: a fresh array of this size costs more than what is computed in it.
        codes = np.abs(values).view(np.int64)
        codes >>= _SHIFT
        if low < 0:
            np.subtract(-1, codes, out=codes, where=values < 0)
        first = int(codes.min())
        codes -= first
        counts = np.bincount(codes)
        self.codes = np.flatnonzero(counts) + first
        self.counts = counts[self.codes - first].astype(np.int64)
        self._join()

    def add(self, other: NumberTally) -> None:
        """Add the counts of another part."""
        self.count += other.count
        self.missing += other.missing
        self.infinite += other.infinite
        self.low = min((x for x in (self.low, other.low) if x is not None), default=None)
        self.high = max((x for x in (self.high, other.high) if x is not None), default=None)
        self.total += other.total
        level = max(self.level, other.level)
        codes = np.concatenate([self.codes >> (level - self.level), other.codes >> (level - other.level)])
        self.level = level
        self._set(codes, np.concatenate([self.counts, other.counts]))
        self._join()

    def quantile(self, share: float) -> float | None:
        """Return the number below which this share lies, to half the width of its bucket; None if there is none."""
        if not self.count or self.low is None or self.high is None:
            return None
        place = int(np.searchsorted(np.cumsum(self.counts), max(1, int(np.ceil(share * self.count)))))
        return min(max(self._middle(int(self.codes[place])), self.low), self.high)

    def to_json(self) -> dict[str, Any]:
        """Return it as a journal has it."""
        return {
            "count": self.count,
            "missing": self.missing,
            "infinite": self.infinite,
            "low": self.low,
            "high": self.high,
            "total": [str(self.total.numerator), str(self.total.denominator)],
            "level": self.level,
            "codes": self.codes.tolist(),
            "counts": self.counts.tolist(),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> NumberTally:
        """Return what `to_json` made."""
        numerator, denominator = found["total"]
        plain = {key: found[key] for key in ("count", "missing", "infinite", "low", "high", "level")}
        codes, counts = (np.array(found[key], np.int64) for key in ("codes", "counts"))
        return cls(**plain, total=Fraction(int(numerator), int(denominator)), codes=codes, counts=counts)

    def summary(self) -> dict[str, Any]:
        """Return what is said of it: the mean and quantiles to six digits."""
        mean = _short(float(self.total / self.count)) if self.count else None
        quantiles = {str(share): _short(self.quantile(share)) for share in QUANTILES}
        return {
            "count": self.count,
            "missing": self.missing,
            "infinite": self.infinite,
            "min": self.low,
            "mean": mean,
            "max": self.high,
            "quantiles": quantiles,
        }

    def _join(self) -> None:
        while len(self.codes) > _MOST_BUCKETS:
            self.level += 1
            self._set(self.codes >> 1, self.counts)

    def _set(self, codes: Codes, counts: Codes) -> None:
        self.codes, at = np.unique(codes, return_inverse=True)
        self.counts = np.bincount(at, counts, len(self.codes)).astype(np.int64)

    def _middle(self, code: int) -> float:
        if code < 0:
            return -self._middle(-1 - code)
        bits = np.array([code, code + 1], np.int64) << (_SHIFT + self.level)
        low, high = (min(int(b), 0x7FEFFFFFFFFFFFFF) for b in bits)
        near, far = np.array([low, high], np.int64).view(np.float64).tolist()
        return float(near + (far - near) / 2)


@dataclass
class LabelTally:
    """Counts of one column of labels."""

    counts: dict[str, int] = field(default_factory=dict)
    overflows: bool = False
    """There are more labels than are counted; then none are."""

    @classmethod
    def of(cls, column: pa.Array) -> LabelTally:
        """Count labels."""
        found = cls()
        pairs = column.value_counts()
        for value, count in zip(pairs.field(0).to_pylist(), pairs.field(1).to_pylist(), strict=True):
            label = "" if value is None else str(value)
            found.counts[label] = found.counts.get(label, 0) + count
        found._limit()
        return found

    def add(self, other: LabelTally) -> None:
        """Add the counts of another part."""
        self.overflows = self.overflows or other.overflows
        for label, count in other.counts.items():
            self.counts[label] = self.counts.get(label, 0) + count
        self._limit()

    def summary(self) -> dict[str, Any]:
        """Return what is said of it: labels by their counts, the most frequent first."""
        order = sorted(self.counts, key=lambda label: (-self.counts[label], label))
        return {"labels": None if self.overflows else {label: self.counts[label] for label in order}}

    def _limit(self) -> None:
        self.overflows = self.overflows or len(self.counts) > _MOST_LABELS
        if self.overflows:
            self.counts = {}


@dataclass
class Tally:
    """Counts of the columns of an output that are predictions."""

    numbers: dict[str, NumberTally] = field(default_factory=dict)
    labels: dict[str, LabelTally] = field(default_factory=dict)

    def take(self, columns: Mapping[str, pa.Array]) -> None:
        """Count what a model answered.

        Args:
            columns: Of the output, without those that are kept: `prediction` or `label` are labels beside a
                `probability` or a `score`, or where they are no floats; other predictions are numbers.
        """
        import pyarrow as pa

        has_labels = "probability" in columns or "label" in columns
        for name, column in columns.items():
            if name == "label" or (name == "prediction" and (has_labels or not pa.types.is_floating(column.type))):
                self.labels.setdefault(name, LabelTally()).add(LabelTally.of(column))
            elif _TARGET.fullmatch(name) and not has_labels and pa.types.is_floating(column.type):
                values = column.to_numpy(zero_copy_only=False)
                self.numbers.setdefault(name, NumberTally()).add(NumberTally.of(values))

    def add(self, other: Tally) -> None:
        """Add the counts of another part."""
        for name, numbers in other.numbers.items():
            self.numbers.setdefault(name, NumberTally()).add(numbers)
        for name, labels in other.labels.items():
            self.labels.setdefault(name, LabelTally()).add(labels)

    def to_json(self) -> dict[str, Any]:
        """Return it as a journal has it."""
        return {
            "numbers": {name: tally.to_json() for name, tally in self.numbers.items()},
            "labels": {name: {"counts": t.counts, "overflows": t.overflows} for name, t in self.labels.items()},
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Tally:
        """Return what `to_json` made."""
        return cls(
            {name: NumberTally.from_json(tally) for name, tally in found["numbers"].items()},
            {name: LabelTally(dict(t["counts"]), t["overflows"]) for name, t in found["labels"].items()},
        )

    def summary(self) -> dict[str, Any]:
        """Return what is said of each column."""
        told = {name: tally.summary() for name, tally in self.numbers.items()}
        told |= {name: tally.summary() for name, tally in self.labels.items()}
        return dict(sorted(told.items()))


def _sum(values: NDArray[np.float64]) -> Fraction:
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(values.sum())
    if np.isfinite(total):
        return Fraction(total)
    return Fraction(float(np.ldexp(values, -64).sum())) * 2**64  # a sum may be too large where no number is


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")

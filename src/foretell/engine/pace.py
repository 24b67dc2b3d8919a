"""How long a batch takes as a function of its rows, learned while running. Pure.

seconds(rows) = fixed_s + row_s * rows, by least squares over the recent batches: each batch weighs 0.98 of the next,
and the slope is held to its last value where the recent batches were all of one length (ridge regression).
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Pace"]

_MEMORY = 0.98
_RIDGE = 0.01
_OUTLIER = 8.0
_TRUSTED_AFTER = 10
_FITTED_UNTIL = 32
_FITTED_EVERY = 8
"""Batches. One more hardly moves the line, and fitting costs as much as the rest of what is done for a quick batch."""
_QUICK_S = 0.001


class Pace:
    """The cost of one version's batches."""

    __slots__ = ("_n", "_slope", "_w", "_x", "_xx", "_xy", "_y", "fixed_s", "longest_s", "row_s")

    def __init__(self, paces: Iterable[tuple[int, float]] = ()) -> None:
        self._n = 0
        self._w = self._x = self._y = self._xx = self._xy = 0.0
        self._slope = 0.0
        self.fixed_s = 0.0
        """Seconds that any batch takes."""
        self.row_s = 0.0
        """Seconds that each row adds."""
        self.longest_s = 0.0
        """The longest batch yet, slowly forgotten."""
        for rows, seconds in paces:
            self.observe(rows, seconds)

    @property
    def is_known(self) -> bool:
        """Whether a batch was ever seen."""
        return self._n > 0

    def seconds(self, rows: int) -> float:
        """Return how long a batch of `rows` should take; 0 while nothing is known."""
        return self.fixed_s + self.row_s * rows

    def observe(self, rows: int, seconds: float) -> bool:
        """Learn that a batch of `rows` took `seconds`. False: the line is as it was; it is fitted now and then."""
        if self._n >= _TRUSTED_AFTER:
            # One pause of the machine must not double every prediction; if it is the new truth, it comes again.
            seconds = min(seconds, _OUTLIER * self.seconds(rows) + 0.001)
        self._n += 1
        self.longest_s = max(seconds, self.longest_s * 0.999)
        self._w = self._w * _MEMORY + 1.0
        self._x = self._x * _MEMORY + rows
        self._y = self._y * _MEMORY + seconds
        self._xx = self._xx * _MEMORY + rows * rows
        self._xy = self._xy * _MEMORY + rows * seconds
        if seconds < _QUICK_S and self._n > _FITTED_UNTIL and self._n % _FITTED_EVERY:
            return False
        self._fit()
        return True

    def _fit(self) -> None:
        x, y = self._x / self._w, self._y / self._w
        if self._n == 1:
            self._slope = y / x  # Nothing tells fixed from per row yet: assume the worse for long batches.
        variance, covariance = self._xx / self._w - x * x, self._xy / self._w - x * y
        hold = _RIDGE * (1.0 + x * x)
        # The line goes through the mean and neither part of the cost is negative: the slope lies in [0, y/x].
        self._slope = min(max((covariance + hold * self._slope) / (variance + hold), 0.0), y / x)
        self.row_s = self._slope
        self.fixed_s = max(0.0, y - self._slope * x)

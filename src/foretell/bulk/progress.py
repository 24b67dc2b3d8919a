"""What a person sees while a job runs: a bar on a terminal, a line now and then elsewhere, or nothing.

Shows bytes read of all files, rows and bytes a second, the time left, and rows that were left out.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal

from foretell.bulk.amounts import amount_of_bytes, amount_of_time
from foretell.bulk.blocks import Source

__all__ = ["LINE_EVERY_S", "Progress", "Shown"]

Shown = Literal["nothing", "bar", "lines"]

LINE_EVERY_S = 10.0


class Progress:
    """Tells how far a job is. For one thread."""

    def __init__(self, sources: Sequence[Source], *, shown: Shown, clock: Callable[[], float] = time.monotonic) -> None:
        """Show nothing yet.

        Args:
            sources: Of the job.
            shown: A bar where a person looks; lines for a log, one every ten seconds.
            clock: Seconds.
        """
        known = [s.size_bytes for s in sources]
        self._total = sum(known) if all(known) else None  # of a pipe or an archive nobody knows
        self._shown = shown
        self._clock = clock
        self._bar: Any = None
        self._began = self._said = clock()
        self._bytes = self._bytes_before = self._rows = self._errors = 0

    def resume(self, size_bytes: int) -> None:
        """Count what runs before this one did: it says nothing of the speed."""
        self._bytes_before += size_bytes
        if self._bar is not None:
            self._bar.initial += size_bytes
            self._bar.update(size_bytes)

    def advance(self, size_bytes: int, rows: int = 0, errors: int = 0) -> None:
        """Count what was done: bytes and rows read, and how many of the rows were left out."""
        self._bytes += size_bytes
        self._rows += rows
        self._errors += errors
        if self._bar is not None:
            self._bar.set_postfix_str(self._counts(), refresh=False)
            self._bar.update(size_bytes)
        elif self._shown == "lines" and self._clock() - self._said >= LINE_EVERY_S:
            self._said = self._clock()
            sys.stderr.write(f"predict: {self._line()}\n")
            sys.stderr.flush()

    def _counts(self) -> str:
        errors = f", {self._errors:,} errors" if self._errors else ""
        return f"{self._rows / self._elapsed_s():,.0f} rows/s{errors}"

    def _line(self) -> str:
        done = self._bytes_before + self._bytes
        parts = [f"{self._rows:,} rows", f"{self._counts()}"]
        speed = self._bytes / self._elapsed_s()
        parts.append(f"{amount_of_bytes(speed)}/s")
        if self._total is not None and speed:
            parts.insert(0, f"{100 * done / max(self._total, 1):.0f} %")
            parts.append(f"{amount_of_time(max(self._total - done, 0) / speed)} left")
        return ", ".join(parts)

    def _elapsed_s(self) -> float:
        return max(self._clock() - self._began, 1e-9)

    def __enter__(self) -> Progress:
        if self._shown == "bar":
            from tqdm import tqdm

            self._bar = tqdm(total=self._total, unit="B", unit_scale=True, leave=False, desc="predict")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

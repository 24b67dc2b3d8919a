"""A bar on standard error that shows how much of the files is read."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

from foretell.bulk.blocks import Source

__all__ = ["Progress"]


class Progress:
    """Shows bytes read of all files, or does nothing."""

    def __init__(self, sources: Sequence[Source], *, shown: bool) -> None:
        self._sources = sources
        self._shown = shown
        self._bar: Any = None

    def advance(self, size_bytes: int) -> None:
        """Move the bar on."""
        if self._bar is not None:
            self._bar.update(size_bytes)

    def __enter__(self) -> Progress:
        if self._shown:
            from tqdm import tqdm

            known = [s.size_bytes for s in self._sources]
            total = sum(known) if all(known) else None  # of a pipe or an archive nobody knows
            self._bar = tqdm(total=total, unit="B", unit_scale=True, leave=False, desc="predict")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

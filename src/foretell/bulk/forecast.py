"""What a job would do, in words for a person and as an object for machines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foretell.bulk.amounts import amount_of_bytes, amount_of_time

__all__ = ["Columns", "FileForecast", "Forecast"]

_MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class FileForecast:
    """One file of the inputs."""

    path: str
    file_bytes: int
    rows: int | None
    """None where nothing says how many there are, as in an archive."""
    is_exact: bool
    """Whether the file says how many rows it has; else the sample does."""
    output: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of the first file, and of the output."""

    used: Sequence[str]
    ignored: Sequence[str]
    kept: Sequence[str]
    output: Sequence[str]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a job would do."""

    out: str
    files: Sequence[FileForecast]
    columns: Columns
    chunk_rows: int
    state: str
    """`new`, `goes on`, `complete`, or `refused: ` and why."""
    done_rows: int
    """Rows of the input that runs before this one answered."""
    workers: int
    sample_rows: int
    rows_per_s: float | None
    output_bytes_per_row: float | None

    @property
    def rows(self) -> int | None:
        """Of all files, None where it is not known of one."""
        known = [f.rows for f in self.files if f.rows is not None]
        return sum(known) if len(known) == len(self.files) else None

    @property
    def chunks(self) -> int | None:
        """About how many there are."""
        if self.rows is None:
            return None
        return sum(max(1, math.ceil((f.rows or 0) / self.chunk_rows)) for f in self.files)

    @property
    def seconds(self) -> float | None:
        """How long it would take."""
        if self.rows is None or not self.rows_per_s:
            return None
        return max(self.rows - self.done_rows, 0) / self.rows_per_s

    @property
    def output_bytes(self) -> int | None:
        """About how large all outputs would be."""
        if self.rows is None or self.output_bytes_per_row is None:
            return None
        return round(self.rows * self.output_bytes_per_row)

    def to_json(self) -> dict[str, Any]:
        """Return it as `--dry-run --json` prints it. Keys may be added in later versions; none changes its meaning."""
        names = ("used", "ignored", "kept", "output")
        return {
            "out": self.out,
            "state": self.state,
            "rows_done": self.done_rows,
            "files": [
                {"path": f.path, "bytes": f.file_bytes, "rows": f.rows, "rows_exact": f.is_exact, "output": f.output}
                for f in self.files
            ],
            "bytes": sum(f.file_bytes for f in self.files),
            "rows": self.rows,
            "chunks": self.chunks,
            "columns": {name: list(getattr(self.columns, name)) for name in names},
            "workers": self.workers,
            "sample_rows": self.sample_rows,
            "estimated": {
                "seconds": None if self.seconds is None else round(self.seconds, 1),
                "rows_per_s": None if self.rows_per_s is None else round(self.rows_per_s, 1),
                "output_bytes": self.output_bytes,
            },
        }

    def lines(self) -> list[str]:
        """Return it as a person reads it, a line each."""
        outputs = list(dict.fromkeys(f.output for f in self.files))
        columns = self.columns
        said = [
            f"reads: {_count(len(self.files), 'file')}, {amount_of_bytes(sum(f.file_bytes for f in self.files))}, "
            f"{self._rows()}",
            f"uses: {_named(columns.used, 'column')}",
            f"ignores: {_named(columns.ignored, 'column')}",
            f"keeps: {_named(columns.kept, 'column')}",
            f"writes: {_named(outputs, 'file')}, with {_named(columns.output, 'column')}",
            f"job: {self._job()}",
            f"takes: {self._takes() if self.state in ('new', 'goes on') else 'none'}",
            "nothing was written",
        ]
        return [line for line in said if not line.endswith(": none")]

    def _rows(self) -> str:
        if self.rows is None:
            return "how many rows is not known"
        about = "" if all(f.is_exact for f in self.files) else "about "
        return f"{about}{self.rows:,} rows, about {_count(self.chunks or 0, 'chunk')}"

    def _job(self) -> str:
        if self.state == "goes on":
            return f"goes on behind {self.done_rows:,} rows that are done"
        return self.state

    def _takes(self) -> str:
        if self.rows_per_s is None:
            return "not known, there was no row to try"
        by = f"by {self.sample_rows:,} rows answered now, {self.rows_per_s:,.0f} rows/s with {self.workers} at a time"
        if self.seconds is None or self.output_bytes is None:
            return f"not known; {by}"
        return f"about {amount_of_time(self.seconds)}, and about {amount_of_bytes(self.output_bytes)} of output; {by}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _named(names: Sequence[str], what: str) -> str:
    if not names:
        return "none"
    more = f" ... ({_count(len(names), what)})" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more

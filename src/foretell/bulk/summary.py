"""What a job did, in words for a person and as an object for machines.

All of it but the times is a function of the job: one that was interrupted says the same as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foretell.bulk.spent import STEPS

__all__ = ["Summary", "few"]

_MOST_NOTES = 20
_BARS = "▁▂▃▄▅▆▇█"
_MOST_LABELS_TOLD = 10


def few(notes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the first notes, and how many more there are."""
    more = [f"and {len(notes) - _MOST_NOTES} more"] if len(notes) > _MOST_NOTES else []
    return (*notes[:_MOST_NOTES], *more)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a job did, all runs of it together."""

    rows: int
    """Of the output."""
    files: int
    seconds: float
    """Of this run."""
    notes: tuple[str, ...]
    """What was coerced or ignored in the data, one line each."""
    rows_before: int = 0
    """How many of the rows were answered by runs before this one."""
    errors: int = 0
    """Rows of the input that were left out."""
    read_rows: int = 0
    """Of the input, those left out too; pictures are rows."""
    out: str | None = None
    quarantine: str | None = None
    """Where rows went that were left out."""
    spent_s: Mapping[str, float] = field(default_factory=dict)
    """Processor time of this run by step: read, parse, predict, encode, write."""
    predictions: Mapping[str, Any] = field(default_factory=dict)
    """How each column of predictions is distributed; see `tally`."""

    def to_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it. Keys may be added in later versions; none changes its meaning."""
        return {
            "out": self.out,
            "files": self.files,
            "rows": self.rows,
            "rows_read": self.read_rows,
            "rows_before": self.rows_before,
            "errors": self.errors,
            "quarantine": self.quarantine,
            "seconds": round(self.seconds, 3),
            "rows_per_s": round(self._rate(), 1),
            "processor_s": {step: round(self.spent_s.get(step, 0.0), 3) for step in STEPS},
            "predictions": dict(self.predictions),
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return it as a person reads it, a line each."""
        said = [self._what()]
        if self.errors:
            said.append(self.errors_line())
        if self.spent_s and (self.rows_before < self.rows or not self.rows):
            parts = ", ".join(f"{step} {self.spent_s.get(step, 0.0):.2f} s" for step in STEPS)
            said.append(f"processor time: {parts}")
        for name, found in self.predictions.items():
            said += _of_labels(name, found["labels"]) if "labels" in found else _of_numbers(name, found)
        return said

    def errors_line(self) -> str:
        """Return what became of rows that got no answer."""
        gone = f'they are in "{self.quarantine}"' if self.quarantine else "they were skipped"
        return f"{self.errors:,} of {self.read_rows:,} rows got no answer; {gone}"

    def _what(self) -> str:
        files = f"{self.files:,} file{'s' * (self.files != 1)}"
        before = f", {self.rows_before:,} of them by runs before this one" if self.rows_before else ""
        rows = f"{self.out or 'stdout'}: {self.rows:,} rows of {files}{before}"
        if self.rows_before == self.rows and self.rows:
            return f"{rows}; nothing was left to do"
        return f"{rows}, in {self.seconds:.2f} s, {self._rate():,.0f} rows/s"

    def _rate(self) -> float:
        return (self.rows - self.rows_before) / max(self.seconds, 1e-9)


def _of_numbers(name: str, found: Mapping[str, Any]) -> list[str]:
    if not found["count"]:
        return [f"{name}: no finite number"]
    at = {share: float(f"{value:.3g}") for share, value in found["quantiles"].items()}  # that exact they are
    told = {"min": found["min"], "5 %": at["0.05"], "25 %": at["0.25"], "median": at["0.5"]}
    told |= {"75 %": at["0.75"], "95 %": at["0.95"], "max": found["max"], "mean": found["mean"]}
    odd = "".join(f", {found[kind]:,} {kind}" for kind in ("missing", "infinite") if found[kind])
    return [f"{name}: {', '.join(f'{word} {value:,.6g}' for word, value in told.items())}{odd}"]


def _of_labels(name: str, labels: Mapping[str, int] | None) -> list[str]:
    if labels is None:
        return [f"{name}: too many different labels to count"]
    total, most = sum(labels.values()), max(labels.values(), default=0)
    told = list(labels.items())[:_MOST_LABELS_TOLD]
    width = max((len(label) for label, _ in told), default=0)
    lines = [f"{name}:"]
    for label, count in told:
        bar = _BARS[-1] * round(20 * count / most)
        lines.append(f"  {label:<{width}}  {count:>{len(f'{most:,}')},}  {100 * count / total:5.1f} %  {bar}".rstrip())
    rest = len(labels) - len(told)
    return [*lines, f"  and {rest:,} more labels"] if rest else lines

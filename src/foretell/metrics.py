"""Counters, gauges and histograms as plain objects, every name in one place, rendered as Prometheus text.

A child (one combination of labels) is looked up once and kept by whoever counts; counting is then one addition.
Not for use from several threads at once. Knows no HTTP.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import numpy as np

__all__ = ["Count", "Family", "Histogram", "Level", "Metrics"]

SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_COUNTED_AT = 1024
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0)


class Count:
    """Goes up only."""

    __slots__ = ("value",)
    kind = "counter"

    def __init__(self) -> None:
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Count `amount` more, at least 0."""
        self.value += amount

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """Give (suffix of the name, further label, value)."""
        yield "", "", self.value


class Level:
    """Goes up and down; set, or read when it is rendered."""

    __slots__ = ("read", "value")
    kind = "gauge"

    def __init__(self) -> None:
        self.value = 0.0
        self.read: Callable[[], float] | None = None
        """Asked instead of `value` where it is set."""

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """Give (suffix of the name, further label, value)."""
        yield "", "", self.value if self.read is None else self.read()


class Histogram:
    """How often a value fell into each bucket."""

    __slots__ = ("_later", "bounds", "counts", "sum")
    kind = "histogram"

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self._later: list[float] = []

    def observe(self, value: float, times: int = 1) -> None:
        """Count a value, or the same value several times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def observe_each(self, values: Iterable[float]) -> None:
        """Count many values, later and together: by itself each would cost more than it tells."""
        self._later += values
        if len(self._later) >= _COUNTED_AT:
            self._count()

    def _count(self) -> None:
        values = np.array(self._later, np.float64)
        self._later.clear()
        buckets = np.bincount(np.searchsorted(self.bounds, values), minlength=len(self.counts))
        self.counts = [had + more for had, more in zip(self.counts, buckets.tolist(), strict=True)]
        self.sum += float(values.sum())

    def samples(self) -> Iterator[tuple[str, str, float]]:
        """Give (suffix of the name, further label, value); buckets are cumulative, as the format has them."""
        if self._later:
            self._count()
        total = 0
        for bound, count in zip((*self.bounds, math.inf), self.counts, strict=True):
            total += count
            yield "_bucket", f'le="{_number(bound)}"', total
        yield "_sum", "", self.sum
        yield "_count", "", total


Child = TypeVar("Child", Count, Level, Histogram)


class Family(Generic[Child]):
    """All children of one name. Asking for a child makes it; whoever asks bounds the values of the labels."""

    def __init__(self, name: str, about: str, labels: tuple[str, ...], make: Callable[[], Child]) -> None:
        self.name = name
        self.about = about
        self.labels = labels
        self._make: Callable[[], Child] = make
        self._children: dict[tuple[str, ...], Child] = {}

    def child(self, *values: str) -> Child:
        """Return the child with these values of the labels, in order."""
        found = self._children.get(values)
        if found is None:
            if len(values) != len(self.labels):
                raise ValueError(f"metric {self.name}: {len(values)} label values, expected {len(self.labels)}")
            found = self._children[values] = self._make()
        return found

    def children(self) -> Iterator[tuple[tuple[str, ...], Child]]:
        """Give every child with the values of its labels."""
        yield from list(self._children.items())

    def forget(self, *values: str) -> None:
        """Drop every child whose first labels have these values."""
        for key in [k for k in self._children if k[: len(values)] == values]:
            del self._children[key]

    def render(self) -> Iterator[str]:
        """Give the lines of the text format."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} {self._make().kind}"
        for values, child in self.children():
            own: list[str] = [f'{label}="{_escaped(value)}"' for label, value in zip(self.labels, values, strict=True)]
            for suffix, further, number in child.samples():
                labels = ",".join([*own, further] if further else own)
                braced = f"{{{labels}}}" if labels else ""
                yield f"{self.name}{suffix}{braced} {_number(number)}"


def _seconds() -> Histogram:
    return Histogram(SECONDS)


def _rows() -> Histogram:
    return Histogram(ROWS)


_VERSION = ("model", "version")


class Metrics:
    """Every metric of a server. `docs/metrics.md` explains each."""

    def __init__(self) -> None:
        self.requests = Family(
            "foretell_requests_total",
            "Requests settled, by outcome: ok, cancelled, or the code of the error",
            (*_VERSION, "outcome"),
            Count,
        )
        self.refused = Family(
            "foretell_refused_total",
            "Requests refused before they were queued, by the code of the error",
            (*_VERSION, "reason"),
            Count,
        )
        self.rows = Family("foretell_rows_total", "Rows answered", _VERSION, Count)
        self.stage_seconds = Family(
            "foretell_stage_seconds",
            "Seconds of each stage of a request: prepare, queue, run, answer, total",
            (*_VERSION, "stage"),
            _seconds,
        )
        self.batch_rows = Family("foretell_batch_rows", "Rows of the batches that were run", _VERSION, _rows)
        self.in_flight = Family("foretell_in_flight_requests", "Requests admitted and not yet settled", _VERSION, Level)
        self.queued_rows = Family("foretell_queued_rows", "Rows waiting for a batch", _VERSION, Level)
        self.queued_bytes = Family("foretell_queued_bytes", "Bytes of the tensors that wait", _VERSION, Level)
        self.instances_ready = Family("foretell_instances_ready", "Instances that take batches", _VERSION, Level)
        self.restarts = Family(
            "foretell_worker_restarts_total",
            "Instances replaced, by why the last one ended: died, hung",
            (*_VERSION, "reason"),
            Count,
        )
        self.quarantined = Family(
            "foretell_quarantined_total", "Inputs quarantined because a worker died of them", _VERSION, Count
        )
        self.model_ready = Family("foretell_model_ready", "1 while the version answers, else 0", _VERSION, Level)
        self.responses = Family(
            "foretell_responses_total", "Replies, by door, route and status", ("door", "route", "status"), Count
        )
        self.stream_frames = Family(
            "foretell_stream_frames_total",
            "Frames of streams, by outcome: answered, dropped, stale, failed",
            (*_VERSION, "outcome"),
            Count,
        )
        self.stream_age_seconds = Family(
            "foretell_stream_age_seconds",
            "Seconds from the arrival of a frame until its answer is sent",
            _VERSION,
            _seconds,
        )
        self.connections = Family("foretell_connections", "Open connections, by door", ("door",), Level)

    def families(self) -> Iterator[Family[Count] | Family[Level] | Family[Histogram]]:
        """Give every family, in the order in which they are rendered."""
        for value in vars(self).values():
            if isinstance(value, Family):
                yield value

    def render(self) -> str:
        """Return all of it in the Prometheus text format, version 0.0.4."""
        return "\n".join(line for family in self.families() for line in family.render()) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)

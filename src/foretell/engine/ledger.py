"""Counts what happens to the requests of one version: in its statistics and in the metrics. Decides nothing."""

from __future__ import annotations

from foretell.engine.statistics import Duration, Statistics
from foretell.engine.ticket import Done
from foretell.errors import ForetellError
from foretell.metrics import Count, Metrics
from foretell.request import Timing

__all__ = ["Ledger"]


class Ledger:
    """The books of one version.

    Attributes:
        pending: Requests admitted and not yet settled; a request that was cut counts once for each piece.
        queue: Seconds from `infer` until the batch was sent.
        total: Seconds from `infer` to the answer.
    """

    def __init__(self, name: str, version: str, metrics: Metrics, statistics: Statistics, epoch_s: float) -> None:
        self.pending = 0
        self.statistics = statistics
        self._names = (name, version)
        self._metrics = metrics
        self._epoch_s = epoch_s
        self._ok = metrics.requests.child(name, version, "ok")
        self._cancelled = metrics.requests.child(name, version, "cancelled")
        self._refused: dict[str, tuple[Count, Count]] = {}
        self._rows = metrics.rows.child(name, version)
        self.queue = metrics.stage_seconds.child(name, version, "queue")
        self._run = metrics.stage_seconds.child(name, version, "run")
        self.total = metrics.stage_seconds.child(name, version, "total")
        self._batch_rows = metrics.batch_rows.child(name, version)
        self._restarts = {why: metrics.restarts.child(name, version, why) for why in ("died", "hung")}
        self._quarantined = metrics.quarantined.child(name, version)
        metrics.in_flight.child(name, version).read = lambda: float(self.pending)

    def refused(self, error: ForetellError, done: Done) -> None:
        """Count a refusal and tell the caller."""
        self.count_refused(error, 1)
        done(error)

    def count_refused(self, error: ForetellError, requests: int) -> None:
        """Count so many refusals for one reason."""
        counts = self._refused.get(error.code)
        if counts is None:
            labels, metrics = (*self._names, error.code), self._metrics
            counts = self._refused[error.code] = metrics.refused.child(*labels), metrics.requests.child(*labels)
        for count in counts:
            count.value += requests

    def batch(self, rows: int, run_ns: int) -> None:
        """Count a batch that was run."""
        self.statistics.execution_batches += 1
        by_rows = self.statistics.batches.get(rows)
        if by_rows is None:
            by_rows = self.statistics.batches[rows] = Duration()
        by_rows.add(run_ns)
        self._batch_rows.observe(rows)
        self._run.observe(run_ns * 1e-9)

    def answered(self, admitted: list[float], rows: int, sent: float, run_ns: int, now: float) -> None:
        """Count the answers of one batch to requests that were admitted at these instants."""
        queued_s = [sent - instant for instant in admitted]
        total_s = [now - instant for instant in admitted]
        self.queue.observe_each(queued_s)
        self.total.observe_each(total_s)
        self._answered(len(admitted), rows, sum(queued_s), run_ns * len(admitted), sum(total_s), now)

    def _answered(self, requests: int, rows: int, queued_s: float, run_ns: int, total_s: float, now: float) -> None:
        statistics = self.statistics
        statistics.inference_rows += rows
        statistics.last_inference_ms = int((self._epoch_s + now) * 1e3)
        statistics.success.add(int(total_s * 1e9), requests)
        statistics.queue.add(int(queued_s * 1e9), requests)
        statistics.run.add(run_ns, requests)
        self._ok.value += requests
        self._rows.value += rows

    def answered_whole(self, timing: Timing, now: float) -> None:
        """Count the answer to a request that was cut; its rows were counted with its pieces."""
        queue_s, total_s = timing.queue_ns * 1e-9, timing.total_ns * 1e-9
        self.queue.observe(queue_s)
        self.total.observe(total_s)
        self._answered(1, 0, queue_s, timing.run_ns, total_s, now)

    def failed(self, error: ForetellError, seconds: float) -> None:
        """Count an admitted request that ended in an error after so many seconds."""
        self._metrics.requests.child(*self._names, error.code).add()
        self.statistics.fail.add(int(seconds * 1e9))

    def cancelled(self, seconds: float) -> None:
        """Count a request whose caller went away after so many seconds."""
        self._cancelled.add()
        self.statistics.cancel.add(int(seconds * 1e9))

    def restarted(self, why: str) -> None:
        """Count an instance that ended by itself: `died` or `hung`."""
        self._restarts[why].add()

    def quarantined(self) -> None:
        """Count inputs that were quarantined."""
        self._quarantined.add()

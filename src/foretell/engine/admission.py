"""Lets a request of one version in, or says why not. It looks; it changes nothing but what it has learned.

First the bounds of the queue, then whether the answer would be in time. Tensors are `batch.Layout`'s.
"""

from __future__ import annotations

from collections.abc import Hashable

from foretell.engine import scheduling
from foretell.engine.batch import PICTURES
from foretell.engine.limits import Limits
from foretell.engine.pace import Pace
from foretell.engine.queue import Queue
from foretell.engine.seats import Seats
from foretell.engine.suspects import Quarantine
from foretell.errors import (
    DeadlineExceeded,
    ForetellError,
    ModelNotReady,
    Overloaded,
    QueueFull,
    RequestTooLarge,
)

__all__ = ["LOSS_S", "SILENCE_S", "Admission"]

_NEWS = 0.02
_LEAST_SHARE = 0.01
LOSS_S, SILENCE_S = 5.0, 1.0
"""How long after the loss of an instance, and after one stood still, those who bring no deadline wait longer."""


class Admission:
    """The gate of one version.

    Attributes:
        outage: Why no instance is going to take anything for a while; empty while one is there or about to be.
        outage_until: When the next instance should be ready, while there is none.
        pace: Of its batches.
        picture_pace: Of its batches of encoded pictures; None: it takes none.
        quarantine: Inputs that are refused.
        is_pressed: Whether requests are being refused: then it pays to ask `room` before they are read.
    """

    __slots__ = (
        "_asked", "_calm_from", "_caution", "_limits", "_mean_rows", "_name", "_pictures", "_queue", "_rate_s",
        "_seats", "_share", "_was_late", "is_pressed", "outage", "outage_until", "pace", "picture_pace", "quarantine",
    )  # fmt: skip

    def __init__(
        self, name: str, pace: Pace, limits: Limits, queue: Queue, seats: Seats, picture_pace: Pace | None = None
    ) -> None:
        self._name = name
        self._limits = limits
        self._queue = queue
        self._seats = seats
        self._caution = 1.0
        self._calm_from = 0.0
        self._asked = 0
        self._mean_rows = 1.0
        self._share = 1.0
        self._was_late = False
        self._rate_s = 0.0
        self.pace = pace
        self.picture_pace = picture_pace
        self._pictures = 0.0 if picture_pace is None else 1.0
        self.quarantine = Quarantine(limits.quarantine_s)
        self.outage = ""
        self.outage_until = 0.0
        self.is_pressed = False
        self._learn_rate()

    def ask(self, rows: int, requests: int) -> None:
        """Learn how many rows requests have."""
        self._asked += requests
        self._mean_rows += max(_NEWS, requests / self._asked) * (rows / requests - self._mean_rows)

    def pace_of(self, key: Hashable) -> Pace:
        """Return the pace of batches of a key: to see costs more than to run what was prepared."""
        return self.picture_pace if self.picture_pace is not None and key is PICTURES else self.pace

    def observe(self, rows: int, seconds: float, run_s: float, key: Hashable = ()) -> None:
        """Learn how long a batch took, and how much of it the model ran."""
        pace = self.pace
        if self.picture_pace is not None:
            pace = self.pace_of(key)
            self._pictures += _NEWS * ((pace is self.picture_pace) - self._pictures)
        if seconds > 0.0:
            self._share += _NEWS * (min(1.0, run_s / seconds) - self._share)
        if pace.observe(rows, seconds):
            self._learn_rate()
        if self._was_late or self._caution > 1.0:
            self._caution = scheduling.next_caution(self._caution, self._was_late)
            self._was_late = False

    def was_late(self) -> None:
        """Learn that a request was admitted and not answered in time."""
        self._was_late = True

    def disturb(self, until: float) -> None:
        """Take note that an instance was lost or stood still: what waits until then is no overload."""
        self._calm_from = max(self._calm_from, until)

    def _look(self, now: float) -> None:
        """Notice an instance that is silent now."""
        for seat in self._seats.all:
            if seat.jobs and scheduling.is_silence(seat.jobs[0].expected_s, now - seat.began()):
                self.disturb(now + SILENCE_S)

    def patience_s(self, rows: int, priority: int, now: float) -> float:
        """Return the longest wait of a request that brings no deadline."""
        # Refusing others does not shorten the wait for this process or the machine: only the model's part counts.
        share = max(self._share, _LEAST_SHARE)
        own_s = max(rows, self._mean_rows) * self._rate_s * share
        longest_s = scheduling.patience_s(own_s, priority > 0, now >= self._calm_from, self._limits) / share
        return min(longest_s, self._limits.max_queue_s)

    def fits(self, rows: int, nbytes: int, left_s: float, patience_s: float) -> bool:
        """Whether so many rows would be in time behind everybody, with a place to spare: no closer look is needed."""
        queue, limits = self._queue, self._limits
        rows += queue.rows
        return (
            len(self._seats.all) > 0
            and (self._seats.flying_s + rows * self._rate_s) * self._caution < 0.5 * min(left_s, patience_s)
            and 2 * rows <= limits.max_queue_rows
            and 2 * (queue.nbytes + nbytes) <= limits.max_queue_bytes
        )

    def refuse_late(self, rows: int, nbytes: int, priority: int, left_s: float, patience_s: float, now: float) -> None:
        """Refuse what has no place or would not be answered in time.

        Raises:
            RequestTooLarge, QueueFull, Overloaded, DeadlineExceeded, ModelNotReady: Why not.
        """
        if self.fits(rows, nbytes, left_s, patience_s):
            return
        error = self._why_not(rows, nbytes, priority, left_s, patience_s, now)
        if error is not None:
            self.is_pressed = True
            raise error

    def room(
        self, rows: int, priority: int, left_s: float, patience_s: float, now: float
    ) -> tuple[int, ForetellError | None]:
        """Return how many of so many rows would be let in, and why the others would not."""
        if self.fits(rows, 0, left_s, patience_s):
            self.is_pressed = False
            return rows, None
        most, least_too_many, error = 0, rows + 1, None
        while least_too_many - most > 1:
            middle = (most + least_too_many) // 2
            why = self._why_not(middle, 0, priority, left_s, patience_s, now)
            if why is None:
                most = middle
            else:
                least_too_many, error = middle, why
        return most, error

    def _why_not(
        self, rows: int, nbytes: int, priority: int, left_s: float, patience_s: float, now: float
    ) -> ForetellError | None:
        queue, seats, limits = self._queue, self._seats, self._limits
        count = len(seats.all)
        queued_rows = queue.rows
        ahead = queue.rows_ahead(priority, now + left_s) if queued_rows else 0
        wait_s = (seats.flying_s + (ahead + rows) * self._rate_s) * self._caution
        if count > 1:
            wait_s /= count
        elif not count:
            if self.outage:
                return self.not_ready(now)
            # Whoever names no deadline waits for a worker that is being replaced.
            wait_s, patience_s = wait_s + max(0.0, self.outage_until - now), limits.max_queue_s
        if patience_s < limits.max_queue_s:
            self._look(now)
            if now < self._calm_from:
                patience_s = limits.max_queue_s
        is_idle = count > 0 and not queued_rows and not seats.in_flight
        is_bulk = priority > 0
        why = scheduling.admit(
            rows, nbytes, queued_rows, queue.nbytes, wait_s, left_s, patience_s, is_idle, limits, is_bulk=is_bulk
        )
        return None if why is None else self._refusal(why, rows, nbytes, wait_s, min(left_s, patience_s))

    def not_ready(self, now: float) -> ModelNotReady:
        """Return the refusal during an outage."""
        return ModelNotReady(f'model "{self._name}": {self.outage}', retry_after_s=max(1.0, self.outage_until - now))

    def _refusal(
        self, why: scheduling.Refusal, rows: int, nbytes: int, wait_s: float, within_s: float
    ) -> ForetellError:
        limits, queue = self._limits, self._queue
        if why == "too_large":
            return RequestTooLarge(
                f"request: {rows} rows of {nbytes} bytes; the queue takes at most {limits.max_queue_rows} rows "
                f"(max_queue_rows) and {limits.max_queue_bytes} bytes (max_queue_bytes); send fewer rows at once"
            )
        if why == "expired":
            return DeadlineExceeded("request: its deadline had passed before it was admitted")
        if why == "queue_full":
            return QueueFull(
                f'model "{self._name}": {queue.rows} rows of {queue.nbytes} bytes are waiting, no place for '
                f"{rows} rows of {nbytes} bytes; retry later",
                retry_after_s=max(0.1, wait_s / 2),
            )
        return Overloaded(
            f'model "{self._name}": an answer would take about {wait_s * 1e3:.0f} ms, expected within '
            f"{within_s * 1e3:.0f} ms; retry later",
            retry_after_s=max(0.1, wait_s - within_s),
        )

    def _learn_rate(self) -> None:
        self._rate_s = self._row_s(self.pace)
        if self.picture_pace is not None:
            self._rate_s += self._pictures * (self._row_s(self.picture_pace) - self._rate_s)

    def _row_s(self, pace: Pace) -> float:
        rows = scheduling.batch_rows(pace, float("inf"), self._limits.max_batch_size)
        return pace.seconds(rows) / rows

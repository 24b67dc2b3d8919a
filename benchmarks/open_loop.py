"""An open-loop load generator: requests leave by a schedule, whatever the server does.

Arrivals are Poisson. A latency counts from the instant at which a request was to leave, so that a request that found no
free connection, or a generator that was late, is not counted as quick (coordinated omission). Knows HTTP/1.1 as far
as reading a status, a length and a body; knows no server and no model.
"""

import asyncio
import gc
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

UNANSWERED, BROKEN, WRONG = 0, -1, -2
"""Instead of a status: no answer came, the connection broke, the answer was not right."""
REFUSALS = (503, 429)


@dataclass(frozen=True)
class Outcomes:
    """What became of the requests of one run, in the order of their schedule."""

    at: np.ndarray
    """Seconds from the start of the run at which each was to leave."""
    status: np.ndarray
    """HTTP status, or one of the three above."""
    latency: np.ndarray
    """Seconds from the scheduled instant to the end of the answer; infinity where none came."""
    seconds: float
    """Length of the schedule."""

    def between(self, start_s: float, end_s: float) -> "Outcomes":
        """Return the part that was to leave in [start_s, end_s)."""
        part = (self.at >= start_s) & (self.at < end_s)
        return Outcomes(self.at[part], self.status[part], self.latency[part], end_s - start_s)

    def in_time(self, within_s: float) -> np.ndarray:
        """Return which were answered with 200 within so many seconds."""
        return (self.status == 200) & (self.latency <= within_s)

    def rate(self, chosen: np.ndarray) -> float:
        """Return how many a second some of them are."""
        return float(chosen.sum()) / self.seconds

    def refused(self) -> np.ndarray:
        """Return which were refused: 503 or 429."""
        return np.isin(self.status, REFUSALS)

    def failed(self) -> np.ndarray:
        """Return which are errors of any other kind than a refusal or a time that was over (504, 408)."""
        return ~np.isin(self.status, (200, 504, 408, UNANSWERED, *REFUSALS))

    def percentile_ms(self, chosen: np.ndarray, percent: float) -> float:
        """Return a percentile of the latencies of some of them, in milliseconds; NaN where there are none."""
        return float(np.percentile(self.latency[chosen], percent)) * 1e3 if chosen.any() else math.nan


def arrivals(rates: Sequence[tuple[float, float]], seed: int) -> np.ndarray:
    """Return the instants of Poisson arrivals for steps of (requests a second, seconds)."""
    random, parts, start = np.random.default_rng(seed), [], 0.0
    for rate, seconds in rates:
        count = random.poisson(rate * seconds)
        parts.append(start + np.sort(random.uniform(0.0, seconds, count)))
        start += seconds
    return np.concatenate(parts)


class _Connection(asyncio.Protocol):
    """One keep-alive connection: a request, its answer, the next."""

    def __init__(self, generator: "Generator") -> None:
        self.generator = generator
        self.index = -1
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.generator.free_one(self)

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.buffer = data
            return
        start = data.find(b"content-length:", 0, end)
        if start < 0:
            start = data[:end].lower().index(b"content-length:")
        length = int(data[start + 15 : data.index(b"\r", start)])
        if len(data) - end - 4 < length:
            self.buffer = data
            return
        self.buffer = b""
        index, self.index = self.index, -1
        self.generator.answered(self, index, int(data[9:12]), data[end + 4 :])

    def connection_lost(self, exc: Exception | None) -> None:
        self.generator.lost(self, self.index)


class Generator:
    """Sends one kind of requests to one server over connections of its own.

    Args:
        port: On 127.0.0.1.
        requests: Whole requests, heads and bodies, sent in turn.
        check: Called with the index of a request and the body of its 200: whether the answer is right.
        connections: Most of them, opened before the first run and kept.
    """

    def __init__(
        self, port: int, requests: Sequence[bytes], check: Callable[[int, bytes], bool], connections: int = 512
    ) -> None:
        self._port, self._requests, self._check, self._most = port, requests, check, connections
        self._free: list[_Connection] = []
        self._unsent: deque[int] = deque()
        self._opening: set[asyncio.Task[object]] = set()
        self._is_closing = False
        self._outstanding = 0

    async def open(self) -> None:
        """Open every connection."""
        self._loop = asyncio.get_running_loop()
        for _ in range(self._most):
            await self._open_one()

    async def _open_one(self) -> None:
        await self._loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._port)

    async def close(self) -> None:
        """Close every free connection."""
        self._is_closing = True
        for connection in self._free:
            connection.transport.close()
        await asyncio.sleep(0.05)

    async def run(self, at: np.ndarray, give_up_at_s: float = math.inf, patience_s: float = 5.0) -> Outcomes:
        """Send requests at these instants, and wait until all are answered, at most `patience_s` after the last.

        Args:
            at: Seconds from now, rising.
            give_up_at_s: Then everything that was to leave by then and has found no free connection is dropped.
            patience_s: For answers that are late.
        """
        self._at, self._next, self._status = at.tolist(), 0, [UNANSWERED] * len(at)
        self._latency = [math.inf] * len(at)
        self._unsent.clear()
        self._done = self._loop.create_future()
        gc.collect()
        gc.disable()
        await asyncio.sleep(0.001)  # uvloop's clock stands still until it looks around again
        self._start = self._loop.time()
        self._loop.call_soon(self._tick)
        if give_up_at_s < math.inf:
            self._loop.call_later(give_up_at_s, self._unsent.clear)
        last_s = self._at[-1] if self._at else 0.0
        over = self._loop.call_later(last_s + patience_s, self._finish)
        await self._done
        over.cancel()
        gc.enable()
        self._unsent.clear()
        outcomes = Outcomes(at, np.array(self._status), np.array(self._latency), math.ceil(last_s))
        # What is late belongs to this run: the next begins with an idle server.
        while self._outstanding:  # noqa: ASYNC110 - seldom
            await asyncio.sleep(0.05)
        return outcomes

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)

    def _tick(self) -> None:
        """Send what is due."""
        at, now, count = self._at, self._loop.time() - self._start, len(self._at)
        while self._next < count and at[self._next] <= now:
            if self._free:
                self._send(self._free.pop(), self._next)
            else:
                self._unsent.append(self._next)
            self._next += 1
        if self._next < count:
            # uvloop counts in milliseconds: anything less would spin.
            self._loop.call_later(max(0.001, at[self._next] - now), self._tick)

    def _send(self, connection: _Connection, index: int) -> None:
        self._outstanding += 1
        connection.index = index
        connection.transport.write(self._requests[index % len(self._requests)])

    def answered(self, connection: _Connection, index: int, status: int, body: bytes) -> None:
        """Enter an answer; whatever waits for a connection leaves."""
        if index < 0:
            return
        if not self._done.done():
            if status == 200 and not self._check(index % len(self._requests), body):
                status = WRONG
            self._status[index] = status
            self._latency[index] = self._loop.time() - self._start - self._at[index]
        self._outstanding -= 1
        self.free_one(connection)
        if not self._outstanding and not self._unsent and self._next >= len(self._at):
            self._finish()

    def free_one(self, connection: _Connection) -> None:
        """Use a connection for what waits, or keep it."""
        if self._unsent:
            self._send(connection, self._unsent.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: _Connection, index: int) -> None:
        """Enter that a connection broke, and open another."""
        if index >= 0:
            self._outstanding -= 1
            if not self._done.done():
                self._status[index] = BROKEN
        if connection in self._free:
            self._free.remove(connection)
        if not self._is_closing:
            task = self._loop.create_task(self._open_one())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

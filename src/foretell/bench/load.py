"""Load on a server over keep-alive connections: in a closed loop, or at instants that were fixed beforehand.

In the closed loop each connection asks again when it is answered: how fast can it go? In the open loop requests are
due whether the server keeps up or not, and the time of a request counts from when it was due: how long do people
wait? Callbacks alone, no task for a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import threading
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from foretell.bench.answers import Answer, AnswerReader, code_of, timing_of
from foretell.errors import ConfigError

__all__ = ["Run", "Target", "closed_loop", "open_loop", "run"]

_GRACE_S = 5.0
"""How long answers may come after the last request was due."""
_LATE_S = 1.0
"""What has no answer after so long when a closed loop ends is told."""
_AGAIN_S = 0.05
_TICK_S = 0.0001
_UNANSWERED, _LOST, _NO_CONNECTION = "unanswered", "connection_lost", "no_connection"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to ask, and what."""

    host: str
    port: int
    messages: Sequence[bytes]
    """Whole requests, sent in turn."""
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class Run:
    """What was measured. Only good answers count for times."""

    connections: int
    rate: float | None
    """Requests that were due each second, in the open loop."""
    seconds: float = 0.0
    client_s: float = 0.0
    """Seconds of a processor that this process used."""
    times_s: array[float] = field(default_factory=lambda: array("d"))
    stages_ms: dict[str, array[float]] = field(default_factory=dict)
    """By name, as the server says it in `server-timing`."""
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, answer: Answer, took_s: float) -> None:
        """Count an answer."""
        if answer.status != 200:
            self.errors[code_of(answer)] += 1
            return
        self.times_s.append(took_s)
        for name, took_ms in timing_of(answer.head).items():
            times = self.stages_ms.get(name)
            if times is None:
                times = self.stages_ms[name] = array("d")
            times.append(took_ms)


class _Line(asyncio.Protocol):
    """One connection, which asks one thing at a time and connects again when it was cut off."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._message = b""
        self.began: float | None = None
        """When the request that is not answered yet was due."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._reader = AnswerReader()
        if self.began is not None:
            self._transport.write(self._message)

    def ask(self, message: bytes, began: float) -> None:
        """Send a request, now or as soon as there is a connection."""
        self.began, self._message = began, message
        if self._transport is not None:
            self._transport.write(message)

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._reader.feed(data)
        except ValueError:
            self._drop()
            return
        if answer is not None:
            self._answered(answer)

    def eof_received(self) -> None:
        answer = self._reader.ended() if self.began is not None else None
        if answer is not None:
            self._answered(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self._transport is None:
            return
        self._transport = None
        was_asked, self.began = self.began is not None, None
        if was_asked:
            self._load.failed(_LOST)
        # One that was idle counts as free already.
        self._load.connect(self, is_free=not was_asked)

    def close(self) -> None:
        """Close for good."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _answered(self, answer: Answer) -> None:
        began = self.began
        if began is None:
            return
        self.began = None
        if not answer.keeps:
            self.close()
            self._load.answered(answer, began, None)
            self._load.connect(self)
        else:
            self._load.answered(answer, began, self)


class _Load:
    """The connections of one run."""

    def __init__(self, target: Target, result: Run, free: Callable[[_Line], None]) -> None:
        self.result = result
        self.is_measuring = False
        self._target = target
        self._free = free
        self._at = 0
        self.lines = [_Line(self) for _ in range(result.connections)]
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_over = False

    def start(self) -> None:
        """Connect; every connection is free when it is there."""
        for line in self.lines:
            self.connect(line)

    def connect(self, line: _Line, *, is_free: bool = False) -> None:
        """Connect, again if need be. A line that is free already is not offered again."""
        if not self._is_over:
            task = asyncio.ensure_future(self._connect(line, is_free))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, line: _Line, is_free: bool) -> None:
        target, loop = self._target, asyncio.get_running_loop()
        while True:
            try:
                await loop.create_connection(lambda: line, target.host, target.port, ssl=target.tls)
            except OSError:
                self.failed(_NO_CONNECTION)
                await asyncio.sleep(_AGAIN_S)
                continue
            if not is_free:
                self._free(line)
            return

    def message(self) -> bytes:
        """Return the next request."""
        messages = self._target.messages
        self._at += 1
        return messages[self._at % len(messages)]

    def answered(self, answer: Answer, began: float, line: _Line | None) -> None:
        """Count an answer; its connection is free again."""
        if self.is_measuring:
            self.result.add(answer, time.perf_counter() - began)
        if line is not None:
            self._free(line)

    def failed(self, code: str) -> None:
        """Count a request that has no answer, or a connection that there is none of."""
        if self.is_measuring and not self._is_over:
            self.result.errors[code] += 1

    def unanswered(self, before: float, waiting: int = 0) -> None:
        """Count requests that were begun before an instant and have no answer, and those that wait for a connection."""
        late = sum(line.began is not None and line.began < before for line in self.lines)
        if late + waiting:
            self.result.errors[_UNANSWERED] += late + waiting

    async def end(self) -> None:
        """Close everything."""
        self._is_over = True
        for task in list(self._connecting):
            task.cancel()
        for line in self.lines:
            line.close()
        await asyncio.sleep(0)


async def closed_loop(target: Target, connections: int, seconds: float, warmup_s: float) -> Run:
    """Ask on every connection, again and again.

    Args:
        target: Where, and what.
        connections: At least 1.
        seconds: Measured.
        warmup_s: Before that, not measured.
    """

    def free(line: _Line) -> None:
        if time.perf_counter() < ends:
            line.ask(load.message(), time.perf_counter())

    load = _Load(target, Run(connections, None), free)
    ends = time.perf_counter() + warmup_s + seconds
    load.start()
    await asyncio.sleep(warmup_s)
    load.is_measuring = True
    began, used = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    load.is_measuring = False
    _took(load.result, began, used)
    load.unanswered(time.perf_counter() - _LATE_S)
    await load.end()
    return load.result


async def open_loop(target: Target, rate: float, connections: int, seconds: float) -> Run:
    """Ask at even instants; a request that finds no free connection waits for one, and its time runs.

    Args:
        target: Where, and what.
        rate: Requests that are due each second.
        connections: At most so many are under way at once.
        seconds: For so long requests are due.

    Raises:
        ConfigError: So many connections cannot be had.
    """
    schedule = _Schedule(target, rate, connections, max(1, round(rate * seconds)))
    return await schedule.run()


class _Schedule:
    """Requests that are due at instants which do not wait for the server."""

    def __init__(self, target: Target, rate: float, connections: int, count: int) -> None:
        self._load = _Load(target, Run(connections, rate), self._free)
        self._rate, self._count, self._connections = rate, count, connections
        self._asked = 0
        self._started = 0.0
        self._waiting = deque[float]()
        self._idle = deque[_Line]()
        self._all_there = asyncio.Event()
        self._all_done = asyncio.Event()

    async def run(self) -> Run:
        """Ask everything, and wait for the answers."""
        load, loop = self._load, asyncio.get_running_loop()
        load.start()
        try:
            await self._connected()
            load.is_measuring = True
            self._started, used = time.perf_counter(), time.process_time()
            waker = threading.Thread(target=self._wake, args=(loop,), daemon=True)
            waker.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._count / self._rate + _GRACE_S):
                    await self._all_done.wait()
            load.unanswered(time.perf_counter() - _GRACE_S, len(self._waiting))
            _took(load.result, self._started, used)
        finally:
            self._count = 0
            await load.end()
        return load.result

    async def _connected(self) -> None:
        try:
            async with asyncio.timeout(_GRACE_S):
                await self._all_there.wait()
        except TimeoutError:
            raise ConfigError(
                f"--connections {self._connections}: the server let {len(self._idle)} in; give fewer"
            ) from None

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        # Loops have timers of a millisecond: late by half of one on average, which would be told as the server's.
        while (asked := self._asked) < self._count:
            delay_s = self._started + asked / self._rate - time.perf_counter()
            time.sleep(delay_s if delay_s > 0 else _TICK_S)
            try:
                loop.call_soon_threadsafe(self._ask_due)
            except RuntimeError:  # the loop is closed
                return
            time.sleep(_TICK_S)

    def _ask_due(self) -> None:
        now = time.perf_counter()
        while self._asked < self._count and (due := self._started + self._asked / self._rate) <= now:
            self._asked += 1
            self._waiting.append(due)
            if self._idle:
                self._free(self._idle.popleft())

    def _free(self, line: _Line) -> None:
        if self._waiting:
            line.ask(self._load.message(), self._waiting.popleft())
            return
        self._idle.append(line)
        if len(self._idle) == self._connections:
            self._all_there.set()
            if self._asked == self._count:
                self._all_done.set()


def _took(result: Run, began: float, used: float) -> None:
    result.seconds, result.client_s = time.perf_counter() - began, time.process_time() - used


def run(work: Callable[[], Any]) -> Any:
    """Run a coroutine in the fastest loop there is."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if sys.platform != "win32":
        try:
            import uvloop
        except ModuleNotFoundError:
            pass
        else:
            factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work())

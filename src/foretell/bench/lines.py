"""Keep-alive connections to a server that is measured: whom they ask, what came of it, again if they are cut off.

When to ask is `load.py`'s. Callbacks alone, no task for a request.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from foretell.bench.answers import Answer, AnswerReader, code_of, timing_of

__all__ = ["Line", "Load", "Run", "Target"]

_AGAIN_S = 0.05
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


class Line(asyncio.Protocol):
    """One connection, which asks one thing at a time and connects again when it was cut off."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._reader = AnswerReader()
        self._message = b""
        self.began: float | None = None
        """When the request that is not answered yet was due."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what is still to be asked."""
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
        """Read an answer; what is none costs the connection."""
        try:
            answer = self._reader.feed(data)
        except ValueError:
            self._drop()
            return
        if answer is not None:
            self._answered(answer)

    def eof_received(self) -> None:
        """Take an answer that ends with its connection."""
        answer = self._reader.ended() if self.began is not None else None
        if answer is not None:
            self._answered(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what was asked as lost, and connect again."""
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


class Load:
    """The connections of one run."""

    def __init__(self, target: Target, result: Run, free: Callable[[Line], None]) -> None:
        self.result = result
        self.is_measuring = False
        self._target = target
        self._free = free
        self._at = 0
        self.lines = [Line(self) for _ in range(result.connections)]
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_over = False

    def start(self) -> None:
        """Connect; every connection is free when it is there."""
        for line in self.lines:
            self.connect(line)

    def connect(self, line: Line, *, is_free: bool = False) -> None:
        """Connect, again if need be. A line that is free already is not offered again."""
        if not self._is_over:
            task = asyncio.ensure_future(self._connect(line, is_free))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, line: Line, is_free: bool) -> None:
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

    def answered(self, answer: Answer, began: float, line: Line | None) -> None:
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

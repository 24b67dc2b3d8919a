"""Load on a server over keep-alive connections: in a closed loop, or at instants that were fixed beforehand.

In the closed loop each connection asks again when it is answered: how fast can it go? In the open loop requests are
due whether the server keeps up or not, and the time of a request counts from when it was due: how long do people
wait?
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from foretell.bench.lines import Line, Load, Run, Target
from foretell.errors import ConfigError

__all__ = ["closed_loop", "open_loop", "run"]

_GRACE_S = 5.0
"""How long answers may come after the last request was due."""
_LATE_S = 1.0
"""What has no answer after so long when a closed loop ends is told."""
_TICK_S = 0.0001


async def closed_loop(target: Target, connections: int, seconds: float, warmup_s: float) -> Run:
    """Ask on every connection, again and again.

    Args:
        target: Where, and what.
        connections: At least 1.
        seconds: Measured.
        warmup_s: Before that, not measured.
    """

    def free(line: Line) -> None:
        if time.perf_counter() < ends:
            line.ask(load.message(), time.perf_counter())

    load = Load(target, Run(connections, None), free)
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
        self._load = Load(target, Run(connections, rate), self._free)
        self._rate, self._count, self._connections = rate, count, connections
        self._asked = 0
        self._started = 0.0
        self._waiting = deque[float]()
        self._idle = deque[Line]()
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

    def _free(self, line: Line) -> None:
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

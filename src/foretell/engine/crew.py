"""The instances of one version: starts them, replaces those that die, with back-off, and ends them. Sends nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from foretell.clock import Clock
from foretell.engine import scheduling
from foretell.engine.instance import Hello, Instance
from foretell.errors import ForetellError, InternalError, LoadError

__all__ = ["Crew"]

_WORTH_TELLING = 5
"""Deaths in a row after which what waits is refused: fewer may be somebody killing workers, and the next one lives."""


class Crew:
    """Keeps as many instances alive as are wanted.

    Attributes:
        wanted: How many there should be.
        alive: Those that are.
        deaths: Instances in a row that died, or did not start, before they answered anything.
    """

    def __init__(self, start: Callable[[], Awaitable[tuple[Instance, Hello]]], clock: Clock, load_s: float) -> None:
        self._start = start
        self._now = clock.now
        self._load_s = load_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self.alive: list[Instance] = []
        self.wanted = 1
        self.deaths = 0
        self.start_s = 1.0
        self.on_ready: Callable[[Instance], None] = _unset
        """Called with every instance that is ready."""
        self.on_outage: Callable[[str, float], None] = _unset
        """Called when there is no instance: why, if that is going to last (else ""), and until when."""

    async def first(self) -> tuple[Instance, Hello]:
        """Start the first instance; whether the version loads at all is decided here.

        Raises:
            ForetellError: It does not start.
        """
        instance, hello = await self._begin()
        self.alive.append(instance)
        return instance, hello

    def fill(self) -> None:
        """Start what is missing, in the background."""
        if self._is_stopped:
            return
        for _ in range(self.wanted - len(self.alive) - len(self._tasks)):
            task = asyncio.get_running_loop().create_task(self._replace())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def lost(self, instance: Instance, reason: str) -> None:
        """Replace an instance that died or hung."""
        if instance in self.alive:
            self.alive.remove(instance)
        self.deaths += 1
        if not self.alive:
            self._tell(reason)
        self.fill()

    def answered(self) -> None:
        """Enter that an instance works: the next death is the first again."""
        self.deaths = 0

    def stop(self) -> None:
        """End every instance and every start."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()
        for instance in self.alive:
            instance.kill()
        self.alive.clear()

    async def _replace(self) -> None:
        while True:
            await asyncio.sleep(scheduling.back_off_s(self.deaths))
            try:
                instance, _ = await self._begin()
            except ForetellError as error:
                self.deaths += 1
                if not self.alive:
                    self._tell(str(error))
                continue
            self.alive.append(instance)
            self.on_ready(instance)
            return

    async def _begin(self) -> tuple[Instance, Hello]:
        began = self._now()
        try:
            async with asyncio.timeout(self._load_s):
                instance, hello = await self._start()
        except TimeoutError:
            raise LoadError(f"model: not ready after {self._load_s:g} s (load_s); it was given up") from None
        self.start_s = self._now() - began
        return instance, hello

    def _tell(self, reason: str) -> None:
        until = self._now() + scheduling.back_off_s(self.deaths) + self.start_s
        self.on_outage(f"its worker keeps failing: {reason}" if self.deaths >= _WORTH_TELLING else "", until)


def _unset(*_: object) -> None:
    raise InternalError("crew: used before its callbacks were set. This is a bug.")

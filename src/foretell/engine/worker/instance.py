"""A model that runs in a process of its own, as the batcher sees it: `Instance` over frames.

The event loop's side: it sends batches, reads what comes, notices the end and says why. Knows no queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from foretell.engine.instance import OnAnswer, OnDeath, OnError
from foretell.engine.worker.flights import Flights
from foretell.engine.worker.frames import ANSWER, FAILURE, HELLO, IN_SLOT, UNFINISHED, FrameBroken, Place
from foretell.engine.worker.link import Link
from foretell.engine.worker.messages import TextReader, read_failure, read_hello
from foretell.engine.worker.process import Process, death_reason, oom_kills, resident_bytes
from foretell.engine.worker.reading import read_head
from foretell.engine.worker.slots import Slots
from foretell.errors import ForetellError, InternalError, LoadError
from foretell.signature import Signature

__all__ = ["ProcessInstance"]

_LOOK_S = 0.25
"""Between two looks at the memory of a worker."""
_EXIT_S = 0.5
"""Between the end of a worker's socket and its own, before it is ended."""


class ProcessInstance:
    """One worker; see `foretell.engine.instance.Instance`.

    A death before `on_death` is set is reported to nobody: look at `ready` after setting it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        process: Process,
        connect: Callable[[Callable[[Place, int], None], Callable[[], None]], Link],
        slots: Slots | None,
        memory_bytes: int | None,
    ) -> None:
        """Watch a worker that was just started.

        Args:
            loop: That reports.
            process: The worker.
            connect: Makes the link to it, from what takes a frame and what takes the end.
            slots: Memory shared with it, or None.
            memory_bytes: Most memory it may hold, or None.
        """
        self.on_answer: OnAnswer = _ignore
        self.on_error: OnError = _ignore
        self.on_death: OnDeath = _ignore
        self._loop, self._process, self._memory_bytes = loop, process, memory_bytes
        self._ready = self._ended = self._stopping = False
        self._texts = TextReader()
        self._hello: asyncio.Future[dict[str, Any]] = loop.create_future()
        self._exited: asyncio.Future[None] = loop.create_future()
        self._quiet: asyncio.Future[None] = loop.create_future()
        self._oom_kills = oom_kills()
        self._link = connect(self._on_frame, self._on_end)
        self._flights = Flights(loop, self._link, slots, self)
        process.watch(loop, self._on_exit)
        self._look = loop.call_later(_LOOK_S, self._look_after)

    @property
    def ready(self) -> bool:
        """Whether it takes batches."""
        return self._ready

    @property
    def in_flight(self) -> int:
        """Batches sent and not yet reported."""
        return len(self._flights)

    @property
    def pid(self) -> int:
        """Process it runs in."""
        return self._process.pid

    def resident_bytes(self) -> int | None:
        """Return the memory the worker holds now; None where this cannot be known."""
        return resident_bytes(self.pid)

    async def hello(self) -> dict[str, Any]:
        """Wait until the worker is ready; raise what it could not be loaded for."""
        return await self._hello

    def serve(self, signature: Signature, pictures: Signature | None = None) -> None:
        """Take batches from now on; see `Hello`."""
        self._flights.fit(signature, pictures)
        self._ready = not self._ended

    def send(self, job_id: int, inputs: dict[str, NDArray[Any]], rows: int) -> None:
        """Take a batch; see `Instance.send`."""
        if self._ended:
            raise InternalError(f"worker {self.pid}: sent a batch after its end. This is a bug.")
        self._flights.send(job_id, inputs, rows)

    def kill(self) -> None:
        """End it at once; see `Instance.kill`."""
        self._end()
        self._process.kill()

    async def stop(self, timeout_s: float = 30.0) -> None:
        """Let it finish what it has, then end it. Nothing may be sent any more.

        Answers are still reported; its end only if it comes before them. What is not answered after `timeout_s`
        seconds is lost.
        """
        self._ready, self._stopping = False, True
        if self.in_flight and not self._ended:
            await asyncio.wait({self._quiet, self._exited}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not self._ended:
            self._link.finish()
            await asyncio.wait({self._exited}, timeout=_EXIT_S)
        self.kill()
        await self.ended()

    async def ended(self) -> None:
        """Wait until the process has ended and is reaped."""
        await asyncio.shield(self._exited)

    def when_ended(self, call: Callable[[], None]) -> None:
        """Call something once the process has ended."""
        self._exited.add_done_callback(lambda _: call())

    def __repr__(self) -> str:
        state = "ended" if self._ended else "ready" if self._ready else "stopping" if self._stopping else "starting"
        return f"<ProcessInstance pid {self.pid}: {state}, {self.in_flight} in flight>"

    def answered(self, job: int, outputs: list[NDArray[Any]], ns: int) -> None:
        """Pass an answer on."""
        self.on_answer(self, job, outputs, ns)
        self._notice_quiet()

    def failed(self, job: int, error: ForetellError) -> None:
        """Pass an error on."""
        self.on_error(self, job, error)
        self._notice_quiet()

    def _notice_quiet(self) -> None:
        if self._stopping and not self.in_flight and not self._quiet.done():
            self._quiet.set_result(None)

    def _on_frame(self, frame: Place, length: int) -> None:
        if self._ended:
            return
        try:
            head = read_head(frame, length)
            if head.kind & ~IN_SLOT == ANSWER:
                self._flights.answer(head, frame, length)
                return
            kind = head.kind & ~UNFINISHED
            if kind not in (FAILURE, HELLO):
                raise FrameBroken(f"a frame of kind {head.kind}")
            text = self._texts.add(head, frame, length)
            if text is not None:
                self._on_text(kind, head.job, text)
        except FrameBroken as error:
            self._die(f"broke the protocol: {error}")

    def _on_text(self, kind: int, job: int, text: str) -> None:
        if kind == FAILURE and job in self._flights:
            self._flights.fail(job, read_failure(text))
        elif kind == FAILURE and not self._hello.done():
            self._hello.set_exception(read_failure(text))
        elif kind == HELLO and not self._hello.done():
            self._hello.set_result(read_hello(text))
        else:
            raise FrameBroken(f"a text of kind {kind} that nobody expects")

    def _on_end(self) -> None:
        """Its end of the socket is closed: it has ended, is about to, or has gone wrong."""
        if not self._ended:
            self._loop.call_later(_EXIT_S, self._process.kill)

    def _on_exit(self, code: int) -> None:
        if not self._exited.done():
            self._exited.set_result(None)
        if not self._ended:
            self._link.drain()  # answers it still gave
            self._die(death_reason(code, oom_killed=oom_kills() > self._oom_kills))

    def _look_after(self) -> None:
        self._look = self._loop.call_later(_LOOK_S, self._look_after)
        self._flights.trim()
        resident = None if self._memory_bytes is None else self.resident_bytes()
        if self._memory_bytes is not None and resident is not None and resident > self._memory_bytes:
            self._die(f"out of memory: {resident >> 20} MiB resident, limit {self._memory_bytes >> 20} MiB")

    def _die(self, reason: str) -> None:
        """End it, and report that."""
        if self._ended:
            return
        expected = self._stopping and not self.in_flight
        self.kill()
        if not self._hello.done():
            self._hello.set_exception(LoadError(f"worker {reason} while loading"))
        elif not expected:
            self.on_death(self, reason)

    def _end(self) -> None:
        self._ended, self._ready = True, False
        self._look.cancel()
        self._link.close()
        self._flights.close()


def _ignore(*_: Any) -> None:
    """Stand in for a callback that is not set yet."""

"""One version of a model, loaded or not: what it is, how it is doing, and the way to its queue."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.clock import Clock
from foretell.engine import scheduling
from foretell.engine.batch import Layout, Tensors
from foretell.engine.batcher import Asked, Batcher
from foretell.engine.crew import Crew
from foretell.engine.instance import Hello, Instance, StartInstance
from foretell.engine.ledger import Ledger
from foretell.engine.lifecycle import Event, State, after
from foretell.engine.limits import Limits
from foretell.engine.pace import Pace
from foretell.engine.pieces import Whole
from foretell.engine.statistics import Statistics
from foretell.engine.ticket import Done, Sink, Ticket
from foretell.errors import ForetellError, ModelNotReady, ServerDraining
from foretell.metrics import Metrics
from foretell.request import INTERACTIVE, InferRequest
from foretell.signature import Signature

if TYPE_CHECKING:
    from foretell.model.tasks.predictions import Task

__all__ = ["House", "Served"]


@dataclass(slots=True)
class House:
    """What all versions of a server share."""

    start_instance: StartInstance
    limits: Limits
    clock: Clock
    metrics: Metrics
    trust: bool
    cores: int
    epoch_s: float
    """Seconds since 1970 at instant 0 of the clock."""
    versions: int = 1
    """Versions that share the processors."""


class Served:
    """One version of a model.

    Attributes:
        state: Where it is in `lifecycle`.
        reason: Why it is not ready, in one line.
        is_default: Whether a request without a version comes here.
        statistics: What it has done since it was loaded.
    """

    def __init__(self, name: str, version: str, path: Path, house: House) -> None:
        self.name = name
        self.version = version
        self.path = path
        self.state = State.NEW
        self.reason = ""
        self.is_default = False
        self.statistics = Statistics()
        self._house = house
        self._hello: Hello | None = None
        self._batcher: Batcher | None = None
        self._crew: Crew | None = None
        self._leases = 0
        self._settled: asyncio.Event | None = None

    @property
    def hello(self) -> Hello:
        """What its instances say of themselves.

        Raises:
            ModelNotReady: It was never loaded.
        """
        if self._hello is None:
            raise self.not_ready()
        return self._hello

    @property
    def signature(self) -> Signature:
        """What it takes and gives; ModelNotReady if it was never loaded."""
        return self.hello.signature

    @property
    def task(self) -> Task:
        """What its outputs mean; ModelNotReady if it was never loaded."""
        return self.hello.task

    @property
    def about(self) -> Mapping[str, Any]:
        """Plain facts for people; ModelNotReady if it was never loaded."""
        return self.hello.about

    @property
    def is_ready(self) -> bool:
        """Whether it is READY and has an instance, or gets one in a moment."""
        return self.state is State.READY and self._batcher is not None and not self._batcher.admission.outage

    @property
    def pending(self) -> int:
        """Requests admitted and not yet settled, and leases held."""
        return self._leases + (self._batcher.pending if self._batcher is not None else 0)

    @property
    def instances(self) -> list[Instance]:
        """Instances that are alive."""
        return list(self._crew.alive) if self._crew is not None else []

    def __repr__(self) -> str:
        return f'<Served "{self.name}" version {self.version}: {self.state.value}, {self.pending} pending>'

    @property
    def trouble(self) -> str:
        """Why it is not ready, in one line: it did not load, or its workers keep dying; else empty."""
        return self.reason or (self._batcher.admission.outage if self._batcher is not None else "")

    def not_ready(self) -> ModelNotReady:
        """Return the error that says in which state it is, and why."""
        reason = self.trouble
        return ModelNotReady(
            f'model "{self.name}" version {self.version}: not ready, {self.state.value}'
            + (f": {reason}" if reason else "; retry later"),
            retry_after_s=1.0 if self.state is State.LOADING else 5.0,
        )

    def infer(self, request: InferRequest, done: Done) -> Ticket | Whole | None:
        """Admit a request to this very version, or refuse it; as `Engine.infer`, whatever version it names."""
        if self._batcher is None:
            done(self.not_ready())
            return None
        return self._batcher.infer(request, done)

    def infer_all(
        self,
        asked: list[Asked],
        sink: Sink,
        timeout_s: float | None = None,
        priority: int = INTERACTIVE,
        chunk: Tensors | None = None,
    ) -> list[Ticket]:
        """Admit or refuse many plain requests at once; see `Batcher.infer_all`."""
        if self._batcher is None:
            for *_, caller in asked:
                caller.fail(self.not_ready())
            return []
        return self._batcher.infer_all(asked, sink, timeout_s, priority, chunk)

    def room(self, requests: int, timeout_s: float | None, priority: int) -> tuple[int, ForetellError | None]:
        """Return how many of so many requests are worth reading, and why the others are not; see `Batcher.room`."""
        return (requests, None) if self._batcher is None else self._batcher.room(requests, timeout_s, priority)

    def count_refused(self, error: ForetellError, requests: int) -> None:
        """Count requests that were refused because there was no `room`."""
        if self._batcher is not None:
            self._batcher.count_refused(error, requests)

    @property
    def spare_s(self) -> float:
        """Seconds for which nobody need look after its instances."""
        return 0.0 if self._batcher is None else self._batcher.spare_s

    @property
    def company(self) -> int:
        """Rows an instance runs at once in about the time of one."""
        if self._batcher is None:
            return 1
        admission = self._batcher.admission
        return scheduling.company(admission.picture_pace or admission.pace, self.limits)

    @property
    def limits(self) -> Limits:
        """The bounds its queue keeps."""
        return self._house.limits

    @contextmanager
    def lease(self) -> Iterator[Served]:
        """Hold the version: it is not unloaded while somebody prepares a request for it."""
        self._leases += 1
        try:
            yield self
        finally:
            self._leases -= 1
            self._tell_settled()

    async def load(self) -> None:
        """Start its first instance and get ready; the others follow in the background.

        Raises:
            ForetellError: It does not load; its state is FAILED and has the reason.
        """
        self.state, self.reason = after(self.state, Event.LOAD), ""
        house, limits = self._house, self._house.limits
        threads = scheduling.count_threads(house.cores, house.versions, limits)
        crew = Crew(lambda: self._start(threads), house.clock, limits.load_s)
        try:
            instance, hello = await crew.first()
        except asyncio.CancelledError:
            self._fail("loading was cancelled")
            raise
        except ForetellError as error:
            self._fail(str(error))
            raise
        pace, picture_pace = Pace(hello.paces), Pace(hello.picture_paces) if hello.pictures is not None else None
        ledger = Ledger(self.name, self.version, house.metrics, self.statistics, house.epoch_s)
        loop = asyncio.get_running_loop()
        if hello.pictures is not None:
            await loop.run_in_executor(None, int)  # the first thread takes long to start: not under the first picture
        layout = Layout(hello.signature, hello.pictures)
        batcher = Batcher(self.name, self.version, layout, pace, limits, house.clock, loop, ledger, picture_pace)
        crew.on_ready, crew.on_outage = batcher.add, batcher.tell_outage
        batcher.on_loss, batcher.on_work = crew.lost, crew.answered
        self._hello, self._batcher, self._crew = hello, batcher, crew
        batcher.add(instance)
        crew.wanted = scheduling.count_instances(house.cores, house.versions, picture_pace or pace, limits)
        crew.fill()
        self._show()
        self.state = after(self.state, Event.LOADED)

    async def unload(self, timeout_s: float) -> bool:
        """Answer what is in flight, then give everything back. False: some was cut off when the time was over."""
        self.state = after(self.state, Event.DRAIN)
        finished = await self.drained(timeout_s)
        self.drop("unloaded while it waited")
        self.state = after(self.state, Event.DRAINED)
        gc.collect()  # what is left of it holds itself in circles, and a server looks for those too seldom
        return finished

    async def drained(self, timeout_s: float) -> bool:
        """Wait until nothing is pending. False: the time was over first."""
        if self._batcher is None or not self.pending:
            return True
        self._settled = asyncio.Event()
        self._batcher.settling.on_settled = self._tell_settled
        try:
            async with asyncio.timeout(timeout_s):
                while self.pending:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            return False
        finally:
            self._batcher.settling.on_settled = None
        return True

    def drop(self, reason: str) -> None:
        """Settle what is pending with an error, and end every instance, at once."""
        if self._crew is not None:
            self._crew.stop()
        if self._batcher is not None:
            self._batcher.close(ServerDraining(f'model "{self.name}": {reason}; ask again'))

    def _tell_settled(self) -> None:
        if self._settled is not None and not self.pending:
            self._settled.set()

    async def _start(self, threads: int) -> tuple[Instance, Hello]:
        house = self._house
        return await house.start_instance(
            self.path, trust=house.trust, threads=threads, memory_bytes=house.limits.worker_memory_bytes
        )

    def _fail(self, reason: str) -> None:
        self.state, self.reason = after(self.state, Event.FAIL), reason

    def _show(self) -> None:
        metrics, batcher, names = self._house.metrics, self._batcher, (self.name, self.version)
        if batcher is None:
            return
        metrics.queued_rows.child(*names).read = lambda: float(batcher.queued_rows)
        metrics.queued_bytes.child(*names).read = lambda: float(batcher.queued_bytes)
        metrics.instances_ready.child(*names).read = lambda: float(len(batcher.instances))
        metrics.model_ready.child(*names).read = lambda: float(self.is_ready)

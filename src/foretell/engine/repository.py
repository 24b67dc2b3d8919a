"""Names and versions on disk -> loaded versions; hands out leases. SKELETON."""

from __future__ import annotations

from pathlib import Path

from foretell.clock import Clock
from foretell.engine.batch import Layout
from foretell.engine.batcher import Batcher, Done, Ticket
from foretell.engine.instance import Hello, Instance, StartInstance
from foretell.engine.lifecycle import Event, State, after
from foretell.engine.limits import Limits
from foretell.engine.statistics import Statistics
from foretell.errors import ForetellError, ModelNotReady
from foretell.request import InferRequest
from foretell.signature import Signature

__all__ = ["Served"]


class Served:
    """One version of a model: what it is, how it is doing, and its queue."""

    def __init__(self, name: str, version: str, path: Path, clock: Clock) -> None:
        self.name = name
        self.version = version
        self.path = path
        self.state = State.NEW
        self.reason = ""
        """Why it is not ready, in one line."""
        self.statistics = Statistics()
        self._hello: Hello | None = None
        self._layout: Layout | None = None
        self._instances: list[Instance] = []
        self._batcher = Batcher(name, version, clock)

    @property
    def hello(self) -> Hello:
        """What its instances say: `signature`, `task`, `about`, `sandbox`.

        Raises:
            ModelNotReady: It was never loaded.
        """
        if self._hello is None:
            raise ModelNotReady(f'model "{self.name}" version {self.version}: {self.state.value} {self.reason}')
        return self._hello

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self.hello.signature

    def infer(self, request: InferRequest, done: Done) -> Ticket:
        """Admit a request to this very version; as `Engine.infer`."""
        return self._batcher.infer(request, done)

    async def load(self, start: StartInstance, limits: Limits, *, trust: bool) -> None:
        self.state = after(self.state, Event.LOAD)
        try:
            instance, self._hello = await start(self.path, trust=trust, threads=limits.threads or 1, memory_bytes=None)
        except ForetellError as error:
            self.reason = str(error)
            self.state = after(self.state, Event.FAIL)
            return
        self._instances.append(instance)
        self._batcher.add(instance)
        self.state = after(self.state, Event.LOADED)

    async def unload(self) -> None:
        self.state = after(self.state, Event.DRAIN)
        for instance in self._instances:
            instance.kill()
        self.state = after(self.state, Event.DRAINED)

"""Answer inference requests in real time. SKELETON: signatures are final, behaviour is the simplest.

1. admit    take a place in the queue, or refuse at once
2. lease    hold the version, so that it cannot unload under the request
3. check    tensors against the signature; the caller's faults end here
4. batch    wait while rows of other callers join
5. run      one batch to an instance of the version
6. answer   split, settle each caller exactly once
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from foretell.clock import Clock, MonotonicClock
from foretell.engine.batcher import Done, Ticket
from foretell.engine.instance import StartInstance
from foretell.engine.lifecycle import State
from foretell.engine.limits import Limits
from foretell.engine.repository import Served
from foretell.engine.scan import scan
from foretell.errors import ForetellError, ModelNotFound, ModelNotReady, ServerDraining
from foretell.metrics import Metrics
from foretell.request import InferRequest, InferResponse

__all__ = ["Engine"]


class Engine:
    """Loaded models and their queues. Used from one event loop alone."""

    def __init__(
        self,
        start_instance: StartInstance,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        trust: bool = False,
    ) -> None:
        self.limits = limits or Limits()
        self.clock: Clock = clock or MonotonicClock()
        self.metrics = metrics or Metrics()
        self._start_instance = start_instance
        self._trust = trust
        self._models: dict[str, dict[str, Served]] = {}
        self.draining = False

    @property
    def ready(self) -> bool:
        """Whether every model that should be loaded answers, and the engine is not draining."""
        return not self.draining and all(self._default(n).state is State.READY for n in self._models)

    async def start(self, paths: Sequence[Path]) -> None:
        """Find the models under `paths` and load the newest version of each.

        A model that cannot be loaded becomes FAILED with its reason; the others live on.

        Raises:
            ConfigError: A path is not there or holds no model.
        """
        for name, versions in scan(paths).items():
            self._models[name] = {v: Served(name, v, path, self.clock) for v, path in versions.items()}
            await self._default(name).load(self._start_instance, self.limits, trust=self._trust)

    def infer(self, request: InferRequest, done: Done) -> Ticket | None:
        """Admit a request, or refuse it.

        Args:
            request: Its arrays belong to the engine until it is settled.
            done: Called exactly once, from the event loop, with the answer or the error; never after
                `Ticket.cancel`. A refusal calls it before this returns; an answer never does.

        Returns:
            A ticket to cancel it with, or None where it was refused.
        """
        try:
            served = self.model(request.model, request.version)
        except ForetellError as error:
            done(error)
            return None
        return served.infer(request, done)

    async def answer(self, request: InferRequest) -> InferResponse:
        """Infer as a coroutine; cancelling it cancels the request. Costs a future; doors with callbacks use `infer`."""
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()

        def settle(result: InferResponse | ForetellError) -> None:
            if isinstance(result, ForetellError):
                future.set_exception(result)
            else:
                future.set_result(result)

        ticket = self.infer(request, settle)
        try:
            return await future
        finally:
            if ticket is not None:
                ticket.cancel()

    def model(self, name: str, version: str = "") -> Served:
        """Return a version that answers; without `version` the default one.

        Raises:
            ModelNotFound: There is none of this name or version.
            ModelNotReady: It is loading, failed or unloaded; the message has the reason.
            ServerDraining: The engine takes no more requests.
        """
        served = self.find(name, version)
        if self.draining:
            raise ServerDraining("server: draining, takes no more requests; ask another")
        if served.state is not State.READY:
            raise ModelNotReady(f'model "{name}": {served.state.value.lower()}: {served.reason}')
        return served

    def find(self, name: str, version: str = "") -> Served:
        """Return a version in whatever state; without `version` the default one.

        Raises:
            ModelNotFound: There is none of this name or version.
        """
        versions = self._models.get(name)
        if versions is None:
            raise ModelNotFound(f'model "{name}": not found')
        if not version:
            return self._default(name)
        if version not in versions:
            raise ModelNotFound(f'model "{name}": version "{version}" not found; there is {", ".join(versions)}')
        return versions[version]

    def index(self) -> list[Served]:
        """Return every version known, loaded or not, by name and version."""
        return [served for name in sorted(self._models) for served in self._models[name].values()]

    async def load(self, name: str, version: str = "") -> Served:
        """Load, or load anew: the version that answers goes on doing so until the new one is ready.

        Raises:
            ModelNotFound: Nothing of this name or version under the paths.
            LoadError: It cannot be loaded; a version that answered before still does.
        """
        served = self.find(name, version)
        await served.load(self._start_instance, self.limits, trust=self._trust)
        return served

    async def unload(self, name: str, version: str = "") -> None:
        """Answer what is in flight, then give everything back; without `version` every version.

        Raises:
            ModelNotFound: There is none of this name or version.
        """
        await self.find(name, version).unload()

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Take no more requests and wait for those in flight. False: some were left when the time was over."""
        self.draining = True
        return True

    async def close(self) -> None:
        """Unload everything at once."""
        for served in self.index():
            if served.state is State.READY:
                await served.unload()

    def _default(self, name: str) -> Served:
        versions = self._models[name]
        ready = [s for s in versions.values() if s.state is State.READY]
        return (ready or list(versions.values()))[-1]

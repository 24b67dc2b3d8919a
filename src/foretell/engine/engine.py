"""Answer inference requests in real time.

1. admit    take a place in the queue, or refuse at once what would not be answered in time
2. lease    hold the version, so that it cannot unload under the request
3. check    tensors against the signature; the caller's faults end here, before any batch
4. batch    wait while rows of other callers join
5. run      one batch to an instance of the version
6. answer   split, settle each caller exactly once

Steps 1 and 3 to 6 are the batcher's, step 2 is `routes` and the count of what is pending. Knows nothing of HTTP,
gRPC, files or any ML framework.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from foretell import machine
from foretell.clock import Clock, MonotonicClock
from foretell.engine.instance import StartInstance
from foretell.engine.limits import Limits
from foretell.engine.pieces import Whole
from foretell.engine.repository import Repository
from foretell.engine.served import House, Served
from foretell.engine.ticket import Done, Ticket
from foretell.errors import ForetellError, ServerDraining
from foretell.metrics import Metrics
from foretell.request import InferRequest, InferResponse

__all__ = ["Engine"]


class Engine:
    """Loaded models and their queues. Used from one event loop alone.

    Attributes:
        limits: The settings.
        clock: Deadlines are instants of it.
        metrics: Counts everything.
        draining: No more requests are taken.
    """

    def __init__(
        self,
        start_instance: StartInstance,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        metrics: Metrics | None = None,
        trust: bool = False,
        cores: int | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.clock: Clock = clock or MonotonicClock()
        self.metrics = metrics or Metrics()
        self.draining = False
        epoch_s = time.time() - self.clock.now()
        house = House(start_instance, self.limits, self.clock, self.metrics, trust, cores or machine.cores(), epoch_s)
        self._repository = Repository(house)

    @property
    def ready(self) -> bool:
        """Whether it takes requests and every model has a version that answers."""
        if self.draining:
            return False
        routes = self._repository.routes
        names = {served.name for served in self._repository.index()}
        return all((name, "") in routes and routes[name, ""].is_ready for name in names)

    async def start(self, paths: Sequence[Path]) -> None:
        """Find the models under `paths` and load the newest version of each.

        A model that cannot be loaded becomes FAILED with its reason; the others live on.

        Raises:
            ConfigError: A path is not there or holds no model.
        """
        await self._repository.start(paths)

    def infer(self, request: InferRequest, done: Done) -> Ticket | Whole | None:
        """Admit a request, or refuse it.

        Args:
            request: Its arrays belong to the engine until it is settled.
            done: Called exactly once, from the event loop, with the answer or the error; never once `cancel` has
                returned True. A refusal calls it before this returns, an answer never does.

        Returns:
            A ticket whose `cancel()` says that the caller has gone, or None where the request was refused.
        """
        served = self._repository.routes.get((request.model, request.version))
        if served is None or self.draining:
            self._refuse(request, done)
            return None
        return served.infer(request, done)

    async def answer(self, request: InferRequest) -> InferResponse:
        """Infer as a coroutine; cancelling it cancels the request. It costs a future: doors with callbacks use `infer`.

        Raises:
            ForetellError: What `infer` gives to `done`.
        """
        future: asyncio.Future[InferResponse] = asyncio.get_running_loop().create_future()

        def settle(result: InferResponse | ForetellError) -> None:
            if future.done():
                return
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
        served = self._repository.routes.get((name, version))
        if served is None or self.draining:
            raise self._why_not(name, version)
        return served

    def find(self, name: str, version: str = "") -> Served:
        """Return a version in whatever state; without `version` the default one, or the newest.

        Raises:
            ModelNotFound: There is none of this name or version.
        """
        return self._repository.find(name, version)

    def index(self) -> list[Served]:
        """Return every version known, loaded or not, by name and version."""
        return self._repository.index()

    async def load(self, name: str, version: str = "") -> Served:
        """Load a version, or load it anew: the one that answers goes on doing so until the new one is ready.

        Raises:
            ModelNotFound: Nothing of this name or version under the paths.
            ForetellError: It cannot be loaded; a version that answered before still does.
        """
        return await self._repository.load(name, version)

    async def unload(self, name: str, version: str = "") -> None:
        """Answer what is in flight, then give everything back; without `version` every version.

        Raises:
            ModelNotFound: There is none of this name or version.
        """
        await self._repository.unload(name, version)

    async def drain(self, timeout_s: float | None = None) -> bool:
        """Take no more requests and wait for those in flight. False: some were left when the time was over."""
        self.draining = True
        limit_s = self.limits.drain_s if timeout_s is None else timeout_s
        waits = (served.drained(limit_s) for served in self.index())
        return all(await asyncio.gather(*waits))

    async def close(self) -> None:
        """End everything at once; whatever is pending gets an error."""
        self.draining = True
        await self._repository.close()

    def _refuse(self, request: InferRequest, done: Done) -> None:
        error = self._why_not(request.model, request.version)
        # Only names that exist become labels: a caller must not be able to make metrics grow.
        self.metrics.refused.child("", "", error.code).add()
        done(error)

    def _why_not(self, name: str, version: str) -> ForetellError:
        if self.draining:
            return ServerDraining("server: draining, it takes no more requests; ask another")
        try:
            return self._repository.find(name, version).not_ready()
        except ForetellError as error:
            return error

"""Takes every HTTP call to what answers it, and turns whatever goes wrong into an answer."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from time import perf_counter

from foretell.engine.engine import Engine
from foretell.errors import ForetellError, InternalError
from foretell.metrics import Count
from foretell.protocol.status import Refused
from foretell.server.call import Call
from foretell.server.connection import WANTED, Peer
from foretell.server.doors import Doors
from foretell.server.guard import Guard
from foretell.server.heads import Heads
from foretell.server.inference import Inference
from foretell.server.information import Information
from foretell.server.lane import Lane
from foretell.server.observer import TRACE_HEADERS, Observer, account_of
from foretell.server.refusals import Refusals
from foretell.server.routes import match
from foretell.server.settings import ServerSettings
from foretell.server.streams.desk import Streams
from foretell.server.urgency import Urgency, urgency_of

__all__ = ["HttpDesk"]

_LOG = logging.getLogger("foretell.server")
_REMEMBERED = 1024

Handler = Callable[[Call, str, str], None]


class HttpDesk:
    """All of the HTTP door that is not one connection."""

    def __init__(
        self, engine: Engine, settings: ServerSettings, doors: Doors, observer: Observer | None = None
    ) -> None:
        self.settings = settings
        self.connections: set[Peer] = set()
        self.draining = False
        self.body_bytes = 0
        self._guard = Guard(settings)
        self._observer = observer
        traced = observer is not None and observer.tracer is not None
        self.wanted = WANTED | TRACE_HEADERS if traced else WANTED
        self.heads = Heads(self.wanted)
        self._metrics = engine.metrics
        self._done: dict[str, Count] = {}
        self._inferred = self._metrics.responses.child("http", "infer", "200")
        self._refusals = Refusals()
        inference, information = Inference(engine, doors, self._refusals), Information(engine, settings, doors)
        streams = Streams(engine, doors, self, observer)
        self._handlers: dict[str, Handler] = {
            "infer": inference.infer,
            "predict": inference.predict,
            "invocations": lambda call, _model, _version: inference.predict(call, information.only_model(), ""),
            "stream": streams.open,
            "camera": streams.show,
            **information.handlers(),
        }
        self._known: dict[bytes, tuple[Handler, str, str, str]] = {}
        self._doors = doors
        self._lanes: dict[tuple[str, str, Urgency], Lane] = {}
        self._prefix = os.urandom(4).hex().encode()
        self._ids = itertools.count(1)
        engine.metrics.connections.child("http").read = lambda: len(self.connections)

    def admit_headers(self, call: Call) -> None:
        """Refuse a call by its headers alone."""
        self._guard.check(call.method, call.target, call.headers)

    def handle(self, call: Call) -> None:
        """Answer a call, now or later."""
        try:
            known = self._known.get(call.target) if call.method == b"POST" else None
            handler, label, model, version = known or self._find(call)
            call.label = label
            handler(call, model, version)
        except ForetellError as error:
            call.fail(error)
        except Exception:  # noqa: BLE001 - whatever it is, the server lives on
            _LOG.exception("request %s: failed", call.id.decode("ascii"))
            call.fail(InternalError("the request could not be handled. This is a bug."))

    def lane(self, target: bytes, headers: dict[bytes, bytes]) -> Lane | None:
        """Return the short way of plain calls to a target that was called before, with these headers, or None."""
        known = self._known.get(target)
        if known is None or known[1] != "infer":
            return None
        try:
            urgency = urgency_of(headers)
        except Refused:
            return None
        _, _, model, version = known
        lane = self._lanes.get((model, version, urgency))
        if lane is None:
            if len(self._lanes) >= _REMEMBERED:
                self._lanes.clear()
            is_observed = self._observer is not None
            lane = Lane(
                model, version, urgency, self._doors, self._refusals, self.handle, self._answered, self.connections,
                is_observed=is_observed,
            )  # fmt: skip
            self._lanes[model, version, urgency] = lane
        return lane

    def new_id(self) -> bytes:
        """Return an id for a request that brought none."""
        return b"%b-%x" % (self._prefix, next(self._ids))

    def replied(self, call: Call, status: int) -> None:
        """Count a reply."""
        count = self._done.get(call.label) if status == 200 else None
        if count is None:
            count = self._metrics.responses.child("http", call.label, str(status))
            if status == 200:
                self._done[call.label] = count
        count.value += 1
        if self._observer is not None:
            self._tell(call, status)

    def _answered(self, calls: list[Call]) -> None:
        """Count calls of a lane, all answered with 200."""
        self._inferred.value += len(calls)
        for call in calls if self._observer is not None else ():
            self._tell(call, 200)

    def _tell(self, call: Call, status: int) -> None:
        *_, model, version = self._known.get(call.target) or ("", "")
        if self._observer is not None:
            self._observer.told(account_of(call, status, model, version, perf_counter()))

    def check(self, now: float) -> None:
        """Look after slow clients."""
        for connection in list(self.connections):
            connection.check(now)

    def _find(self, call: Call) -> tuple[Handler, str, str, str]:
        found = match(call.method, call.target)
        known = self._handlers[found.label], *found
        if call.method == b"POST":
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[call.target] = known
        return known

"""What is told of a request once it is answered: a line of the log, and a span. Costs nothing while both are off.

Knows no wire: each door fills in an `Account`, and only where `observer_of` gave it an observer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from foretell.errors import ForetellError
from foretell.request import BULK, INTERACTIVE, InferResponse
from foretell.server.logs import RequestLog

if TYPE_CHECKING:
    from foretell.server.call import Call

__all__ = ["Account", "Observer", "Tracer", "account_of", "observer_of"]

TRACE_HEADERS = frozenset((b"traceparent", b"tracestate"))
"""Headers by which a caller says which trace it is in (W3C Trace Context)."""


@dataclass(slots=True, kw_only=True)
class Account:
    """What is known of a request when its answer goes out. Instants are those of `time.perf_counter`, in seconds."""

    door: str
    """`http` or `grpc`."""
    route: str
    """`infer`, `predict` and so on over HTTP; the method over gRPC."""
    request: str
    """Method and path, or the method; as the client sent it."""
    id: str
    status: int | str
    """Of HTTP, or the name of gRPC's code."""
    started: float
    ended: float
    settled: float = 0.0
    """When the engine gave its answer; 0: it was not asked."""
    result: InferResponse | ForetellError | None = None
    model: str = ""
    version: str = ""
    """The one asked for; the answer tells which it was."""
    rows: int = 0
    priority: int = INTERACTIVE
    traceparent: str = ""
    tracestate: str = ""

    def __post_init__(self) -> None:
        result = self.result
        if isinstance(result, InferResponse):
            self.model, self.version, self.rows = result.model, result.version, result.rows

    @property
    def code(self) -> str:
        """`ok`, or the code of the error."""
        return self.result.code if isinstance(self.result, ForetellError) else "ok"

    @property
    def priority_name(self) -> str:
        """As the header says it."""
        return "bulk" if self.priority == BULK else "interactive"

    def stages_s(self) -> dict[str, float]:
        """Return how long each stage took, in seconds and in order; empty where the model did not answer."""
        if not isinstance(self.result, InferResponse) or not self.settled:
            return {}
        timing = self.result.timing
        total_s, queue_s = timing.total_ns * 1e-9, timing.queue_ns * 1e-9
        return {
            "prepare": max(0.0, self.settled - total_s - self.started),
            "queue": queue_s,
            "run": total_s - queue_s,
            "answer": max(0.0, self.ended - self.settled),
        }


class Tracer(Protocol):
    """Makes a span of a request."""

    def record(self, account: Account) -> None:
        """Tell of a request; returns at once and raises nothing."""
        ...


class Observer:
    """Tells the log and the tracer."""

    def __init__(self, log: RequestLog, tracer: Tracer | None) -> None:
        self.log = log
        self.tracer = tracer

    def told(self, account: Account) -> None:
        """Take the account of a request."""
        self.log.write(account)
        if self.tracer is not None:
            self.tracer.record(account)


def observer_of(log_share: float, tracer: Tracer | None) -> Observer | None:
    """Return an observer, or None where nobody wants to know."""
    return Observer(RequestLog(log_share), tracer) if log_share > 0 or tracer is not None else None


def account_of(call: Call, status: int, model: str, version: str, ended: float) -> Account:
    """Return the account of a call over HTTP; its path named `model` and `version`."""
    headers = call.headers
    return Account(
        door="http",
        route=call.label,
        request=f"{call.method.decode('latin-1')} {call.target.decode('latin-1')}",
        id=call.id.decode("ascii"),
        status=status,
        started=call.started,
        ended=ended,
        settled=getattr(call, "settled", 0.0),
        result=getattr(call, "result", None),
        model=model,
        version=version,
        rows=getattr(call, "rows", 0),
        priority=getattr(call, "priority", INTERACTIVE),
        traceparent=headers.get(b"traceparent", b"").decode("latin-1"),
        tracestate=headers.get(b"tracestate", b"").decode("latin-1"),
    )

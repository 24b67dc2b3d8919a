"""What an error is on the wire: the only table from its class to an HTTP status and a gRPC code.

Knows no HTTP library and no gRPC library.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from foretell.errors import (
    ConfigError,
    DeadlineExceeded,
    ForetellError,
    InternalError,
    LoadError,
    MachineError,
    MalformedRequest,
    ModelError,
    ModelNotFound,
    Quarantined,
    QueueFull,
    RequestError,
    RequestTooLarge,
    Unavailable,
)

__all__ = ["STATUSES", "Refused", "Status", "error_body", "error_text", "retry_after_s", "status_of"]

_LONGEST_TEXT = 300


class Status(NamedTuple):
    """How a class of errors is told."""

    http: int
    grpc: str
    """Name of a code of gRPC, such as `INVALID_ARGUMENT`."""


STATUSES: dict[type[ForetellError], Status] = {
    RequestError: Status(400, "INVALID_ARGUMENT"),
    ModelNotFound: Status(404, "NOT_FOUND"),
    RequestTooLarge: Status(413, "RESOURCE_EXHAUSTED"),
    Quarantined: Status(422, "FAILED_PRECONDITION"),
    Unavailable: Status(503, "UNAVAILABLE"),
    QueueFull: Status(429, "RESOURCE_EXHAUSTED"),
    DeadlineExceeded: Status(504, "DEADLINE_EXCEEDED"),
    ModelError: Status(500, "INTERNAL"),
    LoadError: Status(422, "FAILED_PRECONDITION"),
    ConfigError: Status(400, "INVALID_ARGUMENT"),
    MachineError: Status(500, "INTERNAL"),
    InternalError: Status(500, "INTERNAL"),
    ForetellError: Status(500, "INTERNAL"),
}
"""A class without a row has that of its nearest ancestor."""

_GRPC_OF_HTTP = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}


class Refused(MalformedRequest):
    """A request that a door refuses by itself, before any model is asked.

    Attributes:
        status: Of HTTP.
        allow: The methods that are allowed there, where the status is 405.
    """

    def __init__(
        self, message: str, *, code: str = "malformed_request", status: int = 400, allow: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.allow = allow
        self.code = code
        self.status = status


def status_of(error: ForetellError) -> Status:
    """Return how an error is told."""
    if isinstance(error, Refused):
        return Status(error.status, _GRPC_OF_HTTP.get(error.status, "INVALID_ARGUMENT"))
    for kind in type(error).__mro__:
        found = STATUSES.get(kind)
        if found is not None:
            return found
    return STATUSES[ForetellError]


def retry_after_s(error: ForetellError) -> int | None:
    """Return in how many whole seconds a retry is worth it, or None where it is not."""
    if isinstance(error, Unavailable):
        return max(1, round(error.retry_after_s))
    return 1 if isinstance(error, Refused) and error.status == 503 else None


def error_text(error: ForetellError) -> str:
    """Return the line a caller is told: without control characters, at most 300 characters.

    What is the model's, the machine's or ours stays in the log: its text may hold paths and addresses.
    """
    if status_of(error).http == 500:
        return f"{_INTERNAL.get(error.code, 'the server failed')}; the log has the details under this request's id"
    line = " ".join(str(error).split())
    if not line.isprintable():
        line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 4]} ..."


def error_body(error: ForetellError, request_id: str) -> bytes:
    """Return the JSON body of an error: `{"error", "code", "id"}`."""
    return orjson.dumps({"error": error_text(error), "code": error.code, "id": request_id})


_INTERNAL = {
    "inference_failed": "the model failed on this request",
    "invalid_output": "the model gave an answer that does not fit its signature",
    "worker_crashed": "this request brings the model's process down; it will be refused for a while",
    "machine_error": "the server's machine failed",
    "out_of_memory": "this request takes more memory than its model may use; send fewer or smaller rows",
}

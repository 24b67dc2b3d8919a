"""The tree of errors: whose fault it is, and whether a retry is useful.

    ForetellError
      RequestError         the caller's; the same request fails again
        InvalidInput         the data does not fit the signature; names column, row and value
        MalformedRequest     the bytes are not the protocol
        ModelNotFound        no such model or version
        RequestTooLarge      over a limit that is not going to move
        Quarantined          these inputs have just brought a worker down
      Unavailable          nobody's; retry after `retry_after_s`
        QueueFull            no place in the queue
        Overloaded           it would not be answered in time
        ModelNotReady        loading, failed, or unloading
        ServerDraining       about to stop
      DeadlineExceeded     the caller's time ran out
      ModelError           the model's, while it runs
        InferenceFailed      the runtime raised
        InvalidOutput        its outputs do not fit the signature
        WorkerCrashed        this request brings its process down, alone too
      LoadError            the model's, when it is opened
        ArtifactInvalid      damaged, or not what it claims to be
        ArtifactUntrusted    may run code, or reaches outside its folder
        RuntimeMissing       a library that is not installed
        ProofFailed          the converted model does not answer like the original
      ConfigError          wrong use: an option, a path, an argument
      MachineError         no disk, no memory, no permission
        OutOfMemory          this batch takes more memory than there is for it
      InternalError        ours

A message is one line: subject, got, expected, what to do. Knows no HTTP, no gRPC and no exit code.
"""

from __future__ import annotations

__all__ = [
    "ArtifactInvalid",
    "ArtifactUntrusted",
    "ConfigError",
    "DeadlineExceeded",
    "ForetellError",
    "InferenceFailed",
    "InternalError",
    "InvalidInput",
    "InvalidOutput",
    "LoadError",
    "MachineError",
    "MalformedRequest",
    "ModelError",
    "ModelNotFound",
    "ModelNotReady",
    "OutOfMemory",
    "Overloaded",
    "ProofFailed",
    "Quarantined",
    "QueueFull",
    "RequestError",
    "RequestTooLarge",
    "RuntimeMissing",
    "ServerDraining",
    "Unavailable",
    "WorkerCrashed",
]


class ForetellError(Exception):
    """Root of everything Foretell raises on purpose."""

    code = "error"
    """Stable name of the class for machines, in snake_case."""


class RequestError(ForetellError):
    """The caller's fault: the same request fails again."""

    code = "bad_request"


class InvalidInput(RequestError):
    """Data that does not fit the signature.

    Attributes:
        column: Name of the column at fault, or None.
        row: Index of the row at fault among the rows of this call, from 0, or None.
    """

    code = "invalid_input"

    def __init__(self, message: str, *, column: str | None = None, row: int | None = None) -> None:
        super().__init__(message)
        self.column = column
        self.row = row


class MalformedRequest(RequestError):
    """The bytes are not the protocol."""

    code = "malformed_request"


class ModelNotFound(RequestError):
    """No such model, or no such version of it."""

    code = "model_not_found"


class RequestTooLarge(RequestError):
    """Over a limit that the same request will meet again."""

    code = "request_too_large"


class Quarantined(RequestError):
    """These inputs have just brought a worker down; they are refused for a while."""

    code = "quarantined"


class Unavailable(ForetellError):
    """Nobody's fault: the same request may succeed later.

    Attributes:
        retry_after_s: When a retry is worth it, in seconds from now.
    """

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(Unavailable):
    """The queue has no place for these rows or bytes."""

    code = "queue_full"


class Overloaded(Unavailable):
    """It would not be answered before its deadline, so it was not begun."""

    code = "overloaded"


class ModelNotReady(Unavailable):
    """The model is loading, has failed to load, or is unloading."""

    code = "model_not_ready"


class ServerDraining(Unavailable):
    """The server is about to stop and takes no more requests."""

    code = "server_draining"


class DeadlineExceeded(ForetellError):
    """The caller's own time ran out; the message says where."""

    code = "deadline_exceeded"


class ModelError(ForetellError):
    """The model's fault, while it runs."""

    code = "model_error"


class InferenceFailed(ModelError):
    """The runtime raised."""

    code = "inference_failed"


class InvalidOutput(ModelError):
    """The runtime's outputs do not fit the signature."""

    code = "invalid_output"


class WorkerCrashed(ModelError):
    """The worker dies of this request, also when it runs alone."""

    code = "worker_crashed"


class LoadError(ForetellError):
    """The model cannot be opened."""

    code = "load_error"


class ArtifactInvalid(LoadError):
    """The file is damaged, or not what it claims to be."""

    code = "artifact_invalid"


class ArtifactUntrusted(LoadError):
    """Opening the file may run code, or it reaches outside its own folder."""

    code = "artifact_untrusted"


class RuntimeMissing(LoadError):
    """A library that this model needs is not installed; the message has the pip line."""

    code = "runtime_missing"


class ProofFailed(LoadError):
    """The converted model, or a replayed golden example, does not answer like the original."""

    code = "proof_failed"


class ConfigError(ForetellError):
    """Wrong use: an option, a path or an argument."""

    code = "config_error"


class MachineError(ForetellError):
    """The machine's fault: disk, memory, permission."""

    code = "machine_error"


class OutOfMemory(MachineError):
    """This batch takes more memory than there is for it; a smaller one may run."""

    code = "out_of_memory"


class InternalError(ForetellError):
    """Ours. This is a bug."""

    code = "internal_error"

"""The tree of errors: whose fault it is, and whether a retry is useful.

    ForetellError
      RequestError         the caller's; the same request fails again
        InvalidInput         the data does not fit the signature; names column, row and value
      ModelError           the model's, while it runs
        InferenceFailed      the runtime raised
        InvalidOutput        its outputs do not fit the signature
      LoadError            the model's, when it is opened
        ArtifactInvalid      damaged, or not what it claims to be
        ArtifactUntrusted    may run code, or reaches outside its folder
        RuntimeMissing       a library that is not installed
        ProofFailed          the converted model does not answer like the original
      ConfigError          wrong use: an option, a path, an argument
      MachineError         no disk, no memory, no permission
      InternalError        ours

A message is one line: subject, got, expected, what to do. Knows no HTTP, no gRPC and no exit code.
"""

from __future__ import annotations

__all__ = [
    "ArtifactInvalid",
    "ArtifactUntrusted",
    "ConfigError",
    "ForetellError",
    "InferenceFailed",
    "InternalError",
    "InvalidInput",
    "InvalidOutput",
    "LoadError",
    "MachineError",
    "ModelError",
    "ProofFailed",
    "RequestError",
    "RuntimeMissing",
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


class ModelError(ForetellError):
    """The model's fault, while it runs."""

    code = "model_error"


class InferenceFailed(ModelError):
    """The runtime raised."""

    code = "inference_failed"


class InvalidOutput(ModelError):
    """The runtime's outputs do not fit the signature."""

    code = "invalid_output"


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


class InternalError(ForetellError):
    """Ours. This is a bug."""

    code = "internal_error"

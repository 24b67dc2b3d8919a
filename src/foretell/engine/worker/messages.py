"""Texts between the front and a worker: the hello and what went wrong, in as many frames as they take. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from foretell.engine.worker.frames import FAILURE, HEAD, HELLO, NO_SLOT, UNFINISHED, FrameBroken, Head, Place
from foretell.errors import (
    ArtifactInvalid,
    ArtifactUntrusted,
    ConfigError,
    ForetellError,
    InferenceFailed,
    InternalError,
    InvalidInput,
    InvalidOutput,
    LoadError,
    MachineError,
    ModelError,
    OutOfMemory,
    ProofFailed,
    RequestTooLarge,
    RuntimeMissing,
)

__all__ = ["TextReader", "failure_frames", "hello_frames", "read_failure", "read_hello", "write_failure"]

_FRAME_BYTES = 1 << 15
_MOST_BYTES = 64 << 20
_MOST_SHOWN = 400
_ERRORS: dict[str, type[ForetellError]] = {
    kind.code: kind
    for kind in (
        InferenceFailed, InvalidInput, InvalidOutput, RequestTooLarge, ModelError, LoadError, ArtifactInvalid,
        ArtifactUntrusted, RuntimeMissing, ProofFailed, ConfigError, MachineError, OutOfMemory,
        InternalError,
    )
}  # fmt: skip


class TextReader:
    """Puts the frames of one text after another together."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._bytes = 0

    def add(self, head: Head, frame: Place, length: int) -> str | None:
        """Take a frame of `length` bytes; return the text once it is whole.

        Raises:
            FrameBroken: The text is too long.
        """
        part = bytes(memoryview(frame)[HEAD.size : length])
        self._parts.append(part)
        self._bytes += len(part)
        if self._bytes > _MOST_BYTES:
            raise FrameBroken(f"a text of more than {_MOST_BYTES} bytes")
        if head.kind & UNFINISHED:
            return None
        text = b"".join(self._parts).decode("utf-8", "replace")
        self._parts, self._bytes = [], 0
        return text


def failure_frames(job: int, error: ForetellError) -> Iterator[bytes]:
    """Yield the frames that say what went wrong: the code of its class, and one line."""
    return _frames(FAILURE, job, write_failure(error))


def write_failure(error: ForetellError) -> str:
    """Return the code of an error's class, and one line."""
    return f"{error.code}\n{_one_line(str(error))}"


def hello_frames(facts: dict[str, Any]) -> Iterator[bytes]:
    """Yield the frames of what a worker says of itself once it is ready."""
    return _frames(HELLO, 0, json.dumps(facts, default=str))


def read_failure(text: str) -> ForetellError:
    """Return the error of a failure; a code that is not known is taken for InferenceFailed."""
    code, _, message = text.partition("\n")
    return _ERRORS.get(code, InferenceFailed)(_one_line(message) or "the model failed and does not say why")


def read_hello(text: str) -> dict[str, Any]:
    """Return the facts of a hello; raise FrameBroken if they are not JSON."""
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FrameBroken(f"a hello that is not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise FrameBroken("a hello that is not an object")
    return facts


def _frames(kind: int, job: int, text: str) -> Iterator[bytes]:
    content = text.encode("utf-8", "replace")
    for at in range(0, max(1, len(content)), _FRAME_BYTES):
        more = UNFINISHED if at + _FRAME_BYTES < len(content) else 0
        yield HEAD.pack(kind | more, 0, NO_SLOT, 0, job, 0, 0, 0) + content[at : at + _FRAME_BYTES]


def _one_line(text: str) -> str:
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= _MOST_SHOWN else line[: _MOST_SHOWN - 3] + "..."

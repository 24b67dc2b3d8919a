"""Frames between a process and its child: a JSON header, then raw payloads, each with its length.

Nothing here is ever unpickled. The other side may be hostile, so lengths are capped before a byte is read.
Knows no process and no command.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FrameBroken", "pack_array", "pack_table", "receive", "send", "unpack_array", "unpack_table"]

_LENGTH = struct.Struct("<Q")
_MAX_HEADER_BYTES = 256 << 20
_MAX_PAYLOAD_BYTES = 16 << 30


class FrameBroken(Exception):
    """The other side is gone, or does not speak in frames."""


def send(stream: IO[bytes], header: dict[str, Any], payloads: Sequence[bytes] = ()) -> None:
    """Write one frame and flush it.

    Raises:
        FrameBroken: Nobody reads any more.
    """
    head = json.dumps(header | {"payload_bytes": [len(p) for p in payloads]}).encode()
    try:
        stream.write(_LENGTH.pack(len(head)) + head)
        for payload in payloads:
            stream.write(payload)
        stream.flush()
    except (OSError, ValueError) as error:
        raise FrameBroken(f"nobody reads: {error}") from error


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Read one frame.

    Raises:
        FrameBroken: The stream ended, or what came is not a frame.
    """
    head = _exactly(stream, _bounded(_LENGTH.unpack(_exactly(stream, _LENGTH.size))[0], _MAX_HEADER_BYTES))
    try:
        header = json.loads(head)
        lengths = [_bounded(n, _MAX_PAYLOAD_BYTES) for n in header.pop("payload_bytes")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FrameBroken(f"not a frame: {error}") from error
    return header, [_exactly(stream, n) for n in lengths]


def pack_array(array: NDArray[Any]) -> bytes:
    """Return an array of numbers or strings as `.npy` bytes."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def unpack_array(content: bytes) -> NDArray[Any]:
    """Return the array of `.npy` bytes.

    Raises:
        ArtifactInvalid: The bytes are not an array of numbers or strings.
    """
    try:
        array: NDArray[Any] = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ArtifactInvalid(f"answer of the estimator: not an array: {error}") from error
    return array


def pack_table(table: pa.Table) -> bytes:
    """Return a table as an Arrow IPC stream."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def unpack_table(content: bytes) -> pa.Table:
    """Return the table of an Arrow IPC stream, checked in full."""
    import pyarrow as pa

    try:
        table = pa.ipc.open_stream(content).read_all()
        table.validate(full=True)
    except pa.ArrowException as error:
        raise ArtifactInvalid(f"rows for the estimator: {error}") from error
    return table


def _bounded(length: Any, most: int) -> int:
    if type(length) is not int or not 0 <= length <= most:
        raise FrameBroken(f"a length of {length!r}, at most {most}")
    return length


def _exactly(stream: IO[bytes], length: int) -> bytes:
    try:
        content = stream.read(length)
    except (OSError, ValueError) as error:
        raise FrameBroken(f"nobody writes: {error}") from error
    if len(content) != length:
        raise FrameBroken("the stream ended")
    return content

"""How much room a job needs still, guessed from what it has written so far. Pure."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from foretell.bulk.journal import ChunkLine

__all__ = ["is_full", "needed_bytes"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that a disk is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False


def needed_bytes(lines: Iterable[ChunkLine], input_bytes: int, written_bytes: int) -> int | None:
    """Return about how many bytes are to be written still.

    Args:
        lines: Of chunks that are done, and of the one that found no room.
        input_bytes: Of all files of the job; 0 where it is not known.
        written_bytes: What lies on the disk already, parts and outputs.

    Returns:
        Bytes for all parts and as many for the outputs, less those that are there; None where nothing is known.
    """
    part_bytes = read_bytes = 0
    for line in lines:
        part_bytes += line.part_bytes
        read_bytes += line.size_bytes
    if not read_bytes or not part_bytes:
        return None
    share = part_bytes / read_bytes
    return max(round(2 * share * max(input_bytes, read_bytes)) - written_bytes, round(share))

"""Slots of memory that the front and one worker share, for tensors too big for a socket.

A job has one slot for as long as it is in flight: its inputs stand in the first half, its outputs in the second.
The memory is sparse, so a slot costs what was written to it. Its size is sealed: a worker that shrank it would
bring the front down with SIGBUS. Linux only.
"""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np

from foretell.engine.worker.frames import Packed, offsets

__all__ = ["SLOTS", "SLOT_BYTES", "Slots", "offered"]

SLOTS = 4
SLOT_BYTES = 1 << 28
"""Most bytes of a job's inputs, and of its outputs."""
_TRIMMED_BYTES = 1 << 21
"""Least bytes of a half of a slot that are given back at once."""
_TRIMS = 16
"""Calls after which all are."""
_SEALS = "F_ADD_SEALS", "F_SEAL_SEAL", "F_SEAL_SHRINK", "F_SEAL_GROW"


def offered() -> bool:
    """Return whether this system has memory that can be shared and sealed."""
    return hasattr(os, "memfd_create") and all(hasattr(fcntl, name) for name in _SEALS)


class Slots:
    """The slots of one worker, seen from one side."""

    def __init__(self, fd: int) -> None:
        """Map them; the descriptor stays the caller's."""
        self._memory: mmap.mmap | None = mmap.mmap(fd, 2 * SLOTS * SLOT_BYTES)
        self._free = list(range(SLOTS))
        self._used: dict[int, int] = {}
        self._lately: set[int] = set()

    @staticmethod
    def create() -> int:
        """Return the descriptor of fresh slots."""
        fd = os.memfd_create("foretell", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, 2 * SLOTS * SLOT_BYTES)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        except OSError:
            os.close(fd)
            raise
        return fd

    def take(self) -> int | None:
        """Return a free slot, which then is not free; None if there is none."""
        return self._free.pop() if self._free else None

    def give(self, slot: int) -> None:
        """Take a slot back."""
        self._free.append(slot)

    def inputs(self, slot: int) -> memoryview:
        """Return the half of a slot that the front writes."""
        return self._half(2 * slot)

    def outputs(self, slot: int) -> memoryview:
        """Return the half of a slot that the worker writes."""
        return self._half(2 * slot + 1)

    def write(self, place: memoryview, packed: Packed) -> None:
        """Copy tensors into half of a slot; they must fit."""
        for at, part, size in offsets(packed):
            np.frombuffer(place, np.uint8, size, at)[:] = np.frombuffer(part, np.uint8) if size else 0

    def touch(self, slot: int, nbytes: int) -> None:
        """Remember that so many bytes of a half of a slot were written to."""
        self._lately.add(slot)
        if nbytes > self._used.get(slot, 0):
            self._used[slot] = nbytes

    def trim(self) -> None:
        """Give some memory of slots back that were not written to since the last call: all of it takes long."""
        if self._memory is None:
            return
        for slot, used in list(self._used.items()):
            if slot in self._lately:
                self._lately.discard(slot)
            elif slot in self._free:
                left = max(0, used - max(_TRIMMED_BYTES, used // _TRIMS)) & -mmap.PAGESIZE
                for half in (2 * slot, 2 * slot + 1):
                    self._memory.madvise(mmap.MADV_REMOVE, half * SLOT_BYTES + left, used - left)
                self._used[slot] = left
                if not left:
                    del self._used[slot]

    def close(self) -> None:
        """Let the memory go, once nobody looks at it any more. Idempotent."""
        self._memory = None

    def _half(self, number: int) -> memoryview:
        if self._memory is None:
            raise ValueError("the slots are closed")
        return memoryview(self._memory)[number * SLOT_BYTES : (number + 1) * SLOT_BYTES]

"""Batches on their way to one worker and back: packed, given a slot, sent, and their answers believed only if they fit.

A small batch is copied once, into the socket, and its answer once, out of it. Larger tensors go through the slot
of their job, and the largest are copied by a thread so that the event loop does not stand still. Knows no process.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.engine.worker.frames import (
    ALIGN,
    IN_SLOT,
    INLINE_BYTES,
    JOB,
    NO_SLOT,
    FrameBroken,
    Head,
    Packed,
    Place,
    pack,
    parts_in_slot,
    parts_inline,
)
from foretell.engine.worker.link import Link
from foretell.engine.worker.pictures import errors_of
from foretell.engine.worker.reading import read_tensors
from foretell.engine.worker.slots import SLOT_BYTES, Slots
from foretell.errors import ForetellError, InternalError, RequestTooLarge
from foretell.signature import Signature

__all__ = ["Flights"]

_ELSEWHERE_BYTES = 1 << 20
"""Tensors of more bytes are copied by a thread."""
_OBJECT = dtype_of("BYTES")


class _Flight(NamedTuple):
    rows: int
    slot: int
    dtypes: list[Any]
    """Of the answer."""


class _Reports(Protocol):
    """Where answers go; the instance, in the end."""

    def answered(self, job: int, outputs: list[NDArray[Any]], ns: int) -> None: ...
    def failed(self, job: int, error: ForetellError) -> None: ...


class Flights:
    """What is in flight to one worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, link: Link, slots: Slots | None, reports: _Reports) -> None:
        self._loop, self._link, self._slots, self._reports = loop, link, slots, reports
        self._flights: dict[int, _Flight] = {}
        self._waiting: deque[tuple[int, int, Packed, list[Any]]] = deque()
        self._copying = 0
        self._closed = False
        self._names: list[str] = []
        self._dtypes: list[Any] = []
        self._picture_dtypes: list[Any] = []

    def fit(self, signature: Signature, pictures: Signature | None) -> None:
        """Take batches of this signature from now on, and of pictures."""
        self._names = [spec.name for spec in signature.inputs]
        self._dtypes = [dtype_of(spec.datatype) for spec in signature.outputs]
        if pictures is not None:
            self._picture_dtypes = [*(dtype_of(spec.datatype) for spec in pictures.outputs), _OBJECT]

    def __len__(self) -> int:
        return len(self._flights) + len(self._waiting) + self._copying

    def __contains__(self, job: int) -> bool:
        return job in self._flights

    def send(self, job: int, inputs: dict[str, NDArray[Any]], rows: int) -> None:
        """Send a batch, or keep it until a slot is free."""
        try:
            pictures = _pictures_in(inputs) if self._picture_dtypes else None
            packed = pack([inputs[name] for name in self._names] if pictures is None else [pictures])
        except (FrameBroken, KeyError) as error:
            raise InternalError(f"worker: a batch that fits no frame: {error}. This is a bug.") from error
        dtypes = self._dtypes if pictures is None else self._picture_dtypes
        if self._slots is None:
            self._send(job, rows, packed, dtypes, NO_SLOT)
            return
        slot = self._slots.take()
        if slot is None:
            self._waiting.append((job, rows, packed, dtypes))
        else:
            self._send(job, rows, packed, dtypes, slot)

    def _send(self, job: int, rows: int, packed: Packed, dtypes: list[Any], slot: int) -> None:
        self._flights[job] = _Flight(rows, slot, dtypes)
        if packed.total_bytes <= INLINE_BYTES or self._slots is None:
            self._link.send(parts_inline(JOB, job, rows, packed, slot))
        elif packed.total_bytes > SLOT_BYTES:
            error = RequestTooLarge(f"a batch of {packed.total_bytes} bytes, a worker takes at most {SLOT_BYTES}")
            self._loop.call_soon(self.fail, job, error)
        elif packed.total_bytes <= _ELSEWHERE_BYTES:
            self._slots.write(self._slots.inputs(slot), packed)
            self._send_slot(job, rows, packed, slot)
        else:
            write = self._loop.run_in_executor(None, self._slots.write, self._slots.inputs(slot), packed)
            write.add_done_callback(lambda _: self._send_slot(job, rows, packed, slot))

    def _send_slot(self, job: int, rows: int, packed: Packed, slot: int) -> None:
        if not self._closed and self._slots is not None:
            self._slots.touch(slot, packed.total_bytes)
            self._link.send(parts_in_slot(JOB, job, rows, packed, slot))

    def answer(self, head: Head, frame: Place, length: int) -> None:
        """Take the answer to a batch and report it.

        Raises:
            FrameBroken: It does not fit the batch or the signature.
        """
        flight = self._flights.get(head.job)
        if flight is None or head.rows != flight.rows:
            raise FrameBroken(f"an answer of {head.rows} rows to job {head.job}, which is not in flight so")
        if not head.kind & IN_SLOT:
            arrays = read_tensors(frame, length, head)
        elif self._slots is None or head.slot != flight.slot:
            raise FrameBroken(f"an answer in slot {head.slot}, which is not its own")
        else:
            arrays = read_tensors(frame, length, head, self._slots.outputs(flight.slot), SLOT_BYTES)
            self._slots.touch(flight.slot, sum(array.nbytes + ALIGN for array in arrays))
        _check(arrays, flight)
        if flight.dtypes is self._picture_dtypes:
            arrays[-1] = errors_of(arrays[-1])
        if head.kind & IN_SLOT and sum(a.nbytes for a in arrays) > _ELSEWHERE_BYTES:
            self._answer_later(head, flight, arrays)
            return
        outputs = _owned(arrays)
        self._land(head.job, flight.slot)
        self._reports.answered(head.job, outputs, head.ns)

    def _answer_later(self, head: Head, flight: _Flight, arrays: list[NDArray[Any]]) -> None:
        del self._flights[head.job]
        self._copying += 1

        def copied(done: asyncio.Future[list[NDArray[Any]]]) -> None:
            self._copying -= 1
            if self._closed:
                return
            self._give_back(flight.slot)
            self._reports.answered(head.job, done.result(), head.ns)

        self._loop.run_in_executor(None, _owned, arrays).add_done_callback(copied)

    def fail(self, job: int, error: ForetellError) -> None:
        """Report that a batch failed."""
        flight = self._flights.get(job)
        if flight is not None and not self._closed:
            self._land(job, flight.slot)
            self._reports.failed(job, error)

    def trim(self) -> None:
        """Give back shared memory that was not used lately."""
        if self._slots is not None and not self._closed:
            self._slots.trim()

    def close(self) -> None:
        """Report nothing any more, and let the shared memory go. Idempotent."""
        self._closed = True
        if self._slots is not None:
            self._slots.close()

    def _land(self, job: int, slot: int) -> None:
        del self._flights[job]
        self._give_back(slot)

    def _give_back(self, slot: int) -> None:
        if self._waiting:
            self._send(*self._waiting.popleft(), slot)
        elif self._slots is not None:
            self._slots.give(slot)


def _pictures_in(inputs: dict[str, NDArray[Any]]) -> NDArray[Any] | None:
    """Return the tensor of encoded pictures, if it is one: only that is of texts."""
    found = next(iter(inputs.values()))
    return found if found.dtype.kind == "O" else None


def _check(arrays: list[NDArray[Any]], flight: _Flight) -> None:
    rows, dtypes = flight.rows, flight.dtypes
    if len(arrays) != len(dtypes):
        raise FrameBroken(f"{len(arrays)} outputs, {len(dtypes)} expected")
    for array, dtype in zip(arrays, dtypes, strict=True):
        if array.dtype != dtype or array.ndim == 0 or len(array) != rows:
            raise FrameBroken(f"an output of {array.dtype} and shape {array.shape} for {rows} rows of {dtype}")


def _owned(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return arrays that hold their own memory."""
    return [array if array.base is None else array.copy() for array in arrays]

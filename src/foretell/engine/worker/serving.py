"""What a worker does once it is set up: load a model, warm it up, say hello, answer batches until the front closes.

Whatever goes wrong leaves as a code and one line, never as a traceback. Knows frames, and a model as something with
a signature and `infer`.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from time import perf_counter_ns
from typing import Any, Protocol

from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.engine.worker.frames import (
    ANSWER,
    IN_SLOT,
    INLINE_BYTES,
    NO_SLOT,
    Part,
    pack,
    parts_in_slot,
    parts_inline,
)
from foretell.engine.worker.messages import failure_frames, hello_frames
from foretell.engine.worker.pictures import Sight
from foretell.engine.worker.reading import read_head, read_tensors
from foretell.engine.worker.slots import SLOT_BYTES, Slots
from foretell.engine.worker.warmup import check_outputs, draw_inputs, measure
from foretell.engine.worker.wire import Wire
from foretell.errors import ForetellError, InferenceFailed, InvalidOutput, LoadError, MachineError, OutOfMemory
from foretell.machine import return_memory
from foretell.model.describe import write_signature, write_task
from foretell.model.tasks.predictions import Task
from foretell.signature import Signature

__all__ = [
    "Loaded", "Loader", "facts_of", "give_up", "greet", "loader_named", "open_estimators", "serve", "translated",
    "warm",
]  # fmt: skip


class Loaded(Protocol):
    """What a loader gives: `foretell.model.model.Model`, or something like it in a test."""

    name: str
    signature: Signature
    task_reader: Task

    def infer(self, inputs: dict[str, NDArray[Any]], rows: int) -> list[NDArray[Any]]:
        """Run prepared tensors."""
        ...

    def info(self) -> dict[str, Any]:
        """Return plain facts."""
        ...


Loader = Callable[..., Loaded]
"""Called as loader(path, trust=..., threads=...)."""
_LIKELY_ROWS = 64
"""Runtimes that take over from at most so many rows are opened at the start, not under the first large batch."""


def loader_named(name: str) -> Loader:
    """Return the function that "module:function" names."""
    module, _, function = name.partition(":")
    loader: Loader = getattr(import_module(module), function)
    return loader


def warm(model: Loaded) -> tuple[tuple[int, float], ...]:
    """Open every runtime that is likely to be needed, and measure; see `measure`."""
    if not getattr(model.task_reader, "batched", True):  # a detector of one picture, whose outputs are no rows
        model.infer(draw_inputs(model.signature, 1), 1)
        return ()
    paces = measure(model.infer, model.signature)
    largest = paces[-1][0] if paces else _LIKELY_ROWS
    for runner in model.info().get("runners", ()):
        rows = runner["rows_from"]
        if largest < rows <= _LIKELY_ROWS:
            model.infer(draw_inputs(model.signature, rows), rows)
    return paces


def open_estimators(model: Loaded) -> None:
    """Let runtimes start their own processes, which is forbidden once this one is boxed in."""
    for runner in model.info().get("runners", ()):
        if runner["kind"] == "estimator" and runner["rows_from"] > 1:
            model.infer(draw_inputs(model.signature, runner["rows_from"]), runner["rows_from"])


def facts_of(
    model: Loaded, paces: tuple[tuple[int, float], ...], sandbox: dict[str, str], sight: Sight | None = None
) -> dict[str, Any]:
    """Return what the front has to know of a model, as plain values."""
    # What a picture becomes is nothing to the front: it knows a tensor, and another one of encoded pictures.
    signature = replace(model.signature, fields=(), image=None) if model.signature.image else model.signature
    facts = {
        "name": model.name,
        "signature": write_signature(signature),
        "task": write_task(model.task_reader),
        "about": model.info(),
        "sandbox": sandbox,
        "paces": paces,
    }
    if sight is not None:
        facts |= {"pictures": sight.signature.inputs[0].name, "picture_paces": sight.measure()}
    return facts


def translated(error: Exception) -> ForetellError:
    """Return an exception of a runtime as one of Foretell's."""
    if isinstance(error, ForetellError):
        return error
    if isinstance(error, MemoryError):
        return OutOfMemory("not enough memory for this batch within the worker's limit")
    return InferenceFailed(f"{type(error).__name__}: {error}")


def greet(wire: Wire, facts: dict[str, Any]) -> None:
    """Tell the front that this worker is ready."""
    for frame in hello_frames(facts):
        wire.send([frame])


def give_up(wire: Wire, error: Exception) -> None:
    """Tell the front why there will be no hello."""
    if isinstance(error, MemoryError):
        error = MachineError("not enough memory to load the model within the worker's limit")
    elif not isinstance(error, ForetellError):
        error = LoadError(f"{type(error).__name__}: {error}")
    for frame in failure_frames(0, error):
        wire.send([frame])


def serve(wire: Wire, model: Loaded, slots: Slots | None, sight: Sight | None = None) -> None:
    """Answer batches, in the order in which they come, until the front closes."""
    gc.collect()
    gc.freeze()  # what was loaded is not looked through again while batches wait
    return_memory()
    job = Job(wire, model, slots) if sight is None else SeeingJob(wire, model, slots, sight)
    while job.next():
        pass


class Job:
    """One batch after another: received, run, answered."""

    def __init__(self, wire: Wire, model: Loaded, slots: Slots | None) -> None:
        self._wire, self._slots = wire, slots
        self._infer, self._signature = model.infer, model.signature
        self._names = [spec.name for spec in model.signature.inputs]
        self._dtypes = [dtype_of(spec.datatype) for spec in model.signature.outputs]

    def next(self) -> bool:
        """Wait for a batch and answer it; False once the front has closed."""
        frame, length = self._wire.receive()
        if length == 0:
            return False
        head = read_head(frame, length)
        in_slot = head.kind & IN_SLOT and self._slots is not None
        place = self._slots.inputs(head.slot) if in_slot and self._slots is not None else None
        arrays = read_tensors(frame, length, head, place, SLOT_BYTES)
        try:
            before = perf_counter_ns()
            outputs = self._run(arrays, head.rows)
            ns = perf_counter_ns() - before
            parts = self._answer(head.job, head.rows, head.slot, outputs, ns)
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything, and the worker goes on
            for text in failure_frames(head.job, translated(error)):
                self._wire.send([text])
            return True
        self._wire.send(parts)
        return True

    def _run(self, arrays: list[NDArray[Any]], rows: int) -> list[NDArray[Any]]:
        outputs = self._infer(dict(zip(self._names, arrays, strict=True)), rows)
        right = len(outputs) == len(self._dtypes)
        for output, dtype in zip(outputs, self._dtypes):  # noqa: B905 - their number is checked above
            right = right and output.dtype == dtype and output.ndim > 0 and len(output) == rows
        if not right:
            check_outputs(outputs, self._signature, rows)
        return outputs

    def _answer(self, job: int, rows: int, slot: int, outputs: list[NDArray[Any]], ns: int) -> list[Part]:
        packed = pack(outputs)
        if packed.total_bytes <= INLINE_BYTES or slot == NO_SLOT or self._slots is None:
            return parts_inline(ANSWER, job, rows, packed, slot, ns)
        if packed.total_bytes > SLOT_BYTES:
            raise InvalidOutput(f"the outputs take {packed.total_bytes} bytes, at most {SLOT_BYTES} expected")
        self._slots.write(self._slots.outputs(slot), packed)
        return parts_in_slot(ANSWER, job, rows, packed, slot, ns)


class SeeingJob(Job):
    """The same of a model that also takes encoded pictures: a tensor of texts is one of those."""

    def __init__(self, wire: Wire, model: Loaded, slots: Slots | None, sight: Sight) -> None:
        super().__init__(wire, model, slots)
        self._sight = sight

    def _run(self, arrays: list[NDArray[Any]], rows: int) -> list[NDArray[Any]]:
        if arrays[0].dtype.kind == "O":
            return self._sight.infer(arrays[0])
        return super()._run(arrays, rows)

"""A loaded model: signature, preparation, runtimes and task, and `predict` over them.

    data --prepare--> tensors --runtime--> outputs --task--> predictions

Several runtimes may run the same model; the one that is faster for the rows of a call takes it. Calls
of many rows are cut into chunks that run on all cores. Knows nothing of files: `opening` makes one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell import machine
from foretell.dtypes import dtype_of
from foretell.errors import ForetellError, InvalidInput, InvalidOutput, RuntimeMissing
from foretell.model.data.refusals import Refusal
from foretell.model.data.slices import many_rows, slices
from foretell.model.data.table import TablePreparation, TensorPreparation
from foretell.model.describe import digest_of
from foretell.model.formats.base import Opened
from foretell.model.runtimes import Runner, Runtime, open_runtime
from foretell.model.seeing import Seeing
from foretell.model.tasks.predictions import Predictions, Task
from foretell.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from foretell.model.watching import Seen

__all__ = ["Model"]

Tensors = dict[str, NDArray[Any]]

_MANY_ROWS = 1 << 30
_TABLE_SLICE_ROWS = 16_384
"""A slice of a table costs a fixed time per column, which so many rows hide."""


class Model:
    """A trained model, ready to predict. Safe to use from several threads.

    Use it as a context manager, or call `close`, where it runs in a process of its own
    (see `info()["runners"]`); otherwise there is nothing to close.
    """

    def __init__(self, opened: Opened, *, name: str = "model", threads: int | None = None) -> None:
        self.name = name
        self.signature: Signature = opened.signature
        self.task_reader: Task = opened.task
        self._opened = opened
        self._seeing = Seeing(opened.signature, opened.task) if opened.signature.image else None
        has_columns = opened.signature.fields and not self._seeing
        self._table = TablePreparation(opened.signature) if has_columns else None
        self.prepare = (self._seeing or self._table or TensorPreparation(opened.signature)).prepare
        """`prepare(data)` -> (tensors by input, rows, notes): the first step of `predict` alone."""
        self._threads = threads or machine.cores()
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        first, *later = sorted(opened.runners, key=lambda r: r.rows_from)
        self._first = open_runtime(first, opened.signature)
        self._runners = (first, *later)
        self._switch_rows = later[0].rows_from if later else 1 << 62
        self._open: dict[str, Runtime] = {first.file: self._first}

    @property
    def task(self) -> str:
        """Name of the task: `regression`, `classification`, `ranking`, or `tensors` where it is not known."""
        return self.task_reader.name

    def predict(self, data: Any) -> Predictions:
        """Predict rows given in any form: a dict, dicts, a table, an array.

        Args:
            data: One row as a dict; many rows as a list of dicts, a dict of columns, a pandas or polars
                frame, anything with Arrow columns, a list of lists, or an array of shape (rows, fields).
                Columns go by name in any order; unnamed rows go by position.
                For a model of pictures: a path, encoded bytes, a Pillow image, an array of uint8 (height, width, 3)
                in RGB or (height, width) in grey; a list of them; or the prepared tensor, of floats.

        Returns:
            One prediction per row, in order.

        Raises:
            InvalidInput: The data does not fit the signature; the message names column, row and value, or the
                picture that is broken.
            InferenceFailed: The runtime raised.
        """
        if self._seeing is not None:
            each = map if self._threads == 1 else self._threads_pool().map
            return self._seeing.predict(data, self.infer, each, self._threads)
        if count := many_rows(data):
            return self._predict_slices(data, count)
        inputs, rows, notes = self.prepare(data)
        if 0 < rows < self._switch_rows:
            return Predictions(self.task_reader, self._first.infer(inputs), notes)
        return Predictions(self.task_reader, self.infer(inputs, rows), notes)

    def predict_pictures(self, pictures: Sequence[Any]) -> Predictions:
        """Predict some pictures in the calling thread alone; see `predict`."""
        if self._seeing is None:
            raise InvalidOutput(f'model "{self.name}": it takes no pictures; use Model.predict')
        return self._seeing.predict(pictures, self.infer)

    def see(self, contents: Sequence[bytes]) -> tuple[list[NDArray[Any]], dict[int, ForetellError]]:
        """Answer encoded pictures of strangers in the calling thread alone; see `Seeing.see`."""
        if self._seeing is None:
            raise InvalidOutput(f'model "{self.name}": it takes no pictures; use Model.infer')
        return self._seeing.see(contents, self.infer)

    def watch(
        self, path: str | Path, *, every: int = 1, fps: float | None = None, track: bool = False
    ) -> Iterator[Seen]:
        """Predict the frames of a video, in their order; several are run at once, on all cores.

        Args:
            path: Of the video.
            every: Take the first of each so many frames.
            fps: Take at most so many frames a second, evenly.
            track: Whether the objects of a detection get numbers that last from frame to frame.

        Yields:
            For each frame its number, its time in seconds and its predictions.

        Raises:
            InvalidInput: The model takes no pictures, or this is no video. Of a damaged one, after the last frame that
                could be decoded.
            ConfigError: `every` and `fps` cannot be, or `track` is for a model that finds no objects.
            RuntimeMissing: PyAV is not installed.
        """
        from foretell.model.watching import watching

        if self._seeing is None:
            raise InvalidInput(f'model "{self.name}": takes no pictures; expected a model of pictures')
        return watching(self, path, every=every, fps=fps, track=track, threads=self._threads)

    def predict_arrow(self, batch: pa.RecordBatch, first_row: int = 0) -> Predictions:
        """Predict one batch of a file, in the calling thread alone.

        Args:
            batch: Columns by name; numbers as float64, texts as strings.
            first_row: Index of its first row in the whole input, for messages.
        """
        if self._table is None:
            takes = "pictures" if self._seeing else "bare tensors"
            raise InvalidOutput(f'model "{self.name}": it takes {takes}, not columns; use Model.predict')
        inputs, rows, notes = self._table.prepare_arrow(batch, first_row)
        return Predictions(self.task_reader, self.infer(inputs, rows), notes)

    def predict_many(self, data: Any) -> Predictions:
        """Predict some of many rows, in the calling thread alone: the same bits however the rows are divided.

        Args:
            data: A batch of a file, or rows as dicts. It takes the way of many rows, however few it has.
        """
        if self._table is None or isinstance(data, list):
            inputs, rows, notes = self.prepare(data)
        else:
            inputs, rows, notes = self._table.prepare_arrow(data)
        return Predictions(self.task_reader, self.infer(inputs, rows, way_rows=_MANY_ROWS), notes)

    def refusals(self, data: Any) -> list[Refusal]:
        """Return all rows of a table that `predict` would refuse, each with the first column at fault.

        Raises:
            InvalidInput: What is wrong is not a value: a column is missing, or a row has other columns.
        """
        return self._table.refusals(data) if self._table is not None else []

    def infer(self, inputs: Tensors, rows: int, *, way_rows: int = 0) -> list[NDArray[Any]]:
        """Run prepared tensors in the calling thread, chunk after chunk.

        Args:
            inputs: A tensor for each input of the signature.
            rows: In each of them.
            way_rows: Rows of the whole call that these are a part of; the runtime is chosen for those.
        """
        if rows == 0:
            return self._no_rows()
        if (way_rows or rows) < self._switch_rows:
            runtime, chunk_rows = self._first, self._runners[0].chunk_rows
        else:
            runtime, chunk_rows = self._way_for(way_rows or rows)
        if rows <= chunk_rows:
            return runtime.infer(inputs)
        return _join([runtime.infer(chunk) for chunk in _chunks(inputs, rows, chunk_rows)])

    def info(self) -> dict[str, Any]:
        """Return plain facts: format, task, runners, digest, versions, notes."""
        opened = self._opened
        return {
            "name": self.name,
            "format": opened.format,
            "task": self.task,
            "classes": list(self.task_reader.classes),
            "fields": len(self.signature.fields),
            "runners": [{"kind": r.kind, "file": r.file, "rows_from": r.rows_from} for r in opened.runners],
            "digest": self._digest,
            "about": dict(opened.about),
            "notes": list(opened.notes),
        }

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.signature, self.task_reader, self._runners[0])

    def close(self) -> None:
        """Close its runtimes and threads. Idempotent."""
        with self._lock:
            for runtime in self._open.values():
                runtime.close()
            if self._pool is not None:
                self._pool.shutdown()
                self._pool = None

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kinds = ", ".join(f"{r.kind} from {r.rows_from}" for r in self._opened.runners)
        return f'<Model "{self.name}": {self.task}, {len(self.signature.fields)} fields, {kinds}>'

    def _predict_slices(self, data: Any, rows: int) -> Predictions:
        """Prepare and run slices of a long table on all threads: what is made of a slice stays in a cache."""
        _, chunk_rows = self._way_for(rows)
        share = -(-rows // self._threads)
        share = min(share, chunk_rows if isinstance(data, np.ndarray) else max(chunk_rows, _TABLE_SLICE_ROWS))

        def run(part: Any) -> tuple[list[NDArray[Any]], tuple[str, ...]]:
            inputs, count, notes = self.prepare(part)
            return self.infer(inputs, count, way_rows=rows), notes

        try:
            parts = slices(data, rows, share)
            done = list(map(run, parts) if self._threads == 1 else self._threads_pool().map(run, parts))
        except InvalidInput:
            self.prepare(data)  # the same refusal, with the row counted from the first
            raise
        notes = dict.fromkeys(note for _, found in done for note in found)
        return Predictions(self.task_reader, _join([outputs for outputs, _ in done]), tuple(notes))

    def _way_for(self, rows: int) -> tuple[Runtime, int]:
        """Return the runtime of the last runner that claims so many rows, opened at its first use, and its chunk."""
        runner = next((r for r in reversed(self._runners) if r.rows_from <= rows), self._runners[0])
        with self._lock:
            found = self._open.get(runner.file)
            if found is None:
                found = self._open[runner.file] = self._open_or_first(runner)
            return found, runner.chunk_rows

    def _open_or_first(self, runner: Runner) -> Runtime:
        # The proof covered every runner, so a missing library costs speed alone.
        try:
            return open_runtime(runner, self.signature)
        except RuntimeMissing:
            return self._first

    def _threads_pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="foretell")
            return self._pool

    def _no_rows(self) -> list[NDArray[Any]]:
        return [
            np.empty((0, *(max(d, 0) for d in spec.shape[1:])), dtype_of(spec.datatype))
            for spec in self.signature.outputs
        ]


def _chunks(inputs: Mapping[str, NDArray[Any]], rows: int, share: int) -> list[Tensors]:
    return [{name: a[at : at + share] for name, a in inputs.items()} for at in range(0, rows, share)]


def _join(parts: list[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    return [np.concatenate(column) for column in zip(*parts, strict=True)]

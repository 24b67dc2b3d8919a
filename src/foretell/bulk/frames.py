"""One batch of a dataframe library through a model: the same kind of batch comes back, with the output columns.

It takes the way of a block of a file, so the answers are those of a block with the same rows, bit for bit.
Knows no library: `frame_kinds` does; no file, no cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from foretell.bulk.bad_rows import sift
from foretell.bulk.blocks import Answered, Fault, Mark, Origin, Predictor, Rows
from foretell.bulk.columns import Keep, choose
from foretell.bulk.encode import to_arrow
from foretell.bulk.frame_kinds import Columns, Frame, frame_of
from foretell.errors import ConfigError, InvalidInput
from foretell.model.data.cells import quote

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["OnBadRow", "predict_frame"]

OnBadRow = Literal["fail", "skip", "mark"]
"""What becomes of a row that cannot be answered: the batch fails, it is left out, or a column `error` says why."""

_PICTURES = ("image", "bytes", "path")
"""Columns in which pictures are looked for, as `read_images` and `read_binary_files` of Ray Data name them."""


def predict_frame(model: Predictor, batch: Any, keep: Keep = (), on_error: OnBadRow = "fail") -> Any:
    """Predict the rows of a batch, in the calling thread.

    Args:
        model: Of rows; or of pictures, which are in the first of the columns "image" (uint8), "bytes" and "path".
        batch: A `pyarrow.Table` or `RecordBatch`, a pandas frame, or a dict of arrays with a row along axis 0.
        keep: Names of its columns to put before the predictions, or "all".
        on_error: What becomes of bad rows. "mark" adds a column `error`: why a row has no answer, else null; the
            other output columns of such a row are null, in arrays of numpy NaN or None.

    Returns:
        Of the kind of `batch`: the kept columns, then the output columns as `foretell predict` writes them. A
        detection has a row for each object; its `source` is the path, or the row of the batch.

    Raises:
        InvalidInput: A row is bad and `on_error` is "fail", or what is wrong is no row. The message names column, row
            and value; `row` counts from the first one of the batch.
        ConfigError: A column to keep is missing, or named like an output; `on_error` is none of those.
    """
    if on_error not in get_args(OnBadRow):
        raise ConfigError(f"on_error: got {on_error!r}, expected one of {', '.join(get_args(OnBadRow))}")
    frame = frame_of(batch)
    try:
        if model.signature.image is None:
            kept, rows, answers = _predict(model, frame, keep, on_error)
        elif on_error == "fail":
            kept, rows, answers = _see(model, frame, keep)
        else:
            raise ConfigError(f"on_error: {on_error!r} is for models of rows; leave it out")
    except InvalidInput as e:
        text = str(e) if str(e).startswith("batch: ") else f"batch: {e}"
        raise InvalidInput(text, column=e.column, row=e.row) from e
    for at in kept:
        if frame.names[at] in answers:
            raise ConfigError(
                f"column {quote(frame.names[at])}: it is to be kept and an output has the same name; rename it, "
                "or name the columns to keep without it"
            )
    return frame.joined(kept, rows, answers)


def _predict(
    model: Predictor, frame: Frame, keep: Keep, on_error: OnBadRow
) -> tuple[list[int], NDArray[np.intp] | None, Columns]:
    import pyarrow as pa

    chosen = choose(frame.names, model.signature, keep, "batch")
    kept = [at for at, _ in chosen.kept]
    fields = [frame.arrow(at) for at, _ in chosen.fields]
    data = pa.RecordBatch.from_arrays(fields, [name for _, name in chosen.fields])
    bad: dict[int, str] = {}
    try:
        answers: Columns = model.predict_arrow(data).to_columns()
    except InvalidInput as e:
        if on_error == "fail" or e.row is None:
            raise
        answers, bad = _good_rows(model, data)
    good = np.array([row for row in range(data.num_rows) if row not in bad], np.intp) if bad else None
    if on_error == "mark":
        return kept, None, _marked(answers, good, data.num_rows, bad)
    return kept, good, answers


def _good_rows(model: Predictor, data: pa.RecordBatch) -> tuple[Columns, dict[int, str]]:
    """Return the answers of the good rows, and what is wrong with each of the others."""

    def predict(rows: Rows) -> Answered:
        return model.predict_arrow(rows.data)

    sifted = sift(_BatchBlock(data), predict, "batch", getattr(model, "refusals", None))
    shown = {b.row: f"column {quote(b.column)}: {b.reason}" if b.column else b.reason for b in sifted.bad}
    return sifted.answered.to_columns(), {row: text for row, text in shown.items() if row is not None}


def _marked(answers: Columns, good: NDArray[np.intp] | None, count: int, bad: Mapping[int, str]) -> Columns:
    """Return answers for all rows, null for bad ones, and a column that says why."""
    import pyarrow as pa

    found: Columns = dict(answers)
    if good is not None:
        place = np.zeros(count, np.intp)
        place[good] = np.arange(len(good))
        index = pa.array(place, mask=np.isin(np.arange(count), list(bad)))
        found = {name: column.take(index) for name, column in to_arrow(answers).items()}
    if "error" in found:
        raise ConfigError('on_error: "mark" needs the name "error", which is an output of the model; use "skip"')
    return found | {"error": pa.array([bad.get(row) for row in range(count)], pa.string())}


@dataclass(frozen=True)
class _BatchBlock:
    """A batch as the rows of a file are, so that its bad rows are found as theirs are."""

    batch: pa.RecordBatch

    @property
    def size_bytes(self) -> int:
        return int(self.batch.nbytes)

    @property
    def about_rows(self) -> int:
        return int(self.batch.num_rows)

    @property
    def ends(self) -> Mark:
        return Mark(self.batch.num_rows)

    def parse(self) -> Rows:
        return Rows(self.batch, {}, self.batch.num_rows)

    def place(self, row: int | None) -> str:
        return "batch"

    def faults(self) -> list[Fault]:
        return []

    def without(self, rows: Sequence[int]) -> _BatchBlock:
        import pyarrow as pa

        left = np.ones(self.batch.num_rows, np.bool_)
        left[list(rows)] = False
        return _BatchBlock(self.batch.filter(pa.array(left)))

    def origins(self, rows: Sequence[int]) -> list[Origin]:
        return [Origin(None, row, "") for row in rows]


def _see(model: Predictor, frame: Frame, keep: Keep) -> tuple[list[int], NDArray[np.intp] | None, Columns]:
    names = frame.names
    found = next((names.index(name) for name in _PICTURES if name in names), None)
    if found is None:
        shown = ", ".join(map(quote, names[:5]))
        raise InvalidInput(f"batch: no column of pictures, expected one of image, bytes, path; it has {shown}")
    wanted = [name for name in names if name != names[found]] if keep == "all" else list(dict.fromkeys(keep))
    for name in wanted:
        if name not in names:
            raise ConfigError(f"batch: there is no column {quote(name)} to keep, it has {', '.join(names[:5])}")
    pictures = frame.values(found)
    answered = model.predict_pictures(pictures)
    answers = answered.to_columns()
    kept = [names.index(name) for name in wanted]
    found_objects = getattr(answered, "objects", None)  # of a detection alone
    rows = None if found_objects is None else np.repeat(np.arange(len(pictures)), found_objects.counts)
    return kept, rows, answers

"""New data to tensors, for a model that has fields: one engine behind every door.

1. recognise  what the data is: one row, rows, columns, an array
2. locate     the columns of the model in it
3. encode     each column of each tensor, as its reader says

One row and ready arrays take short ways to the same answer. Knows no file and no runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import ArtifactInvalid
from foretell.model.data.cells import quote
from foretell.model.data.columns import ColumnEncoder
from foretell.model.data.names import Names
from foretell.model.data.numbers import NumberReader
from foretell.model.data.readers import reader_of
from foretell.model.data.refusals import Refusal, refusals_of
from foretell.model.data.row import RowEncoder, Slot
from foretell.model.data.sequences import is_column
from foretell.model.data.sources import Table, arrow_table, table_of
from foretell.model.data.tensors import Prepared, TensorPreparation
from foretell.model.data.vocabulary import Notes
from foretell.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Prepared", "TablePreparation", "TensorPreparation"]


_SMALL = 4096
"""Elements up to which one product with itself is the fastest look for what is not finite."""


class TablePreparation:
    """Turns data in any form into the tensors of a signature. Safe to use from several threads."""

    def __init__(self, signature: Signature, *, missing_text: str | None = "") -> None:
        """Compile a reader for every column of every tensor.

        Args:
            signature: With fields, and a column for every element of a row of every tensor.
            missing_text: What a missing text is in a BYTES tensor; None for a runtime that knows missing texts.

        Raises:
            ArtifactInvalid: The columns do not fit the fields or the tensors.
        """
        if len({field.name for field in signature.fields}) < len(signature.fields):
            raise ArtifactInvalid("signature: two fields have the same name; each needs its own")
        tensors = [(spec, _slots_of(spec, signature, missing_text)) for spec in signature.inputs]
        used = [slot.field for _, slots in tensors for slot in slots]
        self._names = Names(signature.fields, used, signature.named)
        self._width = len(signature.fields)
        self._tensors = [(spec, [(s.field, ColumnEncoder(s.reader)) for s in slots]) for spec, slots in tensors]
        self._row = RowEncoder([(spec.name, spec.shape[1:], slots) for spec, slots in tensors])
        self._matrix = _Matrix.of(tensors, self._width)

    def prepare(self, data: Any) -> Prepared:
        """Return the tensors of data in any form.

        Args:
            data: One row (a dict, a list, a Series, a 1-D array), or many (a list of dicts or of rows, a dict of
                columns, a pandas or polars frame, anything with Arrow columns, a 2-D or structured array).

        Raises:
            InvalidInput: The first column, in the order of the tensors, that the model cannot take, with the first
                row at fault in it.
        """
        if type(data) is np.ndarray:
            if self._matrix is not None:
                inputs = self._matrix.take(data)
                if inputs is not None:
                    return Prepared(inputs, 1 if data.ndim == 1 else len(data), ())
        elif type(data) is dict:
            return self._prepare_dict(data)
        elif type(data) is list and data:
            if len(data) == 1 and type(data[0]) is dict:
                return self._prepare_dict(data[0], is_row=True)
            if len(data) == self._width and type(data[0]) not in (dict, list, tuple):
                inputs = self._row.by_position(data)
                if inputs is not None:
                    return Prepared(inputs, 1, ())
                if not any(isinstance(value, Mapping) or is_column(value) for value in data):
                    return self._prepare_careful(data, range(self._width), {})
        notes: Notes = {}
        return self._encode(table_of(data, self._names, notes), notes, 0)

    def prepare_arrow(self, batch: pa.RecordBatch, first_row: int = 0) -> Prepared:
        """Return the tensors of one batch of a file.

        Args:
            batch: Columns by name.
            first_row: Index of its first row in the whole input, for messages.

        Raises:
            InvalidInput: As `prepare`; the row counts from the start of the input.
        """
        notes: Notes = {}
        return self._encode(arrow_table(batch, self._names, notes), notes, first_row)

    def refusals(self, data: Any) -> list[Refusal]:
        """Return all rows that `prepare` would refuse, each with the first column at fault, in their order.

        Raises:
            InvalidInput: What is wrong is not a value: a column is missing, or a row has other columns.
        """
        table = table_of(data, self._names, {})
        found: dict[int, Refusal] = {}
        for _, columns in self._tensors:
            for field, encoder in columns:
                for refusal in refusals_of(encoder, table.column(table.positions[field])):
                    found.setdefault(refusal.row, refusal)
        return [found[row] for row in sorted(found)]

    def _prepare_dict(self, data: dict[Any, Any], *, is_row: bool = False) -> Prepared:
        inputs = self._row.by_name(data)
        if inputs is not None and len(data) == len(self._names.needed):
            return Prepared(inputs, 1, ())
        notes: Notes = {}
        if inputs is not None:
            self._names.note_extra(data, notes)
            return Prepared(inputs, 1, tuple(notes.values()))
        if not is_row and any(map(is_column, data.values())):
            return self._encode(table_of(data, self._names, notes), notes, 0)
        positions = self._names.locate([str(name) for name in data], notes, frame=False)
        at = [positions.get(name, -1) for name in self._names.all]
        return self._prepare_careful(list(data.values()), at, notes)

    def _prepare_careful(self, values: Sequence[Any], at: Sequence[int], notes: Notes) -> Prepared:
        inputs = self._row.careful(lambda slot: values[at[slot.at]], notes)
        return Prepared(inputs, 1, tuple(notes.values()))

    def _encode(self, table: Table, notes: Notes, first_row: int) -> Prepared:
        if table.rows == 1 and table.is_plain:
            row = {name: table.column(table.positions[name])[0] for name in self._names.needed}
            found = self._row.by_name(row) or self._row.careful(lambda slot: row[slot.field], notes, first_row)
            return Prepared(found, 1, tuple(notes.values()))
        inputs: dict[str, NDArray[Any]] = {}
        for spec, columns in self._tensors:
            out = np.empty((table.rows, len(columns)), dtype_of(spec.datatype))
            for at, (field, encoder) in enumerate(columns):
                out[:, at] = encoder.encode(table.column(table.positions[field]), notes, first_row)
            inputs[spec.name] = out.reshape(table.rows, *spec.shape[1:])
        return Prepared(inputs, table.rows, tuple(notes.values()))


class _Matrix:
    """The short way of a float array into a model whose only input is a matrix of plain numbers, in order."""

    def __init__(self, spec: TensorSpec, readers: list[NumberReader]) -> None:
        self._name = spec.name
        self._dtype = dtype_of(spec.datatype)
        self._width = len(readers)
        self._safe = readers[0].safe
        self._nullable = all(reader.nullable for reader in readers)

    @classmethod
    def of(cls, tensors: list[tuple[TensorSpec, list[Slot]]], width: int) -> _Matrix | None:
        if len(tensors) != 1 or [slot.at for slot in tensors[0][1]] != list(range(width)):
            return None
        spec, slots = tensors[0]
        readers = [slot.reader for slot in slots if isinstance(slot.reader, NumberReader) and slot.reader.plain]
        fits = len(readers) == width and len(spec.shape) == 2 and readers[0].is_float
        return cls(spec, readers) if fits else None

    def take(self, data: NDArray[Any]) -> dict[str, NDArray[Any]] | None:
        """Return the array as the tensor, itself where it fits; None where a closer look is needed."""
        shape = data.shape
        if shape[-1:] != (self._width,) or len(shape) > 2 or data.dtype.char not in "fd":
            return None
        if len(shape) == 1:
            data = data.reshape(1, -1)
        if data.size > _SMALL:
            return self._take_many(data)
        squares = float(np.vdot(data, data))
        if not squares < self._safe:
            if squares == squares or not self._nullable:  # an infinity gives infinity, only NaN gives NaN
                return None
            present = data[data == data]
            if not float(np.vdot(present, present)) < self._safe:
                return None
        return {self._name: self._cast(data)}

    def _take_many(self, data: NDArray[Any]) -> dict[str, NDArray[Any]] | None:
        """Check sums instead of squares: BLAS would take threads for a long product, from threads that have work."""
        with np.errstate(over="ignore", invalid="ignore"):
            tensor = self._cast(data)
            narrow = tensor if tensor.itemsize < data.itemsize else data  # where an infinity shows, in fewer bytes
            if not np.isfinite(np.add.reduce(narrow, axis=None)) and (not self._nullable or np.isinf(narrow).any()):
                return None
        return {self._name: tensor}

    def _cast(self, data: NDArray[Any]) -> NDArray[Any]:
        if data.dtype == self._dtype and data.flags.c_contiguous:
            return data
        return data.astype(self._dtype, order="C", copy=False)


def _slots_of(spec: TensorSpec, signature: Signature, missing_text: str | None) -> list[Slot]:
    name, fields = quote(spec.name), {field.name: (at, field) for at, field in enumerate(signature.fields)}
    slots = []
    for column in signature.columns.get(spec.name, ()):
        if column.field not in fields:
            raise ArtifactInvalid(f"signature: input {name} takes {quote(column.field)}, which is no field")
        at, field = fields[column.field]
        slots.append(Slot(column.field, at, reader_of(field, column, spec.datatype, missing_text)))
    if not slots or spec.width != len(slots):
        raise ArtifactInvalid(
            f"signature: input {name} of shape {spec.shape} takes {len(slots)} columns, expected {spec.width}"
        )
    return slots

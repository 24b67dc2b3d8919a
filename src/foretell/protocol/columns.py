"""Tensors that are columns: a model with fields also takes one tensor for each field, as other servers do.

The tensors of such a model are matrices of numbers and codes, which nobody outside of it can make; a column of
texts or numbers, of shape (rows,) or (rows, 1), anybody can. Its values are read as those of rows are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from numpy.typing import NDArray

from foretell.dtypes import DATATYPES
from foretell.errors import InvalidInput
from foretell.model.data.table import Prepared
from foretell.protocol.parameters import names_of
from foretell.signature import Field, Signature, TensorSpec

__all__ = ["Columns", "described_inputs"]

_DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL"}


class Columns:
    """The fields of a signature, as tensors."""

    def __init__(self, signature: Signature, prepare: Callable[[Any], Prepared]) -> None:
        """Take what turns columns into the tensors of the signature."""
        self._fields = {field.name: field for field in signature.fields}
        self._tensors = {spec.name for spec in signature.inputs}
        self._prepare = prepare

    def are_meant(self, names: Collection[Any]) -> bool:
        """Whether inputs of these names are columns: none of them need be known, but one is a field and no tensor."""
        return any(name in self._fields and name not in self._tensors for name in names if isinstance(name, str))

    def spec_of(self, name: Any, datatype: Any, shape: Any) -> TensorSpec:
        """Return what a column must be like to be read.

        Raises:
            InvalidInput: There is no such field, or no such datatype.
        """
        field = self._fields.get(name) if isinstance(name, str) else None
        if field is None:
            known = names_of(self._fields)
            raise InvalidInput(f'input "{str(name)[:80]}": the model has no column of this name; it takes {known}')
        if not isinstance(datatype, str) or datatype not in DATATYPES:
            raise InvalidInput(
                f'input "{field.name}": datatype {str(datatype)[:40]}, expected {_datatype_of(field)}',
                column=field.name,
            )
        is_flat = isinstance(shape, list) and len(shape) == 1
        return TensorSpec(field.name, datatype, (-1,) if is_flat else (-1, 1))

    def tensors(self, found: dict[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], int]:
        """Return the tensors of the signature, and their rows.

        Raises:
            InvalidInput: A column is missing, too short, or has a value that the model cannot take.
        """
        if all(column.size == 1 for column in found.values()):
            row = {name: column.item() for name, column in found.items()}
            prepared = self._prepare([row])  # one row has a short way
        else:
            prepared = self._prepare({name: column.reshape(-1) for name, column in found.items()})
        return prepared.inputs, prepared.rows


def described_inputs(signature: Signature) -> list[TensorSpec]:
    """Return the inputs that metadata tells of: the tensors, or the fields where a tensor has codes in it."""
    plain = all(c.encoding == "number" for columns in signature.columns.values() for c in columns)
    if not signature.fields or (plain and len(signature.inputs) == 1):
        return list(signature.inputs)
    return [TensorSpec(field.name, _datatype_of(field), (-1, 1)) for field in signature.fields]


def _datatype_of(field: Field) -> str:
    if field.kind == "category" and field.categories and not any(isinstance(c, str) for c in field.categories):
        return "FP64"
    return _DATATYPES.get(field.kind, "BYTES")

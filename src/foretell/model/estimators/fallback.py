"""The signature of an estimator that runs itself: a tensor per field, and kinds from what is known of its columns.

What encoders learned says which columns are categories; a sample says which are texts, dates, truths and integers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foretell.model.estimators.inputs import Inputs
from foretell.signature import Column, Encoding, Field, Kind, TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["columns_of", "fields_of"]


def fields_of(inputs: Inputs, sample: pa.Table | None) -> tuple[Field, ...]:
    """Return a field per column."""
    return tuple(_field(inputs, place, sample) for place in range(len(inputs.names)))


def columns_of(fields: tuple[Field, ...]) -> tuple[tuple[TensorSpec, ...], dict[str, tuple[Column, ...]]]:
    """Return a tensor per field, and what it is made of."""
    ways: dict[str, tuple[str, Encoding]] = {"text": ("BYTES", "text"), "date": ("INT64", "date")}
    specs: list[TensorSpec] = []
    columns: dict[str, tuple[Column, ...]] = {}
    for field in fields:
        texts = field.kind == "category" and any(isinstance(c, str) for c in field.categories)
        datatype, encoding = ways.get("text" if texts else field.kind, ("FP64", "number"))
        specs.append(TensorSpec(field.name, datatype, (-1,)))
        columns[field.name] = (Column(field.name, encoding),)
    return tuple(specs), columns


def _field(inputs: Inputs, place: int, sample: pa.Table | None) -> Field:
    name, known = inputs.names[place], inputs.vocabulary.get(place, [])
    span: dict[str, Any] = {"low": inputs.low.get(place), "high": inputs.high.get(place)}
    kind = _kind(inputs, place, sample)
    if kind == "text":
        inputs.texts.add(place)
    if any(isinstance(v, str) for v in known):
        return Field(name, "category", categories=tuple(known), closed=place in inputs.closed)
    return Field(name, kind, **span) if kind in ("number", "integer") else Field(name, kind)


def _kind(inputs: Inputs, place: int, sample: pa.Table | None) -> Kind:
    import pyarrow as pa

    if sample is not None and inputs.names[place] in sample.column_names:
        given = sample.column(inputs.names[place]).type
        if pa.types.is_dictionary(given):
            given = given.value_type
        if pa.types.is_boolean(given):
            return "boolean"
        if pa.types.is_integer(given):
            return "integer"
        if pa.types.is_timestamp(given) or pa.types.is_date(given):
            return "date"
        if pa.types.is_string(given) or pa.types.is_large_string(given):
            return "text"
        return "number"
    known = inputs.vocabulary.get(place, [])
    if known and all(isinstance(v, bool) for v in known):
        return "boolean"
    return "text" if inputs.is_text(place) else "number"

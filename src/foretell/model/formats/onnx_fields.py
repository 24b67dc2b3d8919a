"""What an ONNX model takes, in the user's terms: input tensors -> fields, and which column of which tensor each is.

One tensor of shape (rows, K) is K columns, named by the file's metadata where it names them. A tensor of shape
(rows, 1) or (rows,) is one column under its own name, as converters of pandas pipelines write them. Images and
other tensors of higher rank have no fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from foretell.signature import Column, Encoding, Field, Kind, TensorSpec

__all__ = ["Fields", "fields_of", "listed"]

_MAX_FIELDS = 100_000
_NAME_KEYS = (
    *("feature_names", "feature_names_in_", "feature_names_in", "features", "column_names", "columns"),
    *("input_features", "input_columns", "feature_columns"),
)
"""Metadata keys under which people put column names; ONNX itself has none."""
_NO_NAMES = {
    "x",
    "input",
    "inputs",
    "data",
    "features",
    "float_input",
    "input_1",
    "input_0",
    "dense_input",
    "onnx::gemm_0",
}
"""Names that exporters give to a tensor as such, so that they name no column."""
_KINDS: dict[str, tuple[Kind, Encoding]] = {"BYTES": ("text", "text"), "BOOL": ("boolean", "number")}


@dataclass(frozen=True)
class Fields:
    """Fields, the columns of each input tensor, whether the names are the model's own, and what to know of them."""

    fields: tuple[Field, ...] = ()
    columns: Mapping[str, tuple[Column, ...]] | None = None
    named: bool = True
    notes: tuple[str, ...] = ()


def fields_of(inputs: tuple[TensorSpec, ...], metadata: Mapping[str, str]) -> Fields:
    """Return the fields of these inputs; none where some input is no table of known width."""
    widths = [_width(spec) for spec in inputs]
    total = sum(widths)
    if not inputs or 0 in widths or total > _MAX_FIELDS:
        return Fields()
    names, notes = _from_metadata(metadata, total)
    named = bool(names)
    if not names:
        names, named = _made_up(inputs, widths)
    if len(set(names)) != len(names):
        return Fields(notes=("its columns have no names of their own that differ; it takes bare tensors",))
    fields, columns, at = [], {}, 0
    for spec, width in zip(inputs, widths, strict=True):
        kind, encoding = _kind(spec.datatype)
        nullable = spec.datatype in ("FP16", "FP32", "FP64", "BYTES")
        own = names[at : at + width]
        at += width
        fields += [Field(name, kind, nullable) for name in own]
        columns[spec.name] = tuple(Column(name, encoding) for name in own)
    return Fields(tuple(fields), columns, named, notes)


def listed(text: str) -> list[str]:
    """Read a list that somebody wrote into metadata: JSON, its Python look-alike, or names between commas."""
    try:
        found = json.loads(text.strip().replace("'", '"') if text.strip()[:2] == "['" else text)
    except ValueError:
        found = text.split(",")
    except RecursionError:
        return []
    if isinstance(found, dict) and all(isinstance(v, str) for v in found.values()):
        # {"0": "cat", "1": "dog"}
        found = list(found.values())
    return [str(item).strip() for item in found] if isinstance(found, list) else []


def _width(spec: TensorSpec) -> int:
    """Return how many columns a tensor has, or 0 where it is none of known width."""
    if len(spec.shape) == 1:
        return 1 if spec.shape[0] in (-1, 1) else 0
    return max(spec.shape[1], 0) if len(spec.shape) == 2 else 0


def _kind(datatype: str) -> tuple[Kind, Encoding]:
    if datatype in _KINDS:
        return _KINDS[datatype]
    return ("number" if datatype.startswith("FP") else "integer"), "number"


def _from_metadata(metadata: Mapping[str, str], total: int) -> tuple[list[str], tuple[str, ...]]:
    lower = {key.lower(): value for key, value in metadata.items()}
    for key in _NAME_KEYS:
        if key not in lower:
            continue
        names = listed(lower[key])
        if len(names) == total:
            return names, ()
        return [], (f'metadata "{key}" has {len(names)} names for {total} columns; they are not used',)
    return [], ()


def _made_up(inputs: tuple[TensorSpec, ...], widths: list[int]) -> tuple[list[str], bool]:
    """Return names from the tensors' own, and whether they name columns."""
    first = inputs[0]
    if len(inputs) == 1 and (widths[0] > 1 or first.name.lower() in _NO_NAMES):
        return [f"x{i}" for i in range(widths[0])], False
    names: list[str] = []
    for spec, width in zip(inputs, widths, strict=True):
        names += [spec.name] if width == 1 else [f"{spec.name}_{i}" for i in range(width)]
    return names, 1 in widths

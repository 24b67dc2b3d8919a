"""What a model takes and gives.

A model is described twice. To people it takes *fields*: named columns with a kind. To its runtime it
takes *tensors*. `Signature.columns` says how the second is made of the first; `model/data` does it.
Knows no file, no framework and no wire.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

__all__ = ["Column", "Encoding", "Field", "Kind", "Label", "Signature", "TensorSpec"]

Label = str | int | float | bool
"""A class of a classifier, or a value of a category."""

Kind = Literal["number", "integer", "boolean", "category", "text", "date"]
"""What a column holds, in the user's terms."""

Encoding = Literal["number", "code", "text", "date"]
"""How a field becomes one column of a tensor.

number: the value as a float; true is 1.0, missing is NaN.
code:   the index of the value in `Field.categories`; missing is NaN (or the least integer of an integer
        tensor), a value that is not among them is -1.
text:   the value as a string, for BYTES tensors; missing is the empty string unless the runtime says otherwise.
date:   nanoseconds since 1970-01-01 UTC in INT64 tensors; missing is the least INT64.
"""


@dataclass(frozen=True, slots=True)
class Field:
    """One column a user gives."""

    name: str
    kind: Kind = "number"
    nullable: bool = True
    """Whether a value may be missing. A missing value in a field that is not nullable is refused."""
    categories: tuple[Label, ...] = ()
    """Known values of a category, in the order of their codes. Any other value is *unknown*."""
    closed: bool = False
    """Refuse unknown values, because the model cannot take them. Otherwise they are passed on as unknown."""
    low: float | None = None
    high: float | None = None
    """Range seen in training or in the sample: for drawing rows and for documentation, never enforced."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a runtime: protocol datatype, and shape with -1 for a free dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        """Elements a row takes, where only axis 0 is free; 0 if another axis is free too."""
        rest = self.shape[1:]
        return 0 if any(d < 0 for d in rest) else math.prod(rest)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an input tensor: which field it comes from, and how."""

    field: str
    encoding: Encoding = "number"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a model takes and gives: fields for people, tensors for the runtime."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    fields: tuple[Field, ...] = ()
    """Columns in the order in which an unnamed row gives them. Empty: the model takes bare tensors."""
    columns: Mapping[str, tuple[Column, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """For each input tensor the columns along axis 1, in order. A tensor of shape (-1,) has exactly one."""
    named: bool = True
    """Whether the names of the fields come from the model; False: they were made up (x0, x1 ...)."""

    def field_named(self, name: str) -> Field:
        """Return the field with this name; KeyError if there is none."""
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        raise KeyError(name)

"""A program as plain values: its weights, its operations in order, what goes in and what comes out.

Knows no file and no framework: numbers stand for dtypes as in the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foretell.model.programs.operators import Operator

__all__ = ["ANY_ROWS", "DATATYPES", "Node", "Program", "Tensor", "Weight"]

DATATYPES: Mapping[int, str] = {
    1: "UINT8", 2: "INT8", 3: "INT16", 4: "INT32", 5: "INT64", 6: "FP16", 7: "FP32", 8: "FP64", 12: "BOOL",
    13: "BF16", 28: "UINT16", 34: "UINT32", 35: "UINT64",
}  # fmt: skip
"""Numbers of dtypes in the file (torch/_export/serde/schema.py) -> datatype. BF16 is no datatype of the protocol."""
ANY_ROWS = 1 << 40
"""As many as one likes."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or an output of the user's."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    """-1 for a size that is free."""
    symbol: str = ""
    """Name of the size of axis 0, where it is one symbol."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor in the file: a window on the bytes of a member, checked to lie within them."""

    member: str
    datatype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    """In elements."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operation."""

    operator: Operator
    arguments: tuple[Any, ...]
    named: Mapping[str, Any]
    results: Any
    """A name for the one result; a list with a name, a list or None for each of several; None where there is none."""


@dataclass(frozen=True)
class Program:
    """What torch.export.save wrote."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    results: tuple[str, ...]
    """For each output, the value of the graph that it is."""
    values: Mapping[str, Weight | Tensor | float | str | bool | None] = field(repr=False)
    """For each input of the graph, in order: a weight, a tensor of the user's, or a constant."""
    nodes: tuple[Node, ...] = field(repr=False)
    members: Mapping[str, memoryview] = field(repr=False)
    """Bytes of the weights, by the name that `Weight.member` has."""
    least_rows: int = 1
    most_rows: int = ANY_ROWS
    """Bounds of a free axis 0, as they were exported; equal where it is fixed."""
    torch_version: str = ""

    @property
    def parameters(self) -> int:
        """Elements of all weights."""
        return sum(math.prod(w.shape) for w in self.values.values() if isinstance(w, Weight))

    @property
    def has_free_rows(self) -> bool:
        """Whether it takes more than one number of rows."""
        return self.least_rows < self.most_rows

"""The weights of a program: where each lies in the file, and that it lies there whole. Knows no graph."""

from __future__ import annotations

import json
import math
from typing import Any

from foretell.model.containers import Damaged
from foretell.model.programs.archive import Members
from foretell.model.programs.program import DATATYPES, Weight

__all__ = ["Refused", "Weights", "datatype_numbered", "read_json", "whole_number"]

_BYTES = {"UINT8": 1, "INT8": 1, "BOOL": 1, "INT16": 2, "FP16": 2, "BF16": 2, "UINT16": 2, "INT32": 4, "FP32": 4,
          "UINT32": 4, "INT64": 8, "FP64": 8, "UINT64": 8}  # fmt: skip
_MOST_JSON_BYTES = 512 << 20


class Refused(Exception):
    """It holds something that is not opened; says what, and what to do."""


class Weights:
    """Reads the two lists of weights of a program."""

    def __init__(self, members: Members, model: str) -> None:
        self._members = members
        self._views: dict[str, memoryview] = {}
        self.by_name = self._listed("weights", model) | self._listed("constants", model)
        """Every weight, buffer and constant tensor."""

    def bytes_of(self, weights: list[Weight]) -> dict[str, memoryview]:
        """Return the bytes of these, by member."""
        return {w.member: self._views[w.member] for w in weights}

    def _listed(self, folder: str, model: str) -> dict[str, Weight]:
        if f"data/{folder}/{model}.pt" in self._members:
            raise Refused(
                "its weights are a pickle, as PyTorch before 2.9 wrote them, which can run code; "
                "save it again: torch.export.save(torch.export.load(file), file)"
            )
        config = read_json(self._members, f"data/{folder}/{model}_{folder}_config.json")["config"]
        return {name: self._weight(folder, name, entry) for name, entry in config.items()}

    def _weight(self, folder: str, name: str, entry: Any) -> Weight:
        member = f"data/{folder}/{entry['path_name']}"
        if entry["use_pickle"] or entry["tensor_meta"] is None:
            raise Refused(
                f'"{name}" is stored as a pickle, which can run code (a tensor of a class of its own: quantized, '
                "distributed ...); make it a plain tensor before the export, or convert it to ONNX"
            )
        meta = entry["tensor_meta"]
        datatype = datatype_numbered(meta["dtype"], name)
        shape, strides = tuple(map(whole_number, meta["sizes"])), tuple(map(whole_number, meta["strides"]))
        offset, view = whole_number(meta["storage_offset"]), self._view(member)
        reach = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + 1
        if math.prod(shape) and reach * _BYTES[datatype] > len(view):
            raise Damaged(f'weight "{name}" of shape {shape} needs {reach * _BYTES[datatype]} bytes, found {len(view)}')
        if meta["layout"] != 7:
            raise Refused(f'"{name}" is sparse; make it dense before the export')
        return Weight(member, datatype, shape, strides, offset)

    def _view(self, member: str) -> memoryview:
        if member not in self._views:
            self._views[member] = self._members.view(member)
        return self._views[member]


def read_json(members: Members, member: str) -> Any:
    """Return a member that is JSON."""
    view = members.view(member)
    if len(view) > _MOST_JSON_BYTES:
        raise Damaged(f'member "{member}" has {len(view)} bytes, at most {_MOST_JSON_BYTES} expected')
    return json.loads(bytes(view))


def whole_number(size: Any) -> int:
    """Return a size that is a number."""
    found = size["as_int"]
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found < 1 << 62:
        raise ValueError(f"size {str(found)[:40]}, expected a number")
    return found


def datatype_numbered(number: Any, name: str) -> str:
    """Return the datatype of a number in the file; `name` is of the tensor, for the message."""
    if number not in DATATYPES:
        raise Refused(f'"{name}" has a dtype that is not run here (number {number}): complex, float8 or quantized')
    return DATATYPES[number]

"""Check tensors against a signature, merge requests along axis 0, split the answers again. Pure.

Merging copies once; a batch of one request is passed on as it is, so nobody writes to inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import datatype_of, dtype_of
from foretell.errors import ForetellError, InvalidInput
from foretell.signature import Signature, TensorSpec

__all__ = ["MOST_PICTURES", "PICTURES", "Layout", "Tensors", "count_bytes", "merge", "split"]

Tensors = dict[str, NDArray[Any]]

PICTURES = ("pictures",)
"""Key of the requests that bring encoded pictures in place of the tensor that is made of them."""
MOST_PICTURES = 8
"""Of one batch. The largest that are taken need seconds each to decode, and others wait behind them."""
_BYTES_ELEMENT = 64


class Layout:
    """What the tensors of one request must look like, compiled from a signature, and from that of pictures.

    Attributes:
        batchable: Axis 0 counts rows in every tensor, so requests may be merged and split.
    """

    __slots__ = ("_names", "_only", "_picture", "_specs", "batchable")

    def __init__(self, signature: Signature, pictures: Signature | None = None) -> None:
        self._picture = pictures.inputs[0] if pictures is not None else None
        self._specs = [(s.name, dtype_of(s.datatype), s.shape, s) for s in signature.inputs]
        self._names = {s.name for s in signature.inputs}
        tensors = (*signature.inputs, *signature.outputs)
        self.batchable = bool(signature.inputs) and all(s.shape[:1] == (-1,) for s in tensors)
        # The common model takes one tensor whose rows have a fixed shape: one comparison tells that it fits.
        first = signature.inputs[0] if len(signature.inputs) == 1 and self.batchable else None
        self._only = None
        if first is not None and -1 not in first.shape[1:]:
            self._only = (first.name, dtype_of(first.datatype), first.shape[1:])

    def check(self, inputs: Mapping[str, NDArray[Any]], rows: int) -> tuple[Any, ...]:
        """Check the tensors of a request and return its key: only requests of equal keys may be merged.

        Args:
            inputs: By name, each of shape (rows, *rest).
            rows: Of this request, at least 1.

        Raises:
            InvalidInput: A tensor is missing, unknown, or its datatype, rank, shape or rows do not fit.
        """
        if self._only is not None and len(inputs) == 1 and rows > 0:
            name, dtype, rest = self._only
            array = inputs.get(name)
            if array is not None and array.dtype == dtype and array.shape == (rows, *rest):
                return ()
        return self._check_each(inputs, rows)

    def _check_each(self, inputs: Mapping[str, NDArray[Any]], rows: int) -> tuple[Any, ...]:
        if rows < 1:
            raise InvalidInput(f"request: {rows} rows, expected at least 1")
        picture = self._picture
        if picture is not None and (array := inputs.get(picture.name)) is not None and array.dtype.kind == "O":
            if len(inputs) == 1 and array.shape == (rows,):
                return PICTURES
            got = f"shape {list(array.shape)} and {len(inputs)} inputs"
            raise InvalidInput(f'input "{picture.name}": {got}, expected {rows} pictures and nothing else')
        for name in inputs:
            if name not in self._names:
                raise InvalidInput(f'input "{name}": the model has no such input; it takes {_listed(self._names)}')
        key = []
        for name, dtype, shape, spec in self._specs:
            array = inputs.get(name)
            if array is None:
                raise InvalidInput(f'input "{name}": missing; the model takes {_listed(self._names)}')
            _check_tensor(array, dtype, shape, spec)
            if self.batchable and array.shape[0] != rows:
                raise InvalidInput(f'input "{name}": {array.shape[0]} rows, the request has {rows}')
            key.append(array.shape[1:] if self.batchable else array.shape)
        return () if self._only is not None else tuple(key)


def _check_tensor(array: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int, ...], spec: TensorSpec) -> None:
    if array.dtype != dtype and not (dtype.kind == "O" and array.dtype.kind in "SU"):
        raise InvalidInput(f'input "{spec.name}": datatype {_datatype(array.dtype)}, the model takes {spec.datatype}')
    fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits:
        raise InvalidInput(f'input "{spec.name}": shape {list(array.shape)}, the model takes {list(shape)}')


def merge(parts: Sequence[Tensors]) -> Tensors:
    """Stack the inputs of several requests along axis 0, in order.

    Args:
        parts: One or more, of equal keys.

    Returns:
        By name an array of shape (sum of rows, *rest). Of one part it is the part itself.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    return {name: np.concatenate([part[name] for part in parts]) for name in first}


def split(outputs: Sequence[NDArray[Any]], rows: Sequence[int]) -> list[list[NDArray[Any]]]:
    """Cut the outputs of a batch into those of each request, in order. The cuts are views.

    Args:
        outputs: Each of shape (sum of rows, *rest).
        rows: Of each request.
    """
    cut, at = [], 0
    for count in rows:
        end = at + count
        cut.append([output[at:end] for output in outputs])
        at = end
    return cut


def count_bytes(inputs: Mapping[str, NDArray[Any]]) -> int:
    """Return about how much memory the tensors of a request hold."""
    total = 0
    for array in inputs.values():
        total += array.nbytes if array.dtype.kind != "O" else array.size * _BYTES_ELEMENT
    return total


def _listed(names: set[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))


def _datatype(dtype: np.dtype[Any]) -> str:
    try:
        return datatype_of(dtype)
    except ForetellError:
        return str(dtype)

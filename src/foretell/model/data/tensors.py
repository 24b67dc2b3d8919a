"""Bare tensors for a model that has no fields: checked, never changed.

Knows no column and no runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import InvalidInput
from foretell.model.data.cells import quote
from foretell.signature import Signature, TensorSpec

__all__ = ["Prepared", "TensorPreparation"]


class Prepared(NamedTuple):
    """Data as a runtime takes it."""

    inputs: dict[str, NDArray[Any]]
    """An array for each input of the signature, of its datatype, C-contiguous, the same rows in each. An array of
    the caller that fits already is passed on, not copied, so nobody may write to them."""
    rows: int
    notes: tuple[str, ...]
    """What was coerced or ignored, one line each."""


class TensorPreparation:
    """Checks bare tensors against a signature."""

    def __init__(self, signature: Signature) -> None:
        self._specs = {spec.name: spec for spec in signature.inputs}

    def prepare(self, data: Any) -> Prepared:
        """Return tensors as the runtime takes them.

        Args:
            data: An array for the only input, or a dict of arrays by name. A number may widen (int32 to FP64),
                never lose.

        Raises:
            InvalidInput: A name, a datatype, a rank or a dimension does not fit, or the rows differ.
        """
        if not isinstance(data, Mapping):
            if len(self._specs) != 1:
                raise InvalidInput(f"data: got {type(data).__name__}, expected a dict of {self._listed()}")
            data = {next(iter(self._specs)): data}
        for name in data:
            if name not in self._specs:
                raise InvalidInput(
                    f"input {quote(str(name))}: the model has none of this name; it takes {self._listed()}"
                )
        inputs = {}
        for name, spec in self._specs.items():
            if name not in data:
                raise InvalidInput(f"input {quote(name)}: it is missing; the model takes {self._listed()}")
            inputs[name] = _fit(data[name], spec)
        rows = {name: len(found) if found.ndim else 1 for name, found in inputs.items()}
        if len(set(rows.values())) > 1:
            listed = ", ".join(f"{quote(name)} {count}" for name, count in rows.items())
            raise InvalidInput(f"data: the inputs have different numbers of rows ({listed}); send as many in each")
        return Prepared(inputs, next(iter(rows.values()), 0), ())

    def _listed(self) -> str:
        return ", ".join(f"{quote(s.name)} {s.datatype} {_shape(s.shape)}" for s in self._specs.values())


def _fit(value: Any, spec: TensorSpec) -> NDArray[Any]:
    name, dtype = quote(spec.name), dtype_of(spec.datatype)
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise InvalidInput(f"input {name}: it is ragged; expected an array of shape {_shape(spec.shape)}") from error
    if dtype.kind == "O":
        if found.dtype.kind not in "OUST":
            raise InvalidInput(f"input {name}: datatype {found.dtype}, expected texts")
        found = found.astype(object)
        if not all(isinstance(v, (str, bytes)) for v in found.flat):
            raise InvalidInput(f"input {name}: it has values that are not text; expected texts")
    elif not isinstance(value, (np.ndarray, np.generic)):
        found = _from_values(found, spec)
    elif not np.can_cast(found.dtype, dtype, "safe"):
        raise InvalidInput(f"input {name}: datatype {found.dtype}, expected {dtype}; convert it with .astype")
    fits = found.ndim == len(spec.shape) and all(
        want < 0 or want == got for want, got in zip(spec.shape, found.shape, strict=True)
    )
    if not fits:
        raise InvalidInput(f"input {name}: shape {_shape(found.shape)}, the model takes {_shape(spec.shape)}")
    # Not `ascontiguousarray`: it would give a scalar an axis.
    return found.astype(dtype, order="C", copy=False)


def _from_values(found: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """Give Python's values, which have no datatype of their own, that of the tensor, if they survive it."""
    name, dtype = quote(spec.name), dtype_of(spec.datatype)
    if found.dtype.kind not in "biuf" or (found.size and found.dtype.kind == "f" and dtype.kind != "f"):
        raise InvalidInput(f"input {name}: values of type {found.dtype}, expected {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = found.astype(dtype)
        kept = cast == found if dtype.kind != "f" else np.isfinite(cast) | ~np.isfinite(found)
    if not np.all(kept):
        raise InvalidInput(f"input {name}: it has values out of the range of {dtype}")
    return cast


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"

"""A TorchScript network, opened, asked and turned into ONNX. Runs what is in the file: only ever inside the box.

PyTorch reads these files in C++ without checking them, and their operations include some on files. They say nothing
of the shapes they take, so whoever opens one says those.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import datatype_of, dtype_of
from foretell.errors import ArtifactInvalid, ArtifactUntrusted, InferenceFailed, RuntimeMissing
from foretell.signature import TensorSpec

__all__ = ["Script"]

_FREE_DIMENSION = 8
_ROWS = (2, 3)
"""Rows of two calls; an axis that differs between their answers is free."""


class Script:
    """One network."""

    def __init__(self, content: bytes, *, trust: bool) -> None:
        """Open it.

        Raises:
            ArtifactUntrusted: It is not trusted.
            ArtifactInvalid: PyTorch does not read it.
            RuntimeMissing: PyTorch is not installed.
        """
        if not trust:
            raise ArtifactUntrusted("a TorchScript file, and it is not trusted")
        try:
            import torch
        except ImportError as error:
            raise RuntimeMissing("PyTorch is not installed; run: pip install 'foretell[torch]'") from error
        self._torch = torch
        torch.set_num_threads(1)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise ArtifactInvalid(f"PyTorch {torch.__version__} refuses it: {_line(error)}") from error

    def infer(self, arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return its answers, an array for each output."""
        return list(self._answers(arrays).values())

    def outputs(self, inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
        """Return what it gives, found by asking it twice.

        Raises:
            ArtifactInvalid: It does not take such inputs.
        """
        try:
            first, second = (self._answers(_example(inputs, rows)) for rows in _ROWS)
        except InferenceFailed as error:
            taken = ", ".join(f"{s.name} {s.datatype} {list(s.shape)}" for s in inputs)
            raise ArtifactInvalid(f"it does not take {taken}: {error}") from error
        return [
            TensorSpec(name, datatype_of(a.dtype), _shape(a.shape, second[name].shape)) for name, a in first.items()
        ]

    def graph(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[bytes, str]:
        """Return it as ONNX, or nothing and why."""
        torch = self._torch
        buffer = io.BytesIO()
        free = {s.name: {at: f"{s.name}_{at}" if at else "rows" for at, d in enumerate(s.shape) if d < 0}
                for s in (*inputs, *outputs)}  # fmt: skip
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    self._module,
                    tuple(torch.from_numpy(a) for a in _example(inputs, _ROWS[1])),
                    buffer,
                    dynamo=False,
                    input_names=[s.name for s in inputs],
                    output_names=[s.name for s in outputs],
                    dynamic_axes=free,
                )
        except Exception as error:  # noqa: BLE001 - the exporter fails in as many ways as there are networks
            return b"", _line(error)
        return buffer.getvalue(), ""

    def _answers(self, arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        torch = self._torch
        try:
            with torch.inference_mode():
                found = self._module(*(torch.from_numpy(a.copy()) for a in arrays))
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as error:
            raise InferenceFailed(_line(error)) from error
        return {name: _array(torch, tensor) for name, tensor in _named(found).items()}


def _named(found: Any) -> dict[str, Any]:
    """Return outputs by name: the keys of a dict, or `output`, or `output_0` ..."""
    if isinstance(found, Mapping):
        return {str(name): tensor for name, tensor in found.items()}
    several = list(found) if isinstance(found, (tuple, list)) else [found]
    return {"output": several[0]} if len(several) == 1 else {f"output_{i}": t for i, t in enumerate(several)}


def _array(torch: Any, tensor: Any) -> NDArray[Any]:
    if not isinstance(tensor, torch.Tensor):
        raise InferenceFailed(f"it returns a {type(tensor).__name__}; expected tensors alone")
    array: NDArray[Any] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).contiguous().numpy()
    return array


def _example(inputs: Sequence[TensorSpec], rows: int) -> list[NDArray[Any]]:
    random = np.random.default_rng(7)
    arrays = []
    for spec in inputs:
        shape = [(_FREE_DIMENSION if at else rows) if d < 0 else d for at, d in enumerate(spec.shape)]
        dtype = dtype_of(spec.datatype)
        drawn = random.standard_normal(shape) if dtype.kind == "f" else random.integers(0, 2, shape)
        arrays.append(drawn.astype(dtype))
    return arrays


def _shape(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    if len(first) != len(second):
        raise ArtifactInvalid(f"an output has {len(first)} dimensions for {_ROWS[0]} rows and {len(second)} for others")
    return tuple(a if a == b else -1 for a, b in zip(first, second, strict=True))


def _line(error: BaseException) -> str:
    """Return the last line of PyTorch's message, which has the cause; before it stands the code of the network."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]

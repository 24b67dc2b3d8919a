"""The messages of ONNX, and the few of its helpers that reading a graph needs.

The package `onnx` is ten megabytes of memory and a tenth of a second for each worker that serves a graph, and all
but its messages are for those who make graphs. So its generated messages are imported alone, under their own name:
who imports the package afterwards gets the same. Knows no signature.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import RuntimeMissing

if TYPE_CHECKING:
    from onnx import TensorProto, TypeProto

__all__ = ["array_of", "messages", "set_float_tensor"]

_MESSAGES = "onnx.onnx_ml_pb2"
_FLOAT = 1
_STORED: dict[int, tuple[type[Any], str]] = {
    1: (np.float32, "float_data"),
    6: (np.int32, "int32_data"),
    7: (np.int64, "int64_data"),
    11: (np.float64, "double_data"),
}
"""By TensorProto.DataType: the dtype, and the field that holds the elements where `raw_data` does not."""


def messages() -> Any:
    """Return the module of the generated messages.

    Raises:
        RuntimeMissing: onnx is not installed.
    """
    found = sys.modules.get(_MESSAGES)
    if found is not None:
        return found
    package = find_spec("onnx")
    if package is None or package.origin is None:
        raise RuntimeMissing("onnx is not installed; run: pip install onnx")
    spec = spec_from_file_location(_MESSAGES, Path(package.origin).parent / "onnx_ml_pb2.py")
    if spec is None or spec.loader is None:
        raise RuntimeMissing("onnx: its messages are not where they were; run: pip install --force-reinstall onnx")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return sys.modules.setdefault(_MESSAGES, module)


def array_of(tensor: TensorProto) -> NDArray[Any]:
    """Return the elements of a tensor that is stored in the model.

    Raises:
        ValueError, TypeError, KeyError: It is not what it says.
    """
    known = _STORED.get(tensor.data_type)
    if known is None or sys.byteorder != "little" or tensor.HasField("segment") or tensor.external_data:
        from onnx import numpy_helper

        array: NDArray[Any] = numpy_helper.to_array(tensor)
        return array
    dtype, field = known
    if tensor.HasField("raw_data"):
        return np.frombuffer(tensor.raw_data, dtype).reshape(list(tensor.dims))
    return np.array(getattr(tensor, field), dtype).reshape(list(tensor.dims))


def set_float_tensor(kind: TypeProto, shape: list[int | None]) -> None:
    """Make a type that of float32 tensors of a shape, whose None are free."""
    kind.Clear()
    kind.tensor_type.elem_type = _FLOAT
    for size in shape:
        dimension = kind.tensor_type.shape.dim.add()
        if size is not None:
            dimension.dim_value = size
    kind.tensor_type.shape.SetInParent()

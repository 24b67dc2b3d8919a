"""One table: the protocol's name of a datatype, its numpy dtype, bytes per element.

Names are those of the Open Inference Protocol v2. BYTES has no fixed width; its arrays
hold `str` or `bytes` objects.
"""

from __future__ import annotations

import numpy as np

from foretell.errors import ArtifactInvalid

__all__ = ["DATATYPES", "datatype_of", "dtype_of", "itemsize_of"]

DATATYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
}
"""Protocol name to numpy dtype."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def dtype_of(datatype: str) -> np.dtype[np.generic]:
    """Return the numpy dtype of a protocol datatype such as `FP32`."""
    try:
        return DATATYPES[datatype]
    except KeyError:
        raise ArtifactInvalid(f'datatype "{datatype}": expected one of {", ".join(DATATYPES)}') from None


def datatype_of(dtype: np.dtype[np.generic]) -> str:
    """Return the protocol's name of a numpy dtype; strings of any width are BYTES."""
    if dtype.kind in "USO":
        return "BYTES"
    try:
        return _NAMES[dtype.newbyteorder("=")]
    except KeyError:
        raise ArtifactInvalid(
            f"dtype {dtype}: it has no name in the protocol; use one of {', '.join(DATATYPES)}"
        ) from None


def itemsize_of(datatype: str) -> int | None:
    """Return bytes per element, or None for BYTES."""
    return None if datatype == "BYTES" else dtype_of(datatype).itemsize

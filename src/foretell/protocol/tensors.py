"""One tensor of the Open Inference Protocol: JSON values or raw bytes to an array, and back.

Everything is checked against the signature before a byte is allocated for it: what the caller declares is
never believed. Knows no message.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import InvalidInput
from foretell.protocol.status import Refused
from foretell.signature import TensorSpec

__all__ = [
    "check_datatype", "check_shape", "from_raw", "from_values", "join_bytes", "split_bytes", "split_elements", "to_raw",
    "told",
]  # fmt: skip
Raw = TypeVar("Raw", bytes, memoryview)

_RANK = 16
_TYPES: dict[str, frozenset[type]] = {
    "f": frozenset((float, int, type(None))),
    "i": frozenset((int,)),
    "u": frozenset((int,)),
    "b": frozenset((bool,)),
    "O": frozenset((str,)),
}
_NULLABLE_TEXTS = frozenset((str, type(None)))
_EXPECTED = {"f": "numbers, or null for NaN", "i": "integers", "u": "integers", "b": "true or false", "O": "texts"}


def told(shape: Any) -> str:
    """Return a shape in words: `(rows, 30)` for (-1, 30)."""
    words = ["rows" if at == 0 and d < 0 else "any" if d < 0 else str(d) for at, d in enumerate(shape)]
    return f"({', '.join(words)})"


def check_datatype(datatype: Any, spec: TensorSpec) -> None:
    """Refuse a datatype that is not the signature's."""
    if datatype != spec.datatype:
        got = str(datatype)[:40] if isinstance(datatype, str) else "no text"
        raise InvalidInput(f'input "{spec.name}": datatype {got}, the model takes {spec.datatype}', column=spec.name)


def check_shape(shape: Any, spec: TensorSpec) -> int:
    """Return the number of elements of a declared shape.

    Args:
        shape: As it came: anything.
        spec: Of the signature.

    Raises:
        Refused: It is no list of integers of at least 0; `bad_shape`.
        InvalidInput: It is not the signature's; `shape_mismatch`.
    """
    if not isinstance(shape, (list, tuple)) or len(shape) > _RANK:
        raise Refused(f'input "{spec.name}": shape must be a list of at most {_RANK} integers', code="bad_shape")
    for size in shape:
        if type(size) is not int or not 0 <= size < 1 << 63:
            text = str(size)[:40]
            raise Refused(f'input "{spec.name}": shape has {text}, expected integers of at least 0', code="bad_shape")
    if len(shape) != len(spec.shape) or any(0 <= want != got for want, got in zip(spec.shape, shape, strict=True)):
        got = f"({', '.join(str(d) for d in shape)})"
        raise _mismatch(spec, f"shape {got}, the model takes {told(spec.shape)}")
    count = math.prod(shape)  # of Python's integers, which do not overflow
    if count == 0 and shape and shape[0]:
        raise Refused(f'input "{spec.name}": its rows are empty', code="bad_shape")
    return count


def from_values(data: Any, shape: list[int], count: int, spec: TensorSpec, *, nullable: bool = False) -> NDArray[Any]:
    """Return an array of JSON values, flat in row-major order or nested as the shape.

    A null is NaN in an array of floats; where `nullable`, it is None in one of texts.

    Raises:
        InvalidInput: Their number, nesting or types do not fit, or one is out of the range of the datatype.
    """
    if type(data) is not list:
        raise _mismatch(spec, "data must be a list")
    if data and type(data[0]) is list:
        data = _flat(data, shape, spec)
    if len(data) != count:
        raise _mismatch(spec, f"data has {len(data)} values, its shape ({', '.join(map(str, shape))}) {count}")
    dtype = dtype_of(spec.datatype)
    types = _NULLABLE_TEXTS if nullable and dtype.kind == "O" else _TYPES[dtype.kind]
    if not types.issuperset(map(type, data)):
        at = next(i for i, v in enumerate(data) if type(v) not in types)
        strange = str(data[at])[:40]
        raise InvalidInput(
            f'input "{spec.name}", value {at}: got {strange}, expected {_EXPECTED[dtype.kind]}',
            column=spec.name,
            row=at * shape[0] // count if shape else None,
        )
    return _array(data, dtype, spec).reshape(shape)


def _array(data: list[Any], dtype: np.dtype[Any], spec: TensorSpec) -> NDArray[Any]:
    if dtype.kind == "O":
        found = np.empty(len(data), object)
        found[:] = data
        return found
    if dtype.kind != "f":
        try:
            return np.array(data, dtype)
        except OverflowError:
            raise InvalidInput(
                f'input "{spec.name}": an integer is out of the range of {spec.datatype}', column=spec.name
            ) from None
    try:
        wide = np.array(data, np.float64)
    except OverflowError:
        raise InvalidInput(f'input "{spec.name}": a number is out of range', column=spec.name) from None
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype, copy=False)
    if np.isinf(narrow).any():
        raise InvalidInput(f'input "{spec.name}": a number is out of the range of {spec.datatype}', column=spec.name)
    return narrow


def _flat(data: list[Any], shape: list[int], spec: TensorSpec) -> list[Any]:
    for below in shape[1:]:
        if not all(type(part) is list for part in data) or set(map(len, data)) != {below}:
            raise _mismatch(spec, f"data is nested, but not as its shape ({', '.join(map(str, shape))})")
        data = list(chain.from_iterable(data))
    return data


def from_raw(raw: bytes | memoryview, shape: list[int], count: int, spec: TensorSpec) -> NDArray[Any]:
    """Return an array of the bytes of the binary extension: little-endian, row-major; a view where it can be.

    Raises:
        Refused: Their number is not that of the shape; `bad_binary_section`.
        InvalidInput: A text is not UTF-8.
    """
    if spec.datatype == "BYTES":
        elements = split_bytes(raw, count, spec.name)
        texts = np.empty(count, object)
        texts[:] = elements
        return texts.reshape(shape)
    dtype = dtype_of(spec.datatype)
    if len(raw) != count * dtype.itemsize:
        raise Refused(
            f'input "{spec.name}": {len(raw)} bytes, its shape ({", ".join(map(str, shape))}) takes '
            f"{count * dtype.itemsize}",
            code="bad_binary_section",
        )
    if dtype.kind == "b":
        truths: NDArray[Any] = (np.frombuffer(raw, np.uint8) != 0).reshape(shape)
        return truths
    found: NDArray[Any] = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype, copy=False)
    shaped: NDArray[Any] = found.reshape(shape)
    return shaped


def split_bytes(raw: bytes | memoryview, count: int, name: str) -> list[str]:
    """Return texts of elements with a 4-byte little-endian length before each."""
    return [_text(bytes(element), name) for element in split_elements(bytes(raw), count, name)]


def split_elements(raw: Raw, count: int, name: str) -> list[Raw]:
    """Return the elements with a 4-byte little-endian length before each: views of a view."""
    # An element takes at least its length, so a shape cannot ask for more than was sent.
    if count * 4 > len(raw):
        raise Refused(f'input "{name}": {len(raw)} bytes are too few for {count} texts', code="bad_binary_section")
    elements: list[Raw] = []
    at = 0
    for _ in range(count):
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        if at > len(raw) or start > len(raw):
            raise Refused(f'input "{name}": a text ends beyond the end of its bytes', code="bad_binary_section")
        elements.append(raw[start:at])
    if at != len(raw):
        raise Refused(f'input "{name}": {len(raw) - at} bytes are left over', code="bad_binary_section")
    return elements


def _text(raw: bytes, name: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f'input "{name}": a text is not UTF-8', column=name) from None


def to_raw(found: NDArray[Any]) -> bytes:
    """Return the bytes of the binary extension."""
    if found.dtype.kind in "OUS":
        return join_bytes(found.reshape(-1).tolist())
    return found.astype(found.dtype.newbyteorder("<"), copy=False).tobytes()


def join_bytes(elements: list[Any]) -> bytes:
    """Return elements with a 4-byte little-endian length before each."""
    parts = []
    for element in elements:
        raw = element if isinstance(element, bytes) else str(element).encode()
        parts += [len(raw).to_bytes(4, "little"), raw]
    return b"".join(parts)


def _mismatch(spec: TensorSpec, what: str) -> InvalidInput:
    error = InvalidInput(f'input "{spec.name}": {what}', column=spec.name)
    error.code = "shape_mismatch"
    return error

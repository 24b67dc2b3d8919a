"""The UBJSON reader against a writer of its own, and against bytes that are not UBJSON."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import ArtifactInvalid
from foretell.model.trees.ubjson import MAX_DEPTH, decode

NUMBERS = {"i": "b", "U": "B", "I": "h", "l": "i", "L": "q"}


def encode(value: Any) -> bytes:
    if value is None or isinstance(value, bool):
        return {None: b"Z", True: b"T", False: b"F"}[value]
    if isinstance(value, int):
        return b"L" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"D" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"S" + key(value)
    if isinstance(value, list):
        return b"[" + b"".join(map(encode, value)) + b"]"
    return b"{" + b"".join(key(k) + encode(v) for k, v in value.items()) + b"}"


def key(text: str) -> bytes:
    raw = text.encode()
    return b"l" + struct.pack(">i", len(raw)) + raw


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=20)


@given(VALUES)
def test_reads_back_what_was_written(value: Any) -> None:
    assert decode(encode(value)) == value


@given(VALUES, st.data())
def test_a_part_is_refused(value: Any, data: st.DataObject) -> None:
    content = encode(value)
    with pytest.raises(ArtifactInvalid):
        decode(content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.binary(max_size=80))
def test_any_bytes_give_a_value_or_are_refused(content: bytes) -> None:
    with contextlib.suppress(ArtifactInvalid):
        decode(b"{" + content)


@pytest.mark.parametrize(("mark", "code"), [*NUMBERS.items(), ("d", "f"), ("D", "d")])
def test_typed_arrays_become_numpy(mark: str, code: str) -> None:
    found = decode(b"[$" + mark.encode() + b"#i\x03" + struct.pack(f">3{code}", 1, 2, 3))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.dtype(code)
    assert found.tolist() == [1, 2, 3]


def test_counted_containers() -> None:
    assert decode(b"[#i\x02i\x05T") == [5, True]
    assert decode(b"{#i\x01i\x01aC!") == {"a": "!"}
    assert decode(b"{$i#i\x02i\x01a\x07i\x01b\x08") == {"a": 7, "b": 8}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file ends before"),
        (b"[$d#l\x7f\xff\xff\xff", "a count of 2147483647"),
        (b"[$D#i\x7f" + bytes(200), "1016 bytes expected"),
        (b"[#i\xff", "a count of -1"),
        (b"S" + b"L" + b"\x7f" + b"\xff" * 7, "a count of"),
        (b"Si\x01\xff", "not UTF-8"),
        (b"[" * (MAX_DEPTH + 2), "deeper than"),
        (b"x", "is not a type"),
        (b"[$d", "a type without a count"),
        (b"[#D" + bytes(8), "expected a count"),
        (b"TT", "1 bytes after its end"),
    ],
)
def test_refuses(content: bytes, says: str) -> None:
    with pytest.raises(ArtifactInvalid, match=says):
        decode(content)

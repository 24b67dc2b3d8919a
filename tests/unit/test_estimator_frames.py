"""Frames between the parent and the child that holds an estimator."""

import io
import struct

import numpy as np
import pyarrow as pa
import pytest

from foretell.errors import ArtifactInvalid
from foretell.model.runtimes.frames import (
    FrameBroken,
    pack_array,
    pack_table,
    receive,
    send,
    unpack_array,
    unpack_table,
)


def sent(header, payloads=()):
    stream = io.BytesIO()
    send(stream, header, payloads)
    return stream.getvalue()


def test_what_is_sent_is_received():
    content = sent({"command": "open", "name": "é"}, [b"", b"\x00" * 9])
    assert receive(io.BytesIO(content)) == ({"command": "open", "name": "é"}, [b"", b"\x00" * 9])


def test_every_truncation_is_a_broken_frame():
    content = sent({"command": "open"}, [b"abc"])
    for length in range(len(content)):
        with pytest.raises(FrameBroken):
            receive(io.BytesIO(content[:length]))


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 1 << 60),
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 21) + b'{"payload_bytes":[-1]}'[:21],
        struct.pack("<Q", 22) + b'{"payload_bytes":[-1]}',
        struct.pack("<Q", 24) + b'{"payload_bytes":[true]}',
        struct.pack("<Q", 34) + b'{"payload_bytes":[99999999999999]} ',
        struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
    ],
)
def test_hostile_lengths_are_refused_before_they_are_read(content):
    with pytest.raises(FrameBroken):
        receive(io.BytesIO(content))


def test_arrays_travel_without_pickle():
    for array in (np.eye(3), np.array(["é", ""]), np.array([1, 2]), np.zeros((0, 4))):
        assert np.array_equal(unpack_array(pack_array(array)), array)
    with pytest.raises(ValueError, match="allow_pickle"):
        pack_array(np.array([{}], object))
    stream = io.BytesIO()
    np.save(stream, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ArtifactInvalid):
        unpack_array(stream.getvalue())


def test_tables_travel_as_arrow():
    table = pa.table({"a": [1, None], "b": ["x", None]})
    assert unpack_table(pack_table(table)) == table
    with pytest.raises(ArtifactInvalid):
        unpack_table(b"no arrow at all")

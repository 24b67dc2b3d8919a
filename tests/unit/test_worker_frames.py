"""Frames, texts and messages between the front and a worker: there and back, cut, and lied to."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from foretell.dtypes import DATATYPES
from foretell.engine.worker import frames, messages, reading, texts
from foretell.engine.worker.frames import ANSWER, HEAD, HELLO, JOB, UNFINISHED, FrameBroken
from foretell.errors import ArtifactInvalid, InferenceFailed, InvalidOutput, MachineError

NUMBERS = [d for d in DATATYPES.values() if d.kind != "O"]
WORDS = st.one_of(st.text(max_size=5), st.binary(max_size=5), st.none(), st.just("\ud800"))
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
ARRAYS = st.one_of(
    st.sampled_from(NUMBERS).flatmap(lambda d: hnp.arrays(d, SHAPES)),
    hnp.arrays(np.object_, SHAPES, elements=WORDS),
)


def written(arrays, kind=JOB, job=7, rows=3):
    return b"".join(frames.parts_inline(kind, job, rows, frames.pack(arrays)))


def read(content, length=None):
    length = len(content) if length is None else length
    return reading.read_tensors(content, length, reading.read_head(content, length))


def same(a, b):
    if a.dtype.kind == "O":
        return a.dtype == b.dtype and a.shape == b.shape and a.ravel().tolist() == b.ravel().tolist()
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@settings(max_examples=200, deadline=None)
@given(st.lists(ARRAYS, max_size=4))
def test_what_is_written_is_read(arrays):
    content = written(arrays)
    head = reading.read_head(content, len(content))
    assert (head.kind, head.job, head.rows, head.tensors) == (JOB, 7, 3, len(arrays))
    for _ in range(2):  # the second time from what was remembered of the table
        assert all(map(same, read(content), arrays))


@settings(max_examples=100, deadline=None)
@given(st.lists(ARRAYS, max_size=4))
def test_what_is_written_to_a_slot_is_read_from_it(arrays):
    packed = frames.pack(arrays)
    slot = bytearray(packed.total_bytes)
    for at, part, size in frames.offsets(packed):
        slot[at : at + size] = bytes(part)
    content = b"".join(frames.parts_in_slot(ANSWER, 1, 1, packed, 2))
    head = reading.read_head(content, len(content))
    assert head.kind & frames.IN_SLOT
    assert all(map(same, reading.read_tensors(content, len(content), head, slot, len(slot)), arrays))
    if slot:
        with pytest.raises(FrameBroken):
            reading.read_tensors(content, len(content), head, slot, len(slot) - 1)


def test_tensors_are_aligned_and_not_copied():
    a, b = np.ones((3, 5), np.float32), np.arange(7, dtype=np.int64)
    packed = frames.pack([a, b])
    assert np.shares_memory(np.frombuffer(packed.parts[0], np.float32), a)
    content = b"".join(frames.parts_inline(JOB, 1, 3, packed))
    buffer = np.zeros(4096, np.uint8)
    start = -buffer.ctypes.data % 64
    frame = memoryview(buffer)[start:]
    frame[: len(content)] = content
    found = reading.read_tensors(frame, len(content), reading.read_head(frame, len(content)))
    assert [array.ctypes.data % 64 for array in found] == [0, 0]
    assert all(np.shares_memory(array, buffer) for array in found)


def test_arrays_of_any_layout_and_byte_order():
    fortran = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    swapped = np.arange(5).astype(">i4")
    unicode = np.array([["a", "bcd"]])
    a, b, c, d = read(written([fortran, swapped, unicode, fortran[:, ::2]]))
    assert np.array_equal(a, fortran)
    assert b.tolist() == [0, 1, 2, 3, 4]
    assert c.tolist() == [["a", "bcd"]]
    assert np.array_equal(d, fortran[:, ::2])


@pytest.mark.parametrize("array", [np.zeros(2, np.complex64), np.zeros(2, "M8[s]"), np.array([1, "a"], object)])
def test_what_has_no_datatype_is_refused(array):
    with pytest.raises(FrameBroken):
        frames.pack([array])


def test_a_frame_cut_at_any_byte_is_refused():
    words = np.array(["one", b"two", None], object)
    content = written([np.ones((2, 3), np.float32), words, np.array([True, False])])
    for length in range(len(content)):
        with pytest.raises(FrameBroken):
            read(content[:length])
        with pytest.raises(FrameBroken):  # as it lies in a buffer that holds older bytes behind it
            read(content, length)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_do_harm(content):
    try:
        arrays = read(content)
    except FrameBroken:
        return
    assert sum(a.nbytes for a in arrays if a.dtype.kind != "O") <= len(content)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_changed_byte_does_no_harm(data):
    content = bytearray(written([np.ones((2, 3), np.float32), np.array(["one", None], object), np.array([True])]))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        arrays = read(content)
    except FrameBroken:
        return
    for array in arrays:
        array.sum() if array.dtype.kind != "O" else array.tolist()  # touch every byte


def entry(code, shape, size):
    return struct.pack(f"<BBxxxxxxQ{len(shape)}Q", code, len(shape), size, *shape)


def lying(table, tensors, payload=bytes(64), table_bytes=None):
    head = HEAD.pack(ANSWER, tensors, frames.NO_SLOT, 1, 1, 0, len(table) if table_bytes is None else table_bytes, 0)
    return head + table + bytes(-(len(head) + len(table)) % 64) + payload


FP32, TEXT = list(DATATYPES).index("FP32"), list(DATATYPES).index("BYTES")


@pytest.mark.parametrize(
    ("table", "tensors"),
    [
        (entry(FP32, (1 << 62, 4), 0), 1),  # the product overflows to 0 in 64 bits
        (entry(FP32, ((1 << 60) + 2, 16), 128), 1),
        (entry(FP32, (1 << 63,), 1 << 62), 1),
        (entry(FP32, (0, 1 << 63), 0), 1),
        (entry(FP32, (16,), 60), 1),
        (entry(FP32, (17,), 68), 1),  # beyond the end
        (entry(FP32, (1 << 40,), 1 << 42), 1),
        (entry(FP32, (16,), 64) * 2, 2),
        (entry(FP32, (16,), 64), 2),
        (entry(FP32, (16,), 64), 0),
        (entry(13, (16,), 64), 1),
        (entry(255, (16,), 64), 1),
        (entry(FP32, (1,) * 17, 4), 1),
        (entry(FP32, (0,), 0) * 65, 65),
        (entry(TEXT, (1 << 40,), 64), 1),
        (entry(TEXT, (17,), 64), 1),
        (entry(TEXT, (3,), 64), 1),  # bytes after the last element
        (entry(FP32, (16,), 64)[:-1], 1),
    ],
)
def test_hostile_sizes(table, tensors):
    with pytest.raises(FrameBroken):
        read(lying(table, tensors))


def test_the_honest_frame_of_the_same_make_is_read():
    assert read(lying(entry(FP32, (16,), 64), 1))[0].shape == (16,)


@pytest.mark.parametrize("table_bytes", [25, 23, 1 << 31, (1 << 32) - 1])
def test_a_table_of_another_length_than_it_says(table_bytes):
    with pytest.raises(FrameBroken):
        read(lying(entry(FP32, (16,), 64), 1, table_bytes=table_bytes))


def test_a_byte_that_is_no_truth_becomes_one():
    (found,) = read(lying(entry(0, (4,), 4), 1, bytes([0, 1, 2, 255])))
    assert found.view(np.uint8).tolist() == [0, 1, 1, 1]


def test_tables_are_not_remembered_without_end():
    for rows in range(reading._MOST_LAYOUTS + 100):
        read(lying(entry(FP32, (rows, 0), 0), 1))
    assert len(reading._LAYOUTS) <= reading._MOST_LAYOUTS


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<I", 5) + b"four",
        struct.pack("<I", (1 << 30) - 1),
        struct.pack("<I", (1 << 30) | 1) + b"x",
        struct.pack("<I", 1) + b"\xff",
        b"\x00\x00\x00",
    ],
)
def test_broken_texts(content):
    with pytest.raises(texts.TextsBroken):
        texts.split_texts(content, 1)


def text_of(made):
    reader, found = messages.TextReader(), None
    for frame in made:
        assert found is None
        assert len(frame) < frames.PACKET_BYTES
        found = reader.add(reading.read_head(frame, len(frame)), frame, len(frame))
    return found


def test_a_long_hello_comes_in_several_frames():
    facts = {"name": "é" * 100_000, "paces": [[1, 0.5]]}
    made = list(messages.hello_frames(facts))
    assert len(made) > 1
    assert reading.read_head(made[0], len(made[0])).kind == HELLO | UNFINISHED
    assert messages.read_hello(text_of(made)) == facts


def test_a_text_without_end_is_refused():
    part = HEAD.pack(HELLO | UNFINISHED, 0, frames.NO_SLOT, 0, 0, 0, 0, 0) + bytes(1 << 20)
    head, reader = reading.read_head(part, len(part)), messages.TextReader()
    for _ in range(64):
        assert reader.add(head, part[: -HEAD.size], len(part) - HEAD.size) is None
    with pytest.raises(FrameBroken):
        reader.add(head, part, len(part)) or reader.add(head, part, len(part))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_a_hello_that_is_none(text):
    with pytest.raises(FrameBroken):
        messages.read_hello(text)


@pytest.mark.parametrize("kind", [InferenceFailed, InvalidOutput, ArtifactInvalid, MachineError])
def test_an_error_keeps_its_class_and_one_line(kind):
    error = messages.read_failure(text_of(messages.failure_frames(3, kind("what:\n  got this"))))
    assert type(error) is kind
    assert str(error) == "what: got this"


@pytest.mark.parametrize("text", ["", "no_such_code\nx", "quarantined\nx", "error", "\n\n\n"])
def test_an_error_with_a_strange_code_is_the_models(text):
    error = messages.read_failure(text)
    assert type(error) is InferenceFailed
    assert str(error)


def test_an_error_cannot_write_into_a_log():
    error = messages.read_failure("inference_failed\n" + "\x1b[31m\r\n\u2028" + "x" * 10_000)
    assert len(str(error)) <= 400
    assert str(error).isprintable()

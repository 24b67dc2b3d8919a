"""The short way through JSON means what the long way means, and takes nothing that the long way refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import ForetellError
from foretell.protocol.openinference_json import OpenInferenceJson
from foretell.protocol.plain_json import PlainAnswers, PlainBodies
from foretell.request import Batch, InferResponse
from foretell.signature import Signature, TensorSpec

OUTPUTS = (TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 2)))


def signature(datatype="FP32"):
    return Signature((TensorSpec("x", datatype, (-1, 3)),), OUTPUTS)


LONG = {t: OpenInferenceJson("m", signature(t)) for t in ("FP32", "FP64")}


def bodies(datatype="FP32"):
    found = PlainBodies.of(signature(datatype))
    assert found is not None
    return found


def body(data=(1, 2.5, -3), spaces=(",", ":"), **changed):
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "data": list(data)} | changed
    return json.dumps({"inputs": [tensor]}, separators=spaces).encode()


def long_way(content, datatype="FP32"):
    request, _ = LONG[datatype].decode(content, None, version="", request_id="", now=0.0, timeout_s=None)
    return request.inputs["x"]


def times(reader, content, count=3):
    """Read a body as often as it takes to be known."""
    found = [reader.decode(content) for _ in range(count)]
    assert all((f is None) == (found[0] is None) for f in found)
    return found[-1]


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)


@settings(deadline=None)
@given(st.integers(1, 4), st.data(), st.sampled_from([(",", ":"), (", ", ": ")]), st.sampled_from(["FP32", "FP64"]))
def test_what_it_takes_is_what_the_long_way_takes(rows, data, spaces, datatype):
    values = data.draw(st.lists(NUMBERS, min_size=3 * rows, max_size=3 * rows))
    content = body(values, spaces, shape=[rows, 3], datatype=datatype)
    reader = bodies(datatype)
    times(reader, body([0.5] * 3 * rows, spaces, shape=[rows, 3], datatype=datatype))
    found = times(reader, content)
    try:
        expected = long_way(content, datatype)
    except ForetellError:
        assert found is None
    else:
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


STRANGE = [
    body([1, True, 3]), body([1, None, 3]), body([1, "2", 3]), body([1, 2]), body([1, 2, 3, 4]), body([[1, 2, 3]]),
    body([1e39, 0, 0]), body(shape=[3, 1]), body(shape=[1, 3.0]), body(shape=[True, 3]), body(name="y"),
    body(shape=[0, 3], data=[]), body(datatype="FP64"), body(parameters={}),
    body()[:-1], body() + b"{}", body()[:-1] + b',"id":"1"}',
    body().replace(b"1,2.5", b"1,,2.5"), body().replace(b"1,2.5", b"NaN,2.5"), body().replace(b"1,2.5", b"01,2.5"),
    body().replace(b"2.5", b"2.5e"), body().replace(b"2.5", b"1e999"),
    body().replace(b'"name":"x"', b'"name":"x","name":"x"'),
    b"", b"[]", b"{}", b'{"inputs":[]}', b'{"inputs":{"data":[1,2,3]}}', b'"data"[', b"[\xff]",
]  # fmt: skip


@pytest.mark.parametrize("content", STRANGE)
def test_strange_bodies_take_the_long_way(content):
    reader = bodies()
    assert times(reader, content) is None
    assert times(reader, body()) is not None
    assert reader.decode(content) is None


def test_numbers_elsewhere_in_the_same_frame_are_no_json():
    reader = bodies()
    times(reader, body())
    moved = body().replace(b'"data":[1,2.5,-3]}]}', b'"data":}[1,2.5,-3]]}')
    assert reader.decode(moved) is None
    with pytest.raises(ForetellError):
        long_way(moved)


def test_the_order_of_the_keys_does_not_matter():
    content = b'{"inputs":[{"data":[1,2.5,-3],"shape":[1,3],"datatype":"FP32","name":"x"}]}'
    np.testing.assert_array_equal(times(bodies(), content), long_way(content))


def test_there_is_no_short_way_for_other_signatures():
    pair = (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("y", "FP32", (-1, 3)))
    for inputs in (pair, (TensorSpec("x", "INT64", (-1, 3)),), (TensorSpec("x", "FP32", (-1, -1)),), pair[:0]):
        assert PlainBodies.of(Signature(inputs, OUTPUTS)) is None


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_answers_are_those_of_the_long_way(rows):
    rng = np.random.default_rng(0)
    batch = Batch("a%b", "1", [np.arange(9), rng.normal(size=(9, 2)).astype(np.float32)], 9, 1.0, 5, 2.0)
    answers = PlainAnswers(signature())
    for first in range(9 - rows + 1):
        response = InferResponse(batch, "r", first, rows, 0.5)
        numbers = answers.numbers(batch)
        frame, length = answers.frame(rows, batch)
        texts = [b",".join(output[first : first + rows]) for output in numbers]
        expected, _ = LONG["FP32"].encode(response, None)
        assert frame % tuple(texts) == expected
        assert length + sum(map(len, texts)) == len(expected)


@pytest.mark.parametrize(
    "outputs",
    [
        [np.arange(2), np.array([[0, np.nan], [1, 2]], np.float32)],
        [np.arange(2), np.array([[0, np.inf], [1, 2]], np.float32)],
        [np.arange(2), np.zeros((2, 0), np.float32)],
        [np.arange(3), np.zeros((2, 2), np.float32)],
        [np.arange(2), np.zeros((2, 1, 2), np.float32)],
    ],
)
def test_answers_without_a_short_way(outputs):
    assert PlainAnswers(signature()).numbers(Batch("m", "1", outputs, 2, 0.0, 0, 0.0)) is None


def test_texts_have_no_short_way():
    batch = Batch("m", "1", [np.array(["a"], object)], 1, 0.0, 0, 0.0)
    spec = (TensorSpec("t", "BYTES", (-1,)),)
    assert PlainAnswers(Signature(spec, spec)).numbers(batch) is None

"""Bodies of the Open Inference Protocol: what is read, what is written, what is refused and how."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.errors import InvalidInput, RequestError
from foretell.protocol.openinference_json import OpenInferenceJson
from foretell.protocol.status import Refused, error_text, status_of
from foretell.request import BULK, INTERACTIVE, InferResponse, Timing
from foretell.signature import Signature, TensorSpec

MATRIX = OpenInferenceJson(
    "m",
    Signature(
        (TensorSpec("x", "FP32", (-1, 3)),),
        (TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 2))),
    ),
    ("no", "yes"),
)
TWO = OpenInferenceJson(
    "m",
    Signature(
        (TensorSpec("a", "INT8", (-1, -1)), TensorSpec("t", "BYTES", (-1,))),
        (TensorSpec("out", "BYTES", (-1,)),),
    ),
)


def decode(body, json_bytes=None, codec=MATRIX, timeout_s=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return codec.decode(body, json_bytes, version="", request_id="r", now=100.0, timeout_s=timeout_s)


def tensor(**changed):
    return {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2.5, -3, 4, 5, 6]} | changed


def test_flat_and_nested_are_the_same():
    flat, asked = decode({"inputs": [tensor()]})
    nested, _ = decode({"inputs": [tensor(data=[[1, 2.5, -3], [4, 5, 6]])]})
    assert [(o.index, o.binary) for o in asked.outputs] == [(0, False), (1, False)]
    assert flat.rows == nested.rows == 2
    np.testing.assert_array_equal(flat.inputs["x"], nested.inputs["x"])
    assert flat.inputs["x"].dtype == nested.inputs["x"].dtype == np.float32
    assert flat.id == "r"
    assert flat.deadline is None


def test_null_is_nan():
    request, _ = decode({"inputs": [tensor(data=[1, None, 3, 4, 5, 6])]})
    assert np.isnan(request.inputs["x"][0, 1])


def test_what_goes_with_a_request():
    body = {
        "id": "mine",
        "parameters": {"timeout": 1_500_000, "priority": 2, "free": "text"},
        "inputs": [tensor(parameters={"content_type": "np"})],
        "outputs": [{"name": "p", "parameters": {"classification": 1}}],
    }
    request, asked = decode(body, timeout_s=9.0)
    assert (request.id, request.deadline, request.priority) == ("mine", 101.5, BULK)
    assert asked.id == "mine"
    assert [(o.index, o.binary, o.classes) for o in asked.outputs] == [(1, False, 1)]
    assert decode(body, timeout_s=0.5)[0].deadline == 100.5
    assert decode({"inputs": [tensor()]}, timeout_s=2.0)[0].deadline == 102.0
    assert decode({"parameters": {"priority": 1}, "inputs": [tensor()]})[0].priority == INTERACTIVE


def binary(document, *blobs):
    head = json.dumps(document).encode()
    return b"".join((head, *blobs)), len(head)


def test_binary_and_json_mix():
    texts = b"".join(struct.pack("<I", len(t)) + t for t in (b"", "grün".encode()))
    document = {
        "inputs": [
            {"name": "t", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(texts)}},
            {"name": "a", "datatype": "INT8", "shape": [2, 2], "data": [1, -128, 127, 0]},
        ],
        "parameters": {"binary_data_output": True},
    }
    request, asked = decode(*binary(document, texts), codec=TWO)
    assert request.inputs["t"].tolist() == ["", "grün"]
    assert request.inputs["a"].tolist() == [[1, -128], [127, 0]]
    answer = InferResponse.of("m", "1", "r", [np.array(["é", "x"], object)], Timing(0, 0, 0))
    body, json_bytes = TWO.encode(answer, asked)
    assert json.loads(body[:json_bytes])["outputs"][0] == {
        "name": "out", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 11},
    }  # fmt: skip
    assert body[json_bytes:] == b"\x02\x00\x00\x00\xc3\xa9\x01\x00\x00\x00x"


def test_raw_body_is_one_row():
    row = np.array([1, 2, 3], "<f4")
    request, asked = decode(row.tobytes(), 0)
    np.testing.assert_array_equal(request.inputs["x"], row[None])
    assert all(o.binary for o in asked.outputs)


def test_answer_in_json():
    outputs = [np.array([1]), np.array([[0.1, 0.9]], np.float32)]
    body, json_bytes = MATRIX.encode(InferResponse.of("m", "3", "r", outputs, Timing(0, 0, 0)), None)
    assert json_bytes is None
    told = json.loads(body)
    assert told == {
        "model_name": "m",
        "model_version": "3",
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]},
            {"name": "p", "datatype": "FP32", "shape": [1, 2], "data": outputs[1][0].tolist()},
        ],
    }
    assert np.float32(told["outputs"][1]["data"]).tolist() == outputs[1][0].tolist()


def test_not_finite_is_null_and_counted():
    outputs = [np.array([1, 2]), np.array([[np.nan, np.inf], [0, 1]], np.float32)]
    body, _ = MATRIX.encode(InferResponse.of("m", "3", "r", outputs, Timing(0, 0, 0)), None)
    told = json.loads(body)["outputs"]
    assert told[1]["data"] == [None, None, 0.0, 1.0]
    assert told[1]["parameters"] == {"nonfinite": 2}
    assert "parameters" not in told[0]


def test_long_and_short_answers_are_written_the_same():
    numbers = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    codes = np.arange(5000)
    body, _ = MATRIX.encode(InferResponse.of("m", "3", "r", [codes, numbers], Timing(0, 0, 0)), None)
    told = json.loads(body)["outputs"]
    assert told[0]["data"] == codes.tolist()
    assert told[1]["data"] == numbers.reshape(-1).tolist()


SHAPES = [
    [2**64 // 12, 12], [2**62, 4], [-1, 3], [-5, 3], [2.0, 3], [True, 3], ["2", 3], None, "x", {}, [1] * 65, [2**40, 0],
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=repr)
def test_bad_shapes(shape):
    for data in ({"data": [1.0]}, {"parameters": {"binary_data_size": 4}}):
        one = {"name": "x", "datatype": "FP32", "shape": shape} | data
        blob = () if "data" in data else (b"1234",)
        with pytest.raises(RequestError) as caught:
            decode(*binary({"inputs": [one]}, *blob))
        assert getattr(caught.value, "code", "") in ("bad_shape", "shape_mismatch")
        assert status_of(caught.value).http == 400


REFUSED = {
    "no object": ([1], "malformed_request"),
    "no inputs": ({}, "malformed_request"),
    "inputs null": ({"inputs": None}, "malformed_request"),
    "inputs empty": ({"inputs": []}, "malformed_request"),
    "too many inputs": ({"inputs": [tensor()] * 65}, "malformed_request"),
    "input no object": ({"inputs": [1]}, "malformed_request"),
    "unknown field": ({"inputs": [tensor()], "input": 1}, "unknown_field"),
    "unknown field in input": ({"inputs": [tensor(dtype="x")]}, "unknown_field"),
    "twice": ({"inputs": [tensor(), tensor()]}, "malformed_request"),
    "unknown input": ({"inputs": [tensor(name="y")]}, "invalid_input"),
    "name no text": ({"inputs": [tensor(name=1)]}, "invalid_input"),
    "datatype": ({"inputs": [tensor(datatype="FP64")]}, "invalid_input"),
    "datatype null": ({"inputs": [tensor(datatype=None)]}, "invalid_input"),
    "wrong width": ({"inputs": [tensor(shape=[3, 2])]}, "shape_mismatch"),
    "rank": ({"inputs": [tensor(shape=[6])]}, "shape_mismatch"),
    "too few values": ({"inputs": [tensor(data=[1])]}, "shape_mismatch"),
    "too many values": ({"inputs": [tensor(data=[1.0] * 7)]}, "shape_mismatch"),
    "no data": ({"inputs": [{k: v for k, v in tensor().items() if k != "data"}]}, "shape_mismatch"),
    "data no list": ({"inputs": [tensor(data="123456")]}, "shape_mismatch"),
    "ragged": ({"inputs": [tensor(data=[[1, 2, 3], [4, 5]])]}, "shape_mismatch"),
    "nested too deep": ({"inputs": [tensor(data=[[[1, 2, 3]], [[4, 5, 6]]])]}, "shape_mismatch"),
    "nested in part": ({"inputs": [tensor(data=[[1, 2, 3], 4, 5, 6])]}, "shape_mismatch"),
    "text for number": ({"inputs": [tensor(data=["1", 2, 3, 4, 5, 6])]}, "invalid_input"),
    "truth for number": ({"inputs": [tensor(data=[True, 2, 3, 4, 5, 6])]}, "invalid_input"),
    "object for number": ({"inputs": [tensor(data=[{}, 2, 3, 4, 5, 6])]}, "invalid_input"),
    "beyond FP32": ({"inputs": [tensor(data=[1e39, 2, 3, 4, 5, 6])]}, "invalid_input"),
    "unknown output": ({"inputs": [tensor()], "outputs": [{"name": "z"}]}, "invalid_input"),
    "output twice": ({"inputs": [tensor()], "outputs": [{"name": "p"}, {"name": "p"}]}, "malformed_request"),
    "output no object": ({"inputs": [tensor()], "outputs": ["p"]}, "malformed_request"),
    "outputs no list": ({"inputs": [tensor()], "outputs": {"name": "p"}}, "malformed_request"),
    "id no text": ({"id": 1, "inputs": [tensor()]}, "bad_id"),
    "id too long": ({"id": "x" * 257, "inputs": [tensor()]}, "bad_id"),
    "parameters no object": ({"parameters": [], "inputs": [tensor()]}, "bad_parameter"),
    "parameter nested": ({"parameters": {"a": {}}, "inputs": [tensor()]}, "bad_parameter"),
    "timeout negative": ({"parameters": {"timeout": -1}, "inputs": [tensor()]}, "bad_parameter"),
    "timeout no integer": ({"parameters": {"timeout": 1.5}, "inputs": [tensor()]}, "bad_parameter"),
    "timeout huge": ({"parameters": {"timeout": 2**63}, "inputs": [tensor()]}, "bad_parameter"),
    "priority": ({"parameters": {"priority": "high"}, "inputs": [tensor()]}, "bad_parameter"),
    "sequence": ({"parameters": {"sequence_id": 7}, "inputs": [tensor()]}, "bad_parameter"),
    "binary flag": ({"parameters": {"binary_data_output": 1}, "inputs": [tensor()]}, "bad_parameter"),
    "classification": (
        {"inputs": [tensor()], "outputs": [{"name": "p", "parameters": {"classification": -1}}]}, "bad_parameter",
    ),
    "shared memory": ({"inputs": [tensor(parameters={"shared_memory_region": "r"})]}, "malformed_request"),
    "binary size without bytes": ({"inputs": [tensor(parameters={"binary_data_size": 24})]}, "bad_binary_section"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    body, code = REFUSED[name]
    with pytest.raises(RequestError) as caught:
        decode(body)
    assert caught.value.code == code
    assert 400 <= status_of(caught.value).http < 502
    assert status_of(caught.value).http not in (500, 503)
    assert len(error_text(caught.value)) <= 300


def blobbed(size, count=1, blob=b"\0" * 12, **changed):
    one = {"name": "x", "datatype": "FP32", "shape": [count, 3], "parameters": {"binary_data_size": size}} | changed
    return binary({"inputs": [one]}, blob)


@pytest.mark.parametrize(
    ("body", "json_bytes"),
    [
        blobbed(13),
        blobbed(11),
        blobbed(0),
        blobbed(-12),
        blobbed(2**70),
        blobbed(12.0),
        blobbed(True),
        blobbed("12"),
        blobbed(12, blob=b"\0" * 13),
        blobbed(12, count=2),
        blobbed(12, data=[1, 2, 3]),
        (b"{}", -1),
        (b"{}", 3),
        (b"{}", 99999999999),
        (b"\0" * 11, 0),
        (b"", 0),
    ],
)
def test_bad_binary_sections(body, json_bytes):
    with pytest.raises(RequestError) as caught:
        decode(body, json_bytes)
    assert caught.value.code in ("bad_binary_section", "malformed_request")


@pytest.mark.parametrize("raw", [b"", b"\0\0\0", b"\x05\0\0\0ab", b"\xff\xff\xff\xff", b"\0\0\0\0x", b"\x01\0\0\0\xff"])
def test_bad_texts(raw):
    one = {"name": "t", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(raw)}}
    two = {"name": "a", "datatype": "INT8", "shape": [1, 1], "data": [1]}
    with pytest.raises((Refused, InvalidInput)):
        decode(*binary({"inputs": [one, two]}, raw), codec=TWO)


def test_a_huge_count_of_texts_costs_nothing():
    one = {"name": "t", "datatype": "BYTES", "shape": [2**62], "parameters": {"binary_data_size": 4}}
    with pytest.raises(Refused, match="too few"):
        decode(*binary({"inputs": [one]}, b"\0\0\0\0"), codec=TWO)


@pytest.mark.parametrize("value", [128, -129, 2**63, 10**30, 1.0, True, None, "1"])
def test_integers_are_exact_or_refused(value):
    body = {
        "inputs": [
            {"name": "a", "datatype": "INT8", "shape": [1, 1], "data": [value]},
            {"name": "t", "datatype": "BYTES", "shape": [1], "data": ["x"]},
        ]
    }
    with pytest.raises(InvalidInput):
        decode(body, codec=TWO)


def test_inputs_must_agree_in_rows():
    body = {
        "inputs": [
            {"name": "a", "datatype": "INT8", "shape": [1, 1], "data": [1]},
            {"name": "t", "datatype": "BYTES", "shape": [2], "data": ["x", "y"]},
        ]
    }
    with pytest.raises(InvalidInput, match="numbers of rows"):
        decode(body, codec=TWO)
    with pytest.raises(InvalidInput, match="missing"):
        decode({"inputs": body["inputs"][:1]}, codec=TWO)


VALID, VALID_HEAD = binary(
    {
        "id": "q",
        "inputs": [
            {"name": "t", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": 10}},
            {"name": "a", "datatype": "INT8", "shape": [2, 2], "data": [1, -128, 127, 0]},
        ],
        "outputs": [{"name": "out", "parameters": {"binary_data": True}}],
    },
    b"\x01\0\0\0x\x01\0\0\0y",
)


def test_cut_off_at_every_byte():
    for at in range(len(VALID)):
        with pytest.raises(RequestError):
            decode(VALID[:at], min(at, VALID_HEAD), codec=TWO)
        with pytest.raises(RequestError):
            decode(VALID[:at], VALID_HEAD, codec=TWO)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(-1, len(VALID) + 1),
)
def test_altered_bytes_are_read_or_refused(changes, json_bytes):
    body = bytearray(VALID)
    for at, byte in changes:
        body[at] = byte
    for head in (VALID_HEAD, json_bytes):
        try:
            request, _ = decode(bytes(body), head, codec=TWO)
        except RequestError:
            continue  # any other error fails the test
        assert all(len(a) == request.rows for a in request.inputs.values())

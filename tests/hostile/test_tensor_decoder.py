"""Anything at all into the decoders of tensors: a request that fits its signature, or a clear refusal; nothing else.

What is decoded is never much larger than what came, whatever shapes it declares, and the short ways take nothing that
the long ways refuse.
"""

import copy
import json
import os
import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

pytest.importorskip("google.protobuf")
orjson = pytest.importorskip("orjson")

from foretell.dtypes import DATATYPES, dtype_of  # noqa: E402
from foretell.errors import ForetellError  # noqa: E402
from foretell.model.data.table import TablePreparation, TensorPreparation  # noqa: E402
from foretell.protocol import open_inference_pb2 as pb  # noqa: E402
from foretell.protocol.columns import Columns  # noqa: E402
from foretell.protocol.openinference_json import OpenInferenceJson  # noqa: E402
from foretell.protocol.openinference_proto import OpenInferenceProto, parse  # noqa: E402
from foretell.protocol.plain_json import PlainBodies  # noqa: E402
from foretell.protocol.plain_proto import PlainMessages, address_of  # noqa: E402
from foretell.protocol.predict_rows import decode_rows  # noqa: E402
from foretell.protocol.status import error_body, status_of  # noqa: E402
from foretell.signature import Column, Field, Signature, TensorSpec  # noqa: E402

EXAMPLES = int(os.environ.get("FORETELL_FUZZ", "300"))
"""For each test; more of them by hand: FORETELL_FUZZ=100000."""
MANY = settings(
    max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
CALL = {"version": "", "request_id": "r", "now": 1.0, "timeout_s": None}
GRPC_CALL = {"request_id": "r", "now": 1.0, "timeout_s": None}
OUTPUTS = (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("label", "BYTES", (-1,)))
HOUSE = Signature(
    (TensorSpec("input", "FP32", (-1, 3)),),
    OUTPUTS,
    (Field("area"), Field("town", "category", categories=("Bern", "Rom")), Field("age", "integer")),
    {"input": (Column("area"), Column("town", "code"), Column("age"))},
)
SIGNATURES = [
    Signature((TensorSpec("x", "FP32", (-1, 3)),), OUTPUTS),
    Signature((TensorSpec("x", "FP64", (-1, 2)),), OUTPUTS),
    HOUSE,
    Signature(tuple(TensorSpec(d, d, (-1, -1)) for d in DATATYPES), OUTPUTS),
    Signature(
        (TensorSpec("i", "INT8", (-1,)), TensorSpec("t", "BYTES", (-1, 2)), TensorSpec("b", "BOOL", (2, -1, 1))),
        OUTPUTS,
    ),
    Signature((TensorSpec("image", "UINT8", (-1, -1, 2, 3)),), OUTPUTS),
    Signature((TensorSpec("s", "INT64", ()),), OUTPUTS),
]  # fmt: skip
NASTY = [
    None, True, False, 0, -1, 1, 2, 3, 65, 2**31, 2**32 + 2, 2**40, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 1.0, 0.5,
    -0.0, 1e39, 1e308, 5e-324, 65520.0, "", "x", "1", "\0", "\ud7ff\ue000", "é" * 40, "FP32", "FP64", "BYTES",
    "BOOL", "INT64", "BF16", [], [0], [-1], [1, -1], [2**40, 2**40], [2**40, 0], [0, 2**62], [0, 2**63 - 1], [1] *
    17, [1.0, 3], [True, 3], ["1", 3], [[1, 2, 3]], [[], []], [[1], [2, 3]], [1, None, 3], {}, {"x": {}}, {"name":
    "x"}, [{}], [None], {"binary_data_size": 2**63 - 1}, {"binary_data_size": -1}, {"binary_data_size": 12},
    {"binary_data_size": True}, {"shared_memory_region": "r"}, {"classification": 2**62}, {"classification": -1},
    {"timeout": 2**63 - 1}, {"timeout": "9" * 30}, {"sequence_id": 5}, {"priority": -1}, {"binary_data_output": 1},
]  # fmt: skip
KEYS = ["inputs", "outputs", "parameters", "id", "name", "datatype", "shape", "data", "extra", "", "timeout"]


def valid(signature, rows, draw):
    """Return a request that fits a signature."""
    inputs = []
    for spec in signature.inputs:
        shape = [rows, *(draw.choice((1, 2)) if d < 0 else d for d in spec.shape[1:])] if spec.shape else []
        shape = shape if not spec.shape or spec.shape[0] < 0 else [spec.shape[0], *shape[1:]]
        count = int(np.prod(shape))
        kind = dtype_of(spec.datatype).kind
        of = {"f": 0.5, "i": -3, "u": 200, "b": True, "O": "té"}[kind]
        inputs.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [of] * count})
    return {"inputs": inputs}


def places(document, path=()):
    """Yield the path to every value of a document."""
    yield path
    if isinstance(document, dict | list):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield from places(document[key], (*path, key))


def mutate(document, draw):
    """Return a document with one value replaced, dropped, doubled or renamed."""
    path = draw.choice(list(places(document)))
    if not path:
        return draw.choice(NASTY)
    document = copy.deepcopy(document)
    at = document
    for key in path[:-1]:
        at = at[key]
    act, last = draw.randrange(5), path[-1]
    if act == 0:
        del at[last]
    elif act == 1 and isinstance(at, list):
        at.insert(last, copy.deepcopy(at[last]))
    elif act == 1:
        at[draw.choice(KEYS)] = at.pop(last)
    elif act == 2 and isinstance(at, dict):
        at[draw.choice(KEYS)] = draw.choice(NASTY)
    else:
        at[last] = draw.choice(NASTY)
    return document


def spoil(data, draw):
    """Return bytes with a few of them changed, dropped, or put in."""
    changed = bytearray(data)
    for _ in range(draw.choice((0, 0, 1, 1, 2, 5))):
        at, act = draw.randrange(len(changed) + 1), draw.randrange(4)
        if act == 0:
            changed[at : at + 1] = bytes([draw.randrange(256)])
        elif act == 1:
            del changed[at : at + draw.choice((1, 2, 8))]
        elif act == 2:
            changed[at:at] = draw.choice(
                (b'"', b"[", b"]", b"{", b"}", b":", b"\xff\xff\xff\xff", b"\xff" * 9 + b"\x01")
            )
        else:
            del changed[at:]
    return bytes(changed)


def held_against(found, signature, size):
    """Hold a decoded request against its signature, and its size against the bytes that came."""
    assert found.inputs.keys() == {spec.name for spec in signature.inputs}
    for spec in signature.inputs:
        array = found.inputs[spec.name]
        assert array.dtype == dtype_of(spec.datatype)
        assert array.ndim == len(spec.shape)
        assert all(want in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True))
        assert not array.ndim or len(array) == found.rows
        assert array.nbytes <= 8 * size
    assert found.deadline is None or found.deadline >= 1.0


def held_to_be_the_callers(refusal):
    status, body = status_of(refusal), error_body(refusal, "r")
    assert 400 <= status.http < 500 or status.http == 501, refusal
    assert status.grpc != "INTERNAL"
    assert len(body) < 1024
    assert set(json.loads(body)) == {"error", "code", "id"}


def asked_of(decode, signature, size):
    """Return a request, or None where it is refused as the caller's fault."""
    try:
        found = decode()
    except ForetellError as refusal:
        held_to_be_the_callers(refusal)
        return None
    request = found[0] if isinstance(found, tuple) else found
    held_against(request, signature, size)
    return request


def json_door(signature):
    columns = Columns(signature, TablePreparation(signature).prepare) if signature.fields else None
    return OpenInferenceJson("m", signature, ("a", "b"), columns)


DOORS = [(s, json_door(s), PlainBodies.of(s)) for s in SIGNATURES]
CASES = st.tuples(st.integers(0, len(SIGNATURES) - 1), st.integers(0, 2**32))


@MANY
@given(CASES)
def test_json(case):
    signature, door, plain = DOORS[case[0]]
    draw = random.Random(case[1])
    document = valid(signature, draw.choice((1, 2, 3)), draw)
    for _ in range(draw.choice((0, 1, 1, 2, 3))):
        document = mutate(document, draw)
    body = spoil(orjson.dumps(document), draw)
    request = asked_of(lambda: door.decode(body, None, **CALL), signature, len(body))
    for _ in range(3 if plain else 0):
        short = plain.decode(body)
        assert short is None or request is not None, body
        if short is not None:
            np.testing.assert_array_equal(short, request.inputs[plain.name])


@MANY
@given(CASES)
def test_numbers_in_a_frame_that_is_known(case):
    """Bodies that differ in their numbers alone, or a little more, after the short way has learnt what is around."""
    signature, door, plain = DOORS[case[0] % 2]
    draw = random.Random(case[1])
    good = orjson.dumps(valid(signature, 2, draw))
    for _ in range(3):
        assert plain.decode(good) is not None
    at = good.index(b'"data":[') + 8
    tail = [b"]}]}", b"] ]}]}", b"]],[[]}]}", b"]},{}]}", b'],"data":[1]}]}']
    numbers = [
        b"1",
        b"-0",
        b"1e999",
        b"1e39",
        b"01",
        b"1.",
        b".5",
        b"+1",
        b"[1]",
        b"1 1",
        b"",
        b"NaN",
        b"9" * 400,
        b"1e-400",
    ]
    count = draw.choice((3, 4, 6, 6, 6, 6, 7))
    values = [draw.choice(numbers) if draw.random() < 0.2 else str(draw.uniform(-9, 9)).encode() for _ in range(count)]
    body = good[:at] + b",".join(values) + (tail[0] if draw.random() < 0.7 else draw.choice(tail))
    request = asked_of(lambda: door.decode(body, None, **CALL), signature, len(body))
    short = plain.decode(body)
    assert short is None or request is not None, body
    if short is not None:
        np.testing.assert_array_equal(short, request.inputs[plain.name])


def as_binary(document, draw):
    """Return a body with some tensors as bytes after the JSON, and the length of the JSON."""
    blobs = []
    for tensor in document["inputs"]:
        if draw.random() < 0.8:
            blobs.append(blob_of(tensor))
            del tensor["data"]
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
    return document, b"".join(blobs)


def blob_of(tensor):
    if tensor["datatype"] == "BYTES":
        return b"".join(len(v.encode()).to_bytes(4, "little") + v.encode() for v in tensor["data"])
    return np.array(tensor["data"], dtype_of(tensor["datatype"])).tobytes()


@MANY
@given(CASES)
def test_binary(case):
    signature, door, _ = DOORS[case[0]]
    draw = random.Random(case[1])
    document, blobs = as_binary(valid(signature, draw.choice((1, 2, 3)), draw), draw)
    for _ in range(draw.choice((0, 0, 1, 2))):
        document = mutate(document, draw)
    head = orjson.dumps(document)
    body = (head if draw.random() < 0.7 else spoil(head, draw)) + spoil(blobs, draw)
    length = draw.choice((len(head),) * 6 + (0, 1, len(body), len(body) + 1, 10**17, -1, len(head) - 1, len(head) + 4))
    asked_of(lambda: door.decode(body, length, **CALL), signature, len(body))


@MANY
@given(CASES)
def test_protobuf(case):
    signature = SIGNATURES[case[0]]
    draw = random.Random(case[1])
    columns = Columns(signature, TablePreparation(signature).prepare) if signature.fields else None
    door, plain = OpenInferenceProto("m", signature, ("a", "b"), columns), PlainMessages("m", "1", signature)
    data = spoil(message_of(valid(signature, draw.choice((1, 2, 3)), draw), draw).SerializeToString(), draw)

    def decode():
        return door.decode(parse(pb.ModelInferRequest, data), **GRPC_CALL)

    request = asked_of(decode, signature, len(data))
    address = address_of(data)
    if request is None:
        assert address is None or plain.read(data, address) is None
    elif address is not None:
        assert address.model.decode() == parse(pb.ModelInferRequest, data).model_name
        for _ in range(3):
            plain.learn(data, address, request, None, (0, 1))
        known = plain.read(data, address)
        if known is not None and request.inputs.keys() == known[1].keys():
            for name, array in known[1].items():
                np.testing.assert_array_equal(bits(array), bits(request.inputs[name]))


def bits(array):
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "f" else array


def message_of(document, draw):
    message = pb.ModelInferRequest(model_name="m", id=draw.choice(("", "7", "é" * 9)))
    raw = draw.random() < 0.6
    for tensor in document["inputs"]:
        shape = [
            draw.choice((-1, 0, 1, 2**40, 2**62, 2**63 - 1)) if draw.random() < 0.1 else d for d in tensor["shape"]
        ]
        name = draw.choice(("", "x", "zz")) if draw.random() < 0.05 else tensor["name"]
        datatype = draw.choice(("", "BF16", "BYTES", "FP64")) if draw.random() < 0.05 else tensor["datatype"]
        made = message.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw or draw.random() < 0.05:
            message.raw_input_contents.append(spoil(blob_of(tensor), draw) if draw.random() < 0.2 else blob_of(tensor))
        if not raw or draw.random() < 0.05:
            fields = ("fp32_contents", "fp64_contents", "int64_contents", "bytes_contents", "bool_contents")
            field = draw.choice(fields) if draw.random() < 0.2 else fields_of(tensor["datatype"])
            values = tensor["data"][: draw.choice((None, None, None, 1, 0))]
            if field == "bytes_contents":
                values = [str(v).encode() if draw.random() < 0.95 else b"\xff\xfe" for v in values]
            elif field.startswith(("int", "uint")):
                values = [draw.choice((0, 1, 200, 2**31 - 1)) for _ in values]
            else:
                values = [bool(v) for v in values] if field == "bool_contents" else [1.5] * len(values)
            getattr(made.contents, field).extend(values)
    if draw.random() < 0.1:
        message.parameters[draw.choice(("timeout", "priority", "sequence_id"))].int64_param = draw.choice(
            (0, -1, 5, 2**62)
        )
    if draw.random() < 0.1:
        output = message.outputs.add(name=draw.choice(("y", "y", "label", "z", "")))
        output.parameters["classification"].int64_param = draw.choice((0, 1, -1, 2**62))
    return message


def fields_of(datatype):
    kinds = {"BOOL": "bool", "BYTES": "bytes", "FP32": "fp32", "FP16": "fp32", "FP64": "fp64", "INT64": "int64"}
    kinds |= {"UINT64": "uint64"} | dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint")
    return f"{kinds.get(datatype, 'int')}_contents"


@MANY
@given(CASES)
@example((3, 0))
def test_rows(case):
    """The rows of `:predict`, for models with fields and for bare tensors."""
    signature = SIGNATURES[case[0]]
    draw = random.Random(case[1])
    preparation = TablePreparation(signature) if signature.fields else TensorPreparation(signature)
    row = {"area": 1.5, "town": "Rom", "age": 3}
    if not signature.fields:
        inputs = valid(signature, 1, draw)["inputs"]
        row = {t["name"]: t["data"] for t in inputs} if draw.random() < 0.7 else inputs[0]["data"]
    document = draw.choice((
        {"instances": [row, row]}, {"dataframe_records": [row]},
        {"dataframe_split": {"columns": list(row), "data": [list(row)]}},
    ))  # fmt: skip
    for _ in range(draw.choice((0, 1, 2, 3))):
        document = mutate(document, draw)
    body = spoil(orjson.dumps(document), draw)
    try:
        found = decode_rows(body, preparation)
    except ForetellError as refusal:
        held_to_be_the_callers(refusal)
        return
    assert all(a.nbytes <= 64 * len(body) for a in found.inputs.values())


HUGE = [[2**32, 2**32, 1, 1], [2**31, 2**33], [2**62, 4], [10**9, 3], [1 << 40, 3], [3, 10**9]]


@pytest.mark.parametrize("shape", HUGE, ids=str)
def test_what_is_declared_is_not_allocated(shape):
    """Shapes whose product overflows 64 bits, or asks for gigabytes, cost no memory."""
    signature = Signature((TensorSpec("x", "FP32", (-1,) * len(shape)),), OUTPUTS)
    texts = Signature((TensorSpec("x", "BYTES", (-1,) * len(shape)),), OUTPUTS)
    tracemalloc.start()
    try:
        for given, datatype in ((signature, "FP32"), (texts, "BYTES")):
            tensor = {"name": "x", "datatype": datatype, "shape": shape}
            door = json_door(given)
            small = orjson.dumps({"inputs": [tensor | {"data": [1]}]})
            assert asked_of(lambda door=door, small=small: door.decode(small, None, **CALL), given, len(small)) is None
            head = orjson.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": 8}}]})
            whole = head + b"\xff\xff\xff\x7f" * 2
            length = len(head)
            assert asked_of(lambda d=door, w=whole, n=length: d.decode(w, n, **CALL), given, len(whole)) is None
            message = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\xff\xff\xff\x7f" * 2])
            message.inputs.add(name="x", datatype=datatype, shape=shape)
            proto = OpenInferenceProto("m", given)
            assert asked_of(lambda p=proto, m=message: p.decode(m, **GRPC_CALL), given, 100) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()

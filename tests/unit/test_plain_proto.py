"""The short way of gRPC's messages agrees with the protobuf library, on whatever bytes; else it knows nothing."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.openinference_proto import AskedMessage, OpenInferenceProto, parse
from foretell.protocol.parameters import sooner
from foretell.protocol.plain_proto import PlainMessages, address_of
from foretell.protocol.proto_cuts import varint
from foretell.request import InferResponse, Timing
from foretell.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("n", "INT16", (-1,))),
    (TensorSpec("y", "FP32", (-1, 2)), TensorSpec("k", "INT64", (-1,)), TensorSpec("h", "FP16", (-1, -1))),
)
PROTO = OpenInferenceProto("m", SIGNATURE, (), None, "7")


def long_way(data):
    """Return what the library and all checks make of a message; the error's class where it is refused."""
    try:
        message = parse(pb.ModelInferRequest, data)
        request, asked = PROTO.decode(message, request_id="r", now=0.0, timeout_s=None)
    except Exception as error:  # noqa: BLE001
        return type(error)
    return message, request, asked


def learn(plain, data):
    found, address = long_way(data), address_of(data)
    if address is None or isinstance(found, type):
        return
    _, request, asked = found
    if asked.raw and not asked.say_final and not any(classes for _, classes in asked.outputs):
        own_s = sooner(None, dict(request.parameters))
        plain.learn(data, address, request, own_s, tuple(at for at, _ in asked.outputs))


def check(plain, data):
    """Whether a message is known; then it must mean what the library says."""
    address = address_of(data)
    known = None if address is None else plain.read(data, address)
    if known is None:
        return False
    try:
        address.model.decode(), address.version.decode()
    except UnicodeDecodeError:  # the door finds no version by these, and goes the long way
        return False
    found = long_way(data)
    assert not isinstance(found, type), found
    message, request, asked = found
    frame, tensors = known
    assert address.model.decode() == message.model_name
    assert address.version.decode() == message.model_version
    assert address.id.decode() == message.id
    assert list(tensors) == list(request.inputs)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, request.inputs[name])
        assert tensor.dtype == request.inputs[name].dtype
        assert tensor.flags.aligned
    assert frame.rows == request.rows
    assert frame.nbytes == sum(a.nbytes for a in tensors.values())
    assert frame.priority == request.priority
    assert frame.timeout_s == request.deadline
    assert tuple((at, 0) for at in frame.outputs) == asked.outputs
    assert asked.raw
    assert not asked.say_final
    return True


TEXTS = st.text(max_size=140)


@st.composite
def messages(draw):
    """Messages that mostly pass, and some that do not."""
    rows = draw(st.integers(0, 4))
    made = pb.ModelInferRequest(model_name=draw(TEXTS), model_version=draw(TEXTS), id=draw(TEXTS))
    names = draw(st.permutations(["x", "n"]))
    for name in names:
        shape = [rows, 3] if name == "x" else [rows]
        made.inputs.add(name=name, datatype="FP32" if name == "x" else "INT16", shape=shape)
        size = rows * 12 if name == "x" else rows * 2
        size += draw(st.sampled_from([0] * 30 + [-1, 1]))
        made.raw_input_contents.append(draw(st.binary(min_size=max(0, size), max_size=max(0, size))))
    for name in draw(st.lists(st.sampled_from(["y", "k", "h"]), unique=True)):
        output = made.outputs.add(name=name)
        if draw(st.integers(0, 9)) == 0:
            output.parameters["classification"].int64_param = 1
    if draw(st.integers(0, 3)) == 0:
        key = draw(st.sampled_from(["timeout", "priority", "triton_enable_empty_final_response", "mine"]))
        if key == "triton_enable_empty_final_response":
            made.parameters[key].bool_param = True
        else:
            made.parameters[key].int64_param = draw(st.integers(-1, 3))
    return made.SerializeToString()


@settings(max_examples=150, deadline=None)
@given(messages(), messages(), st.data())
def test_what_is_known_means_what_the_library_says(first, second, data):
    plain = PlainMessages("m", "7", SIGNATURE)
    for message in (first, first, second, second):
        learn(plain, message)
        check(plain, message)
    changed = bytearray(data.draw(st.sampled_from([first, second])))
    for _ in range(data.draw(st.integers(1, 4))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    check(plain, bytes(changed))
    check(plain, bytes(changed[: data.draw(st.integers(0, len(changed)))]))
    check(plain, first + second)


def message(id="", rows=2, **fields):
    made = pb.ModelInferRequest(model_name="m", id=id, **fields)
    made.inputs.add(name="x", datatype="FP32", shape=[rows, 3])
    made.inputs.add(name="n", datatype="INT16", shape=[rows])
    made.raw_input_contents.append(np.arange(rows * 3, dtype=np.float32).tobytes())
    made.raw_input_contents.append(np.arange(rows, dtype=np.int16).tobytes())
    return made


def test_a_message_is_known_from_the_third_time_on_whatever_its_id_and_its_tensors():
    plain = PlainMessages("m", "7", SIGNATURE)
    learn(plain, message("a").SerializeToString())
    assert not check(plain, message("a").SerializeToString())
    learn(plain, message("b", model_version="7").SerializeToString())
    other = message("c" * 127)
    other.raw_input_contents[0] = bytes(range(24))
    assert check(plain, other.SerializeToString())
    assert check(plain, message().SerializeToString())
    assert not check(plain, message("c" * 128).SerializeToString())
    assert not check(plain, message("é").SerializeToString())
    assert not check(plain, message(rows=3).SerializeToString())
    assert not check(plain, message().SerializeToString() + b"\x0a\x00")


def test_fields_in_another_order_are_not_learned():
    plain = PlainMessages("m", "7", SIGNATURE)
    made = message()
    tail = pb.ModelInferRequest(outputs=made.outputs, raw_input_contents=made.raw_input_contents).SerializeToString()
    head = pb.ModelInferRequest(inputs=made.inputs).SerializeToString()
    for data in (tail + head, head + tail + b"\x0a\x01m", head + tail + b"\x42\x00", b"\x0a\x01z" * 2 + head + tail):
        for _ in range(3):
            learn(plain, data)
            assert not check(plain, data)


@pytest.mark.parametrize("datatype", ["BOOL", "BYTES"])
def test_datatypes_that_take_a_closer_look(datatype):
    plain = PlainMessages("m", "7", Signature((TensorSpec("x", datatype, (-1,)),), SIGNATURE.outputs))
    assert not plain.read(b"", address_of(message().SerializeToString()))
    assert plain._is_plain is False


@settings(max_examples=100, deadline=None)
@given(
    rows=st.integers(0, 300), width=st.integers(0, 9), id=st.text("az0-", max_size=200),
    outputs=st.permutations([0, 1, 2]).flatmap(lambda p: st.integers(1, 3).map(lambda n: tuple(p[:n]))),
)  # fmt: skip
@example(rows=0, width=0, id="", outputs=(0, 1, 2))
@example(rows=5000, width=3, id="a" * 200, outputs=(2, 0))
def test_answers_are_those_of_the_library_to_the_byte(rows, width, id, outputs):
    random = np.random.default_rng(rows)
    y, h = random.normal(size=(rows, 2)).astype(np.float32), random.normal(size=(rows, width)).astype(np.float16)
    found = [y, np.arange(rows), h]
    response = InferResponse.of("m", "7", "r", found, Timing(0, 0, 0))
    asked = AskedMessage(id, tuple((at, 0) for at in outputs), True, False)
    expected = PROTO.encode(response, asked)
    for _ in range(2):
        written = PROTO.plain.write(response, outputs, id.encode())
        assert pb.ModelInferResponse.FromString(written) == expected
        assert written == expected.SerializeToString()


@given(st.integers(0, 2**40))
@example(127)
@example(128)
def test_varint(number):
    parameter = pb.ModelInferRequest.InferRequestedOutputTensor()
    parameter.parameters["k"].uint64_param = number
    assert varint(number) in parameter.SerializeToString()

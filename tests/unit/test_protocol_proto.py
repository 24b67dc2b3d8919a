"""Messages of the Open Inference Protocol: what is read, what is written, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.errors import RequestError
from foretell.protocol import open_inference_pb2 as pb
from foretell.protocol.openinference_proto import OpenInferenceProto, parse
from foretell.protocol.status import status_of
from foretell.request import InferResponse, Timing
from foretell.signature import Signature, TensorSpec

CONTENTS = {
    "BOOL": ("bool_contents", [True, False]), "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-5, 5]), "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]), "UINT8": ("uint_contents", [0, 255]),
    "UINT16": ("uint_contents", [0, 65535]), "UINT32": ("uint_contents", [0, 2**32 - 1]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1]), "FP32": ("fp32_contents", [1.5, -2.0]),
    "FP64": ("fp64_contents", [5e-324, 1e300]), "BYTES": ("bytes_contents", [b"", "é".encode()]),
}  # fmt: skip
NAMES = tuple(CONTENTS)
CODEC = OpenInferenceProto(
    "m",
    Signature(tuple(TensorSpec(k, k, (-1,)) for k in NAMES), tuple(TensorSpec(k, k, (-1,)) for k in NAMES)),
)
ONE = OpenInferenceProto("m", Signature((TensorSpec("x", "INT8", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),)))


def decode(message, codec=ONE):
    message = parse(pb.ModelInferRequest, message.SerializeToString())
    return codec.decode(message, request_id="r", now=100.0, timeout_s=None)


def request(values=(1, 2), shape=(1, 2), **changed):
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(**({"name": "x", "datatype": "INT8", "shape": shape} | changed))
    message.inputs[0].contents.int_contents.extend(values)
    return message


def test_typed_contents_come_back_typed():
    message = pb.ModelInferRequest(model_name="m", id="q")
    for name, (field, values) in CONTENTS.items():
        tensor = message.inputs.add(name=name, datatype=name, shape=[2])
        getattr(tensor.contents, field).extend(values)
    found, asked = decode(message, CODEC)
    assert found.rows == 2
    answer = CODEC.encode(InferResponse.of("m", "1", "r", [found.inputs[n] for n in NAMES], Timing(0, 0, 0)), asked)
    assert answer.id == "q"
    for tensor, (field, values) in zip(answer.outputs, CONTENTS.values(), strict=True):
        assert list(getattr(tensor.contents, field)) == values


def test_raw_comes_back_raw():
    message = pb.ModelInferRequest(model_name="m", raw_input_contents=[b"\x01\xff"])
    message.inputs.add(name="x", datatype="INT8", shape=[1, 2])
    found, asked = decode(message)
    assert found.inputs["x"].tolist() == [[1, -1]]
    outputs = [np.array([[1.5, np.nan]], np.float32)]
    answer = ONE.encode(InferResponse.of("m", "1", "r", outputs, Timing(0, 0, 0)), asked)
    assert answer.raw_output_contents[0] == outputs[0].tobytes()


def raw(*blobs, contents=False):
    message = request() if contents else request(values=())
    message.raw_input_contents.extend(blobs)
    return message


def wanting(name, **parameters):
    message = request()
    output = message.outputs.add(name=name)
    for key, value in parameters.items():
        output.parameters[key].int64_param = value
    return message


def with_parameter(key, **value):
    message = request()
    message.parameters[key].CopyFrom(pb.InferParameter(**value))
    return message


def twice(message):
    message.inputs.append(message.inputs[0])
    return message


REFUSED = {
    "nothing": pb.ModelInferRequest(model_name="m"),
    "unknown input": request(name="z"),
    "twice": twice(request()),
    "datatype": request(datatype="FP32"),
    "width": request(shape=(2, 1)),
    "negative": request(shape=(-1, 2)),
    "overflow": request(shape=(2**62, 4)),
    "too few": request(values=[1]),
    "out of range": request(values=[1, 128]),
    "no values": request(values=()),
    "raw too short": raw(b"\0"),
    "raw too many": raw(b"\0\0", b"\0\0"),
    "raw and contents": raw(b"\0\0", contents=True),
    "unknown output": wanting("z"),
    "classes": wanting("y", classification=-1),
    "timeout": with_parameter("timeout", int64_param=-1),
    "sequence": with_parameter("sequence_id", uint64_param=9),
    "long id": pb.ModelInferRequest(model_name="m", id="x" * 300),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    with pytest.raises(RequestError) as caught:
        decode(REFUSED[name])
    assert status_of(caught.value).grpc in ("INVALID_ARGUMENT", "UNIMPLEMENTED")


def test_contents_of_another_datatype():
    message = request(values=())
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    with pytest.raises(RequestError, match="fp32_contents, INT8 comes in int_contents"):
        decode(message)


@given(st.binary(max_size=200))
def test_bytes_are_read_or_refused(data):
    try:
        found, _ = ONE.decode(parse(pb.ModelInferRequest, data), request_id="r", now=0.0, timeout_s=None)
    except RequestError:
        return
    assert found.inputs["x"].shape == (found.rows, 2)

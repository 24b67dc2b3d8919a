"""Hostile messages over gRPC at a real server: each a clear refusal, while the neighbours get their answers.

What is refused by which code is the contract of `docs/protocols.md`; that nothing else comes of it, no 5xx, no lost
neighbour, no memory, is held here.
"""

import socket
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")

from foretell.protocol import open_inference_pb2 as pb  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "agreement"))
from besieging import MIB, body_of, resident_kib  # noqa: E402
from doors_of import METHOD, message_of  # noqa: E402

pytestmark = pytest.mark.usefixtures("neighbours")


def test_names_over_grpc(besieged):
    for name in ("..", "../etc/passwd", "twice\0", "twice/", "TWICE", "", "é" * 100, "\u202eeciwt"):
        message = pb.ModelInferRequest.FromString(
            message_of("twice", [("x", "FP32", np.ones((1, 3), np.float32))], True)
        )
        message.model_name = name
        assert refused(besieged, message.SerializeToString())[0] == "NOT_FOUND", name


def refused(besieged, data, method=METHOD):
    with pytest.raises(grpc.RpcError) as caught:
        besieged.channel.unary_unary(method)(data, timeout=30)
    return caught.value.code().name, caught.value.details()


def message(shape=(1, 3), raw=None, typed=None, datatype="FP32", name="x"):
    made = pb.ModelInferRequest(model_name="twice", raw_input_contents=raw or [])
    tensor = made.inputs.add(name=name, datatype=datatype, shape=shape)
    for field, values in (typed or {}).items():
        getattr(tensor.contents, field).extend(values)
    return made.SerializeToString()


ROW = b"\0\0\x80\x3f" * 3
MESSAGES = {
    "raw count": message(raw=[ROW, ROW]),
    "no contents": message(),
    "both contents": message(raw=[ROW], typed={"fp32_contents": [1, 2, 3]}),
    "raw too short": message(raw=[ROW[:-1]]),
    "raw too long": message(raw=[ROW + b"\0"]),
    "typed too few": message(typed={"fp32_contents": [1]}),
    "contents of another type": message(typed={"fp64_contents": [1, 2, 3]}),
    "negative": message((-1, 3), [ROW]),
    "overflow": message((2**62, 4), [ROW]),
    "product beyond 64 bits": message((2**32 + 1, 2**32), [ROW]),
    "empty rows": message((3, 0), [b""]),
    "no shape": message((), [ROW]),
    "deep shape": message((1,) * 100, [ROW]),
    "unknown datatype": message(datatype="BF16", raw=[ROW]),
    "no datatype": message(datatype="", raw=[ROW]),
    "texts": message(datatype="BYTES", raw=[b"\xff\xff\xff\xff"]),
    "unknown input": message(name="y", raw=[ROW]),
    "no inputs": b"\x0a\x05twice",
    "groups": b"\x0a\x05twice" + b"\x0b" * 100_000,
    "cut": message(raw=[ROW])[:-3],
    "length beyond": b"\x0a\x05twice\x3a\xff\xff\xff\xff\x07",
    "no UTF-8": b"\x0a\x02\xff\xfe",
    "noise": bytes(range(256)),
    "JSON": body_of(),
    "pickle": b"\x80\x05K\x01.",
    "packed floats cut": b"\x0a\x05twice\x2a\x0a\x0a\x01x\x2a\x05\x32\x07\0\0\0",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(besieged, name):
    code, said = refused(besieged, MESSAGES[name])
    assert code in ("INVALID_ARGUMENT", "NOT_FOUND"), said
    assert said
    assert "Traceback" not in said


def test_texts_of_huge_lengths(besieged):
    before = resident_kib(besieged)
    for length in (b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\0\0\0\x80"):
        data = message((2**31, 1), [length * 4], datatype="BYTES")
        assert refused(besieged, data)[0] == "INVALID_ARGUMENT"
    assert refused(besieged, b"\0" * ((1 << 20) + 1))[0] == "RESOURCE_EXHAUSTED"
    assert refused(besieged, b"", "/inference.GRPCInferenceService/Nothing")[0] == "UNIMPLEMENTED"
    assert resident_kib(besieged) < before + 16 * MIB


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def test_streams_that_are_reset_at_once(besieged):
    """Ten thousand calls that are cancelled in the packet that makes them, and heads that never end."""
    before = resident_kib(besieged)
    fields = {":path": METHOD, ":authority": "localhost", "content-type": "application/grpc", "te": "trailers"}
    head = b"\x83\x86" + b"".join(b"\0%c%b%c%b" % (len(n), n.encode(), len(v), v.encode()) for n, v in fields.items())
    data = MESSAGES["raw count"]
    body = b"\0" + struct.pack(">I", len(data)) + data
    start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
    with socket.create_connection(("127.0.0.1", besieged.grpc_port), timeout=10) as client:
        client.sendall(start)
        threading.Thread(target=drained, args=(client,), daemon=True).start()
        try:
            for at in range(100):
                ids = range(200 * at + 1, 200 * at + 201, 2)
                client.sendall(
                    b"".join(frame(1, 4, i, head) + frame(0, 1, i, body) + frame(3, 0, i, b"\0\0\0\x08") for i in ids)
                )
        except OSError:
            pass  # it had enough of us
    with socket.create_connection(("127.0.0.1", besieged.grpc_port), timeout=10) as client:
        client.sendall(start + frame(1, 0, 1, head))
        threading.Thread(target=drained, args=(client,), daemon=True).start()
        endless = frame(9, 0, 1, b"\0\x01x" + b"\x7f\x81\x1f" + b"a" * 4096)
        try:
            for _ in range(5000):
                client.sendall(endless)
        except OSError:
            pass
    time.sleep(0.2)
    assert resident_kib(besieged) < before + 64 * MIB


def drained(client):
    try:
        while client.recv(1 << 16):
            pass
    except OSError:
        pass

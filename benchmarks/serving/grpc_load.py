"""Load over gRPC: one ModelInfer message with raw contents, posted by h2load, checked with grpcio first.

Knows the Open Inference Protocol's messages as Foretell has them. Knows no server.
"""

import struct
from functools import partial
from pathlib import Path

import grpc
import numpy as np
from rivals.rival import Place, Server

from foretell.protocol import open_inference_pb2 as pb
from serving.load import Load, LoadError, h2load
from serving.processes import Running
from serving.turns import CONNECTIONS, Loads, Questions, quietest

METHOD = "/inference.GRPCInferenceService/ModelInfer"


def over_grpc(server: Server, place: Place, questions: Questions, seconds: float, running: Running) -> Loads:
    """Load the door at the place's other port; every answer must be as long as the right one.

    Raises:
        LoadError: An answer is wrong, or h2load failed.
    """
    length = 0
    message = b""
    for row, expected in zip(questions.rows, questions.answers, strict=True):
        message = _message(row)
        length = _checked(place.other_port, message, expected, questions.tolerance)
    body = place.folder / "message.bin"
    body.write_bytes(struct.pack(">BI", 0, len(message)) + message)
    _load(place, body, 16, 1, length, 2)  # warms it up
    connections = {**{str(c): (c, 1) for c in CONNECTIONS}, "1x64": (1, 64)}
    return {
        name: quietest(partial(_load, place, body, *many, length, seconds), running)
        for name, many in connections.items()
    }


def _load(place: Place, body: Path, connections: int, streams: int, length: int, seconds: float) -> Load:
    load, found = h2load(f"http://127.0.0.1:{place.other_port}{METHOD}", body, connections, streams, seconds)
    # h2load counts a refusal as a success: gRPC says it in a trailer, with no data. Requests under way at the end
    # have no answer yet.
    if abs(found / (length + 5) - 1) > 0.02:
        raise LoadError(f"h2load: {found:.1f} bytes of data in an answer, expected {length + 5}")
    return load


def _message(row: list[float]) -> bytes:
    made = pb.ModelInferRequest(model_name="xgb")
    made.inputs.add(name="input", datatype="FP32", shape=[1, len(row)])
    made.raw_input_contents.append(np.asarray(row, "<f4").tobytes())
    return bytes(made.SerializeToString())


def _checked(port: int, message: bytes, expected: list[float], tolerance: float) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        reply = channel.unary_unary(METHOD)(message, timeout=10)
    answer = pb.ModelInferResponse.FromString(reply)
    at = [output.name for output in answer.outputs].index("probabilities")
    found = np.frombuffer(answer.raw_output_contents[at], "<f4")
    if not np.allclose(found, expected, tolerance, tolerance):
        raise LoadError(f"gRPC answered {found}, expected {expected}")
    return len(reply)

"""The gRPC door: what is wrong gets a status and never INTERNAL, what is cancelled is not run."""

import time

import pytest

grpc = pytest.importorskip("grpc")

from foretell.protocol import open_inference_pb2 as pb  # noqa: E402

SERVICE = "/inference.GRPCInferenceService/"


def message(model="echo", values=(1, 2, 3)):
    made = pb.ModelInferRequest(model_name=model)
    made.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend(values)
    return made


def call(server, method, data=b"", timeout=10, metadata=(), service=SERVICE):
    with grpc.insecure_channel(server.grpc) as channel:
        return channel.unary_unary(service + method)(data, timeout=timeout, metadata=metadata)


def refused(server, method, data=b"", **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(server, method, data, **options)
    return caught.value.code().name, caught.value.details()


def test_infer(server):
    answer = pb.ModelInferResponse.FromString(call(server, "ModelInfer", message().SerializeToString()))
    assert list(answer.outputs[1].contents.fp32_contents) == [2, 4, 6]


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x10abc", b"\x2a\x02\x0a\xff", b"\x0b" * 100_000])
def test_bytes_that_are_no_message(server, data):
    assert refused(server, "ModelInfer", data)[0] == "INVALID_ARGUMENT"


def test_statuses(server):
    assert refused(server, "ModelInfer", message("nothing").SerializeToString())[0] == "NOT_FOUND"
    assert refused(server, "ModelInfer", message("broken").SerializeToString())[0] == "UNAVAILABLE"
    code, text = refused(server, "ModelInfer", message("failing").SerializeToString())
    assert code == "INTERNAL"
    assert "secret" not in text
    assert refused(server, "Nothing")[0] == "UNIMPLEMENTED"
    assert refused(server, "ModelInfer", b"\0" * (17 << 20))[0] == "RESOURCE_EXHAUSTED"
    assert refused(server, "ModelReady", pb.ModelReadyRequest(name="x\0").SerializeToString())[0] == "NOT_FOUND"


def test_health(server, serve):
    health = "/grpc.health.v1.Health/"
    assert call(server, "Check", service=health) == b"\x08\x02"  # one model is broken
    whole = serve(only=("echo",), grpc_port=0)
    name = SERVICE.strip("/").encode()
    assert call(whole, "Check", b"\x0a" + bytes([len(name)]) + name, service=health) == b"\x08\x01"
    assert refused(whole, "Check", b"\x0a\x01x", service=health)[0] == "NOT_FOUND"


def test_keys(serve, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef")
    keys.chmod(0o600)
    locked = serve(only=("echo",), grpc_port=0, api_key_file=keys)
    data = message().SerializeToString()
    assert refused(locked, "ModelInfer", data)[0] == "UNAUTHENTICATED"
    assert refused(locked, "ModelMetadata", metadata=[("authorization", "Bearer no")])[0] == "UNAUTHENTICATED"
    assert call(locked, "ModelInfer", data, metadata=[("authorization", "Bearer 0123456789abcdef")])
    assert pb.ServerLiveResponse.FromString(call(locked, "ServerLive")).live
    with grpc.insecure_channel(locked.grpc) as channel:
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(iter([data]))
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert caught.value.code().name == "UNAUTHENTICATED"


def test_administration_is_off(serve):
    closed = serve(only=("echo",), grpc_port=0)
    data = pb.RepositoryModelUnloadRequest(model_name="echo").SerializeToString()
    assert refused(closed, "RepositoryModelUnload", data)[0] == "PERMISSION_DENIED"
    assert refused(closed, "RepositoryModelLoad", data)[0] == "PERMISSION_DENIED"


@pytest.mark.usefixtures("hold")
def test_deadlines_and_cancelled_calls(serve):
    running = serve(only=("held",), grpc_port=0)
    served = running.server.engine.find("held")
    data = message("held").SerializeToString()
    assert refused(running, "ModelInfer", data, timeout=0.1)[0] == "DEADLINE_EXCEEDED"
    with grpc.insecure_channel(running.grpc) as channel:
        calls = [channel.unary_unary(SERVICE + "ModelInfer").future(data) for _ in range(8)]
        until(lambda: served.pending >= 8)
        for one in calls:
            one.cancel()
        until(lambda: served.pending <= 2)  # what runs already cannot be taken back


def until(claim):
    deadline = time.monotonic() + 5
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.005)

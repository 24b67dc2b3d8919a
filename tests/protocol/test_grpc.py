"""The gRPC doors, by grpc's own client: what is wrong gets a status, never INTERNAL; what is cancelled is not run."""

import asyncio
import subprocess
import threading
import time

import numpy as np
import pytest

grpc = pytest.importorskip("grpc")

from foretell.protocol import open_inference_pb2 as pb  # noqa: E402

SERVICE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/"


@pytest.fixture(params=["own", "aio"])
def door(request):
    return request.param


@pytest.fixture
def start(serve, door):
    """Start a server with one of the doors."""
    return lambda *only, **settings: serve(only=only, grpc_port=0, grpc_door=door, **settings)


@pytest.fixture
def server(grpc_server):
    return grpc_server


def message(model="echo", values=(1, 2, 3)):
    made = pb.ModelInferRequest(model_name=model)
    made.inputs.add(name="x", datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend(values)
    return made


def raw(model="echo", rows=1, width=3, **fields):
    """Return a message of raw tensors, and what it asks."""
    x = np.random.default_rng(rows).normal(size=(rows, width)).astype(np.float32)
    made = pb.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()], **fields)
    made.inputs.add(name="x", datatype="FP32", shape=x.shape)
    return made, x


def call(server, method, data=b"", timeout=10, metadata=(), service=SERVICE, options=()):
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        return channel.unary_unary(service + method)(data, timeout=timeout, metadata=metadata)


def refused(server, method, data=b"", **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(server, method, data, **options)
    return caught.value.code().name, caught.value.details()


def test_infer(server):
    answer = pb.ModelInferResponse.FromString(call(server, "ModelInfer", message().SerializeToString()))
    assert list(answer.outputs[1].contents.fp32_contents) == [2, 4, 6]


def test_the_same_message_again_and_again(server):
    """What stands around the tensors is recognised from the third time on: the answers stay the same."""
    with grpc.insecure_channel(server.grpc) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        for at in range(12):
            made, x = raw(rows=1 + at % 3, id="" if at % 2 else f"call {at}")
            answer = pb.ModelInferResponse.FromString(infer(made.SerializeToString()))
            assert (answer.model_name, answer.model_version, answer.id) == ("echo", "1", made.id)
            assert [list(o.shape) for o in answer.outputs] == [[len(x)], [len(x), 3]]
            assert answer.raw_output_contents[1] == (x * 2).tobytes()


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


def test_health(server, start):
    assert call(server, "Check", service=HEALTH) == b"\x08\x02"  # one model is broken
    whole = start("echo")
    name = SERVICE.strip("/").encode()
    assert call(whole, "Check", b"\x0a" + bytes([len(name)]) + name, service=HEALTH) == b"\x08\x01"
    assert refused(whole, "Check", b"\x0a\x01x", service=HEALTH)[0] == "NOT_FOUND"


def test_keys(start, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef")
    keys.chmod(0o600)
    locked = start("echo", api_key_file=keys)
    data = message().SerializeToString()
    assert refused(locked, "ModelInfer", data)[0] == "UNAUTHENTICATED"
    assert refused(locked, "ModelMetadata", metadata=[("authorization", "Bearer no")])[0] == "UNAUTHENTICATED"
    assert call(locked, "ModelInfer", data, metadata=[("authorization", "Bearer 0123456789abcdef")])
    assert pb.ServerLiveResponse.FromString(call(locked, "ServerLive")).live
    with grpc.insecure_channel(locked.grpc) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        for _ in range(3):  # on one connection, whose heads are remembered
            assert infer(data, metadata=[("authorization", "Bearer 0123456789abcdef")])
            with pytest.raises(grpc.RpcError) as caught:
                infer(data)
            assert caught.value.code().name == "UNAUTHENTICATED"
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(iter([data]))
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
    assert caught.value.code().name == "UNAUTHENTICATED"


def test_administration_is_off(start):
    closed = start("echo")
    data = pb.RepositoryModelUnloadRequest(model_name="echo").SerializeToString()
    assert refused(closed, "RepositoryModelUnload", data)[0] == "PERMISSION_DENIED"
    assert refused(closed, "RepositoryModelLoad", data)[0] == "PERMISSION_DENIED"


@pytest.mark.usefixtures("hold")
def test_deadlines_and_cancelled_calls(start):
    running = start("held")
    served = running.server.engine.find("held")
    data = message("held").SerializeToString()
    assert refused(running, "ModelInfer", data, timeout=0.1)[0] == "DEADLINE_EXCEEDED"
    with grpc.insecure_channel(running.grpc) as channel:
        calls = [channel.unary_unary(SERVICE + "ModelInfer").future(data) for _ in range(8)]
        until(lambda: served.pending >= 8)
        for one in calls:
            one.cancel()
        until(lambda: served.pending <= 2)  # what runs already cannot be taken back


@pytest.mark.usefixtures("hold")
def test_who_hangs_up_is_cancelled(start):
    running = start("held")
    served = running.server.engine.find("held")
    channel = grpc.insecure_channel(running.grpc)
    infer = channel.unary_unary(SERVICE + "ModelInfer")
    calls = [infer.future(message("held").SerializeToString()) for _ in range(8)]
    stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(iter([message("held").SerializeToString()] * 8))
    until(lambda: served.pending >= 16)
    channel.close()
    assert all(one.done() for one in calls)
    assert stream.done()
    until(lambda: served.pending <= 2)


@pytest.mark.parametrize("width", [1, 4_000, 16_384, 300_000, 4_194_000])
def test_messages_of_all_sizes(server, width):
    made, x = raw("mirror", width=width)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    for _ in range(3):
        answer = pb.ModelInferResponse.FromString(call(server, "ModelInfer", made.SerializeToString(), options=options))
        assert answer.raw_output_contents[0] == (x * 2).tobytes()


def test_many_at_once_on_one_connection(server):
    async def ask():
        async with grpc.aio.insecure_channel(server.grpc) as channel:
            infer = channel.unary_unary(SERVICE + "ModelInfer")

            async def one(rows):
                made, x = raw(rows=rows, id=str(rows))
                answer = pb.ModelInferResponse.FromString(await infer(made.SerializeToString()))
                assert answer.id == str(rows)
                assert answer.raw_output_contents[1] == (x * 2).tobytes()

            for _ in range(3):
                await asyncio.gather(*(one(rows) for rows in [*range(1, 64), 20_000, 30_000]))

    asyncio.run(ask())


def test_a_stream_is_answered_in_order_and_ended(server):
    asked = [raw(rows=1 + at % 5, id=str(at)) for at in range(300)]
    with grpc.insecure_channel(server.grpc) as channel:
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(made.SerializeToString() for made, _ in asked)
        answers = [pb.ModelStreamInferResponse.FromString(data) for data in stream]
        assert stream.code().name == "OK"
    assert len(answers) == len(asked)
    for answer, (made, x) in zip(answers, asked, strict=True):
        assert answer.infer_response.id == made.id
        assert answer.infer_response.raw_output_contents[1] == (x * 2).tobytes()


def test_a_stream_of_large_messages_both_ways(server):
    """Larger than every window: room is given and taken while messages are on their way."""
    asked = [raw("mirror", width=600_000, id=str(at)) for at in range(6)]
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options=options) as channel:
        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(made.SerializeToString() for made, _ in asked)
        for (_, x), data in zip(asked, stream, strict=True):
            time.sleep(0.01)
            found = pb.ModelStreamInferResponse.FromString(data).infer_response
            assert found.raw_output_contents[0] == (x * 2).tobytes()


def test_an_empty_stream_ends_well(server):
    with grpc.insecure_channel(server.grpc) as channel:
        assert list(channel.stream_stream(SERVICE + "ModelStreamInfer")(iter(()))) == []


@pytest.mark.usefixtures("hold")
def test_the_deadline_of_a_stream(start):
    running = start("held")
    data = message("held").SerializeToString()
    with grpc.insecure_channel(running.grpc) as channel:
        enough = threading.Event()

        def asked():
            yield data
            enough.wait(10)

        stream = channel.stream_stream(SERVICE + "ModelStreamInfer")(asked(), timeout=0.3)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        enough.set()
    assert caught.value.code().name == "DEADLINE_EXCEEDED"
    until(lambda: running.server.engine.find("held").pending <= 2)


def test_trailers_of_an_error(server):
    with grpc.insecure_channel(server.grpc) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(SERVICE + "ModelInfer")(message("broken").SerializeToString())
    told = dict(caught.value.trailing_metadata())
    assert told["error-code"] == "model_not_ready"
    assert int(told["retry-after"]) >= 1
    assert "broken on purpose" in caught.value.details()


@pytest.mark.parametrize("timeout", [5.0, 100_000.0, 100_000_000.0])
def test_deadlines_of_any_size(server, timeout):
    assert call(server, "ModelInfer", message().SerializeToString(), timeout=timeout)


def test_pings_keep_a_connection(start, monkeypatch):
    monkeypatch.setattr("foretell.server.run._CHECK_S", 0.05)
    hasty = start("echo", idle_s=0.5)
    options = [
        ("grpc.keepalive_time_ms", 200), ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]  # fmt: skip
    with grpc.insecure_channel(hasty.grpc, options=options) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        assert infer(message().SerializeToString())
        time.sleep(1.0)
        assert infer(message().SerializeToString())


def test_tls(start, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    secret = start("mirror", tls_cert=cert, tls_key=key)
    credentials = grpc.ssl_channel_credentials(cert.read_bytes())
    made, x = raw("mirror", width=600_000)
    port = secret.server.grpc_port
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.secure_channel(f"localhost:{port}", credentials, options=options) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        for _ in range(3):
            answer = pb.ModelInferResponse.FromString(infer(made.SerializeToString()))
            assert answer.raw_output_contents[0] == (x * 2).tobytes()


def test_draining_answers_what_is_in_flight(start, hold, door):
    running = start("held")
    data = message("held").SerializeToString()
    with grpc.insecure_channel(running.grpc) as channel:
        infer = channel.unary_unary(SERVICE + "ModelInfer")
        asked = infer.future(data)
        until(lambda: running.server.engine.find("held").pending == 1)
        draining = asyncio.run_coroutine_threadsafe(running.server.drain(), running.loop)
        until(lambda: running.server.engine.draining)
        with pytest.raises(grpc.RpcError) as caught:
            infer(data, timeout=5)
        # The library cancels what comes in the moment in which it stops.
        assert caught.value.code().name in ("UNAVAILABLE", *(["CANCELLED"] if door == "aio" else []))
        hold.open.set()
        assert asked.result(10)
        assert draining.result(20)


def test_watching_health(serve, monkeypatch):
    """Only the own door has it."""
    monkeypatch.setattr("foretell.server.run._CHECK_S", 0.05)
    running = serve(only=("echo", "pets"), grpc_port=0, admin=True, grpc_door="own")
    with grpc.insecure_channel(running.grpc) as channel:
        watched = channel.unary_stream(HEALTH + "Watch")(b"")
        assert next(watched) == b"\x08\x01"
        running.do(running.server.engine.unload("pets"))
        assert next(watched) == b"\x08\x02"
        running.do(running.server.engine.load("pets"))
        assert next(watched) == b"\x08\x01"
        assert next(channel.unary_stream(HEALTH + "Watch")(b"\x0a\x01x")) == b"\x08\x03"
        watched.cancel()


def test_the_id_of_a_call_comes_back(serve):
    running = serve(only=("echo",), grpc_port=0, grpc_door="own")
    with grpc.insecure_channel(running.grpc) as channel:
        for made in (message(), message("nothing")):
            asked = channel.unary_unary(SERVICE + "ModelInfer").future(
                made.SerializeToString(), metadata=[("x-request-id", "order-7")]
            )
            assert ("x-request-id", "order-7") in asked.trailing_metadata()


def until(claim):
    deadline = time.monotonic() + 5
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.005)

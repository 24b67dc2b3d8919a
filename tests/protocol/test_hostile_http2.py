"""What clients of HTTP/2 may not do ends their stream or their connection, by the book, and nobody else's."""

import gzip
import logging
import socket
import struct
import time

import pytest
from tests.protocol.http2_client import INFER, STREAM, Client, framed, head, message

from foretell.protocol import open_inference_pb2 as pb
from foretell.server.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITISED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Code,
    frame,
    reset,
    window_update,
)  # fmt: skip

OK, INVALID, DEADLINE, NOT_FOUND, EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = "0", "3", "4", "5", "8", "12", "14"


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Whatever a client does, it writes no trace into the log."""
    with caplog.at_level(logging.ERROR):
        yield
    assert not [record for record in caplog.records if record.exc_info]


@pytest.fixture
def client(server):
    with Client(server) as made:
        yield made


def setting(name, value):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


def answer(client, stream):
    data = client.body(stream)
    assert len(data) == 5 + int.from_bytes(data[1:5], "big")
    return pb.ModelInferResponse.FromString(data[5:])


def test_a_request_in_every_cut(server):
    with Client(server, b"") as client:
        block = client.block(head())
        data = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, 1, 1, message())
        for byte in range(len(data)):
            client.send(data[byte : byte + 1])
        assert client.status(1) == OK
        assert struct.unpack("<3f", answer(client, 1).raw_output_contents[1]) == (2, 4, 6)
        block = client.block(head())
        whole = frame(HEADERS, END_HEADERS, 3, block) + frame(DATA, 1, 3, message())
        for at in range(1, 200, 7):
            id = 3 + 2 * (at // 7)
            data = whole.replace(struct.pack(">I", 3), struct.pack(">I", id), 2)
            client.send(data[:at])
            client.send(data[at:])
            assert client.status(id) == OK


def test_continuation_padding_and_priority(client):
    block = client.block(head(**{"x-long": "v" * 3000}))
    client.send(
        frame(HEADERS, PADDED | PRIORITISED, 1, b"\x07" + b"\0\0\0\0\x10" + block[:9] + b"\0" * 7),
        *(frame(CONTINUATION, 0, 1, block[at : at + 300]) for at in range(9, 3000, 300)),
        frame(CONTINUATION, END_HEADERS, 1, block[3009:]),
        frame(DATA, PADDED, 1, b"\x05" + message()[:20] + b"\0" * 5),
        frame(DATA, PADDED | END_STREAM, 1, b"\x00" + message()[20:]),
    )
    assert client.status(1) == OK


def test_trailers_of_a_request_mean_nothing(client):
    client.send(
        frame(HEADERS, END_HEADERS, 1, client.block(head())), frame(DATA, 0, 1, message()),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, client.block([("x-sum", "7")])),
    )  # fmt: skip
    assert client.status(1) == OK


def test_heads_are_remembered_by_the_state_of_their_table(client):
    """The same bytes mean something else once the table has changed."""
    stream = 1
    for model in ("echo", "nothing", "echo"):
        for value in ("a", "b", "a"):
            for _ in range(3):
                client.ask(stream, message(model), head(x_request_id=f"{model}-{value}"))
                assert client.status(stream) == (OK if model == "echo" else NOT_FOUND)
                assert client.trailers(stream)["x-request-id"] == f"{model}-{value}"
                stream += 2
    # The same block of indices, before and after an entry moves them.
    client.encoder.header_table_size = 4096
    first = client.block(head(path=INFER))
    client.send(frame(HEADERS, END_HEADERS, stream, first), frame(DATA, END_STREAM, stream, message()))
    assert client.status(stream) == OK


WRONG_HEADS = {
    "no method": head(**{":method": None}),
    "no path": head(path=None),
    "empty path": head(path=""),
    "no scheme": head(**{":scheme": None}),
    "pseudo after others": [("te", "trailers"), *head()],
    "a pseudo twice": [(":method", "POST"), *head()],
    "a pseudo of replies": [(":status", "200"), *head()],
    "a pseudo nobody knows": [(":what", "x"), *head()],
    "a name in capitals": [*head(), ("X-Mine", "1")],
    "a name with a space": [*head(), ("x mine", "1")],
    "an empty name": [*head(), ("", "1")],
    "a value of two lines": [*head(), ("x-mine", "1\r\n2")],
    "a value with a zero": [*head(), ("x-mine", "1\x002")],
    "a value that begins with a space": [*head(), ("x-mine", " 1")],
    "connection": [*head(), ("connection", "keep-alive")],
    "transfer-encoding": [*head(), ("transfer-encoding", "chunked")],
    "te": head(te="gzip"),
    "content-length of letters": head(content_length="x"),
    "content-length below 0": head(content_length="-1"),
    "content-length of another body": head(content_length="7"),
    "too many fields": [*head(), *((f"x-{at}", "1") for at in range(120))],
}


@pytest.mark.parametrize("fields", WRONG_HEADS.values(), ids=WRONG_HEADS)
def test_malformed_requests_end_their_stream_alone(client, fields):
    client.ask(1, fields=fields)
    client.ask(3)
    assert client.reset_code(1) == Code.PROTOCOL_ERROR
    assert client.status(3) == OK


REFUSED_HEADS = {
    "another method": (head(**{":method": "GET"}), {":status": "405"}),
    "another type": (head(content_type="application/json"), {":status": "415"}),
    "no type": (head(content_type=None), {":status": "415"}),
    "almost the type": (head(content_type="application/grpcx"), {":status": "415"}),
    "unknown method": (head("/inference.GRPCInferenceService/Nothing"), {"grpc-status": UNIMPLEMENTED}),
    "unknown service": (head("/x"), {"grpc-status": UNIMPLEMENTED}),
    "unknown encoding": (head(grpc_encoding="br"), {"grpc-status": UNIMPLEMENTED}),
    "a timeout without unit": (head(grpc_timeout="5"), {"grpc-status": INVALID}),
    "a timeout below 0": (head(grpc_timeout="-5S"), {"grpc-status": INVALID}),
    "a timeout of 9 digits": (head(grpc_timeout="123456789S"), {"grpc-status": INVALID}),
    "a timeout that is over": (head(grpc_timeout="1n"), {"grpc-status": DEADLINE}),
}


@pytest.mark.parametrize(("fields", "told"), REFUSED_HEADS.values(), ids=REFUSED_HEADS)
def test_requests_refused_by_their_heads(client, fields, told):
    for stream in (1, 3, 5):
        client.ask(stream, fields=fields)
        assert told.items() <= client.trailers(stream).items()
    client.ask(7)
    assert client.status(7) == OK


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto", "application/grpc;x=y"])
def test_types_of_grpc(client, kind):
    client.ask(1, fields=head(content_type=kind, content_length=str(len(message()))))
    assert client.status(1) == OK


WRONG_BODIES = {
    "nothing": b"",
    "less than a prefix": b"\0\0\0",
    "a prefix alone": b"\0\0\0\0\5",
    "too short": message()[:-1],
    "too long": message() + b"\0",
    "two messages": message() * 2,
    "a flag nobody knows": b"\x07" + message()[1:],
    "compressed without saying how": b"\x01" + message()[1:],
}


@pytest.mark.parametrize("body", WRONG_BODIES.values(), ids=WRONG_BODIES)
def test_bodies_that_are_no_message(client, body):
    client.ask(1, body)
    client.ask(3)
    assert client.status(1) == INVALID
    assert client.status(3) == OK


@pytest.mark.parametrize("body", [b"", b"\0\0\0", message()[:-1]])
def test_streams_that_end_within_a_message(client, body):
    client.ask(1, message() + body, head(STREAM))
    assert client.status(1) == (INVALID if body else OK)


def test_compressed_messages(client):
    packed = gzip.compress(message()[5:])
    body = b"\x01" + len(packed).to_bytes(4, "big") + packed
    zeros = gzip.compress(bytes(64 << 20))
    bomb = b"\x01" + len(zeros).to_bytes(4, "big") + zeros
    fields = head(grpc_encoding="gzip")
    client.ask(1, body, fields)
    client.ask(3, message(), fields)  # it may be left uncompressed
    client.ask(5, b"\x01" + message()[1:], fields)
    client.ask(7, b"\x01" + len(packed[:-9]).to_bytes(4, "big") + packed[:-9], fields)
    client.send(frame(HEADERS, END_HEADERS, 9, client.block(fields)))
    for at in range(0, len(bomb), 16384):
        client.send(frame(DATA, int(at + 16384 >= len(bomb)), 9, bomb[at : at + 16384]))
    assert [client.status(s) for s in (1, 3, 5, 7, 9)] == [OK, OK, INVALID, INVALID, EXHAUSTED]


# Rules of frames. Each breaks the connection with its code.

FATAL = {
    "data of no stream": (frame(DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
    "data of an idle stream": (frame(DATA, 0, 5, b"x"), Code.PROTOCOL_ERROR),
    "headers of no stream": (frame(HEADERS, END_HEADERS, 0, b"\x82"), Code.PROTOCOL_ERROR),
    "headers of an even stream": (frame(HEADERS, END_HEADERS, 2, b"\x82"), Code.PROTOCOL_ERROR),
    "padding longer than headers": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\x09\x82"), Code.PROTOCOL_ERROR),
    "padded and empty": (frame(HEADERS, END_HEADERS | PADDED, 1), Code.PROTOCOL_ERROR),
    "prioritised and empty": (frame(HEADERS, END_HEADERS | PRIORITISED, 1), Code.PROTOCOL_ERROR),
    "a block of nonsense": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), Code.COMPRESSION_ERROR),
    "a block with index 0": (frame(HEADERS, END_HEADERS, 1, b"\x80"), Code.COMPRESSION_ERROR),
    "a block with a table too large": (frame(HEADERS, END_HEADERS, 1, b"\x3f\xff\xff\x03"), Code.COMPRESSION_ERROR),
    "a block that resizes and resizes": (frame(HEADERS, END_HEADERS, 1, b"\x20" * 9), Code.COMPRESSION_ERROR),
    "a block cut off": (frame(HEADERS, END_HEADERS, 1, b"\x00\x05ab"), Code.COMPRESSION_ERROR),
    "bad Huffman": (frame(HEADERS, END_HEADERS, 1, b"\x00\x84\xff\xff\xff\xff\x00"), Code.COMPRESSION_ERROR),
    "a frame too long": (b"\x00\x40\x01" + frame(DATA, 0, 1)[3:], Code.FRAME_SIZE_ERROR),
    "continuation of nothing": (frame(CONTINUATION, END_HEADERS, 1, b"\x82"), Code.PROTOCOL_ERROR),
    "continuation of another": (
        frame(HEADERS, 0, 1, b"\x83") + frame(CONTINUATION, END_HEADERS, 3, b"\x86"), Code.PROTOCOL_ERROR,
    ),
    "a ping within headers": (frame(HEADERS, 0, 1, b"\x83") + frame(PING, 0, 0, bytes(8)), Code.PROTOCOL_ERROR),
    "headers within headers": (frame(HEADERS, 0, 1, b"\x83") * 2, Code.PROTOCOL_ERROR),
    "a ping of 7 bytes": (frame(PING, 0, 0, bytes(7)), Code.FRAME_SIZE_ERROR),
    "a ping of a stream": (frame(PING, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
    "a reset of no stream": (frame(RST_STREAM, 0, 0, bytes(4)), Code.PROTOCOL_ERROR),
    "a reset of an idle stream": (frame(RST_STREAM, 0, 1, bytes(4)), Code.PROTOCOL_ERROR),
    "a reset of 3 bytes": (frame(RST_STREAM, 0, 1, bytes(3)), Code.FRAME_SIZE_ERROR),
    "a priority of no stream": (frame(PRIORITY, 0, 0, bytes(5)), Code.PROTOCOL_ERROR),
    "a priority of 4 bytes": (frame(PRIORITY, 0, 1, bytes(4)), Code.FRAME_SIZE_ERROR),
    "settings of a stream": (frame(SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
    "settings of 5 bytes": (frame(SETTINGS, 0, 0, bytes(5)), Code.FRAME_SIZE_ERROR),
    "settings confirmed with more": (frame(SETTINGS, ACK, 0, bytes(6)), Code.FRAME_SIZE_ERROR),
    "push that is 2": (setting(2, 2), Code.PROTOCOL_ERROR),
    "a window of 2^31": (setting(4, 1 << 31), Code.FLOW_CONTROL_ERROR),
    "frames too small": (setting(5, 16383), Code.PROTOCOL_ERROR),
    "frames too large": (setting(5, 1 << 24), Code.PROTOCOL_ERROR),
    "an update of 0": (window_update(0, 0), Code.PROTOCOL_ERROR),
    "an update of 3 bytes": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), Code.FRAME_SIZE_ERROR),
    "an update of an idle stream": (window_update(1, 1), Code.PROTOCOL_ERROR),
    "updates over 2^31": (window_update(0, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
    "a push promise": (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + b"\x82"), Code.PROTOCOL_ERROR),
    "goaway of a stream": (frame(GOAWAY, 0, 1, bytes(8)), Code.PROTOCOL_ERROR),
}  # fmt: skip


@pytest.mark.parametrize(("data", "code"), FATAL.values(), ids=FATAL)
def test_what_ends_the_connection(client, data, code):
    client.send(data)
    assert client.goaway_code() == code


@pytest.mark.parametrize(
    "greeting", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", bytes(24), b"\x16\x03\x01"]
)
def test_what_is_no_http2(server, greeting):
    with Client(server, greeting) as client:
        if greeting[:1].isalpha():
            assert client.socket.recv(100).startswith(b"HTTP/1.1 505 ")
        else:
            assert client.goaway_code() == Code.PROTOCOL_ERROR


def test_an_unknown_frame_is_passed_over(client):
    client.send(frame(77, 255, 9, b"what"), frame(PRIORITY, 0, 7, bytes(5)), frame(GOAWAY, 0, 0, bytes(8)))
    client.ask(1)
    assert client.status(1) == OK
    assert client.alive()


@pytest.mark.usefixtures("hold")
def test_what_ends_a_stream(serve):
    running = serve(only=("held",), grpc_port=0)
    with Client(running) as client:
        after_end = {
            1: (frame(DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
            3: (frame(HEADERS, END_HEADERS | END_STREAM, 3, b"\x00\x01x\x01y"), Code.STREAM_CLOSED),
            5: (window_update(5, 0), Code.PROTOCOL_ERROR),
            7: (window_update(7, (1 << 31) - 1), Code.FLOW_CONTROL_ERROR),
        }
        for stream, (data, code) in after_end.items():
            client.ask(stream, message("held"))
            client.send(data)
            assert client.reset_code(stream) == code
        # Trailers that are not the end, and trailers with a pseudo field.
        for stream, flags, fields in ((9, END_HEADERS, [("x", "y")]), (11, END_HEADERS | END_STREAM, [(":path", "y")])):
            client.send(frame(HEADERS, END_HEADERS, stream, client.block(head())))
            client.send(frame(HEADERS, flags, stream, client.block(fields)))
            assert client.reset_code(stream) == Code.PROTOCOL_ERROR
        assert client.alive()
        until(lambda: running.server.engine.find("held").pending <= 4)


def test_streams_that_are_closed(client):
    client.ask(1)
    assert client.status(1) == OK
    client.send(reset(1, Code.CANCEL), window_update(1, 7), frame(DATA, 0, 1, b"x"))
    assert client.reset_code(1) == Code.STREAM_CLOSED
    client.ask(3)
    assert client.status(3) == OK
    client.ask(1)
    assert client.goaway_code() == Code.STREAM_CLOSED


def until(claim):
    deadline = time.monotonic() + 5
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# Flow control.


def test_an_answer_waits_for_room(server):
    with Client(server, PREFACE + setting(4, 10)) as client:
        client.ask(1)
        client.ask(3)
        assert client.read(lambda _: len(client.body(1)) == 10 and len(client.body(3)) == 10)
        assert client.alive()
        assert len(client.body(1)) == 10
        client.send(window_update(3, 1000))
        assert client.status(3) == OK
        client.send(setting(4, 0))
        client.send(*[window_update(1, 1)] * 20)
        assert client.alive()
        assert len(client.body(1)) == 20  # 10 less for the setting
        client.send(setting(4, 70000))
        assert client.status(1) == OK
        assert answer(client, 1).model_name == answer(client, 3).model_name == "echo"


def test_all_streams_share_the_room_of_the_connection(server):
    made = pb.ModelInferRequest(model_name="mirror", raw_input_contents=[bytes(4 * 30_000)])
    made.inputs.add(name="x", datatype="FP32", shape=[1, 30_000])
    body = framed(made.SerializeToString())
    with Client(server, PREFACE + setting(4, 1 << 20)) as client:
        for stream in (1, 3):
            client.send(frame(HEADERS, END_HEADERS, stream, client.block(head())))
            for at in range(0, len(body), 16384):
                client.send(frame(DATA, int(at + 16384 >= len(body)), stream, body[at : at + 16384]))
        assert client.read(lambda _: len(client.body(1)) + len(client.body(3)) == 65535)
        assert client.alive()  # so both requests are in
        until(lambda: server.server.engine.find("mirror").pending == 0)
        client.send(window_update(0, 1 << 16))
        assert client.read(lambda _: len(client.body(1)) + len(client.body(3)) == 65535 + (1 << 16))
        assert len(client.body(3)) >= 1 << 15  # in turns
        client.ask(5)
        assert client.alive()
        assert not client.body(5)
        client.send(window_update(0, 1 << 20))
        assert [client.status(stream) for stream in (1, 3, 5)] == [OK, OK, OK]
        assert answer(client, 3).raw_output_contents[0] == bytes(4 * 30_000)


def test_more_than_there_is_room_for(serve, hold):
    running = serve(only=("held",), grpc_port=0)
    with Client(running) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, client.block(head(STREAM))))
        # The stream takes 64 requests into the engine, and gives no more room: a megabyte, not a byte more.
        many = message("held") * 40_000
        for at in range(0, len(many), 16384):
            client.send(frame(DATA, 0, 1, many[at : at + 16384]))
        assert client.reset_code(1) == Code.FLOW_CONTROL_ERROR
        until(lambda: running.server._grpc.body_bytes == 0)
        until(lambda: running.server.engine.find("held").pending <= 4)
    hold.open.set()


def test_bodies_too_large(serve):
    small = serve(only=("echo",), grpc_port=0, max_body_bytes=1000)
    with Client(small) as client:
        client.ask(1, framed(bytes(1001)))
        assert client.status(1) == EXHAUSTED
        client.send(frame(HEADERS, END_HEADERS, 3, client.block(head())))
        for _ in range(20):
            client.send(frame(DATA, 0, 3, bytes(300)))
        assert client.status(3) == EXHAUSTED
        client.ask(5, b"\0\xff\xff\xff\xff", head(STREAM))
        assert client.status(5) == EXHAUSTED
        client.ask(7)
        assert client.status(7) == OK
    until(lambda: small.server._grpc.body_bytes == 0)


def test_all_bodies_together(serve):
    small = serve(only=("echo",), grpc_port=0, max_bodies_bytes=100_000)
    with Client(small) as first, Client(small) as second:
        for client in (first, second):
            client.send(frame(HEADERS, END_HEADERS, 1, client.block(head())))
            for _ in range(6):
                client.send(frame(DATA, 0, 1, bytes(10_000)))
            assert client.alive()
        assert [first.status(1) if second.status(1) is None else second.status(1)] == [UNAVAILABLE]
        second.ask(3)
        assert second.status(3) == OK
    until(lambda: small.server._grpc.body_bytes == 0)


# Floods.


def flood(client, frames):
    """Send frames until the connection ends, and return its code."""
    for data in frames:
        client.send(data)
        time.sleep(0.001)  # or nothing is discarded in peace
        if client.is_told_to_go():
            break
    return client.goaway_code()


FLOODS = {
    "pings": lambda _: frame(PING, 0, 0, bytes(8)) * 100,
    "settings": lambda _: setting(3, 100) * 100,
    "large settings": lambda _: frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100) * 2000),
    "empty data": lambda _: frame(DATA, 0, 1) * 100,
    "data byte by byte": lambda _: frame(DATA, 0, 1, b"x") * 100,
    "padding": lambda _: frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 100,
    "updates": lambda _: window_update(0, 1) * 100,
    "updates of a stream": lambda _: window_update(1, 1) * 100,
    "priorities": lambda _: frame(PRIORITY, 0, 3, bytes(5)) * 100,
    "unknown frames": lambda _: frame(99, 0, 0) * 100,
    "resets of what is closed": lambda _: reset(1, Code.CANCEL) * 100,
    "resets": lambda at: b"".join(
        frame(HEADERS, END_HEADERS, 3 + 200 * at + 2 * n, BLOCK) + reset(3 + 200 * at + 2 * n, Code.CANCEL)
        for n in range(100)
    ),
    "resets of its own making": lambda at: b"".join(
        frame(HEADERS, END_HEADERS, 3 + 200 * at + 2 * n, BLOCK) + window_update(3 + 200 * at + 2 * n, 0)
        for n in range(100)
    ),
    "malformed requests": lambda at: b"".join(
        frame(HEADERS, END_HEADERS | END_STREAM, 3 + 200 * at + 2 * n, b"\x83") for n in range(100)
    ),
    "requests beyond the limit": lambda at: b"".join(
        frame(HEADERS, END_HEADERS, 3 + 200 * at + 2 * n, BLOCK) for n in range(100)
    ),
}
BLOCK = b"\x83\x86\x04" + bytes([len(INFER)]) + INFER.encode() + b"\x0f\x10\x10application/grpc"


@pytest.mark.parametrize("make", FLOODS.values(), ids=FLOODS)
def test_floods_end_the_connection(server, make):
    with Client(server) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, BLOCK))
        assert flood(client, (make(at) for at in range(1000))) == Code.ENHANCE_YOUR_CALM
    with Client(server) as other:
        other.ask(1)
        assert other.status(1) == OK
    assert not any(c.streams for c in server.server._grpc.connections if c.ending)


def test_a_flood_of_continuations(server):
    with Client(server) as client:
        client.send(frame(HEADERS, 0, 1, BLOCK))
        assert flood(client, [frame(CONTINUATION, 0, 1)] * 100) == Code.ENHANCE_YOUR_CALM
    with Client(server) as client:
        client.send(frame(HEADERS, 0, 1, BLOCK))
        block = b"\x00\x01x\x7f\xff\x7e" + b"v" * 16000
        assert flood(client, [frame(CONTINUATION, 0, 1, block)] * 100) == Code.ENHANCE_YOUR_CALM


def test_a_block_that_swells(client):
    """Few bytes that name one large entry of the table again and again."""
    client.send(frame(HEADERS, END_HEADERS, 1, b"\x40\x01x\x7f\x81\x1e" + b"v" * 3968 + b"\xbe" * 12_000))
    assert client.goaway_code() == Code.ENHANCE_YOUR_CALM


def test_resets_of_answered_streams_are_no_flood(client):
    for stream in range(1, 1001, 2):
        client.ask(stream)
        assert client.status(stream) == OK
        client.send(reset(stream, Code.CANCEL), window_update(0, 200), frame(PING, 0, 0, bytes(8)))
        client.frames.clear()
    assert client.alive()


# Slow clients.


@pytest.fixture
def hasty(monkeypatch, serve):
    """Start a server that looks after its clients often."""
    monkeypatch.setattr("foretell.server.run._CHECK_S", 0.05)
    return lambda **settings: serve(grpc_port=0, **{"only": ("echo",)} | settings)


def test_slow_clients_are_cut_off(hasty):
    running = hasty(only=("echo",), headers_s=0.3, body_s=0.3, idle_s=30.0)
    with Client(running, b"PRI * ") as client:
        assert client.goaway_code() is None
    with Client(running) as client:
        client.send(frame(HEADERS, 0, 1, b"\x83"))
        assert client.goaway_code() == Code.ENHANCE_YOUR_CALM
    for path in (INFER, STREAM):
        with Client(running) as client:
            client.send(frame(HEADERS, END_HEADERS, 1, client.block(head(path))), frame(DATA, 0, 1, message()[:9]))
            assert client.status(1) == DEADLINE
            assert client.trailers(1)["error-code"] == "request_timeout"
            client.ask(3)
            assert client.status(3) == OK


def test_a_stream_may_rest_between_its_messages(hasty):
    running = hasty(only=("echo",), headers_s=0.3, body_s=0.3, idle_s=30.0)
    with Client(running) as client:
        client.send(frame(HEADERS, END_HEADERS, 1, client.block(head(STREAM))))
        time.sleep(0.8)
        client.send(frame(DATA, END_STREAM, 1, message()))
        assert client.status(1) == OK


def test_who_takes_no_answer_is_cut_off(hasty):
    running = hasty(only=("echo",), write_s=0.3)
    with Client(running, PREFACE + setting(4, 5)) as client:
        client.ask(1)
        assert client.goaway_code() is None
    until(lambda: not running.server._grpc.connections)


def test_who_reads_nothing_is_cut_off(hasty):
    running = hasty(only=("mirror",), write_s=0.3)
    made = pb.ModelInferRequest(model_name="mirror", raw_input_contents=[bytes(4 * 900_000)])
    made.inputs.add(name="x", datatype="FP32", shape=[1, 900_000])
    body = framed(made.SerializeToString())
    client = Client(running, PREFACE + setting(4, 1 << 30) + window_update(0, 1 << 30))
    for stream in range(1, 13, 2):
        client.send(frame(HEADERS, END_HEADERS, stream, client.block(head())))
        for at in range(0, len(body), 16384):
            client.send(frame(DATA, int(at + 16384 >= len(body)), stream, body[at : at + 16384]))
    until(lambda: not running.server._grpc.connections)
    client.socket.close()


def test_idle_connections_are_told_to_go(hasty):
    running = hasty(only=("echo",), idle_s=0.3, headers_s=0.5)
    with Client(running) as client:
        client.ask(1)
        assert client.status(1) == OK
        assert client.goaway_code() == Code.NO_ERROR
    with Client(running) as client:  # with an open stream it is asked whether it is there, and says nothing
        client.send(frame(HEADERS, END_HEADERS, 1, client.block(head(STREAM))))
        assert client.goaway_code() is None
        assert any(kind == PING for kind, *_ in client.frames)


def test_too_many_connections(serve):
    few = serve(only=("echo",), grpc_port=0, max_connections=2)
    with Client(few) as first, Client(few) as second:
        assert first.alive()
        assert second.alive()
        with Client(few) as third:
            assert third.goaway_code() == Code.ENHANCE_YOUR_CALM
    until(lambda: not few.server._grpc.connections)
    with Client(few) as client:
        assert client.alive()


def test_streams_beyond_the_limit_are_refused_alone(serve, hold):
    running = serve(only=("held",), grpc_port=0)
    with Client(running) as client:
        for stream in range(1, 2 * 257, 2):
            client.ask(stream, message("held"))
        assert client.reset_code(513) == Code.REFUSED_STREAM
        hold.open.set()
        assert all(client.status(stream) == OK for stream in range(1, 513, 2))


def test_draining(serve, hold):
    running = serve(only=("held",), grpc_port=0)
    with Client(running) as busy, Client(running) as idle:
        busy.ask(1, message("held"))
        assert idle.alive()
        until(lambda: running.server.engine.find("held").pending == 1)
        running.loop.call_soon_threadsafe(lambda: running.loop.create_task(running.server.drain()))
        assert idle.goaway_code() == Code.NO_ERROR
        assert busy.read(lambda frames: any(k == GOAWAY for k, *_ in frames))
        busy.ask(3, message("held"))  # after it was told: it is not looked at
        hold.open.set()
        assert busy.status(1) == OK
        assert busy.goaway_code() == Code.NO_ERROR
        assert not any(stream == 3 for _, _, stream, _ in busy.frames)


def test_a_client_that_is_gone_with_everything_half_way(server):
    for cut in range(0, 400, 13):
        client = Client(server, b"")
        data = PREFACE + frame(SETTINGS, 0, 0) + frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(DATA, 0, 1, message())
        client.send((data * 2)[:cut])
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.socket.close()
    until(lambda: not any(c.streams for c in server.server._grpc.connections))
    assert server.server._grpc.body_bytes == 0

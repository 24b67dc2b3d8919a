"""WebSockets that break the rules, stall, flood or leave: each ends with the right code, and nothing stays behind."""

import contextlib
import gc
import json
import os
import random
import socket
import struct
import time
import weakref

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OPENED = b"HTTP/1.1 101 Switching Protocols\r\n"
GOOD = b'{"instances":[[1,2,3]]}'
CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """Servers look after slow clients twenty times a second."""
    monkeypatch.setattr("foretell.server.run._CHECK_S", 0.05)


def head(path=b"/v1/models/echo:stream", method=b"GET", version=b"1.1", more=b"", **changed):
    headers = {
        b"host": b"localhost",
        b"connection": b"keep-alive, Upgrade",
        b"upgrade": b"websocket",
        b"sec-websocket-key": KEY,
        b"sec-websocket-version": b"13",
    } | {name.replace("_", "-").encode(): value for name, value in changed.items()}
    lines = b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers.items() if value is not None)
    return b"%b %b HTTP/%b\r\n%b%b\r\n" % (method, path, version, lines, more)


def frame(opcode, data=b"", fin=True, masked=True, rsv=0, length=None):
    length = len(data) if length is None else length
    mask = b"\x01\x02\x03\x04"
    first = (fin << 7) | (rsv << 4) | opcode
    bit = 0x80 if masked else 0
    if length < 126:
        start = struct.pack("!BB", first, bit | length)
    elif length < 1 << 16:
        start = struct.pack("!BBH", first, bit | 126, length)
    else:
        start = struct.pack("!BBQ", first, bit | 127, length)
    if not masked:
        return start + data
    return start + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))


def opened(server, *parts, receive_bytes=None, path=b"/v1/models/echo:stream"):
    """Return a socket on which a stream was opened, and what came behind the answer's head."""
    client = socket.socket()
    if receive_bytes:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.settimeout(10)
    client.connect(("127.0.0.1", server.port))
    client.sendall(head(path) + b"".join(parts))
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(1 << 16)
    first, rest = data.split(b"\r\n\r\n", 1)
    assert first.startswith(OPENED), first
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in first, "the example of RFC 6455"
    return client, rest


def frames(data):
    """Return (opcode, payload) of each whole frame a server sent, and what is left."""
    found = []
    while len(data) >= 2:
        assert not data[1] & 0x80, "a server does not mask"
        length, at = data[1] & 127, 2
        if length == 126:
            length, at = struct.unpack("!H", data[2:4])[0], 4
        elif length == 127:
            length, at = struct.unpack("!Q", data[2:10])[0], 10
        if len(data) < at + length:
            break
        found.append((data[0] & 15, data[at : at + length]))
        data = data[at + length :]
    return found, data


def rest_of(client, data=b""):
    """Return every frame until the server ends the connection."""
    try:
        while chunk := client.recv(1 << 16):
            data += chunk
    except ConnectionResetError:
        pass
    found, left = frames(data)
    assert left == b""
    return found


def closing(server, *parts):
    """Return the code with which a server closes after these bytes, which come one by one; None: without one."""
    client, data = opened(server)
    with client:
        for part in parts:
            try:
                client.sendall(part)
            except OSError:
                break
        found = rest_of(client, data)
    codes = [struct.unpack("!H", payload[:2])[0] for opcode, payload in found if opcode == CLOSE and payload]
    return codes[0] if codes else None


def asked(server, sent):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(sent)
        return client.recv(1 << 16)


def until(claim, seconds=20):
    enough = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < enough
        time.sleep(0.01)


def is_served(server):
    client, data = opened(server, frame(TEXT, GOOD))
    with client:
        while not frames(data)[0]:
            data += client.recv(1 << 16)
    ((_, text),) = frames(data)[0]
    return json.loads(text)["predictions"] == [6.0]


# The handshake.


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(sec_websocket_key=None), 400),
        (head(sec_websocket_key=b"abc"), 400),
        (head(sec_websocket_key=b"\xff" * 24), 400),
        (head(sec_websocket_key=KEY[:-4]), 400),
        (head(more=b"sec-websocket-key: %b\r\n" % KEY), 400),
        (head(sec_websocket_version=b"12"), 426),
        (head(sec_websocket_version=None), 426),
        (head(upgrade=b"h2c"), 426),
        (head(upgrade=None), 426),
        (head(connection=b"close"), 426),
        (head(connection=None), 426),
        (head(version=b"1.0"), 426),
        (head(method=b"POST"), 405),
        (head(method=b"HEAD"), 400),
        (head(more=b"content-length: 3\r\n") + b"abc", 400),
        (head(more=b"transfer-encoding: chunked\r\n") + b"0\r\n\r\n", 400),
        (head(path=b"/v1/models/echo"), 200),
    ],
)
def test_a_handshake_that_is_none(server, sent, status):
    data = asked(server, sent)
    assert data.startswith(b"HTTP/1.1 %d " % status), data[:300]
    assert OPENED not in data
    if status == 426:
        assert b"\r\nupgrade: websocket\r\n" in data
        assert b"\r\nsec-websocket-version: 13\r\n" in data


def test_a_handshake_behind_a_question_that_is_not_answered_yet(serve, hold):
    server = serve(only=("held", "echo"))
    question = (
        b'POST /v1/models/held:predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 23\r\n\r\n{"instances":[[1,2,3]]}'
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(question + head())
        until(lambda: hold.rows)
        hold.open.set()
        data = b""
        while chunk := client.recv(1 << 16):
            data += chunk
    assert data.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in data
    assert b"connection of its own" in data


def test_a_handshake_behind_an_answered_question(server):
    client, _ = opened(server)
    client.close()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        for _ in range(2):
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        client.sendall(head() + frame(TEXT, GOOD))
        data = b""
        while b"predictions" not in data:
            data += client.recv(1 << 16)
    assert data.startswith(OPENED)


def test_half_a_handshake(serve):
    server = serve(only=("echo",), headers_s=0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(head()[:-2])
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 408 ")


def test_frames_right_behind_the_handshake(server):
    client, data = opened(server, frame(TEXT, GOOD), frame(CLOSE, b"\x03\xe8"))
    with client:
        found = rest_of(client, data)
    assert found[-1] == (CLOSE, b"\x03\xe8")


# Frames.


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([frame(CLOSE, b"\x03\xe8bye")], 1000),
        ([frame(CLOSE, struct.pack("!H", 3000))], 3000),
        ([frame(TEXT, GOOD, masked=False)], 1002),
        ([frame(TEXT, GOOD, rsv=4)], 1002),
        ([frame(TEXT, GOOD, rsv=1)], 1002),
        ([frame(3, GOOD)], 1002),
        ([frame(15)], 1002),
        ([frame(CONT, GOOD)], 1002),
        ([frame(TEXT, b"{", fin=False), frame(TEXT, b"}")], 1002),
        ([frame(TEXT, b"{", fin=False), frame(CLOSE, b"\x03\xe8")], 1002),
        ([frame(PING, b"x" * 126)], 1002),
        ([frame(PING, b"x", fin=False)], 1002),
        ([frame(CLOSE, b"\x03")], 1002),
        ([frame(CLOSE, struct.pack("!H", 999))], 1002),
        ([frame(CLOSE, struct.pack("!H", 1005))], 1002),
        ([frame(CLOSE, struct.pack("!H", 1006))], 1002),
        ([frame(CLOSE, b"\x03\xe8\xff")], 1007),
        ([frame(TEXT, b"\xff\xfe")], 1007),
        ([frame(TEXT, b"\xe2\x82", fin=False), frame(CONT, b"")], 1007),
        ([frame(BINARY, length=(1 << 63) - 1)], 1009),
        ([frame(BINARY, length=(1 << 64) - 1)], 1009),
        ([frame(BINARY, length=(16 << 20) + 1)], 1009),
        ([frame(BINARY, b"x", fin=False), frame(CONT, length=16 << 20)], 1009),
        ([b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"], 1002),
        ([b"\x00" * 1000], 1002),
        ([b"\xff" * 1000], 1002),
    ],
)
def test_what_breaks_the_rules_ends_with_a_code(server, parts, code):
    assert closing(server, *parts) == code
    assert is_served(server)


def test_text_cut_within_a_letter_is_whole_again(server):
    text = '{"tag": "\N{EURO SIGN}"}'.encode()
    at = text.index(b"\xe2") + 1
    client, data = opened(server, frame(TEXT, text[:at], fin=False), frame(CONT, text[at:]), frame(TEXT, GOOD))
    with client:
        while not frames(data)[0]:
            data += client.recv(1 << 16)
    assert json.loads(frames(data)[0][0][1])["tag"] == "\N{EURO SIGN}"


def test_pings_between_fragments_are_answered(server):
    client, data = opened(server, frame(TEXT, GOOD[:5], fin=False), frame(PING, b"now"), frame(CONT, GOOD[5:]))
    with client:
        while len(frames(data)[0]) < 2:
            data += client.recv(1 << 16)
    first, second = frames(data)[0]
    assert first == (PONG, b"now")
    assert json.loads(second[1])["predictions"] == [6.0]


def test_a_frame_byte_by_byte(server):
    client, data = opened(server)
    with client:
        for byte in frame(TEXT, GOOD):
            client.sendall(bytes([byte]))
        while not frames(data)[0]:
            data += client.recv(1 << 16)
    assert json.loads(frames(data)[0][0][1])["predictions"] == [6.0]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1 << 32), flips=st.integers(1, 6))
def test_changed_bytes_end_cleanly(server, seed, flips):
    """Whatever it is, there are whole frames and a clean end, or a frame that waits for more."""
    random_ = random.Random(seed)
    sent = bytearray(frame(TEXT, GOOD) + frame(PING, b"a") + frame(BINARY, b"b", fin=False) + frame(CONT, b"c"))
    for _ in range(flips):
        sent[random_.randrange(len(sent))] = random_.randrange(256)
    client, data = opened(server, bytes(sent))
    with client:
        client.shutdown(socket.SHUT_WR)
        found = rest_of(client, data)
    assert all(opcode in (TEXT, PONG, CLOSE) for opcode, _ in found)
    for opcode, payload in found:
        if opcode == TEXT:
            assert {"frame", "code"} & json.loads(payload).keys()


# Leaving, stalling, flooding.


@pytest.mark.parametrize("sent", [frame(BINARY, length=1 << 20), frame(TEXT, b"x", fin=False), b"\x82", b""])
def test_whoever_leaves_within_a_frame_leaves_nothing(serve, sent):
    server = serve(only=("echo",))
    for reset in (False, True):
        client, _ = opened(server, sent)
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        until(lambda: not server.server._desk.connections)
    assert server.server._desk.body_bytes == 0


@pytest.mark.parametrize("last", [frame(CLOSE, b"\x03\xe8"), frame(BINARY, length=1 << 20), b"\xff" * 9, b""])
def test_nothing_waits_for_the_collector(serve, last):
    server = serve(only=("echo",))

    async def look():
        return [weakref.ref(connection) for connection in server.server._desk.connections]

    gc.collect()
    gc.disable()
    try:
        client, data = opened(server, frame(TEXT, GOOD))
        with client:
            while not frames(data)[0]:
                data += client.recv(1 << 16)
            (held,) = server.do(look())
            client.sendall(last)
        until(lambda: held() is None)
    finally:
        gc.enable()


def test_a_message_that_comes_too_slowly(serve):
    server = serve(only=("echo",), body_s=0.5)
    client, data = opened(server, frame(BINARY, length=1000))
    with client:
        ((opcode, payload),) = rest_of(client, data)
    assert (opcode, payload) == (CLOSE, b"\x03\xf0message: it came too slowly")


def test_a_ping_that_nobody_answers(serve):
    server = serve(only=("echo",), idle_s=0.6)
    client, data = opened(server)
    with client:
        assert rest_of(client, data) == [(PING, b""), (CLOSE, b"\x03\xf3ping: it was not answered")]


def test_too_many_large_messages_at_once(serve):
    server = serve(only=("echo",), max_bodies_bytes=1 << 20)
    first, _ = opened(server, frame(BINARY, length=2 << 20), os.urandom(900_000))
    with first:
        until(lambda: server.server._desk.body_bytes >= 900_000)
        assert closing(server, frame(BINARY, length=2 << 20), os.urandom(500_000)) == 1013
        until(lambda: server.server._desk.body_bytes < 1 << 20)
    until(lambda: server.server._desk.body_bytes == 0)


def test_a_flood_of_small_frames_holds_up_nobody(server):
    """A million frames in a few chunks: others are answered meanwhile."""
    flood = (frame(PING) + frame(PONG)) * 20_000
    client, _ = opened(server)
    with client:
        client.setblocking(False)
        sent = 0
        while sent < 4 * len(flood):
            try:
                sent += client.send(flood[sent % len(flood) :])
            except BlockingIOError:
                with contextlib.suppress(BlockingIOError):
                    client.recv(1 << 20)
                if sent > len(flood):
                    break
        assert is_served(server)
    until(lambda: not any(type(c).__name__ == "WebSocket" for c in list(server.server._desk.connections)))


@pytest.mark.parametrize("sent", [frame(TEXT, b'{"instances":[[%b1]]}' % (b"1," * 30_000)), frame(PING, b"x" * 125)])
def test_whoever_takes_no_answers_is_cut_off(serve, sent):
    server = serve(only=("mirror", "echo"), write_s=0.5)
    client, _ = opened(server, receive_bytes=4096, path=b"/v1/models/mirror:stream")
    taken, burst = 0, sent * max(1, (1 << 16) // len(sent))
    with client:
        try:
            while taken < 256 << 20:
                taken += client.send(burst)
        except OSError:
            pass
    assert taken < 64 << 20, "no more is read than is answered"
    until(lambda: not server.server._desk.connections)
    assert is_served(server)


def test_streams_end_with_the_server(serve):
    """A second signal closes everything at once: connections end, and nobody waits."""
    server = serve(only=("echo",))
    client, data = opened(server, frame(BINARY, length=1000))
    with client:
        server.do(server.server.close())
        rest_of(client, data)

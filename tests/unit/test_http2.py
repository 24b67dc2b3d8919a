"""The HTTP/2 of the gRPC door without a socket: whatever comes in, it ends by the book and gives everything back."""

import asyncio
import logging
import struct
import subprocess
import sys

import hpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretell.server.http2.connection import Connection
from foretell.server.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Broken,
    Code,
    frame,
    reset,
    window_update,
)  # fmt: skip
from foretell.server.http2.heads import Heads, literal
from foretell.server.http2.patience import Patience
from foretell.server.http2.writing import Writing
from foretell.server.settings import ServerSettings


class Transport(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self):
        super().__init__()
        self.written, self.closed, self.reading = b"", False, True

    def write(self, data):
        assert not self.closed
        self.written += bytes(data)

    def can_write_eof(self):
        return True

    def write_eof(self):
        pass

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


class Echo:
    """Answers with the body: whole, or part by part."""

    def __init__(self, desk, whole):
        self.desk, self.whole = desk, whole

    def take(self, stream, body):
        stream.cancel = lambda: self.desk.open.discard(stream)
        self.desk.open.add(stream)
        asyncio.get_running_loop().call_soon(self.answer, stream, body)

    def answer(self, stream, body):
        self.desk.open.discard(stream)
        if not stream.closed:
            stream.connection.out.answer(stream, b"\x88", body, literal(b"x", b"y"))

    def begin(self, stream):
        stream.connection.out.begin(stream, b"\x88")

    def feed(self, stream, part):
        stream.connection.out.send(stream, part)
        stream.connection.give_room(stream, stream.taken)

    def end(self, stream):
        stream.connection.out.finish(stream, literal(b"x", b"y"))


class Desk:
    """Where requests go."""

    def __init__(self):
        self.settings = ServerSettings(max_body_bytes=100_000, max_bodies_bytes=200_000)
        self.connections, self.draining, self.body_bytes, self.open = set(), False, 0, set()
        self.writing = Writing()

    def taker(self, head):
        return Echo(self, head.path != b"/stream")

    def too_large(self, stream, *, crowded):
        stream.connection.out.begin(stream, literal(b":status", b"413"), ends=True)

    too_slow = too_large


class Talk:
    """A connection without a socket."""

    def __init__(self):
        self.desk, self.transport = Desk(), Transport()
        self.connection = Connection(self.desk)
        self.connection.connection_made(self.transport)

    def frames(self):
        self.connection.out.flush()
        data, found = self.transport.written, []
        while data:
            size = int.from_bytes(data[:3], "big")
            kind, flags, stream = struct.unpack_from(">BBI", data, 3)
            assert len(data) >= 9 + size
            found.append((kind, flags, stream, data[9 : 9 + size]))
            data = data[9 + size :]
        return found


BLOCK = b"\x83\x86\x44\x01/"
STREAMED = b"\x83\x86\x04\x07/stream"
IDS = st.sampled_from([0, 1, 1, 3, 3, 5, 7, 2, 255])
PAYLOADS = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([BLOCK, BLOCK, STREAMED, b"\x80", bytes(4), bytes(8), bytes(600), bytes(16384)]),
)
FRAMES = st.one_of(
    st.builds(frame, st.integers(0, 11), st.sampled_from([0, 1, 4, 5, 8, 9, 13, 0x20, 0x2D, 255]), IDS, PAYLOADS),
    st.builds(frame, st.just(HEADERS), st.sampled_from([4, 5]), IDS, st.sampled_from([BLOCK, STREAMED])),
    st.builds(frame, st.just(DATA), st.sampled_from([0, 1]), IDS, st.binary(max_size=300)),
    st.builds(window_update, IDS, st.sampled_from([0, 1, 70_000, (1 << 31) - 1])),
    st.builds(reset, IDS, st.sampled_from(list(Code))),
    st.builds(
        lambda name, value: frame(SETTINGS, 0, 0, struct.pack(">HI", name, value)),
        st.integers(0, 7), st.sampled_from([0, 1, 5, 16384, 65535, (1 << 31) - 1, 1 << 31]),
    ),
)  # fmt: skip


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=st.lists(FRAMES, max_size=30), cuts=st.lists(st.integers(1, 2000), max_size=10), greets=st.booleans())
def test_whatever_comes_ends_by_the_book(frames, cuts, greets, caplog):
    caplog.clear()

    async def run():
        talk = Talk()
        connection = talk.connection
        data = (PREFACE if greets else b"") + b"".join(frames)
        for cut in [*cuts, len(data)]:
            part, data = data[:cut], data[cut:]
            if part and not talk.transport.closed:
                connection.data_received(part)
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)
        written = talk.frames() if greets else []
        kinds = [kind for kind, *_ in written]
        if GOAWAY in kinds:
            assert kinds.index(GOAWAY) == len(kinds) - 1
            assert connection.ending
            assert not connection.streams
        # What is answered was asked, and ends once.
        for stream in {s for k, _, s, _ in written if k in (HEADERS, DATA)}:
            own = [(k, f) for k, f, s, _ in written if s == stream and k in (HEADERS, DATA, RST_STREAM)]
            ends = [at for at, (k, f) in enumerate(own) if k == RST_STREAM or f & END_STREAM]
            assert len(own) - len(ends[:1]) >= (ends[0] if ends else 0)
            assert all(k == RST_STREAM for k, _ in own[ends[0] + 1 :]) if ends else True
        connection.connection_lost(None)
        assert not connection.streams
        assert not talk.desk.open
        assert talk.desk.body_bytes == 0
        assert not talk.desk.connections

    asyncio.run(run())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@settings(max_examples=100, deadline=None)
@given(
    room=st.lists(st.tuples(st.sampled_from([0, 1, 3]), st.integers(1, 40_000)), max_size=30),
    initial=st.integers(0, 70_000), streamed=st.booleans(),
)  # fmt: skip
def test_no_more_is_sent_than_there_is_room_for(room, initial, streamed):
    async def run():
        talk = Talk()
        receive = talk.connection.data_received
        receive(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, initial)))
        bodies = {1: bytes(60_000), 3: b"\x01" * 60_000}
        for stream, body in bodies.items():
            receive(frame(HEADERS, END_HEADERS, stream, STREAMED if streamed else BLOCK))
            for at in range(0, 60_000, 16_000):
                receive(frame(DATA, int(at + 16_000 >= 60_000), stream, body[at : at + 16_000]))
        left = {0: 65_535, 1: initial, 3: initial}
        for stream, size in room:
            await asyncio.sleep(0)
            if not stream or stream in talk.connection.streams:
                left[stream] += size
            receive(window_update(stream, size))
        for _ in range(3):
            await asyncio.sleep(0)
        sent = {s: b"".join(p for k, _, i, p in talk.frames() if k == DATA and i == s) for s in (1, 3)}
        assert len(sent[1]) + len(sent[3]) <= left[0]
        for stream, data in sent.items():
            assert len(data) <= left[stream]
            assert bodies[stream].startswith(data)
            if len(data) < 60_000:  # it waits for room, and for nothing else
                assert len(data) == left[stream] or len(sent[1]) + len(sent[3]) == left[0]
        receive(window_update(0, 1 << 20) + window_update(1, 1 << 20) + window_update(3, 1 << 20))
        assert not talk.connection.streams
        assert sum(1 for k, f, *_ in talk.frames() if k == HEADERS and f & END_STREAM) == 2
        assert not any(k == GOAWAY for k, *_ in talk.frames())
        talk.connection.connection_lost(None)

    asyncio.run(run())


def test_heads_are_read_once_while_the_table_stays():
    taken = []
    heads = Heads(1 << 15, 100, lambda head: taken.append(head) or head)
    encoder = hpack.Encoder()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/a"), ("x", "1")]
    first, second = encoder.encode(fields), encoder.encode(fields)
    assert heads.read(first).path == b"/a"
    assert not heads.known  # it entered fields into the table
    known = heads.read(second)
    assert heads.known == {second: known}
    other = encoder.encode([(":method", "POST"), (":scheme", "http"), (":path", "/b"), ("x", "2")])
    heads.read(other)
    assert not heads.known  # and so the same indices mean something else
    assert heads.read(second).path == b"/b"
    # A change of the table's size counts too, and an entry too large for it, which empties it.
    heads.read(encoder.encode(fields))
    assert heads.read(encoder.encode(fields)) in heads.known.values()
    encoder.header_table_size = 100
    heads.read(encoder.encode(fields))
    assert not heads.known


def test_constant_blocks_say_what_they_should():
    value = b"v" * 100_000
    assert hpack.Decoder(1 << 20).decode(literal(b"name", value) + literal(b"n" * 127, b""), raw=True) == [
        (b"name", value), (b"n" * 127, b""),
    ]  # fmt: skip


def test_patience_grows_with_what_is_served_and_comes_back():
    patience = Patience(0.0)
    patience.bear(1000)
    with pytest.raises(Broken):
        patience.bear()
    patience.served = 100
    patience.bear(500)
    for _ in range(300):
        patience.bear_reset()
    with pytest.raises(Broken):
        patience.bear_reset()
    for second in range(10, 100, 10):
        patience.check(second)
    for _ in range(100):
        patience.bear_reset()
    patience.bear(900)
    assert patience.served == 0


def test_the_client_is_slowed_down_while_it_takes_nothing():
    async def run():
        talk = Talk()
        talk.connection.data_received(
            PREFACE + window_update(0, 1 << 20) + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 20))
        )
        talk.connection.pause_writing()
        assert not talk.transport.reading
        before = len(talk.frames())
        talk.connection.data_received(frame(HEADERS, 4, 1, BLOCK) + frame(DATA, 1, 1, b"body"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not any(k == DATA for k, *_ in talk.frames()[before:])
        talk.connection.resume_writing()
        assert talk.transport.reading
        assert [p for k, _, _, p in talk.frames() if k == DATA] == [b"body"]
        talk.connection.connection_lost(None)

    asyncio.run(run())


def test_a_confirmed_setting_is_answered_by_nothing():
    async def run():
        talk = Talk()
        talk.connection.data_received(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
        assert [(k, f) for k, f, *_ in talk.frames()] == [(SETTINGS, 0), (WINDOW_UPDATE, 0), (SETTINGS, ACK)]
        talk.connection.data_received(frame(CONTINUATION, 4, 1))
        assert talk.frames()[-1][0] == GOAWAY
        talk.connection.connection_lost(None)

    asyncio.run(run())


def test_the_door_needs_no_grpc_library():
    code = "import foretell.server.grpc.door, sys; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

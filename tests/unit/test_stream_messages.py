"""Frames to messages, however the bytes are cut; and what a client says of the frames that go back."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import CloseCode
from websockets.protocol import CLIENT, Protocol

from foretell.request import Parts
from foretell.server.streams.fragments import FRAGMENT_BYTES
from foretell.server.streams.messages import Message, Messages

MESSAGES = st.lists(st.one_of(st.binary(max_size=300), st.text(max_size=100)), max_size=8)


def written(messages, cuts, pings):
    """Return the bytes with which the library's client sends messages, each in fragments, with pings between."""
    client = Protocol(CLIENT)
    for message in messages:
        data = message.encode() if isinstance(message, str) else message
        bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        parts = [data[a:b] for a, b in pairwise(bounds)] or [b""]
        for at, part in enumerate(parts):
            fin = at == len(parts) - 1
            if at:
                client.send_continuation(part, fin)
            elif isinstance(message, str):
                client.send_text(part, fin)
            else:
                client.send_binary(part, fin)
            if pings:
                client.send_ping(b"?")
    return b"".join(client.data_to_send())


@given(MESSAGES, st.lists(st.integers(0, 300), max_size=3), st.booleans(), st.integers(1, 64))
def test_messages_are_whole_however_they_come(messages, cuts, pings, step):
    data, found, server = written(messages, cuts, pings), [], Messages(1 << 20)
    for at in range(0, len(data), step):
        found += server.read(memoryview(data)[at : at + step])
    expected = [Message(m.encode() if isinstance(m, str) else m, isinstance(m, str)) for m in messages]
    assert found == expected
    assert server.is_open
    if not data:
        assert server.received_bytes == 0
    server.let_go()


LONG = FRAGMENT_BYTES + 1


@given(
    st.lists(st.tuples(st.integers(0, 4 * LONG), st.booleans()), min_size=1, max_size=4),
    st.lists(st.integers(0, 4 * LONG), max_size=3),
    st.booleans(),
    st.integers(1000, 3 * LONG),
)
@example([(LONG // 2 + 1, False)], [1], False, 1000)  # in a small part and a large one, and short all the same
def test_long_messages_too(sizes, cuts, pings, step):
    text = np.random.default_rng(0).integers(97, 123, 4 * LONG, np.uint8).tobytes()
    messages = [text[:size].decode() if is_text else text[-size:] for size, is_text in sizes]
    data, found, server = memoryview(written(messages, cuts, pings)), [], Messages(8 * LONG)
    for at in range(0, len(data), step):
        found += server.read(data[at : at + step])
    assert [m.content for m in found if m.is_text] == [m.encode() for m in messages if isinstance(m, str)]
    assert [bytes(m.content) for m in found if not m.is_text] == [m for m in messages if isinstance(m, bytes)]
    assert not any(isinstance(m.content, Parts) and len(m.content) <= FRAGMENT_BYTES for m in found)
    server.let_go()


def test_a_long_frame_is_never_copied_whole():
    content = bytes(64 * LONG)
    data, server, most = memoryview(written([content], [], False)), Messages(1 << 30), 0
    tracemalloc.start()
    for at in range(0, len(data), 4096):
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        (message,) = server.read(data[at : at + 4096]) or (None,)
        most = max(most, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert most < 4 * FRAGMENT_BYTES
    assert isinstance(message.content, Parts)
    assert bytes(message.content) == content


@pytest.mark.parametrize("step", [1, 3, 4096])
@pytest.mark.parametrize("head", [b"\x82\x7f", b"\xc2\xff", b"\x89\xff", b"\x83\xff", b"\x80\xff"])
def test_a_long_frame_that_must_not_be_is_refused(head, step):
    data, server = head + LONG.to_bytes(8) + b"abcd" + bytes(LONG), Messages(8 * LONG)
    for at in range(0, len(data), step):
        assert server.read(memoryview(data)[at : at + step]) == []
    sent, is_last = server.outgoing()
    assert (sent[2:4], is_last) == (b"\x03\xea", True), "a protocol error"


def test_fragments_too_long_together_are_refused():
    data, server = memoryview(written([bytes(3 * LONG)], [LONG + 5], False)), Messages(2 * LONG)
    for at in range(0, len(data), 4096):
        assert server.read(data[at : at + 4096]) == []
    assert server.outgoing()[0][2:4] == b"\x03\xf1"


@given(st.binary(max_size=400), st.integers(1, 64))
def test_any_bytes_end_in_messages_or_a_code(data, step):
    server = Messages(1 << 10)
    for at in range(0, len(data), step):
        for message in server.read(memoryview(data)[at : at + step]):
            assert len(message.content) <= 1 << 10
    sent, is_last = server.outgoing()
    assert is_last != server.is_open
    assert not sent or sent[0] in (0x88, 0x8A), "nothing but pongs and a close"


def test_what_goes_back_is_read_by_a_client():
    server, client = Messages(1 << 20), Protocol(CLIENT)
    server.send(b'{"frame":0}')
    server.ping()
    server.close(CloseCode.GOING_AWAY, "server: about to stop")
    server.send(b"never")
    client.receive_data(server.outgoing()[0])
    text, ping, close = client.events_received()
    assert (bytes(text.data), bytes(ping.data), close.data[:2]) == (b'{"frame":0}', b"", b"\x03\xe9")
    assert server.read(memoryview(b"".join(client.data_to_send()))) == []
    assert server.has_left
    assert server.outgoing() == (b"", True)


def test_a_message_too_long_is_not_kept():
    server = Messages(100)
    assert server.read(memoryview(written([b"x" * 101], [], False))) == []
    sent, is_last = server.outgoing()
    assert (sent[2:4], is_last) == (b"\x03\xf1", True)

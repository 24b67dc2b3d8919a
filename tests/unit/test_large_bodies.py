"""What is done on the event loop for a large picture, counted: no copy of it, no look into it, nothing in one piece."""

import asyncio
import json
import os
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretell.engine.worker.flights import Flights
from foretell.engine.worker.frames import IN_SLOT, pack
from foretell.engine.worker.reading import read_head, read_tensors
from foretell.engine.worker.slots import SLOT_BYTES, Slots, offered
from foretell.engine.worker.texts import list_texts
from foretell.request import Base64, Parts
from foretell.server.bodies import JOINED_BYTES, Body
from foretell.server.connection import WANTED, Connection
from foretell.server.heads import Heads
from foretell.server.settings import ServerSettings
from foretell.signature import Signature, TensorSpec

NETWORK = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
SEEN = Signature((TensorSpec("image", "BYTES", (-1,)),), (TensorSpec("y", "FP32", (-1, 2)),))
CHUNK = 1 << 18


@given(st.lists(st.integers(0, 200_000), max_size=12), st.integers(0, 255))
def test_a_body_is_its_chunks(sizes, first):
    body, chunks = Body(), [bytes([(first + i) % 256]) * size for i, size in enumerate(sizes)]
    for chunk in chunks:
        body.add(chunk)
    parts = body.parts()
    assert b"".join(parts) == b"".join(chunks)
    assert body.size == sum(sizes)
    assert len(parts) <= body.size // (1 << 16) + 1 or len(parts) <= len(chunks) + 1


def test_large_chunks_are_kept_as_they_are_and_small_ones_gathered():
    body, large = Body(), [bytes(CHUNK) for _ in range(20)]
    for chunk in large:
        body.add(chunk)
    assert [a is b for a, b in zip(body.parts(), large, strict=True)] == [True] * 20
    body = Body()
    for _ in range(200_000):
        body.add(b"x")
    assert len(body.parts()) == 200_000 // (1 << 16) + 1


class Desk:
    """Keeps the calls it is given, and in which thread they came."""

    def __init__(self):
        self.settings = ServerSettings()
        self.connections, self.draining, self.body_bytes = set(), False, 0
        self.wanted, self.heads = WANTED, Heads(WANTED)
        self.calls = []

    def handle(self, call):
        self.calls.append(call)

    def admit_headers(self, call):
        pass

    def lane(self, target, headers):
        return None

    def new_id(self):
        return b"id"

    def replied(self, call, status):
        pass


class Transport:
    def is_closing(self):
        return False

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


def stay(connection):
    """Do nothing."""


async def received(body, kind, before_end=stay):
    """Return the desk after a body came in large chunks, and how often a thread was asked for something."""
    loop, jobs = asyncio.get_running_loop(), []
    run = loop.run_in_executor
    loop.run_in_executor = lambda *arguments: jobs.append(arguments[1]) or run(*arguments)
    desk = Desk()
    connection = Connection(desk)
    connection.connection_made(Transport())
    head = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n"
    connection.data_received(head % (kind, len(body)))
    for at in range(0, len(body), CHUNK):
        connection.data_received(body[at : at + CHUNK])
    before_end(connection)
    for _ in range(500 if before_end is stay else 20):
        if desk.calls:
            break
        await asyncio.sleep(0.01)
    return desk, jobs


def test_a_picture_is_handed_on_in_the_parts_it_came_in():
    body = np.random.default_rng(1).bytes(5_000_000)
    desk, jobs = asyncio.run(received(body, b"image/jpeg"))
    (call,) = desk.calls
    assert jobs == []
    assert call.body == b""
    assert len(call.parts) == -(-len(body) // CHUNK)
    assert b"".join(call.parts) == body


def test_other_large_bodies_are_joined_by_a_thread():
    body = json.dumps({"instances": ["A" * 3_000_000]}).encode()
    desk, jobs = asyncio.run(received(body, b"application/json"))
    (call,) = desk.calls
    assert len(jobs) == 1
    assert call.body == body
    assert len(body) > JOINED_BYTES


def test_who_has_gone_meanwhile_is_not_handed_on():
    async def go():
        body = bytes(3_000_000)
        desk, jobs = await asyncio.wait_for(
            received(body, b"application/json", lambda connection: connection.connection_lost(None)), 20
        )
        assert (desk.calls, len(jobs)) == ([], 1)

    asyncio.run(go())


def test_pictures_are_listed_for_their_way_without_a_copy():
    whole, parts, text = bytes(100_000), [bytes(70_000), bytes(70_000)], memoryview(bytes(90_000))
    pictures = np.empty(3, object)
    pictures[:] = [whole, Parts(parts), Base64(text)]
    listed = list_texts(pictures)
    assert [part for part in listed if len(part) > 4] == [whole, *parts, text]
    assert listed[1] is whole
    assert listed[3] is parts[0]
    assert listed[6] is text
    packed = pack([pictures])
    assert packed.parts == [listed]
    assert packed.sizes == [sum(map(len, listed))]


class Link:
    def __init__(self):
        self.frames = []

    def send(self, parts):
        self.frames.append(b"".join(parts))


def shared(kind):
    fd = Slots.create()
    try:
        return kind(fd)
    finally:
        os.close(fd)


@pytest.mark.skipif(not offered(), reason="needs memory that can be shared")
def test_a_large_picture_is_copied_by_a_thread_and_arrives(monkeypatch):
    wrote = []

    class Watched(Slots):
        def write(self, place, packed):
            wrote.append(threading.get_ident())
            super().write(place, packed)

    picture = np.random.default_rng(2).bytes(3_000_000)
    pictures = np.empty(3, object)
    pictures[:] = [picture, Parts([picture[:1_000_000], picture[1_000_000:]]), Base64(memoryview(b"/9j/" * 10))]

    async def go():
        link, slots = Link(), shared(Watched)
        flights = Flights(asyncio.get_running_loop(), link, slots, None)
        flights.fit(NETWORK, SEEN)
        flights.send(1, {"image": pictures}, 3)
        assert link.frames == []
        for _ in range(500):
            if link.frames:
                break
            await asyncio.sleep(0.01)
        (frame,) = link.frames
        head = read_head(frame, len(frame))
        assert head.kind & IN_SLOT
        (arrived,) = read_tensors(frame, len(frame), head, slots.inputs(head.slot), SLOT_BYTES)
        assert arrived[:2].tolist() == [picture, picture]
        assert type(arrived[2]) is Base64
        assert bytes(arrived[2]) == b"/9j/" * 10
        flights.close()

    asyncio.run(go())
    assert len(wrote) == 1
    assert wrote[0] != threading.get_ident()


@pytest.mark.skipif(not offered(), reason="needs memory that can be shared")
def test_shared_memory_is_given_back_in_steps():
    removed = []

    class Memory:
        def madvise(self, _advice, start, length):
            removed.append((start // SLOT_BYTES, start % SLOT_BYTES, length))

    slots = shared(Slots)
    slots._memory = Memory()
    slot = slots.take()
    slots.touch(slot, 5_000_000)
    slots.trim()
    assert removed == []  # it was used lately
    slots.trim()
    assert removed == []  # it is in use
    slots.give(slot)
    for _ in range(10):
        slots.trim()
    inputs, outputs = ([(at, n) for half, at, n in removed if half == 2 * slot + side] for side in (0, 1))
    assert inputs == outputs
    assert sum(length for _, length in inputs) == 5_000_000
    assert max(length for _, length in inputs) <= (1 << 21) + 4096
    assert inputs[-1][0] == 0

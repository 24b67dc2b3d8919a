"""Clients that ask and do not read: they are cut off, hold up nobody, and cannot make the server hoard answers."""

import json
import socket
import time

import pytest

MANY = 65_000
"""Rows whose answer is more than the kernel keeps for a connection."""
GOOD = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}'
HEAD = b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def hasty(serve):
    return serve(only=("echo",), write_s=0.3)


def deaf(server):
    """Return a connection with next to no room for answers."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(10)
    client.connect(("127.0.0.1", server.port))
    return client


def until_cut_off(server):
    enough = time.monotonic() + 20
    while server.server._desk.connections:
        assert time.monotonic() < enough
        time.sleep(0.02)


def answer_of(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(HEAD % len(GOOD) + GOOD)
        return client.recv(1 << 16)


def test_a_large_answer_that_nobody_takes(hasty):
    tensor = {"name": "x", "datatype": "FP32", "shape": [MANY, 3], "data": [0.1] * 3 * MANY}
    body = json.dumps({"inputs": [tensor]}).encode()
    with deaf(hasty) as client:
        client.sendall(HEAD % len(body) + body)
        assert answer_of(hasty).startswith(b"HTTP/1.1 200")
        until_cut_off(hasty)
    assert answer_of(hasty).startswith(b"HTTP/1.1 200")


def test_questions_without_end_and_no_answer_taken(hasty):
    burst, sent = (HEAD % len(GOOD) + GOOD) * 1000, 0
    with deaf(hasty) as client:
        try:
            while sent < 64 << 20:
                sent += client.send(burst)
        except OSError:  # it did not read on, and closed
            pass
        assert sent < 64 << 20
        assert answer_of(hasty).startswith(b"HTTP/1.1 200")
    until_cut_off(hasty)
    assert hasty.server.engine.find("echo").pending == 0

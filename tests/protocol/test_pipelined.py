"""Requests that follow one another on a connection, cut anywhere."""

import socket

BODY = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}'


def request(padding):
    body = b" " * padding + BODY
    return b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def test_a_head_that_begins_behind_a_large_body(server):
    first, second = request(60_000), request(0)
    for at in (1, 30, len(second) - len(BODY) - 1):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(first + second[:at])
            said = connection.recv(1 << 16)
            assert said.startswith(b"HTTP/1.1 200 OK")
            connection.sendall(second[at:])
            said = connection.recv(1 << 16)
            assert said.startswith(b"HTTP/1.1 200 OK")

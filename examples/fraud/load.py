"""Send requests by a schedule over keep-alive HTTP, whatever the server does: an open loop.

A latency counts from the instant at which a request was to leave. A server that stalls, a connection that is not free,
a sender that is late: all of it is in the number, as a customer who pays would feel it.
"""

import select
import socket
import time
from dataclasses import dataclass


@dataclass
class Answer:
    """What became of a request."""

    status: int = 0
    """Of HTTP; 0 if the connection broke or nothing came."""
    latency_s: float = float("inf")
    head: bytes = b""
    body: bytes = b""


def replay(port: int, requests: list[bytes], per_second: float, connections: int = 32) -> list[Answer]:
    """Send the requests in order, `per_second`, each over a connection that is free, and return their answers."""
    free = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
    for each in free:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    asked: dict[socket.socket, int] = {}
    received: dict[socket.socket, bytes] = {}
    answers = [Answer() for _ in requests]
    sent, start = 0, time.perf_counter() + 0.1
    while sent < len(requests) or asked:
        due = start + sent / per_second - time.perf_counter() if sent < len(requests) else 1.0
        if due <= 0 and free:
            connection = free.pop()
            asked[connection], received[connection] = sent, b""
            connection.sendall(requests[sent])
            sent += 1
            continue
        readable = wait_for(asked, due if free else 1.0)
        for connection in readable:
            chunk = connection.recv(1 << 16)
            received[connection] += chunk
            if chunk and not is_whole(received[connection]):
                continue
            index = asked.pop(connection)
            answers[index] = answer_of(received[connection], time.perf_counter() - start - index / per_second)
            if not chunk:
                connection.close()
                connection = socket.create_connection(("127.0.0.1", port))
            free.append(connection)
    for each in free:
        each.close()
    return answers


def wait_for(asked: dict[socket.socket, int], seconds: float) -> list[socket.socket]:
    """Return the connections with something to read, or none when the time is over. `select` counts microseconds."""
    return select.select(list(asked), [], [], max(0.0, seconds))[0]


def is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    return bool(end) and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])


def answer_of(data: bytes, latency_s: float) -> Answer:
    head, end, body = data.partition(b"\r\n\r\n")
    return Answer(int(head[9:12]), latency_s, head, body) if end else Answer()

"""Raw bytes on the socket: each gets one clear answer or a clean close, and the next client is served."""

import json
import socket
import threading
import time

import pytest

GOOD_BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}'


def request(
    body=GOOD_BODY, path=b"/v2/models/echo/infer", method=b"POST", headers=b"", host=b"localhost", version=b"1.1"
):
    body = body if method == b"POST" else b""
    length = b"content-length: %d\r\n" % len(body) if body else b""
    return b"%b %b HTTP/%b\r\nhost: %b\r\n%b%b\r\n" % (method, path, version, host, length, headers) + body


def talk(server, *parts, wait=5.0, pause=0.0):
    """Send parts; return everything that comes back until the server closes or is silent."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=wait) as client:
        for part in parts:
            try:
                client.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        return receive(client)


def receive(client, count=None):
    data = b""
    client.settimeout(5)
    while count is None or len(answers(data)) < count:
        try:
            chunk = client.recv(1 << 16)
        except (TimeoutError, ConnectionResetError):
            break
        if not chunk:
            break
        data += chunk
    return data


def answers(data):
    """Split replies into (status, headers, body)."""
    found = []
    while b"\r\n\r\n" in data:
        head, data = data.split(b"\r\n\r\n", 1)
        status, *lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        length = int(headers.get(b"content-length", b"0"))
        if len(data) < length:
            break
        found.append((int(status.split()[1]), headers, data[:length]))
        data = data[length:]
    return found


CLOSED_WITH_400 = {
    "both lengths": request(headers=b"transfer-encoding: chunked\r\n"),
    "two lengths": request(headers=b"content-length: %d\r\n" % len(GOOD_BODY)),
    "length with a plus": b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: +5\r\n\r\nhello",
    "length in hex": b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0x5\r\n\r\nhello",
    "negative length": b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\nhello",
    "bare line feeds": b"POST /v2/models/echo/infer HTTP/1.1\nhost: localhost\ncontent-length: 5\n\nhello",
    "folded header": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nx: a\r\n b\r\n\r\n",
    "strange encoding": b"POST /v2 HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "encoding in HTTP/1.0": b"POST /v2 HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "NUL in a header": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n",
    "space before the colon": b"GET /v2 HTTP/1.1\r\nhost : localhost\r\n\r\n",
    "HTTP/0.9": b"GET /v2\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /v2 HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
    "bad chunk": b"POST /v2 HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "chunk extension": b"POST /v2 HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3;a\rb\r\nabc\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 50,
    "noise": bytes(range(256)),
    "pickle": b"\x80\x05\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
}


@pytest.mark.parametrize("name", CLOSED_WITH_400)
def test_refused_and_closed(server, name):
    found = answers(talk(server, CLOSED_WITH_400[name]))
    assert len(found) == 1
    status, headers, body = found[0]
    assert status in (400, 405)
    assert headers[b"connection"] == b"close"
    assert set(json.loads(body)) == {"error", "code", "id"}
    assert answers(talk(server, request(headers=b"connection: close\r\n")))[0][0] == 200


STATUSES = {
    "absolute form": (request(path=b"http://evil/v2", method=b"GET"), 404),
    "long path": (request(path=b"/" + b"a" * 9000, method=b"GET"), 414),
    "long headers": (request(headers=b"x: " + b"a" * 33_000 + b"\r\n"), 431),
    "many headers": (request(headers=b"x: a\r\n" * 200), 431),
    "one endless header": (b"GET /v2 HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 80_000, 431),
    "unknown method": (b"FOO / HTTP/1.1\r\nhost: localhost\r\n\r\n", 405),
    "wrong method": (request(method=b"GET"), 405),
    "PUT": (request(method=b"PUT"), 405),
    "OPTIONS": (request(method=b"OPTIONS", path=b"/v2"), 405),
    "CONNECT": (b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\n\r\n", 404),
    "unknown path": (request(path=b"/nothing", method=b"GET"), 404),
    "wrong host": (request(host=b"attacker.com"), 421),
    "wrong host with port": (request(host=b"attacker.com:8000"), 421),
    "host like ours": (request(host=b"localhost.attacker.com"), 421),
    "other origin": (request(headers=b"origin: http://attacker.com\r\n"), 403),
    "null origin": (request(headers=b"origin: null\r\n"), 403),
    "cross site": (request(headers=b"sec-fetch-site: cross-site\r\n"), 403),
    "own origin": (request(headers=b"origin: http://localhost\r\n"), 200),
    "packed": (request(headers=b"content-encoding: gzip\r\n"), 415),
    "text": (request(headers=b"content-type: text/plain\r\n"), 415),
    "too large": (b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999999999\r\n\r\n", 413),
    "escape": (request(path=b"/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", method=b"GET"), 404),
    "backslash": (request(path=b"/v2/models/..%5c..", method=b"GET"), 404),
    "NUL": (request(path=b"/v2/models/%00", method=b"GET"), 404),
    "no UTF-8": (request(path=b"/v2/models/%ff%fe", method=b"GET"), 404),
    "empty name": (request(path=b"/v2/models//infer"), 404),
    "parameters": (request(path=b"/v2/models/echo;x/infer"), 404),
    "version": (request(path=b"/v2/models/echo/versions/9/infer"), 404),
    "no such version": (request(path=b"/v2/models/echo/versions/..%2f/infer"), 404),
    "query": (request(path=b"/v2/models/echo/infer?x=1"), 200),
    "quoted name": (request(path=b"/v2/models/%65cho/infer"), 200),
    "binary header": (request(headers=b"inference-header-content-length: 99999999999\r\n"), 400),
    "negative binary header": (request(headers=b"inference-header-content-length: -1\r\n"), 400),
    "admin": (request(path=b"/v2/repository/models/..%2f..%2fetc/load", body=b"{}"), 404),
    "file upload": (
        request(path=b"/v2/repository/models/echo/load", body=b'{"parameters": {"file:1/model.onnx": "AAAA"}}'), 400,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STATUSES)
def test_statuses(server, name):
    data, status = STATUSES[name]
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(data)
        found = answers(receive(client, 1))
    assert [f[0] for f in found] == [status]
    if status != 200:
        assert set(json.loads(found[0][2])) == {"error", "code", "id"}


def test_head_has_no_body(server):
    data = talk(server, request(method=b"HEAD", path=b"/v2", headers=b"connection: close\r\n"))
    head, _, body = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b""


def test_byte_by_byte(server):
    data = request(headers=b"connection: close\r\n")
    parts = [data[at : at + 1] for at in range(len(data))]
    assert answers(talk(server, *parts))[0][0] == 200


def test_cut_at_every_byte_then_whole(server):
    """A head is remembered by its bytes: a chunk that is not one whole request must not be taken for one."""
    data = request()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = 0
        for at in range(0, len(data), 3):
            for part in (data[:at], data[at:], data):
                if part:
                    client.sendall(part)
                    time.sleep(0.0005)
            found = answers(receive(client, 2))
            assert [f[0] for f in found] == [200, 200]
            assert all(json.loads(f[2])["outputs"][0]["data"] == [6.0] for f in found)
            received += 2
    assert received


def test_bodies_of_other_lengths_after_a_remembered_head(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        for _ in range(3):
            client.sendall(request())
            assert answers(receive(client, 1))[0][0] == 200
        head, body = request().split(b"\r\n\r\n")
        client.sendall(head + b"\r\n\r\n" + body[:10])
        time.sleep(0.02)
        client.sendall(body[10:] + request() + head[:5])
        assert [f[0] for f in answers(receive(client, 2))] == [200, 200]
        client.sendall(head[5:] + b"\r\n\r\n" + body)
        assert answers(receive(client, 1))[0][0] == 200


def test_pipelined_answers_come_in_order(server):
    many = b"".join(
        request(b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[%d,0,0]}]}' % at) if at % 3 else
        request(path=b"/v2/models/echo", method=b"GET") if at % 2 else request(b"{}")
        for at in range(200)
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(many)
        found = answers(receive(client, 200))
    assert len(found) == 200
    for at, (status, _, body) in enumerate(found):
        told = json.loads(body)
        if at % 3:
            assert told["outputs"][0]["data"] == [float(at)]
        elif at % 2:
            assert told["name"] == "echo"
        else:
            assert status == 400


def test_a_refusal_comes_after_the_answers_before_it(server):
    found = answers(talk(server, request() * 3 + b"nonsense\r\n\r\n"))
    assert [f[0] for f in found] == [200, 200, 200, 400] or [f[0] for f in found] == [200, 200, 200, 405]


def test_chunked_with_trailer(server):
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in GOOD_BODY)
    data = (
        b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        + chunks + b"0\r\ninference-header-content-length: 5\r\n\r\n"
    )  # fmt: skip
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(data)
        assert answers(receive(client, 1))[0][0] == 200


def test_body_limits(serve):
    small = serve(only=("echo",), max_body_bytes=1000)

    def of(count):
        return request(GOOD_BODY + b" " * (count - len(GOOD_BODY)), headers=b"connection: close\r\n")

    assert answers(talk(small, of(999)))[0][0] == 200
    assert answers(talk(small, of(1000)))[0][0] == 200
    assert answers(talk(small, of(1001)))[0][0] == 413
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"64\r\n" + b" " * 100 + b"\r\n"
    found = answers(talk(small, head, *([chunk] * 50)))
    assert [f[0] for f in found] == [413]
    assert json.loads(found[0][2])["code"] == "body_too_large"
    assert small.server._desk.body_bytes == 0


def test_slow_clients_are_cut_off(serve):
    hasty = serve(only=("echo",), headers_s=0.3, body_s=0.3, idle_s=0.3)
    head, _, body = request().partition(b"\r\n\r\n")
    for parts in ([head[:20]], [head + b"\r\n\r\n" + body[:5]]):
        began = time.monotonic()
        found = answers(talk(hasty, *parts))
        assert [f[0] for f in found] == [408]
        assert time.monotonic() - began < 5
    assert talk(hasty) == b""  # idle: closed without a word


def test_too_many_connections(serve):
    few = serve(only=("echo",), max_connections=3)
    clients = [socket.create_connection(("127.0.0.1", few.port), timeout=5) for _ in range(3)]
    for client in clients:
        client.sendall(request())
        assert answers(receive(client, 1))[0][0] == 200
    refused = talk(few, b"")
    assert answers(refused)[0][0] == 503
    assert b"\r\nretry-after: 1\r\n" in refused
    clients[0].close()
    deadline = time.monotonic() + 5
    while answers(talk(few, request(headers=b"connection: close\r\n")))[0][0] != 200:
        assert time.monotonic() < deadline
    for client in clients:
        client.close()


def wait_until(claim):
    deadline = time.monotonic() + 5
    while not claim():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_who_hangs_up_while_queued_is_not_run(serve, hold):
    running, model = serve(only=("held",)), hold
    served = running.server.engine.find("held")
    data = request(path=b"/v2/models/held/infer")
    clients = [socket.create_connection(("127.0.0.1", running.port), timeout=5) for _ in range(12)]
    for client in clients:
        client.sendall(data)
        wait_until(lambda client=client: served.pending >= clients.index(client) + 1)
    in_flight = sum(model.rows)
    assert 0 < in_flight < 12
    for client in clients[in_flight:]:
        client.close()
    wait_until(lambda: served.pending == in_flight)
    model.open.set()
    for client in clients[:in_flight]:
        assert answers(receive(client, 1))[0][0] == 200
        client.close()
    assert sum(model.rows) == in_flight
    wait_until(lambda: served.pending == 0)


@pytest.mark.usefixtures("hold")
def test_a_deadline_that_passes_is_said(serve):
    running = serve(only=("held",))
    data = request(path=b"/v2/models/held/infer", headers=b"x-request-timeout-ms: 50\r\nconnection: close\r\n")
    status, _, body = answers(talk(running, data))[0]
    assert status == 504
    assert json.loads(body)["code"] == "deadline_exceeded"


def test_draining_answers_what_is_in_flight(serve, hold):
    running = serve(only=("held",))
    idle = socket.create_connection(("127.0.0.1", running.port), timeout=5)
    busy = socket.create_connection(("127.0.0.1", running.port), timeout=5)
    busy.sendall(request(path=b"/v2/models/held/infer"))
    idle.sendall(request(path=b"/v2", method=b"GET"))
    assert answers(receive(idle, 1))[0][0] == 200
    wait_until(lambda: running.server.engine.find("held").pending == 1)
    done = []
    waiting = threading.Thread(target=lambda: done.append(running.do(running.server.drain())))
    waiting.start()
    assert receive(idle) == b""  # closed at once
    hold.open.set()
    status, headers, _ = answers(receive(busy))[0]
    assert (status, headers[b"connection"]) == (200, b"close")
    waiting.join(20)
    assert done == [True]
    idle.close()
    busy.close()


def test_keys(serve, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef\nfedcba9876543210\n")
    keys.chmod(0o600)
    locked = serve(only=("echo",), api_key_file=keys)

    def status(*headers, path=b"/v2/models/echo/infer", method=b"POST"):
        told = b"".join(h + b"\r\n" for h in (*headers, b"connection: close"))
        return answers(talk(locked, request(path=path, method=method, headers=told)))[0][0]

    assert status(b"authorization: Bearer fedcba9876543210") == 200
    assert status(b"authorization: bearer 0123456789abcdef") == 200
    for wrong in (b"authorization: Bearer 0123456789abcdeF", b"authorization: Basic 0123456789abcdef",
                  b"authorization: Bearer", b"authorization: 0123456789abcdef", b"x: y"):  # fmt: skip
        assert status(wrong) == 401
    for path in (b"/v2", b"/metrics", b"/docs", b"/", b"/nothing", b"/v2/models/nothing", b"//v2/health/live",
                 b"/v2/health/live?", b"/openapi.json"):  # fmt: skip
        assert status(path=path, method=b"GET") == 401
    assert status(path=b"/v2/health/live", method=b"GET") == 200

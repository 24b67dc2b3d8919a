"""Hostile requests over HTTP at a real server: each a clear refusal, while the neighbours get their answers.

What is refused by which code is the contract of `docs/protocols.md`; that nothing else comes of it, no 5xx, no lost
neighbour, no memory, is held here.
"""

import socket
import struct
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from besieging import INFER, MIB, body_of, post, resident_kib

pytestmark = pytest.mark.usefixtures("neighbours")


SHAPES = {
    "product beyond 64 bits": "[18446744073709551616, 3]",
    "2^64 + 32": "[6148914691236517216, 3]",
    "2^63": "[9223372036854775808]",
    "2^31 x 2^33": "[2147483648, 8589934592]",
    "free": "[-1, 3]",
    "negative": "[-5, 3]",
    "no rows": "[0]",
    "empty rows": "[3, 0]",
    "2^40 x 0": "[1099511627776, 0]",
    "65 dimensions": str([1] * 65),
    "float": "[1.0, 3]",
    "exponent": "[1e0, 3]",
    "truth": "[true, 3]",
    "text": '"1,3"',
    "texts": '["1", "3"]',
    "null": "null",
    "object": "{}",
    "nested": "[[1, 3]]",
    "transposed": "[3, 1]",
    "other width": "[1, 4]",
    "more than was sent": "[1000000000, 3]",
    "fewer than were sent": "[1]",
}
DATA = {
    "NaN": "[NaN, 2, 3]",
    "Infinity": "[Infinity, 2, 3]",
    "-Infinity": "[1, -Infinity, 3]",
    "1e999": "[1e999, 2, 3]",
    "1e39": "[1e39, 2, 3]",
    "leading zero": "[01, 2, 3]",
    "plus": "[+1, 2, 3]",
    "hexadecimal": "[0x1, 2, 3]",
    "trailing comma": "[1, 2, 3,]",
    "truth": "[true, 2, 3]",
    "text": '["1", "2", "3"]',
    "nested": "[[[1, 2, 3]]]",
    "ragged": "[[1, 2], [3]]",
    "mixed": "[1, [2, 3]]",
    "object": '{"0": 1}',
    "too few": "[1, 2]",
    "too many": "[1, 2, 3, 4]",
    "none": "[]",
    "a text": '"123"',
    "comment": "[1, /* 2 */ 2, 3]",
    "deep": "[" * 100 + "]" * 100,
}
BODIES = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "number": b"1",
    "text": b'"x"',
    "nothing asked": b"{}",
    "no inputs": b'{"inputs": []}',
    "inputs of null": b'{"inputs": null}',
    "an input of null": b'{"inputs": [null]}',
    "cut": body_of()[:-3],
    "trailing": body_of() + b"{}",
    "BOM": b"\xef\xbb\xbf" + body_of(),
    "UTF-16": body_of().decode().encode("utf-16"),
    "overlong": body_of(name='"x\\u0078"').replace(b"\\u0078", b"\xc1\xb8"),
    "lone surrogate": body_of(name='"\\ud800"'),
    "NUL in a name": body_of(name='"x\\u0000"'),
    "raw NUL": body_of().replace(b"x", b"x\0"),
    "a key twice": body_of(more=', "data": [4, 5, 6]'),
    "a key twice, escaped": body_of(more=', "d\\u0061ta": [4, 5, 6]'),
    "inputs twice": body_of(after=', "inputs": []'),
    "unknown key": body_of(after=', "x": 1'),
    "unknown key in a tensor": body_of(more=', "x": 1'),
    "another model": body_of(after=', "model_name": "other"'),
    "model of a number": body_of(after=', "model_name": 5'),
    "parameters of a number": body_of(more=', "parameters": 5'),
    "parameters of a list": body_of(after=', "parameters": []'),
    "nested parameter": body_of(after=', "parameters": {"a": {}}'),
    "timeout": body_of(after=', "parameters": {"timeout": -1}'),
    "id": body_of(after=', "id": 5'),
    "long id": body_of(after=f', "id": "{"x" * 300}"'),
    "unknown input": body_of(name='"y"'),
    "unknown datatype": body_of(datatype='"BF16"'),
    "other datatype": body_of(datatype='"FP64"'),
    "datatype of null": body_of(datatype="null"),
    "input twice": b'{"inputs": [%b, %b]}' % ((body_of()[12:-2],) * 2),
    "65 inputs": b'{"inputs": [%b]}' % b", ".join([body_of()[12:-2]] * 65),
    "unknown output": body_of(after=', "outputs": [{"name": "z"}]'),
    "output twice": body_of(after=', "outputs": [{"name": "y"}, {"name": "y"}]'),
    "depth 65": b"[" * 65 + b"]" * 65,
    "depth 1,000": b'{"a":' * 1000 + b"1" + b"}" * 1000,
    "depth 250,000": b"[" * 250_000,
    "pickle": b"\x80\x05K\x01.",
    "colons": b'{"a": "' + b":" * 500_000 + b'"}',
    "escapes": b'{"a": "' + b"\\" * 500_001 + b'"}',
    "classes": body_of(after=', "outputs": [{"name": "y", "parameters": {"classification": 99999999999}}]'),
}
ALL = (
    {f"shape: {name}": body_of(shape=shape) for name, shape in SHAPES.items()}
    | {f"data: {name}": body_of(data=data) for name, data in DATA.items()}
    | {f"body: {name}": body for name, body in BODIES.items()}
)


def test_bodies(besieged):
    before = resident_kib(besieged)
    found = {name: post(besieged, body) for name, body in ALL.items()}
    assert {name: told for name, told in found.items() if told[0] != 400 or not told[1]} == {}
    assert post(besieged, body_of()) == (200, None)
    assert resident_kib(besieged) < before + 16 * MIB


def test_rows_of_the_same_kind(besieged):
    """`:predict` reads the same strict JSON."""
    documents = [body for name, body in ALL.items() if "NaN" in name or "depth" in name or "twice" in name]
    assert len(documents) > 6
    for body in documents:
        assert post(besieged, body, "/v1/models/twice:predict")[0] == 400


BINARY = {
    "beyond the body": (body_of(), 10_000),
    "negative": (body_of(), "-1"),
    "huge": (body_of(), "9" * 30),
    "text": (body_of(), "x"),
    "within the JSON": (body_of(), 9),
    "nothing after": (
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}]}',
        None,
    ),
    "left over": (body_of() + b"1234", len(body_of())),
    "row too short": (b"\0" * 11, 0),
    "row too long": (b"\0" * 13, 0),
    "no row": (b"", 0),
}


@pytest.mark.parametrize("name", BINARY)
def test_binary_sections(besieged, name):
    body, length = BINARY[name]
    assert post(besieged, body, inference_header_content_length=str(len(body) if length is None else length))[0] == 400


NAMES = [
    "..",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%5c..%5cetc",
    "%00",
    "twice%00",
    "twice%20",
    "twice.",
    ".twice",
    "twice;x",
    "TWICE",
    "twice.onnx",
    "con",
    "%ff",
    "%c0%ae%c0%ae",
    "tw%C4%B1ce",
    "%EF%BC%94wice",
    "%E2%80%AEeciwt",
    "%F0%9F%8F%A0",
    "e%CC%81",
    "a" * 128,
    "a" * 129,
    "~",
    "%25",
    "*",
    "$(id)",
    "%0d%0ax:%20y",
]


@pytest.mark.parametrize("path", ["/v2/models/{}/infer", "/v1/models/{}:predict", "/v2/repository/models/{}/load"])
def test_names(besieged, path):
    expected = (403,) if "repository" in path else (404,)
    for name in NAMES:
        status, code = post(besieged, body_of() if "repository" not in path else b"{}", path.format(name))
        assert status in (*expected, 404), name
        assert code in ("model_not_found", "not_found", "admin_disabled"), name


def talk(besieged, *parts, close=True):
    """Send parts, and return what comes back, or nothing where the client just leaves."""
    with socket.create_connection(("127.0.0.1", besieged.port), timeout=10) as client:
        for part in parts:
            client.sendall(part)
        if not close:
            return b""
        found = b""
        while chunk := client.recv(1 << 16):
            found += chunk
        return found


HEAD = f"POST {INFER} HTTP/1.1\r\nhost: localhost\r\n".encode()
SMUGGLED = b"GET /v2/models/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
SMUGGLING = {
    "TE and CL": b"content-length: 4\r\ntransfer-encoding: chunked\r\n",
    "CL and TE": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n",
    "TE twice": b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
    "TE with more": b"transfer-encoding: chunked, identity\r\n",
    "TE with a tab": b"transfer-encoding:\tchunked, x\r\n",
    "TE quoted": b'transfer-encoding: "chunked"\r\n',
    "TE folded": b"transfer-encoding:\r\n chunked\r\n",
    "TE with a space before": b"transfer-encoding : chunked\r\n",
    "TE with a line feed": b"x: y\ntransfer-encoding: chunked\r\n",
    "CL list": b"content-length: 4, 4\r\n",
    "CL twice": b"content-length: 4\r\ncontent-length: 5\r\n",
    "CL of other digits": b"content-length: \xd9\xa4\r\n",
    "CL too long": b"content-length: 99999999999999999999999\r\n",
    "CL with an underscore": b"content-length: 1_0\r\n",
    "NUL": b"content-length: 4\0\r\n",
    "upgrade": b"connection: upgrade\r\nupgrade: h2c\r\ntransfer-encoding: gzip\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
def test_smuggling(besieged, name):
    """One refusal, and the connection is closed: what was hidden behind it is not answered."""
    found = talk(besieged, HEAD + SMUGGLING[name] + b"\r\n0\r\n\r\n" + SMUGGLED)
    assert found.count(b"HTTP/1.1 ") == 1
    assert found.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413", b"HTTP/1.1 501"))
    assert b"connection: close" in found
    assert b"smuggled" not in found


def test_many_tiny_chunks_cost_nothing(besieged):
    """A body of half a million chunks of one byte, and one that never ends."""
    before = resident_kib(besieged)
    head = HEAD + b"transfer-encoding: chunked\r\n\r\n"
    tiny = b"1\r\n \r\n" * 1000
    assert talk(besieged, head, *[tiny] * 500, b"0\r\n\r\n", close=False) == b""
    with socket.create_connection(("127.0.0.1", besieged.port), timeout=10) as client:
        client.sendall(head)
        sent = 0
        try:
            while sent < 64 << 20:
                client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        except OSError:
            pass
        assert sent < 32 << 20  # it was told to go away long before
    assert resident_kib(besieged) < before + 8 * MIB


def test_clients_that_leave(besieged):
    """Half closed, reset, gone in the middle of a head, a body, a chunk: nothing is kept of them."""
    whole = HEAD + b"content-length: %d\r\n\r\n%b" % (len(body_of()), body_of())
    chunked = HEAD + b"transfer-encoding: chunked\r\n\r\n5\r\nab"
    for data in (whole[:30], whole[:-5], whole, chunked, whole * 20):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", besieged.port), timeout=10) as client:
                client.sendall(data)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset, not close
    with socket.create_connection(("127.0.0.1", besieged.port), timeout=10) as client:
        client.sendall(whole)
        client.shutdown(socket.SHUT_WR)
        found = client.recv(1 << 16)
        assert found == b"" or found.startswith(b"HTTP/1.1 200")
    folder = Path(f"/proc/{besieged._process.pid}/fd")
    enough = time.monotonic() + 20
    while len(list(folder.iterdir())) > 64 and time.monotonic() < enough:
        time.sleep(0.05)
    assert len(list(folder.iterdir())) <= 64

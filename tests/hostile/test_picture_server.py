"""Pictures that try to hurt, sent to a real server: a 4xx for whoever sends one, and nobody else notices.

Its neighbours get their answers meanwhile, the same as always, and no worker is restarted.
"""

import base64
import http.client
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from foretell.cli.main import main

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "agreement", HERE.parent / "process"):
    sys.path.insert(0, str(folder))
from picture_networks import CLASSIFIER, classifier, plain, written  # noqa: E402
from served_process import Served, serving  # noqa: E402
from test_pictures import BOMBS, KINDS, encoded  # noqa: E402

PATH = "/v1/models/colours:predict"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::PIL.Image.DecompressionBombWarning")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("hostile")
    file, picture = written(folder, "colours", classifier(), CLASSIFIER)
    assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / "served" / "colours")]) == 0
    with serving(folder / "served" / "colours") as found:
        yield found


class Client:
    """One connection, opened again where the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, body: bytes, kind: str = "image/jpeg", path: str = PATH) -> tuple[int, bytes]:
        self._connection.request("POST", path, body, {"content-type": kind})
        reply = self._connection.getresponse()
        return reply.status, reply.read()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with closing(Client(served.port)) as found:
        yield found


class Neighbour:
    """Sends a good picture again and again, until it is left."""

    def __init__(self, port: int) -> None:
        self._client, self._picture = Client(port), png()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[tuple[int, bytes]] = []

    def _run(self) -> None:
        while not self._is_over.is_set():
            self.answers.append(self._client.ask(self._picture, "image/png"))

    def __enter__(self) -> "Neighbour":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(60)
        self._client.close()


def png() -> bytes:
    import io

    held = io.BytesIO()
    plain((0, 255, 0)).save(held, "PNG")
    return held.getvalue()


def check_unharmed(served: Served, neighbour: Neighbour) -> None:
    assert neighbour.answers
    expected = neighbour.answers[0]
    assert expected[0] == 200
    assert json.loads(expected[1])["predictions"][0]["label"] == "green"
    assert [answer for answer in neighbour.answers if answer != expected] == []
    counters = served.counters()
    assert sum(value for key, value in counters.items() if key.startswith("foretell_worker_restarts_total")) == 0


def polyglots() -> dict[str, bytes]:
    """Content that is several things at once, or says that it is another."""
    jpeg, gif = encoded("JPEG"), encoded("GIF")
    return {
        "gif and script": b"GIF89a/*" + b"*/=1;alert(1)//" + bytes(40),
        "jpeg in a zip": b"PK\x03\x04" + jpeg,
        "pdf before a jpeg": b"%PDF-1.7\n" + jpeg,
        "html": b"<html><script>1</script>",
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        "png of a bmp": b"\x89PNG\r\n\x1a\n" + encoded("BMP"),
        "jpeg of a gif": b"\xff\xd8\xff" + gif,
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "a path": b"/etc/passwd",
        "a url": b"http://127.0.0.1/",
        "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00K\x01.",
    }


CUT = {f"{kind} cut": encoded(kind)[: len(encoded(kind)) // 3] for kind in KINDS if kind != "BMP"}
REFUSED = {"nothing": b"", "one byte": b"\xff", **BOMBS, **polyglots(), **CUT}


def test_each_is_refused_and_nobody_else_notices(served: Served, client: Client) -> None:
    good = base64.b64encode(png()).decode()
    with Neighbour(served.port) as neighbour:
        for name, content in REFUSED.items():
            kind = "image/png" if len(name) % 2 else "image/jpeg"
            status, body = client.ask(content, kind)
            assert status == 400, (name, status, body)
            told = json.loads(body)
            assert told["code"] in ("invalid_input", "malformed_request"), name
            assert told["error"].startswith("image, row 0: "), name
            assert "\n" not in told["error"]
            rows = {"instances": [{"b64": good}, {"b64": base64.b64encode(content).decode()}, {"b64": good}]}
            status, body = client.ask(json.dumps(rows).encode(), "application/json")
            assert (status, json.loads(body)["error"].startswith("image, row 1: ")) == (400, True), (name, body)
    check_unharmed(served, neighbour)


def test_a_wrong_extension_does_not_matter(client: Client) -> None:
    assert client.ask(png(), "image/tiff")[0] == 200
    assert client.ask(png(), "image/heic")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"b64": "/9j/\\u0000"}]}',
        b'{"instances": [{"b64": "' + b"\xff\xfe" * 40_000 + b'"}]}',
        b'{"instances": [{"b64": "' + b"A" * 100_001 + b'"}]}',
        b'{"instances": [{"b64": "' + b"\\u0041" * 20_000 + b'"}]}',
        b'{"instances": [{"b64": "' + b"\n" * 40_000 + b'"}]}',
        b'{"instances": [{"b64": "' + b"\\x" * 40_000 + b'"}]}',
        b'{"instances": [{"b64": "' + b"A" * 100_000,
        b'{"instances": [' + b'"",' * 30_000 + b'""]}',
        b'{"instances": [{"b64": "data:image/png;base64,iVBORw0KGgo="}]}',
        b"[" * 50_000,
    ],
)
def test_texts_that_are_no_base64(served: Served, client: Client, body: bytes) -> None:
    with Neighbour(served.port) as neighbour:
        status, told = client.ask(body, "application/json")
        assert status == 400, told
        assert len(told) < 1000
        infer = body.replace(b'"instances": [{"b64":', b'"inputs": [{"name": "image", "datatype": "BYTES", "data":')
        status, told = client.ask(infer, "application/json", "/v2/models/colours/infer")
        assert status == 400, told
    check_unharmed(served, neighbour)


def test_a_text_is_never_read_as_a_path(client: Client, tmp_path: Path) -> None:
    (tmp_path / "there.png").write_bytes(png())
    for text in (str(tmp_path / "there.png"), "file:///etc/passwd", "/etc/passwd"):
        status, told = client.ask(json.dumps({"instances": [text]}).encode(), "application/json")
        assert status == 400
        assert b"green" not in told


def mutants(seed: int) -> Iterator[bytes]:
    """Yield pictures with bytes changed, cut out, put in and exchanged, endlessly, the same for a seed."""
    drawn = random.Random(seed)
    originals = [encoded(kind) for kind in KINDS]
    while True:
        content = bytearray(drawn.choice(originals))
        for _ in range(drawn.choice((1, 1, 2, 4, 16))):
            at = drawn.randrange(min(len(content), drawn.choice((64, 1024, 1 << 20)))) if content else 0
            match drawn.randrange(5):
                case 0:
                    content[at : at + 1] = bytes([drawn.randrange(256)])
                case 1:
                    del content[at : at + drawn.choice((1, 2, 64, 1024))]
                case 2:
                    content[at:at] = drawn.choice((b"\xff", b"\0" * 8, b"\xff\xd8\xff", drawn.randbytes(32)))
                case 3:
                    content[at : at + 4] = drawn.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
                case _:
                    other = drawn.choice(originals)
                    content[at : at + 200] = other[at : at + 200]
        yield bytes(content)


def fuzz(served: Served, client: Client, seconds: float, seed: int) -> dict[int, int]:
    """Send mutants for so long; return how many got which status."""
    found: dict[int, int] = {}
    until = time.monotonic() + seconds
    with Neighbour(served.port) as neighbour:
        for content in mutants(seed):
            status, body = client.ask(content)
            found[status] = found.get(status, 0) + 1
            assert status in (200, 400), (status, body, content)
            if time.monotonic() > until:
                break
    check_unharmed(served, neighbour)
    return found


def test_mutants_for_a_moment(served: Served, client: Client) -> None:
    found = fuzz(served, client, 2.0, 1)
    assert found[400] > 10
    assert found[200] > 1


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_mutants_for_a_minute(served: Served, client: Client) -> None:
    found = fuzz(served, client, 60.0, 2)
    assert found[400] > 1000

"""A server that is refused, slow or gone, seen by who asks it."""

import http.server
import json
import threading

import pytest

from foretell.bulk import link as links
from foretell.bulk.link import Link, line_of
from foretell.errors import ConfigError, MachineError


class Scripted(http.server.BaseHTTPRequestHandler):
    """Answers each request by the next line of a script; by its last one ever after."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        server.asked.append((self.path, dict(self.headers), body, self.client_address))
        step = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        if step == "drop":
            self.close_connection = True
            return
        status, headers = step
        content = json.dumps({"error": "not now", "code": "x"}).encode() if status >= 400 else b"fine"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture
def served():
    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = False  # closing waits for them

    with Server(("127.0.0.1", 0), Scripted) as server:
        server.asked, server.script = [], [(200, {})]
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        opened = []

        def link(patience_s=30.0, **headers):
            opened.append(Link(server.url, headers, patience_s=patience_s))
            return opened[-1]

        server.link = link
        yield server
        for one in opened:
            one.close()
        server.shutdown()
        thread.join()


@pytest.fixture
def waits(monkeypatch):
    """Waits that were asked for; none is waited."""
    found = []
    real = links._wait_s
    monkeypatch.setattr(links, "_wait_s", lambda reply, tries: found.append(real(reply, tries)) or 0.0)
    return found


def test_a_connection_is_used_again(served):
    link = served.link(authorization="Bearer k")
    for _ in range(3):
        assert link.ask("POST", "/a", b"x", {"x-request-priority": "bulk"}).body == b"fine"
    assert len({address for *_, address in served.asked}) == 1
    path, headers, body, _ = served.asked[0]
    assert (path, body) == ("/a", b"x")
    assert {k.lower(): v for k, v in headers.items()}["authorization"] == "Bearer k"
    assert link.asked_again == 0


def test_what_may_succeed_later_is_asked_again(served, waits):
    served.script = [(429, {"retry-after": "3"}), (503, {}), "drop", (504, {}), (200, {})]
    link = served.link()
    assert link.ask("POST", "/a", b"x").status == 200
    assert [body for _, _, body, _ in served.asked] == [b"x"] * 5
    assert link.asked_again == 4
    assert 2.4 <= waits[0] <= 3.6
    assert all(0 < wait < 1 for wait in waits[1:])


@pytest.mark.parametrize("status", [400, 404, 413, 500])
def test_what_would_fail_again_is_not(served, status):
    served.script = [(status, {})]
    reply = served.link().ask("POST", "/a", b"x")
    assert reply.status == status
    assert line_of(reply) == "not now"
    assert len(served.asked) == 1


def test_patience_ends(served):
    served.script = [(503, {"retry-after": "30"})]
    with pytest.raises(MachineError, match=r"no answer for 0 s \(503: not now\); see that the server runs"):
        served.link(patience_s=0.5).ask("POST", "/a", b"x")


def test_nobody_is_there(waits):
    with pytest.raises(MachineError, match=r"Connection refused"):
        Link("http://127.0.0.1:9", {}, patience_s=0.0).ask("GET", "/")


def test_who_waits_is_told_when_it_is_closed(served):
    served.script = [(503, {"retry-after": "20"})]
    link = served.link()
    threading.Timer(0.05, link.close).start()
    with pytest.raises(MachineError, match="no answer"):
        link.ask("POST", "/a", b"x")


@pytest.mark.parametrize("url", ["host:8000", "ftp://host", "http://", "http://host:port"])
def test_what_is_no_url(url):
    with pytest.raises(ConfigError, match="expected http"):
        Link(url, {}, patience_s=1.0)

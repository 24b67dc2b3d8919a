"""Live streams over WebSockets, with a client of another hand: the library's own."""

import json
import ssl
import subprocess
import time

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

HOUSE = {"area": 100.0, "town": "Rom", "age": 3}
PRICE = 1100.3


def rows(*found):
    return json.dumps({"instances": list(found)})


def x(*values):
    return json.dumps({"instances": [list(values)]})


def stream(server, model, query="", **more):
    return connect(f"ws://127.0.0.1:{server.port}/v1/models/{model}:stream{query}", **more)


def answers(client, count):
    return [json.loads(client.recv(10)) for _ in range(count)]


def ask(client, message):
    client.send(message)
    return client.recv(10)


def until(claim):
    enough = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < enough
        time.sleep(0.005)


def counted(server, model, outcome):
    child = server.server.engine.metrics.stream_frames.child(model, "1", outcome)
    return child.value


def test_rows_in_predictions_out(server):
    with stream(server, "house") as client:
        client.send(rows(HOUSE))
        (answer,) = answers(client, 1)
    assert answer["predictions"] == [pytest.approx(PRICE)]
    assert (answer["frame"], answer["dropped"]) == (0, 0)
    assert answer["age_ms"] >= answer["wait_ms"] >= 0
    assert answer["run_ms"] == 1e-3
    assert abs(answer["arrived"] - time.time()) < 60
    assert not {"stale", "tag", "error"} & answer.keys()


def test_the_answers_are_those_of_predict(server):
    import urllib.request

    body = rows([1, 2, 3], [9, 5, 1])
    asked = urllib.request.Request(f"{server.url}/v1/models/pets:predict", body.encode())
    with urllib.request.urlopen(asked) as reply:
        expected = json.load(reply)["predictions"]
    with stream(server, "pets") as client:
        client.send(body)
        assert answers(client, 1)[0]["predictions"] == expected


def test_every_frame_is_answered_in_its_order(server):
    with stream(server, "echo") as client:
        for i in range(300):
            client.send(x(i, 0, 0))
        found = answers(client, 300)
    assert [a["frame"] for a in found] == list(range(300))
    assert [a["predictions"][0] for a in found] == list(range(300))


@pytest.mark.parametrize("tag", [17, 1.5, "left door", None])
def test_a_tag_comes_back(server, tag):
    with stream(server, "house") as client:
        client.send(json.dumps({"tag": tag}))
        client.send(rows(HOUSE))
        client.send(rows(HOUSE))
        first, second = answers(client, 2)
    assert first.get("tag") == tag
    assert "tag" not in second


@pytest.mark.parametrize("tag", [[1], {"a": 1}, True, "x" * 129])
def test_a_tag_that_is_none(server, tag):
    with stream(server, "house") as client:
        client.send(json.dumps({"tag": tag}))
        (answer,) = answers(client, 1)
    assert answer.keys() == {"error", "code"}
    assert answer["code"] == "bad_parameter"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "malformed_request"),
        ("{", "malformed_request"),
        ("[]", "malformed_request"),
        ('{"tag": 1, "tag": 2}', "duplicate_key"),
        (b"\xff\xd8\xff picture", "malformed_request"),
        (b"", "malformed_request"),
        (rows({"area": 1}), "invalid_input"),
        (rows(*[HOUSE] * 4097), "request_too_large"),
        (" " * 300_000 + "{", "malformed_request"),
    ],
)
def test_a_bad_frame_is_one_answer(server, message, code):
    with stream(server, "house") as client:
        client.send(message)
        client.send(rows(HOUSE))
        bad, good = answers(client, 2)
    assert (bad["frame"], bad["code"], good["frame"]) == (0, code, 1)
    assert good["predictions"] == [pytest.approx(PRICE)]


def test_a_model_that_fails(server):
    with stream(server, "failing") as client:
        client.send(x(1, 2, 3))
        (answer,) = answers(client, 1)
    assert answer["code"] == "inference_failed"
    assert "secret" not in answer["error"]


def test_no_rows_and_many(server):
    with stream(server, "house") as client:
        client.send(rows())
        client.send(rows(*[HOUSE] * 4096))
        none, many = answers(client, 2)
    assert none["predictions"] == []
    assert len(many["predictions"]) == 4096


def test_the_latest_frame_wins(serve, hold):
    """While the model is busy frames are dropped and counted, and the newest is the one that is run next."""
    server = serve(only=("held",))
    with stream(server, "held", "?mode=latest") as client:
        client.send(x(1, 0, 0))
        until(lambda: hold.rows)
        for i in range(2, 51):
            client.send(x(i, 0, 0))
        until(lambda: counted(server, "held", "dropped") == 48)
        assert len(hold.rows) == 1
        hold.open.set()
        first, last = answers(client, 2)
    assert [first["frame"], first["dropped"], first["predictions"]] == [0, 0, [1.0]]
    assert [last["frame"], last["dropped"], last["predictions"]] == [49, 48, [50.0]]
    assert counted(server, "held", "answered") == 2
    assert len(hold.rows) == 2


def test_streams_take_turns(serve, hold):
    """Two cameras on one instance: each has its newest frame run, and nobody's frame waits behind another's."""
    server = serve(only=("held",))
    with stream(server, "held", "?mode=latest") as one, stream(server, "held", "?mode=latest") as two:
        one.send(x(1, 0, 0))
        until(lambda: hold.rows)
        for i in range(2, 11):
            one.send(x(i, 0, 0))
            two.send(x(-i, 0, 0))
        until(lambda: counted(server, "held", "dropped") == 16)
        hold.open.set()
        assert [a["predictions"] for a in answers(one, 2)] == [[1.0], [10.0]]
        assert [a["predictions"] for a in answers(two, 1)] == [[-10.0]]


def test_in_flight_holds_back_a_stream(serve, hold):
    server = serve(only=("held",))
    with stream(server, "held", "?in_flight=3") as client:
        for i in range(20):
            client.send(x(i, 0, 0))
        until(lambda: server.server.engine.find("held").pending == 3)
        time.sleep(0.05)
        assert server.server.engine.find("held").pending == 3
        hold.open.set()
        assert [a["predictions"] for a in answers(client, 20)] == [[float(i)] for i in range(20)]


def test_whoever_leaves_takes_its_frames_back(serve, hold):
    server = serve(only=("held",))
    with stream(server, "held", "?mode=latest") as client:
        client.send(x(1, 0, 0))
        client.send(x(2, 0, 0))
        until(lambda: hold.rows)
    until(lambda: server.server.engine.find("held").pending == 0)
    with stream(server, "held", "?mode=latest") as client:
        client.send(x(7, 0, 0))
        hold.open.set()
        assert answers(client, 1)[0]["predictions"] == [7.0]


def test_time_given_in_the_handshake_is_that_of_each_frame(serve, hold):
    server = serve(only=("held",))
    with stream(server, "held", additional_headers={"x-request-timeout-ms": "30"}) as client:
        client.send(x(1, 0, 0))
        (answer,) = answers(client, 1)
    assert answer["code"] == "deadline_exceeded"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nothing:stream", 404, "model_not_found"),
        ("broken:stream", 503, "model_not_ready"),
        ("house/versions/9:stream", 404, "model_not_found"),
        ("house:stream?mode=newest", 400, "bad_parameter"),
        ("house:stream?in_flight=0", 400, "bad_parameter"),
        ("house:stream?in_flight=65", 400, "bad_parameter"),
        ("house:stream?in_flight=x", 400, "bad_parameter"),
        ("house:stream?track=2", 400, "bad_parameter"),
        ("house:stream?track=1", 400, "bad_parameter"),
        ("house:stream?mode=every&mode=every", 400, "bad_parameter"),
        ("house:stream?speed=1", 400, "bad_parameter"),
        ("house:stream?&&", 400, "bad_parameter"),
        ("house:stream?" + "&".join("a" * 9), 400, "bad_parameter"),
    ],
)
def test_a_stream_that_is_refused(server, path, status, code):
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{server.port}/v1/models/{path}")
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body)["code"] == code


def test_by_version(server):
    with stream(server, "house/versions/1") as client:
        client.send(rows(HOUSE))
        assert answers(client, 1)[0]["predictions"] == [pytest.approx(PRICE)]


def test_keys_and_origins_as_everywhere(serve, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("k" * 20)
    keys.chmod(0o600)
    server = serve(only=("house",), api_key_file=keys, allowed_origins=("https://good.example",))
    right = {"Authorization": f"Bearer {'k' * 20}"}
    for headers, origin, status in (
        ({}, None, 401),
        ({"Authorization": "Bearer wrong"}, None, 401),
        (right, "https://evil.example", 403),
        (right | {"Sec-Fetch-Site": "cross-site"}, "https://evil.example", 403),
    ):
        with pytest.raises(InvalidStatus) as refused:
            stream(server, "house", additional_headers=headers, origin=origin)
        assert refused.value.response.status_code == status
    for origin in (None, "https://good.example", f"http://127.0.0.1:{server.port}"):
        with stream(server, "house", additional_headers=right, origin=origin) as client:
            client.send(rows(HOUSE))
            assert "predictions" in answers(client, 1)[0]


def test_over_tls(serve, tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    server = serve(only=("house", "mirror"), tls_cert=cert, tls_key=key)
    trusted = ssl.create_default_context(cafile=cert)
    address = f"wss://127.0.0.1:{server.port}/v1/models"
    with connect(f"{address}/house:stream", ssl=trusted) as client:
        client.send(rows(HOUSE))
        assert answers(client, 1)[0]["predictions"] == [pytest.approx(PRICE)]
    with connect(f"{address}/mirror:stream", ssl=trusted, max_size=None) as client:
        client.send(x(*range(30_000)))
        assert answers(client, 1)[0]["predictions"] == [[float(2 * i) for i in range(30_000)]]
        with pytest.raises(ConnectionClosed) as ended:  # noqa: PT012 - either may find it closed
            client.send(b"\xff" * (17 << 20))
            client.recv(10)
    assert ended.value.rcvd.code == 1009
    until(lambda: not server.server._desk.connections)


def test_pings_are_answered_and_asked(serve, monkeypatch):
    monkeypatch.setattr("foretell.server.run._CHECK_S", 0.05)
    server = serve(only=("house",), idle_s=1.0)
    with stream(server, "house", ping_interval=None) as client:
        assert client.ping(b"there?").wait(5)
        time.sleep(1.6)  # longer than a connection may be idle: the server has asked, the library has answered
        client.send(rows(HOUSE))
        assert "predictions" in answers(client, 1)[0]


def test_no_extension_is_agreed_to(server):
    with stream(server, "house", compression="deflate") as client:
        assert "Sec-WebSocket-Extensions" not in client.response.headers
        assert client.protocol.extensions == []


def test_fragments_are_one_message(server):
    with stream(server, "house") as client:
        client.send(iter(rows(HOUSE)))
        assert answers(client, 1)[0]["predictions"] == [pytest.approx(PRICE)]


def test_a_server_that_stops_answers_what_runs_and_says_why_it_goes(serve, hold):
    server = serve(only=("held",))
    with stream(server, "held", "?mode=latest") as client, stream(server, "held") as idle:
        client.send(x(1, 0, 0))
        until(lambda: hold.rows)
        import asyncio

        done = asyncio.run_coroutine_threadsafe(server.server.drain(), server.loop)
        with pytest.raises(ConnectionClosed) as ended:
            idle.recv(10)
        assert (ended.value.rcvd.code, ended.value.rcvd.reason) == (1001, "server: it is about to stop; ask another")
        hold.open.set()
        assert answers(client, 1)[0]["predictions"] == [1.0]
        with pytest.raises(ConnectionClosed) as ended:
            client.recv(10)
        assert ended.value.rcvd.code == 1001
        assert done.result(10) is True


def test_frames_and_streams_are_counted(serve):
    server = serve(only=("house",))
    with stream(server, "house") as client:
        client.send(rows(HOUSE))
        client.send("{")
        answers(client, 2)
        text = server.server.engine.metrics.render()
    assert 'foretell_stream_frames_total{model="house",version="1",outcome="answered"} 1' in text
    assert 'foretell_stream_frames_total{model="house",version="1",outcome="failed"} 1' in text
    assert 'foretell_stream_age_seconds_count{model="house",version="1"} 1' in text
    assert 'foretell_responses_total{door="http",route="stream",status="101"} 1' in text
    assert 'foretell_connections{door="http"} 1' in text
    until(lambda: not server.server._desk.connections)


def test_frames_are_logged_as_requests_are(serve, caplog):
    server = serve(only=("house",), log_requests=1.0)
    with caplog.at_level("INFO", "foretell.requests"):
        with stream(server, "house", additional_headers={"x-request-id": "cam"}) as client:
            client.send(rows(HOUSE))
            client.send("{")
            answers(client, 2)
        until(lambda: len(caplog.records) >= 3)
    told = {r.msg["id"]: r.msg for r in caplog.records}
    assert told["cam"]["status"] == 101
    assert (told["cam-0"]["status"], told["cam-0"]["code"], told["cam-0"]["rows"]) == (200, "ok", 1)
    assert (told["cam-1"]["status"], told["cam-1"]["code"]) == (400, "malformed_request")

"""Live streams of pictures through real workers: boxes, tracks, broken frames, a model slower than the camera."""

import base64
import io
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import foretell
from foretell.cli.main import main

HERE, BESIDE = str(Path(__file__).parent), str(Path(__file__).parents[1] / "agreement")
sys.path[:0] = [HERE, BESIDE]
from picture_networks import DETECTOR, detector, written  # noqa: E402
from served_process import serving  # noqa: E402

sys.path.remove(HERE)
sys.path.remove(BESIDE)


def jpeg(colour, width=32, height=32):
    held = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(held, "JPEG")
    return held.getvalue()


RED, BLACK = jpeg((255, 0, 0)), jpeg((0, 0, 0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen")
    file, picture = written(folder, "things", detector(), DETECTOR)
    assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / "things")]) == 0
    return folder / "things"


@pytest.fixture(scope="module")
def server(bundle):
    with serving(bundle, "--instances", "1") as served:
        yield served


def stream(server, query=""):
    return connect(f"ws://127.0.0.1:{server.port}/v1/models/things:stream{query}")


def asked(client, *frames):
    """Send frames one after another, each once the one before is answered."""
    found = []
    for frame in frames:
        client.send(frame)
        found.append(json.loads(client.recv(20)))
    return found


def test_a_frame_gets_the_answer_of_predict(server, bundle):
    with foretell.load(bundle) as model:
        expected = model.predict(RED)[0]
    text = json.dumps({"instances": [{"b64": base64.b64encode(RED).decode()}]})
    with stream(server) as client:
        first, second = asked(client, RED, text)
    assert expected
    assert first["predictions"] == second["predictions"] == [expected]
    assert first["run_ms"] > 0
    assert first["age_ms"] > first["wait_ms"]


def test_an_object_keeps_its_number(server):
    with stream(server, "?track=1") as client:
        found = [answer["predictions"][0] for answer in asked(client, RED, RED, BLACK, BLACK, RED)]
    assert [[o["track"] for o in objects] for objects in found] == [[1], [1], [], [], [1]]
    with stream(server, "?track=1") as other:
        assert asked(other, RED)[0]["predictions"][0][0]["track"] == 1, "a stream counts for itself"


def test_a_broken_frame_is_one_answer(server):
    with stream(server) as client:
        cut, none, empty, nothing, good = asked(client, RED[:300], b"no picture", b"", '{"instances": []}', RED)
    assert [a["code"] for a in (cut, none, empty, nothing)] == [*["invalid_input"] * 3, "malformed_request"]
    assert [a["frame"] for a in (cut, none, empty, nothing, good)] == [0, 1, 2, 3, 4]
    assert good["predictions"][0]


def test_frames_that_come_faster_than_they_are_answered(server):
    """Large pictures without a pause: the newest wins, every frame is in one count, and answers are in order."""
    large, count = jpeg((255, 0, 0), 3000, 3000), 60
    with stream(server) as client:
        for _ in range(count):
            client.send(large)
        answers, told = [], 0
        while told < count:
            answers.append(json.loads(client.recv(30)))
            told += 1 + answers[-1]["dropped"]
    assert told == count
    assert answers[-1]["frame"] == count - 1
    numbers = [a["frame"] for a in answers]
    assert numbers == sorted(set(numbers))
    assert len(answers) < count
    counters = server.counters()
    labels = 'model="things",version="1"'
    assert counters[f'foretell_stream_frames_total{{{labels},outcome="dropped"}}'] >= count - len(answers)
    assert f'foretell_stream_frames_total{{{labels},outcome="stale"}}' not in counters, (
        "one instance is never overtaken"
    )


def test_a_signal_ends_streams_well(bundle):
    with serving(bundle) as served:
        with stream(served) as client:
            assert asked(client, RED)[0]["predictions"][0]
            served.process.terminate()
            with pytest.raises(ConnectionClosed) as ended:
                client.recv(20)
        assert ended.value.rcvd.code == 1001
        assert served.process.wait(20) == 0


def test_a_worker_that_is_killed_costs_no_frame(bundle):
    """The frame runs again on the worker that takes its place, and the stream goes on."""
    with serving(bundle, "--instances", "1") as served, stream(served) as client:
        asked(client, RED)
        for pid in served.workers():
            os.kill(pid, signal.SIGKILL)
        assert all("predictions" in answer for answer in asked(client, RED, RED))

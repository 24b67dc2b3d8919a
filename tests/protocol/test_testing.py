"""The in-memory client gets what a client of a real server gets, and stand-ins answer as they are told."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.datasets import load_iris
from xgboost import XGBClassifier

import foretell.testing
from foretell.engine.limits import Limits
from foretell.errors import (
    ConfigError,
    DeadlineExceeded,
    ForetellError,
    InferenceFailed,
    InvalidInput,
    InvalidOutput,
    ModelNotFound,
    ModelNotReady,
    QueueFull,
)
from foretell.protocol.status import Refused
from foretell.server.settings import ServerSettings
from foretell.signature import Field
from foretell.testing import Client, FakeModel

NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def iris(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows, species = load_iris(return_X_y=True)
    model = XGBClassifier(n_estimators=3, n_jobs=1).fit(pd.DataFrame(rows, columns=NAMES), species)
    path = tmp_path_factory.mktemp("iris") / "iris.json"
    model.save_model(path)
    return path


@pytest.fixture(scope="module")
def memory(iris: Path) -> Iterator[Client]:
    with foretell.testing.client(iris) as client:
        yield client


@pytest.fixture(scope="module")
def port(iris: Path) -> Iterator[int]:
    """A real server's."""
    command = [sys.executable, "-m", "foretell.cli.main", "serve", iris, "--http-port", "0", "--no-grpc"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield next(int(found[1]) for line in process.stderr if (found := re.search(r"http: http://.*:(\d+)", line)))
    finally:
        process.terminate()
        assert process.wait(20) == 0
        process.stderr.close()


ROW = dict(zip(NAMES, (5.1, 3.5, 1.4, None), strict=True))
TENSOR = {"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
PREDICT, INFER = "/v1/models/iris:predict", "/v2/models/iris/infer"
REQUESTS = {
    "rows": ("POST", PREDICT, json.dumps({"instances": [ROW, ROW]}), JSON),
    "rows as curl sends them": (
        "POST", PREDICT, json.dumps({"instances": [ROW]}), {"content-type": "application/x-www-form-urlencoded"},
    ),
    "a version": ("POST", "/v1/models/iris/versions/1:predict", json.dumps({"instances": [[6, 3, 5, 2]]}), JSON),
    "many rows": ("POST", PREDICT, json.dumps({"instances": [ROW] * 6000}), JSON),
    "csv": ("POST", PREDICT, ",".join(NAMES) + "\n6,3,5,2\n5,3,1,\n", {"content-type": "text/csv"}),
    "invocations": ("POST", "/invocations", json.dumps({"dataframe_records": [ROW]}), JSON),
    "a tensor": ("POST", INFER, json.dumps({"id": "a", "inputs": [TENSOR]}), JSON),
    "metadata": ("GET", "/v2/models/iris", None, {}),
    "the list": ("GET", "/v1/models", None, {}),
    "ready": ("GET", "/v2/health/ready", None, {}),
    "types": ("GET", "/openapi.json", None, {}),
    "the start page": ("GET", "/", None, {}),
    "only the head": ("HEAD", "/v2/health/live", None, {}),
    "a column is missing": ("POST", PREDICT, '{"instances": [{"sepal_width": 1}]}', JSON),
    "a text for a number": ("POST", PREDICT, json.dumps({"instances": [ROW | {"petal_width": "x"}]}), JSON),
    "no JSON": ("POST", PREDICT, "{", JSON),
    "no such model": ("POST", "/v1/models/rose:predict", "{}", JSON),
    "no such path": ("GET", "/v9", None, {}),
    "another method": ("GET", PREDICT, None, {}),
    "an unknown form": ("POST", PREDICT, "x", {"content-type": "image/webp"}),
    "another host": ("GET", "/v1/models", None, {"host": "example.com"}),
    "a page of others": ("GET", "/v1/models", None, {"origin": "https://example.com"}),
    "no number of milliseconds": ("POST", PREDICT, "{}", {**JSON, "x-request-timeout-ms": "soon"}),
    "administration": ("POST", "/v2/repository/models/iris/unload", "", {}),
    "its own id": ("POST", PREDICT, "{", {**JSON, "x-request-id": "abc"}),
    "a length that is none": ("POST", PREDICT, None, {"content-length": "x"}),
    "too long": ("POST", PREDICT, None, {"content-length": str(1 << 30)}),
}  # fmt: skip


def comparable(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Leave out what no two answers share: the time it took, the id the server gave."""
    known = {k: v for k, v in headers.items() if k != "server-timing" and (k != "x-request-id" or v == "abc")}
    return status, known, re.sub(rb'"id":"[0-9a-f]+-[0-9a-f]+"', b'"id":"x"', body)


@pytest.mark.parametrize("name", REQUESTS)
def test_the_answer_is_that_of_a_server(name: str, memory: Client, port: int) -> None:
    method, path, text, headers = REQUESTS[name]
    body = None if text is None else text.encode()
    socket = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        socket.request(method, path, body, {"host": "localhost", **headers})
        found = socket.getresponse()
        real = comparable(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
    finally:
        socket.close()
    reply = memory.request(method, path, body, headers)
    # The length of a body that has an id in it is the length of that id.
    ours = comparable(reply.status, reply.headers, reply.body)
    if b'"id":"x"' in ours[2]:
        del ours[1]["content-length"], real[1]["content-length"]
    assert ours == real


def test_rows_in_every_form(memory: Client) -> None:
    values = [[6.0, 3.0, 5.0, 2.0], [5.1, 3.5, 1.4, np.nan]]
    frame = pd.DataFrame(values, columns=NAMES)
    expected = memory.predict("iris", [dict(zip(NAMES, row, strict=True)) for row in values])
    assert [set(p) for p in expected] == [{"label", "probability", "probabilities"}] * 2
    forms = [np.array(values), values, [np.array(v) for v in values], frame, pl.DataFrame(frame), pa.table(frame)]
    for rows in [*forms, frame.to_dict("records")]:
        assert memory.predict("iris", rows, version="1") == expected
    assert memory.predict("iris", frame.iloc[0].to_dict()) == expected[:1]


def test_refusals_are_errors_of_their_class(memory: Client) -> None:
    with pytest.raises(InvalidInput, match=r'column "petal_width", row 1: got "x"'):
        memory.predict("iris", [ROW, ROW | {"petal_width": "x"}])
    with pytest.raises(ModelNotFound):
        memory.predict("rose", [ROW])
    with pytest.raises(Refused) as caught:
        memory.predict("iris", [ROW], timeout_ms=-1)
    assert caught.value.status == 400
    with pytest.raises(ConfigError, match="rows: object has no form in JSON"):
        memory.predict("iris", [object()])


def test_a_connection_that_is_closed_is_replaced(memory: Client) -> None:
    assert memory.post(PREDICT, json={"instances": [ROW]}, headers={"connection": "close"}).status == 200
    assert memory.request("POST", PREDICT, None, {"content-length": "x"}).status == 400
    assert memory.post(PREDICT, json={"instances": [ROW]}).status == 200


def test_settings_and_limits_hold(iris: Path) -> None:
    with foretell.testing.client(iris, settings=ServerSettings(admin=True, max_body_bytes=100)) as client:
        assert client.post(PREDICT, body=b"x" * 101).status == 413
        assert client.post("/v2/repository/models/iris/unload").status == 200
        with pytest.raises(ModelNotReady):
            client.predict("iris", [[1, 2, 3, 4]])


def test_a_broken_model_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with foretell.testing.client(tmp_path) as client, pytest.raises(ModelNotReady, match="broken"):
        client.predict("broken", [[1]])


def test_nothing_to_serve(tmp_path: Path) -> None:
    threads = threading.active_count()
    with pytest.raises(ConfigError, match="no model; give a path"):
        foretell.testing.client()
    with pytest.raises(ConfigError, match="no model in it"):
        foretell.testing.client(tmp_path)
    assert threading.active_count() == threads


def test_a_client_that_is_closed() -> None:
    threads = threading.active_count()
    with foretell.testing.client(models={"one": FakeModel(["x"], lambda x: x[:, 0])}) as client:
        assert client.predict("one", {"x": 2}) == [2.0]
    client.close()
    with pytest.raises(ConfigError, match="it is closed"):
        client.get("/")
    assert threading.active_count() == threads


def test_a_fake_regression_and_a_fake_classifier() -> None:
    town = Field("town", "category", categories=("Bern", "Rom"), closed=True)
    house = FakeModel(["area", town], lambda x: np.nan_to_num(x) @ [1.0, 1000.0])
    fraud = FakeModel(["amount"], lambda x: [[0.25, 0.75]] * len(x), classes=("genuine", "fraud"))
    with foretell.testing.client(models={"house": house, "fraud": fraud}) as client:
        assert client.predict("house", [{"area": 90, "town": "Rom"}, {"area": None, "town": "Bern"}]) == [1090, 0]
        with pytest.raises(InvalidInput, match='got "Oslo"'):
            client.predict("house", {"area": 90, "town": "Oslo"})
        (found,) = client.predict("fraud", {"amount": np.float32(10)})
        assert found["label"] == "fraud"
        assert found["probabilities"] == {"genuine": 0.25, "fraud": 0.75}
    assert (house.calls, fraud.calls) == ([2], [1])


def failing(_: object) -> None:
    raise RuntimeError("told to")


def test_fakes_that_fail() -> None:
    models = {"raises": FakeModel(["x"], failing), "few": FakeModel(["x"], lambda x: [1.0] * (len(x) + 1))}
    with foretell.testing.client(models=models) as client:
        kinds: dict[str, type[ForetellError]] = {"raises": InferenceFailed, "few": InvalidOutput}
        for name, kind in kinds.items():
            with pytest.raises(kind):
                client.predict(name, [[1]])
        assert client.get("/v2/health/ready").status == 200


def queued(client: Client) -> int:
    (found,) = re.findall(rb"(?m)^foretell_queued_rows\{.*\} (\d+)", client.get("/metrics").body)
    return int(found)


def test_a_fake_that_is_held() -> None:
    """Whatever a test wants to see happen: a deadline passes, callers meet in the queue, a full queue refuses."""
    running, held = threading.Event(), threading.Event()

    def answer(x: np.ndarray) -> np.ndarray:
        running.set()
        assert held.wait(20)
        return x[:, 0] * 2

    slow = FakeModel(["x"], answer)
    limits = Limits(max_queue_rows=3, instances=1)
    with ThreadPoolExecutor() as pool, foretell.testing.client(models={"slow": slow}, limits=limits) as client:
        asked = [pool.submit(client.predict, "slow", {"x": 0})]
        assert running.wait(20)
        with pytest.raises(DeadlineExceeded):
            client.predict("slow", {"x": 9}, timeout_ms=50)
        asked += [pool.submit(client.predict, "slow", {"x": i}) for i in (1, 2, 3)]
        while queued(client) < 3:
            time.sleep(0.01)
        with pytest.raises(QueueFull):
            client.predict("slow", {"x": 9})
        held.set()
        assert [f.result(20) for f in asked] == [[0.0], [2.0], [4.0], [6.0]]
    # The one whose deadline passed was with the model by then.
    assert sum(slow.calls) == 5


def test_the_page_runs(iris: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(iris.parent)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)

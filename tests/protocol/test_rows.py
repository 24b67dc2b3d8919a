"""Rows over HTTP: every form of the same rows gets the same answer, and what is wrong is named."""

import html
import http.client
import io
import json
import re
import subprocess
import urllib.error
import urllib.request

import pyarrow as pa
import pytest

ROWS = [
    {"area": 100.5, "town": "Rom", "age": 3},
    {"area": None, "town": "Bern", "age": 4.5},
    {"area": -7, "town": "Rom", "age": 0},
]
EXPECTED = [1100.8, 0.45, 993.0]
FIELDS = ["area", "town", "age"]


def post(server, path, body, kind="application/json", **headers):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()} | {"content-type": kind}
    request = urllib.request.Request(server.url + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.load(reply), reply.headers
    except urllib.error.HTTPError as reply:
        return reply.code, json.load(reply), reply.headers


def get(server, path):
    try:
        with urllib.request.urlopen(server.url + path, timeout=20) as reply:
            return reply.status, reply.read(), reply.headers
    except urllib.error.HTTPError as reply:
        return reply.code, reply.read(), reply.headers


def arrow(rows):
    table = pa.Table.from_pylist(rows)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue()


CSV = b"town,area,age\nRom,100.5,3\nBern,,4.5\nRom,-7,0\n"
FORMS = {
    "dicts": ({"instances": ROWS}, "application/json"),
    "lists": ({"instances": [[r[f] for f in FIELDS] for r in ROWS]}, "application/json; charset=utf-8"),
    "records": ({"dataframe_records": ROWS}, "application/json"),
    "split": (
        {"dataframe_split": {"columns": FIELDS, "index": [0, 1, 2], "data": [[r[f] for f in FIELDS] for r in ROWS]}},
        "application/json",
    ),
    "as curl says it": ({"instances": ROWS}, "application/x-www-form-urlencoded"),
    "csv": (CSV, "text/csv"),
    "arrow": (arrow(ROWS), "application/vnd.apache.arrow.stream"),
}


@pytest.mark.parametrize("path", ["/v1/models/house:predict", "/v1/models/house/versions/1:predict"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_means_the_same(server, form, path):
    body, kind = FORMS[form]
    status, told, headers = post(server, path, body, kind)
    assert status == 200, told
    assert told["predictions"] == pytest.approx(EXPECTED)
    assert headers["x-request-id"]
    assert "run;dur=" in headers["server-timing"]


def test_many_rows(server):
    rows = [{"area": float(i), "town": "Bern", "age": 0} for i in range(20_000)]
    told = post(server, "/v1/models/house:predict", {"instances": rows})[1]
    assert told["predictions"] == [float(i) for i in range(20_000)]
    text = "area,town,age\n" + "".join(f"{i},Bern,0\n" for i in range(20_000))
    assert post(server, "/v1/models/house:predict", text.encode(), "text/csv")[1] == told


def test_no_rows(server):
    assert post(server, "/v1/models/house:predict", {"instances": []})[1] == {"predictions": []}
    assert post(server, "/v1/models/house:predict", b"area,town,age\n", "text/csv")[1] == {"predictions": []}


def test_a_label_with_its_probabilities(server):
    told = post(server, "/v1/models/pets:predict", {"instances": [[0.25, 0.5, 0.25], [1, 0, 0]]})[1]
    assert told["predictions"] == [
        {"label": "dog", "probability": 0.5, "probabilities": {"cat": 0.25, "dog": 0.5, "emu": 0.25}},
        {"label": "cat", "probability": 1.0, "probabilities": {"cat": 1.0, "dog": 0.0, "emu": 0.0}},
    ]


def test_invocations_is_for_one_model(server, serve):
    status, told, _ = post(server, "/invocations", {"instances": ROWS})
    assert (status, told["code"]) == (404, "not_found")
    alone = serve(only=("house",))
    assert post(alone, "/invocations", {"instances": ROWS})[1]["predictions"] == pytest.approx(EXPECTED)
    assert get(alone, "/ping")[0] == 200
    assert get(alone, "/v2/health/ready")[0] == 200


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([ROWS[0], ROWS[1] | {"area": "big"}], 'column "area", row 1: got "big"'),
        ([ROWS[0] | {"town": "Oslo"}], 'column "town", row 0: got "Oslo"'),
        ([ROWS[0], ROWS[0] | {"age": None}], 'column "age", row 1'),
        ([{"area": 1, "town": "Rom"}], '"age"'),
        ([ROWS[0], 5], "row 1"),
        ([[1, "Rom"]], "expected 3"),
        ([ROWS[0] | {"area": [1]}], 'column "area"'),
        ([ROWS[0] | {"area": {"x": 1}}], 'column "area"'),
        ([ROWS[0], ROWS[0] | {"area": {"x": 1}}], 'column "area", row 1'),
    ],
)
def test_column_and_row_are_named(server, rows, said):
    status, told, _ = post(server, "/v1/models/house:predict", {"instances": rows})
    assert status == 400
    assert told["code"] == "invalid_input"
    assert said in told["error"]
    assert told["id"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        ({"rows": []}, "application/json", 400),
        ({"instances": {}}, "application/json", 400),
        ({"instances": [], "dataframe_records": []}, "application/json", 400),
        ({"dataframe_split": {"columns": ["a", "a"], "data": []}}, "application/json", 400),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "application/json", 400),
        (b"area,town\n1,Rom\n", "text/csv", 400),
        (b'area,town,age\n1,"Rom,2\n', "text/csv", 400),
        (b"area,town,age\n1,Rom,x\n", "text/csv", 400),
        (b"", "text/csv", 400),
        (b"\x80\x05K\x01.", "text/csv", 400),
        (b"nothing of the kind", "application/vnd.apache.arrow.stream", 400),
        (arrow(ROWS)[:-200], "application/vnd.apache.arrow.stream", 400),
        (arrow([{"other": 1}]), "application/vnd.apache.arrow.stream", 400),
        (b"\x80\x05K\x01.", "application/octet-stream", 415),
        (b"{}", "text/plain", 415),
        (b"{}", "multipart/form-data; boundary=x", 415),
    ],
)
def test_bodies_that_are_none(server, body, kind, status):
    found, told, _ = post(server, "/v1/models/house:predict", body, kind)
    assert found == status, told
    assert set(told) == {"error", "code", "id"}


def test_tables_need_columns(server):
    assert post(server, "/v1/models/echo:predict", b"x\n1\n", "text/csv")[0] == 400


def test_the_models_fault_is_not_explained(server):
    status, told, _ = post(server, "/v1/models/failing:predict", {"instances": [[1, 2, 3]]}, x_request_id="my-id")
    assert status == 500
    assert told["code"] == "inference_failed"
    assert told["id"] == "my-id"
    assert "secret" not in told["error"]


def test_request_id_goes_through(server):
    headers = post(server, "/v1/models/house:predict", {"instances": ROWS}, x_request_id="abc.1")[2]
    assert headers["x-request-id"] == "abc.1"
    headers = post(server, "/v1/models/house:predict", {"instances": ROWS}, x_request_id='evil"\t')[2]
    assert "evil" not in headers["x-request-id"]


@pytest.mark.parametrize("value", ["-1", "0", "abc", "1e400", "nan", "inf", "999999999999"])
def test_timeouts_that_are_none(server, value):
    status, told, _ = post(server, "/v1/models/house:predict", {"instances": ROWS}, x_request_timeout_ms=value)
    assert (status, told["code"]) == (400, "bad_header")


def test_priorities(server):
    assert post(server, "/v1/models/house:predict", {"instances": ROWS}, x_request_priority="bulk")[0] == 200
    assert post(server, "/v1/models/house:predict", {"instances": ROWS}, x_request_priority="9")[0] == 400


def test_what_is_here(server):
    status, told, _ = get(server, "/v1/models/broken")
    assert status == 200
    state = json.loads(told)["model_version_status"][0]
    assert state["state"] == "END"
    assert "broken on purpose" in state["status"]["error_message"]
    assert get(server, "/v2/models/broken/ready")[0] == 503
    assert b"broken on purpose" in get(server, "/v2/models/broken/ready")[1]
    assert post(server, "/v1/models/broken:predict", {"instances": []})[0] == 503
    names = {m["name"] for m in json.loads(get(server, "/v1/models")[1])["models"]}
    assert names == {m for m in json.loads(get(server, "/v2/models")[1])["models"]} >= {"house", "echo", "broken"}
    assert get(server, "/v2/health/live")[0] == 200
    assert json.loads(get(server, "/v2")[1])["name"] == "foretell"
    for path in ("/", "/docs"):
        status, page, headers = get(server, path)
        assert status == 200
        assert b"<!doctype html>" in page
        assert "default-src 'none'" in headers["content-security-policy"]


def test_the_examples_of_openapi_run(server):
    document = json.loads(get(server, "/openapi.json")[1])
    examples = 0
    for path, methods in document["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in body and "failing" not in path and "held" not in path:
            assert post(server, path, body["example"])[0] == 200, path
            examples += 1
    assert examples >= 8
    house = document["paths"]["/v1/models/house:predict"]["post"]["requestBody"]["content"]["application/json"]
    row = house["schema"]["properties"]["instances"]["items"]["properties"]
    assert row["town"] == {"enum": ["Bern", "Rom", None]}
    assert row["age"] == {"type": ["number"]}


def test_metrics_are_what_prometheus_reads(server):
    parser = pytest.importorskip("prometheus_client.parser")
    post(server, "/v1/models/house:predict", {"instances": ROWS})
    families = {f.name: f for f in parser.text_string_to_metric_families(get(server, "/metrics")[1].decode())}
    stages = {s.labels["stage"] for s in families["foretell_stage_seconds"].samples if s.labels.get("model") == "house"}
    assert {"prepare", "queue", "run", "answer", "total"} <= stages
    replies = families["foretell_responses"].samples
    assert any(s.labels == {"door": "http", "route": "predict", "status": "200"} and s.value >= 1 for s in replies)


def test_curl(server, tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps({"instances": ROWS}))
    (tmp_path / "rows.csv").write_bytes(CSV)
    url = f"{server.url}/v1/models/house:predict"
    for options in (
        ["-d", f"@{tmp_path}/rows.json"],
        ["-d", f"@{tmp_path}/rows.json", "-H", "Expect: 100-continue"],
        ["-d", f"@{tmp_path}/rows.json", "--http1.0"],
        ["-d", f"@{tmp_path}/rows.json", "--http2"],
        ["-H", "content-type: text/csv", "--data-binary", f"@{tmp_path}/rows.csv"],
        ["-H", "content-type: text/csv", "-H", "Transfer-Encoding: chunked", "--data-binary", f"@{tmp_path}/rows.csv"],
    ):
        done = subprocess.run(["curl", "-sS", "--max-time", "10", *options, url], capture_output=True, check=True)
        assert json.loads(done.stdout)["predictions"] == pytest.approx(EXPECTED), options


def test_the_start_page_tells_what_is_here(server):
    page = get(server, "/")[1].decode()
    assert "<a href='/docs'>" in page
    assert "broken on purpose" in page
    assert "<a href='#house'>house</a>" in page
    assert f"{server.url}/v1/models/house:predict" in page
    told = html.unescape(page.split("<h2 id='house'>")[1].split("<pre>")[1].split("</pre>")[0])
    done = subprocess.run(["/bin/sh", "-c", told], capture_output=True, text=True, timeout=20)
    assert json.loads(done.stdout)["predictions"], done.stderr


def test_the_start_page_trusts_no_name(serve):
    named = serve(only=("echo",), insecure_no_auth=True, host="0.0.0.0")
    connection = http.client.HTTPConnection("127.0.0.1", named.port, timeout=20)
    connection.request("GET", "/", headers={"host": "<script>'$(x)"})
    page = connection.getresponse().read().decode()
    connection.close()
    assert "<script>" not in page
    assert html.escape("'http://<script>'\\''$(x)/v1/models") in page


def test_a_key_is_told_of_in_the_pages(serve, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef\n")
    keys.chmod(0o600)
    keyed = serve(only=("echo",), api_key_file=keys)
    headers = {"authorization": "Bearer 0123456789abcdef"}
    connection = http.client.HTTPConnection("127.0.0.1", keyed.port, timeout=20)
    connection.request("GET", "/", headers=headers)
    assert b"Bearer $KEY" in connection.getresponse().read()
    connection.request("GET", "/openapi.json", headers=headers)
    document = json.loads(connection.getresponse().read())
    connection.close()
    assert document["security"] == [{"key": []}]
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_need_nothing_from_elsewhere(server, path):
    page = get(server, path)[1].decode()
    fetched = re.findall(r"(?:src|href)=['\"]?([^'\" >]+)|fetch\('([^']+)'|url\(([^)]+)\)|@import (\S+)", page)
    assert fetched or path == "/docs"
    for target in (name for names in fetched for name in names if name):
        assert re.match(r"/[^/]?|#", target), target

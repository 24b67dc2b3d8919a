"""Folders of pictures with broken ones among them, and a picture on standard input."""

import csv
import http.server
import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pyarrow.parquet as pq
import pytest
from PIL import Image

from foretell.cli.main import main

sys.path.insert(0, str(Path(__file__).parent))
from picture_networks import CLASSIFIER, DETECTOR, classifier, detector, plain, written

RED, GREEN = (255, 0, 0), (0, 255, 0)
BROKEN = (0, 5, 6, 7, 21)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two bundles, and 22 pictures of which some are broken."""
    folder = tmp_path_factory.mktemp("seen")
    for name, content, tables in (("colours", classifier(), CLASSIFIER), ("things", detector(), DETECTOR)):
        file, picture = written(folder, name, content, tables)
        assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / name)]) == 0
    (folder / "photos").mkdir()
    for i in range(22):
        plain(RED if i % 2 else GREEN).save(folder / "photos" / f"{i:02}.png")
    for i in BROKEN:
        path = folder / "photos" / f"{i:02}.png"
        path.write_bytes(path.read_bytes()[:60] if i else b"nothing")
    return folder


def good(made: Path) -> list[str]:
    return [str(made / "photos" / f"{i:02}.png") for i in range(22) if i not in BROKEN]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_broken_pictures_are_skipped(
    made: Path, tmp_path: Path, threads: str, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels.csv"
    command = ["predict", str(made / "colours"), str(made / "photos"), "-o", str(out), "--threads", threads]
    assert main([*command, "--on-error", "skip"]) == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [r["source"] for r in rows] == good(made)
    assert {(int(Path(r["source"]).stem) % 2, r["prediction"]) for r in rows} == {(0, "green"), (1, "red")}
    assert "5 of 22 rows got no answer; they were skipped" in capfd.readouterr().err
    assert main(command) == 3
    assert f'"{made}/photos/00.png": got 7 bytes of text' in capfd.readouterr().err


def test_broken_pictures_go_into_quarantine(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, bad = tmp_path / "objects.parquet", tmp_path / "bad.jsonl"
    command = ["predict", str(made / "things"), str(made / "photos"), "-o", str(out)]
    assert main([*command, "--on-error", f"quarantine={bad}", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["errors"], told["rows_read"], told["files"]) == (5, 22, 22)
    reds = [file for file in good(made) if int(Path(file).stem) % 2]
    assert pq.read_table(out)["source"].to_pylist() == reds
    found = [json.loads(line) for line in bad.read_text().splitlines()]
    assert [row["file"] for row in found] == [str(made / "photos" / f"{i:02}.png") for i in BROKEN]
    assert found[0]["reason"].startswith("got 7 bytes of text, expected JPEG")
    assert all("damaged or cut off" in row["reason"] for row in found[1:])


def test_where_all_are_broken_there_is_a_table_without_rows(made: Path, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"")
    out = tmp_path / "o.csv"
    command = ["predict", str(made / "things"), str(tmp_path / "p"), "-o", str(out), "--on-error", "skip"]
    assert main(command) == 0
    assert out.read_text() == "source,label,score,x_min,y_min,x_max,y_max\n"


@pytest.mark.parametrize("name", ["colours", "things"])
def test_a_picture_on_standard_input(made: Path, tmp_path: Path, name: str) -> None:
    held = io.BytesIO()
    Image.new("RGB", (64, 32), RED).save(held, "JPEG", quality=95)
    copy = tmp_path / "found.jpg"
    command = [sys.executable, "-m", "foretell.cli.main", "predict", str(made / name), "-", "--draw", str(copy)]
    done = subprocess.run(command, input=held.getvalue(), capture_output=True, check=True, timeout=60)
    (row,) = csv.DictReader(io.StringIO(done.stdout.decode()))
    assert (row["source"], row.get("prediction", row.get("label"))) == (
        "-",
        "red" if name == "colours" else "red thing",
    )
    with Image.open(copy) as drawn:
        assert drawn.size == (64, 32)


def test_nothing_on_standard_input(made: Path) -> None:
    command = [sys.executable, "-m", "foretell.cli.main", "predict", str(made / "colours"), "-"]
    for content in (b"", b"hello"):
        done = subprocess.run(command, input=content, capture_output=True, timeout=60, check=False)
        assert done.returncode == 3
        assert done.stderr.count(b"\n") == 1
        assert b"expected JPEG" in done.stderr


def test_how_fast_pictures_are_answered(
    made: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("foretell.cli.bench_pictures._BUDGET_S", 0.001)
    monkeypatch.setattr("foretell.cli.bench_pictures._COUNTS", (1, 4))
    assert main(["bench", str(made / "colours"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["pictures"] == "1 drawn JPEG of 1280 x 960"
    assert list(told["seconds_per_call"]) == ["1", "4"]
    assert set(told["seconds_per_picture_alone"]) == {"preparation", "network"}
    assert main(["bench", str(made / "colours"), "--pictures", str(made / "photos" / "01.png")]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("1 pictures; one at a time, on one core: preparation ")
    assert [line.split()[0] for line in lines[2:]] == ["1", "4"]
    assert main(["bench", str(made / "colours"), "--pictures", str(made / "nowhere")]) == 2


class Answering(http.server.BaseHTTPRequestHandler):
    """A server of one model of pictures."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.asked.append((self.path, self.headers["content-type"], body))
        told = json.dumps([{"name": "net", "state": "READY"}] if self.path.endswith("index") else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_is_asked_with_pictures(made: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name, kind in (("a.jpg", "JPEG"), ("b.png", "PNG")):
        plain(RED).save(tmp_path / name, kind)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        command = ["bench", url, "--pictures", str(tmp_path), "--connections", "2", "--seconds", "0.1", "--json"]
        assert main(command) == 0
        server.shutdown()
    told = json.loads(capfd.readouterr().out)
    assert told["url"] == f"{url}/v1/models/net:predict"
    assert told["source"] == "2 pictures"
    sent = [found for found in Answering.asked if not found[0].endswith("index")]
    contents = {"image/jpeg": (tmp_path / "a.jpg").read_bytes(), "image/png": (tmp_path / "b.png").read_bytes()}
    assert {kind for _, kind, _ in sent} == set(contents)
    assert all(path == "/v1/models/net:predict" and body == contents[kind] for path, kind, body in sent)

"""The page with the camera, in a browser whose camera shows a test picture."""

import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from websockets.sync.client import connect

from foretell.cli.main import main

HERE, BESIDE = str(Path(__file__).parent), str(Path(__file__).parents[1] / "agreement")
sys.path[:0] = [HERE, BESIDE]
from picture_networks import DETECTOR, network, written  # noqa: E402
from served_process import serving, until  # noqa: E402

sys.path.remove(HERE)
sys.path.remove(BESIDE)
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium here")]
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--no-first-run",
)  # fmt: skip


@contextlib.contextmanager
def browsing(folder, address):
    """Open a page; give what reads the value of an expression in it."""
    command = [BROWSER, *OPTIONS, f"--user-data-dir={folder}", address]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    pages, ids, active = [], itertools.count(), folder / "DevToolsActivePort"

    def there():
        if not active.exists() or not (lines := active.read_text().split()):
            return False
        with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json", timeout=10) as reply:
            pages[:] = [p for p in json.load(reply) if p["type"] == "page" and p["url"] == address]
        return pages

    try:
        until(there)
        with connect(pages[0]["webSocketDebuggerUrl"]) as socket:

            def read(expression):
                asked = next(ids)
                given = {"id": asked, "method": "Runtime.evaluate", "params": {"expression": expression}}
                socket.send(json.dumps(given))
                while (answer := json.loads(socket.recv(20))).get("id") != asked:
                    pass
                return answer["result"]["result"].get("value")

            yield read
    finally:
        process.terminate()
        process.wait(20)


def test_what_the_camera_sees(tmp_path):
    weights = np.zeros((3, 7))
    weights[0, 4] = 0.1
    always = network(weights, [8, 8, 8, 4, 0.8, 1, 0], [-1, 1, 7])
    file, picture = written(tmp_path, "things", always, DETECTOR)
    assert main(["convert", str(file), "--picture", str(picture), "-o", str(tmp_path / "things")]) == 0
    with serving(tmp_path / "things") as served:
        address = f"http://127.0.0.1:{served.port}/v1/models/things:camera"
        with browsing(tmp_path / "browser", address) as read:
            told = []
            until(lambda: told.append(read("told.textContent")) or (read("count.answered") or 0) > 10)
            assert "answers/s" in read("told.textContent"), told[-1]
            assert read("shown.width") > 0
            assert read("count.failed") == 0
            found = json.loads(read("JSON.stringify(last.predictions[0])"))
    assert (found[0]["label"], found[0]["track"]) == ("red thing", 1)

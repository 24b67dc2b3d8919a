"""examples/camera.py against a server: a short video as a camera, ahead of time and live."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av")
pytest.importorskip("simplejpeg")

from foretell.cli.main import main  # noqa: E402

HERE, BESIDE = str(Path(__file__).parent), str(Path(__file__).parents[1] / "agreement")
sys.path[:0] = [HERE, BESIDE]
from picture_networks import DETECTOR, detector, written  # noqa: E402
from served_process import serving  # noqa: E402

sys.path.remove(HERE)
sys.path.remove(BESIDE)
CAMERA = Path(__file__).parents[2] / "examples" / "camera.py"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camera")
    file, picture = written(folder, "things", detector(), DETECTOR)
    assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / "things")]) == 0
    with av.open(str(folder / "red.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(30):
            pixels = np.zeros((64, 64, 3), np.uint8)
            pixels[:, :, 0] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return folder


@pytest.mark.parametrize("more", [(), ("--live",), ("--mode", "every", "--track")])
def test_what_it_prints(folder, more):
    with serving(folder / "things") as served:
        command = [
            sys.executable, CAMERA, folder / "red.mp4", "--url", f"ws://127.0.0.1:{served.port}/v1/models/things:stream",
            "--seconds", "1.1", *more,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        counted = served.sum_of("foretell_stream_frames_total")
    assert done.returncode == 0, done.stderr
    whole = next(line for line in done.stdout.splitlines() if line.lstrip().startswith("all")).split()
    offered, answered, dropped, stale, failed = map(int, whole[1:6])
    assert offered >= 20
    assert (answered + dropped + stale, failed) == (counted, 0)
    assert answered > 5
    assert int(whole[-1]) == answered, "a red thing in every frame"
    assert re.search(r"age beyond the inference of the same frame: p50 [\d.]+ ms, p99 [\d.]+ ms", done.stdout)

"""JPEGs to a server over HTTP, at 16 connections, against their floor.

    python benchmarks/serve_pictures.py MODEL [--turns 3] [--seconds 10] [--folder DIR] [--connections 16]

MODEL is a bundle of EfficientNet-lite0 (examples/vision). The photos are those of picture_folder.py, of every width,
and so is the floor: processor time of the fastest decoder, the fastest resizer and ONNX Runtime on ready tensors, each
alone in one thread, divided by the cores. wrk posts the files as they are; its own processor time, which is the
client's, is taken from the same cores. Every answer is first compared with what the model predicts in this process.

Wall time means something only where nothing else runs; processor time of the server for an answer says the same of a
busy machine.
"""

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import CORES, DATA, heading, verdict
from benchmarks.picture_folder import floor_s, folder_of
from benchmarks.serving.load import wrk
from benchmarks.serving.processes import Running, free_port, others_cpu_s, started, wait_for_quiet

import foretell

PHOTOS = 60
TARGET = 0.9


def ask(port: int, path: str, content: bytes) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", path, content, {"content-type": "image/jpeg"})
    reply = connection.getresponse()
    return reply.status, reply.read()


def wrong(port: int, path: str, files: list[Path], expected: list[object]) -> str:
    """Return what is wrong with the server's answers; nothing where each is what the model predicts here."""
    for file, want in zip(files, expected, strict=True):
        try:
            status, body = ask(port, path, file.read_bytes())
        except OSError as error:
            return str(error)
        if status != 200 or json.loads(body)["predictions"] != [want]:
            return f"{file.name}: {status} {body[:200]!r}"
    return ""


def client_s() -> float:
    """Return the processor time of our children that have ended: of wrk."""
    used = os.times()
    return used.children_user + used.children_system


def measured(server: Running, url: str, bodies: Path, connections: int, seconds: int) -> dict[str, float]:
    """Return requests a second, milliseconds of latency, and seconds of processor time for an answer."""
    client, cpu_s, others_s, began = client_s(), server.cpu_s(), others_cpu_s(server), time.monotonic()
    found = wrk(url, bodies, "image/jpeg", connections, seconds, files=True)
    if found.bad_share:
        raise SystemExit(f"wrk: {found.bad_share:.1%} of the requests were refused or failed")
    wall_s = time.monotonic() - began
    return {
        "per_s": found.per_s,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
        "server_s": (server.cpu_s() - cpu_s) / found.answers,
        "client_s": (client_s() - client) / found.answers,
        "others": (others_cpu_s(server) - others_s) / wall_s / CORES,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=10)
    arguments.add_argument("--connections", type=int, default=16)
    arguments.add_argument("--folder", type=Path, default=DATA / "photos")
    arguments.add_argument("--option", action="append", default=[], help="of foretell serve, such as --instances=1")
    given = arguments.parse_args()
    files = folder_of(given.folder, PHOTOS)
    with foretell.load(given.model, threads=1) as model:
        expected = list(model.predict(files).to_list())
    port, path = free_port(), f"/v1/models/{given.model.name}:predict"
    command = [sys.executable, "-m", "foretell.cli.main", "serve", str(given.model), "--no-grpc"]
    command += ["--http-port", str(port), *given.option]
    floors, loads = [], []
    with (
        tempfile.TemporaryDirectory() as held,
        started(command, {}, Path(held), lambda: wrong(port, path, files, expected)) as server,
    ):
        url, bodies = f"http://127.0.0.1:{port}{path}", Path(held) / "bodies"
        bodies.write_text("".join(f"{file.resolve()}\n" for file in files))
        measured(server, url, bodies, given.connections, 2)
        for _ in range(given.turns):
            wait_for_quiet(5)
            floors.append(floor_s(given.model, files))
            loads.append(measured(server, url, bodies, given.connections, given.seconds))
    heading(f"{PHOTOS} JPEGs of 640 to 4,000 pixels over HTTP, {given.connections} connections; ms a photo")
    parts = {name: statistics.median(f[name] for f in floors) for name in floors[0]}
    for name, value in parts.items():
        print(f"  {name + ' alone, one core':44s}{value * 1e3:9.2f}")
    print(f"  {'floor: all three, spread over the cores':44s}{sum(parts.values()) / CORES * 1e3:9.2f}")
    middle = {name: statistics.median(found[name] for found in loads) for name in loads[0]}
    print(f"  {'foretell serve, wall':44s}{1e3 / middle['per_s']:9.2f}")
    print(f"  {'foretell serve, processor of the server':44s}{middle['server_s'] * 1e3:9.2f}")
    print(f"  {'wrk, processor':44s}{middle['client_s'] * 1e3:9.2f}")
    print(
        f"\n  {middle['per_s']:.1f} requests/s, p50 {middle['p50_ms']:.0f} ms, p99 {middle['p99_ms']:.0f} ms; ", end=""
    )
    print(f"other work took {middle['others']:.0%} of the processors\n")
    whole = [sum(f.values()) for f in floors]
    by_wall = statistics.median(w / CORES * found["per_s"] for w, found in zip(whole, loads, strict=True))
    by_processor = statistics.median(w / found["server_s"] for w, found in zip(whole, loads, strict=True))
    verdict("floor / foretell serve, wall", by_wall, TARGET)
    verdict("floor / foretell serve, processor time", by_processor, TARGET)


if __name__ == "__main__":
    main()

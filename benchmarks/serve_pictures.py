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
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.common import CORES, DATA, heading, verdict
from benchmarks.picture_folder import floor_s, folder_of
from benchmarks.serving.processes import free_port, others_cpu_s, started, wait_for_quiet

import foretell

PHOTOS = 60
LUA = Path(__file__).with_name("serving") / "pictures.lua"
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


def load(url: str, files: list[Path], connections: int, seconds: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(LUA), url, "--"]
    used = os.times()
    said = subprocess.run([*command, *map(str, files)], check=True, capture_output=True, text=True).stdout
    found = json.loads(said.strip().splitlines()[-1])
    after = os.times()
    if found["not_2xx"] or found["failed"] or found["timeouts"]:
        raise SystemExit(f"wrk: {found}")
    client_s = after.children_user + after.children_system - used.children_user - used.children_system
    wall_s = found["duration_us"] / 1e6
    return {
        "per_s": found["requests"] / wall_s, "p50_ms": found["p50_us"] / 1e3, "p99_ms": found["p99_us"] / 1e3,
        "client_s": client_s / found["requests"], "requests": found["requests"], "wall_s": wall_s,
    }  # fmt: skip


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
        url = f"http://127.0.0.1:{port}{path}"
        load(url, files, given.connections, 2)
        for _ in range(given.turns):
            wait_for_quiet(5)
            floors.append(floor_s(given.model, files))
            cpu_s, others_s = server.cpu_s(), others_cpu_s(server)
            found = load(url, files, given.connections, given.seconds)
            found["server_s"] = (server.cpu_s() - cpu_s) / found["requests"]
            found["others"] = (others_cpu_s(server) - others_s) / found["wall_s"] / CORES
            loads.append(found)
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

"""Closed-loop load: wrk for HTTP, h2load for gRPC, each with one thread; what they say, as numbers.

Knows their options and their output. Knows no server.
"""

import json
import math
import re
import shutil
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

POST = Path(__file__).with_name("post.lua")


class LoadError(Exception):
    """A generator is absent or failed; the text is one line."""


@dataclass(frozen=True)
class Load:
    """What one run of a generator saw. Latencies are of a closed loop: they show capacity, not overload."""

    per_s: float
    """Right answers a second: refusals and errors are not counted."""
    p50_ms: float
    p99_ms: float
    bad_share: float
    """Requests that were refused, failed or timed out, of all."""
    answers: int
    """Right ones, in all."""
    cpu_us: float = math.nan
    """Processor time of the server's processes, in microseconds an answer; other work hardly moves it."""
    others_share: float = math.nan
    """Of the machine's processor time, what neither the server nor the generator used: 0 is quiet."""


def wrk(url: str, bodies: Path, content_type: str, connections: int, seconds: float, *, files: bool = False) -> Load:
    """Post the lines of `bodies` in turn over keep-alive connections, or the files that they name.

    Raises:
        LoadError: wrk is absent, or could not talk to the server.
    """
    duration = f"-d{max(1, round(seconds))}s"
    command = ["wrk", "-t1", f"-c{connections}", duration, "--timeout", "10s", "-s", str(POST), url, "--"]
    said = _run([*command, str(bodies), content_type, *(["files"] if files else [])])
    found = json.loads(said.strip().splitlines()[-1])
    if not found["requests"]:
        raise LoadError(f"wrk got no answer of {url}")
    bad = found["not_2xx"] + found["failed"] + found["timeouts"]
    good = max(0, found["requests"] - found["not_2xx"])
    share = bad / (good + bad) if good + bad else 1.0
    return Load(good / (found["duration_us"] / 1e6), found["p50_us"] / 1e3, found["p99_us"] / 1e3, share, good)


def h2load(url: str, body: Path, connections: int, streams: int, seconds: float) -> tuple[Load, float]:
    """Post `body`, a framed gRPC message, over HTTP/2; also return the bytes of data in an answer.

    Raises:
        LoadError: h2load is absent, or could not talk to the server.
    """
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", "-d", str(body)]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        said = _run([*command, f"-D{max(1, round(seconds))}", f"--log-file={log}", url])
        took_us = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
    counts = re.search(r"requests: \d+ total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", said)
    rate = re.search(r"finished in .*, ([\d.]+) req/s", said)
    data = re.search(r"traffic: .* \((\d+)\) data", said)
    if not (counts and rate and data and int(counts[1])):
        raise LoadError(f"h2load got no answer of {url}: {said.strip().splitlines()[-1]}")
    good, bad = int(counts[1]), int(counts[2]) + int(counts[3])
    p50, p99 = statistics.median(took_us) / 1e3, took_us[int(len(took_us) * 0.99)] / 1e3
    return Load(float(rate[1]), p50, p99, bad / (good + bad), good), int(data[1]) / good


def _run(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        package = {"h2load": "nghttp2-client"}.get(command[0], command[0])
        raise LoadError(f"{command[0]}: not found; install Debian's package {package}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(f"{command[0]}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout

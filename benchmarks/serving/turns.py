"""Measure servers in turn: start one, check its answers, load it, weigh it, stop it; then the next; then all again.

Only one server lives at a time, so that none pays for another's idle threads. Knows no server by name.
"""

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rivals.rival import Place, Server
from rivals.venvs import VENVS, InstallError

from serving.load import Load, LoadError, wrk
from serving.processes import Running, StartError, free_port, others_cpu_s, started, wait_for_quiet

CONNECTIONS = 1, 16, 64
ATTEMPTS = 4
"""Most runs of a load that other work disturbs."""
QUIET_SHARE = 0.15
"""Of the machine, the most that other work may use during a load that is called quiet."""
Loads = dict[str, Load]
"""By the number of connections, `1`, `16`, `64`; with streams `1x64`."""


@dataclass(frozen=True)
class Questions:
    """Rows to post, and what must come back for each."""

    rows: Sequence[Any]
    answers: Sequence[Sequence[float]]
    tolerance: float
    """Relative and absolute: answers pass through float32 and decimal text."""


@dataclass
class Measured:
    """What one server showed, one number a round."""

    name: str
    settings: str
    is_ours: bool
    """Or the floor: no rival, so without ratios."""
    ready_s: list[float] = field(default_factory=list)
    idle_mb: list[float] = field(default_factory=list)
    """Resident memory before the load, the sum over its processes; pages they share are counted in each."""
    loaded_mb: list[float] = field(default_factory=list)
    loaded_pss_mb: list[float] = field(default_factory=list)
    """After the load, pages that processes share counted once."""
    loads: dict[str, list[Load]] = field(default_factory=dict)
    failed: str = ""

    def quiet(self, connections: str) -> list[Load]:
        """Return the loads that other work left alone; all of them, where it spared none."""
        loads = self.loads[connections]
        return [load for load in loads if load.others_share <= QUIET_SHARE] or loads

    def is_disturbed(self, connections: str) -> bool:
        """Return whether other work spared none of the loads."""
        return all(load.others_share > QUIET_SHARE for load in self.loads[connections])


class WrongAnswerError(Exception):
    """A server answered, but not what the original does; the text is one line."""


def quietest(load: Callable[[], Load], running: Running) -> Load:
    """Run a load, again while other work disturbs it; return the run with the least of it, whatever it showed."""
    runs: list[Load] = []
    while len(runs) < ATTEMPTS and (not runs or runs[-1].others_share > QUIET_SHARE):
        others_s, cpu_s, begun = others_cpu_s(running), running.cpu_s(), time.perf_counter()
        seen = load()
        share = (others_cpu_s(running) - others_s) / (time.perf_counter() - begun) / (os.cpu_count() or 1)
        runs.append(replace(seen, cpu_us=(running.cpu_s() - cpu_s) / seen.answers * 1e6, others_share=share))
    return min(runs, key=lambda run: run.others_share)


def over_http(server: Server, place: Place, questions: Questions, seconds: float, running: Running) -> Loads:
    """Load a server with its JSON questions."""
    bodies = place.folder / "bodies.jsonl"
    bodies.write_text("\n".join(json.dumps(server.question(row)) for row in questions.rows) + "\n")
    url = f"http://127.0.0.1:{place.port}{server.path}"
    wrk(url, bodies, "application/json", 16, 2)
    loads = {str(c): partial(wrk, url, bodies, "application/json", c, seconds) for c in CONNECTIONS}
    return {name: quietest(load, running) for name, load in loads.items()}


OneServer = Callable[[Server, Place, Questions, float, Running], Loads]


def measure_in_turn(
    servers: Sequence[Server],
    model: Path,
    questions: Questions,
    *,
    seconds: float,
    rounds: int,
    patience_s: float = 0.0,
    load: OneServer = over_http,
) -> list[Measured]:
    """Return what each server showed; one that fails says why, and is left out of later rounds."""
    measured = {
        server.name: Measured(server.name, server.settings, server.is_ours or server.is_floor) for server in servers
    }
    for turn in range(rounds):
        for server in servers:
            into = measured[server.name]
            if into.failed:
                continue
            print(f"round {turn + 1} of {rounds}: {server.name} ...", end="", file=sys.stderr, flush=True)
            wait_for_quiet(patience_s)
            try:
                _measure(server, server.model or model, questions, seconds, load, into)
                last = into.loads["64"][-1]
                print(f" {last.per_s:,.0f}/s, others used {last.others_share:.0%}", file=sys.stderr, flush=True)
            except (InstallError, StartError, LoadError, WrongAnswerError) as error:
                into.failed = str(error)
                print(f" {error}", file=sys.stderr, flush=True)
    return list(measured.values())


def _measure(
    server: Server, model: Path, questions: Questions, seconds: float, load: OneServer, into: Measured
) -> None:
    folder = VENVS / "runs" / "".join(letter if letter.isalnum() else "-" for letter in server.name)
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(model, free_port(), free_port(), free_port(), folder)
    command = [str(part) for part in server.command(place)]
    check = partial(_wrong, server, place.port, questions)
    environment = {**server.environment, "PORT": str(place.port)}
    with started(command, environment, folder, lambda: check([0])) as running:
        _check_all(check, len(questions.rows))
        idle = running.resident_mb()
        loads = load(server, place, questions, seconds, running)
        into.loaded_mb.append(running.resident_mb())
        into.loaded_pss_mb.append(running.proportional_mb())
        _check_all(check, len(questions.rows))
    into.ready_s.append(running.ready_s)
    into.idle_mb.append(idle)
    for connections, seen in loads.items():
        into.loads.setdefault(connections, []).append(seen)


def _check_all(check: Callable[[Sequence[int]], str], rows: int) -> None:
    """Ask every question, alone and 16 at a time, so that answers of batches are checked too."""
    with ThreadPoolExecutor(16) as pool:
        faults = [check(range(rows)), *pool.map(check, [range(first, rows, 16) for first in range(16)])]
    for fault in faults:
        if fault:
            raise WrongAnswerError(f"wrong answer: {fault}")


def _wrong(server: Server, port: int, questions: Questions, picked: Sequence[int]) -> str:
    """Return what is wrong with the answers to the picked rows, nothing if they are right."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        for row in picked:
            body = json.dumps(server.question(questions.rows[row]))
            connection.request("POST", server.path, body, {"content-type": "application/json"})
            reply = connection.getresponse()
            text = reply.read()
            if reply.status != 200:
                return f"status {reply.status}: {text[:200]!r}"
            found = server.answer(json.loads(text))
            expected = questions.answers[row]
            if not server.is_floor and not np.allclose(found, expected, questions.tolerance, questions.tolerance):
                return f"row {row}: {found}, expected {expected}"
    except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return ""

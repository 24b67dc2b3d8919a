"""A model that runs inside the front (`--isolation none`): no process, no frames, no box.

Batches that are expected to be quick run in the event loop itself, which answers a row soonest; the others in a
thread. What crashes or hangs the model does so to the whole server.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from bisect import bisect_left
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from numpy.typing import NDArray

from foretell.engine.instance import Hello, OnAnswer, OnDeath, OnError
from foretell.engine.worker.hello import hello_of
from foretell.engine.worker.pictures import Sight, errors_of
from foretell.engine.worker.serving import Loaded, facts_of, loader_named, translated, warm
from foretell.engine.worker.start import LOADER
from foretell.engine.worker.warmup import check_outputs
from foretell.errors import ForetellError, InternalError, LoadError

__all__ = ["LocalInstance", "expected_s", "start_local_instance"]

_IN_LOOP_S = 0.002
"""Batches that are expected to take longer run in a thread."""
Tensors = dict[str, NDArray[Any]]
Outcome = tuple[list[NDArray[Any]], int] | ForetellError


def expected_s(paces: tuple[tuple[int, float], ...], rows: int) -> float:
    """Return the seconds a batch is expected to take, from what was measured; 0 if nothing was. Pure."""
    if not paces:
        return 0.0
    at = bisect_left(paces, (rows, 0.0))
    if at == 0:
        return paces[0][1]
    (low, low_s), (high, high_s) = paces[at - 1], paces[min(at, len(paces) - 1)]
    if high == low:
        return low_s * rows / low
    return low_s + (high_s - low_s) * (rows - low) / (high - low)


class LocalInstance:
    """One model in this process; see `foretell.engine.instance.Instance`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        model: Loaded,
        paces: tuple[tuple[int, float], ...],
        sight: Sight | None = None,
    ) -> None:
        self.on_answer: OnAnswer = _ignore
        self.on_error: OnError = _ignore
        self.on_death: OnDeath = _ignore
        self._loop, self._model, self._paces, self._sight = loop, model, paces, sight
        self._flights: set[int] = set()
        self._ended = False
        self._in_thread = 0
        self._jobs: queue.SimpleQueue[tuple[int, Tensors, int] | None] | None = None

    @property
    def ready(self) -> bool:
        """Whether it takes batches."""
        return not self._ended

    @property
    def in_flight(self) -> int:
        """Batches sent and not yet reported."""
        return len(self._flights)

    @property
    def pid(self) -> int:
        """This process."""
        return os.getpid()

    def send(self, job_id: int, inputs: Tensors, rows: int) -> None:
        """Take a batch; see `Instance.send`."""
        if self._ended:
            raise InternalError(f"model {self._model.name}: sent a batch after its end. This is a bug.")
        self._flights.add(job_id)
        # Whoever waits behind a thread's batch waits in the thread: the order is that of sending.
        if self._in_thread or self._sight is not None or expected_s(self._paces, rows) > _IN_LOOP_S:
            self._in_thread += 1
            self._thread().put((job_id, inputs, rows))
        else:
            self._loop.call_soon(self._run_here, job_id, inputs, rows)

    def kill(self) -> None:
        """Report nothing any more; see `Instance.kill`. A batch that runs in the thread runs to its end."""
        if self._ended:
            return
        self._ended = True
        self._flights.clear()
        if self._jobs is None:
            _close(self._model)
        else:
            self._jobs.put(None)

    async def stop(self, timeout_s: float = 30.0) -> None:
        """Let it finish what it has, then end it. Nothing may be sent any more."""
        deadline = time.monotonic() + timeout_s
        while self._flights and time.monotonic() < deadline:  # noqa: ASYNC110 - once, when the server stops
            await asyncio.sleep(0.005)
        self.kill()

    def __repr__(self) -> str:
        return f"<LocalInstance {self._model.name}: {'ended' if self._ended else 'ready'}, {self.in_flight} in flight>"

    def _run_here(self, job: int, inputs: Tensors, rows: int) -> None:
        if not self._ended:
            self._report(job, self._outcome(inputs, rows))

    def _outcome(self, inputs: Tensors, rows: int) -> Outcome:
        try:
            before = perf_counter_ns()
            if self._sight is not None and (pictures := next(iter(inputs.values()))).dtype.kind == "O":
                *outputs, errors = self._sight.infer(pictures)
                return [*outputs, errors_of(errors)], perf_counter_ns() - before
            outputs = self._model.infer(inputs, rows)
            ns = perf_counter_ns() - before
            check_outputs(outputs, self._model.signature, rows)
        except Exception as error:  # noqa: BLE001 - a runtime may raise anything, and the server goes on
            return translated(error)
        return outputs, ns

    def _report(self, job: int, outcome: Outcome) -> None:
        if self._ended:
            return
        self._flights.discard(job)
        if isinstance(outcome, ForetellError):
            self.on_error(self, job, outcome)
        else:
            self.on_answer(self, job, *outcome)

    def _thread(self) -> queue.SimpleQueue[tuple[int, Tensors, int] | None]:
        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(
                target=self._work, args=(self._jobs,), name=f"foretell-{self._model.name}", daemon=True
            ).start()
        return self._jobs

    def _work(self, jobs: queue.SimpleQueue[tuple[int, Tensors, int] | None]) -> None:
        while (job := jobs.get()) is not None and not self._ended:
            job_id, inputs, rows = job
            outcome = self._outcome(inputs, rows)
            try:
                self._loop.call_soon_threadsafe(self._land, job_id, outcome)
            except RuntimeError:  # the loop has been closed: nobody waits any more
                break
        _close(self._model)

    def _land(self, job: int, outcome: Outcome) -> None:
        self._in_thread -= 1
        self._report(job, outcome)


async def start_local_instance(
    path: Path, *, trust: bool = False, threads: int = 1, memory_bytes: int | None = None, loader: str = LOADER
) -> tuple[LocalInstance, Hello]:
    """Load a model into this process and warm it up, in a thread.

    Args:
        path: A bundle, an artifact, or a folder that holds one.
        trust: Whether a file that may run code may be opened.
        threads: That a call of the model may use.
        memory_bytes: Not limited: the model has no process of its own.
        loader: "module:function", called as function(path, trust=..., threads=...).

    Raises:
        LoadError: The model cannot be opened or warmed up.
    """
    began = time.monotonic()
    why = "none: isolation is off"
    sandbox = dict.fromkeys(("filesystem", "network", "processes", "limits"), why)

    def load() -> tuple[Loaded, Sight | None, dict[str, Any]]:
        model = loader_named(loader)(path, trust=trust, threads=threads)
        sight = Sight.of(model)
        return model, sight, facts_of(model, warm(model), sandbox, sight)

    try:
        model, sight, facts = await asyncio.to_thread(load)
    except ForetellError:
        raise
    except Exception as error:
        raise LoadError(f'"{Path(path).name}": {type(error).__name__}: {error}') from error
    hello = hello_of(facts, time.monotonic() - began)
    return LocalInstance(asyncio.get_running_loop(), model, hello.paces, sight), hello


def _close(model: Loaded) -> None:
    close = getattr(model, "close", None)
    if close is not None:
        close()


def _ignore(*_: Any) -> None:
    """Stand in for a callback that is not set yet."""

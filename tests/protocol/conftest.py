"""A server on real sockets in a thread of its own, with models whose answers can be foretold."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foretell.engine.engine import Engine
from foretell.engine.instance import Hello
from foretell.engine.limits import Limits
from foretell.errors import ArtifactInvalid, InferenceFailed
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.regression import Regression
from foretell.model.tasks.tensors import Tensors
from foretell.server.run import Server
from foretell.server.settings import ServerSettings
from foretell.signature import Column, Field, Signature, TensorSpec

Answer = Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]


class Held:
    """A model that answers only when it is told to."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.rows: list[int] = []


HELD = Held()


class Instance:
    """Answers in the loop, by a function."""

    on_answer: Any = None
    on_error: Any = None
    on_death: Any = None
    ready = True
    pid = 0

    def __init__(self, answer: Answer, held: Held | None = None) -> None:
        self._answer, self._held = answer, held
        self.in_flight = 0

    def send(self, job_id: int, inputs: dict[str, NDArray[Any]], rows: int) -> None:
        self.in_flight += 1
        if self._held is not None:
            self._held.rows.append(rows)
        asyncio.get_running_loop().call_soon(self._run, job_id, inputs)

    def _run(self, job_id: int, inputs: dict[str, NDArray[Any]]) -> None:
        if self._held is not None and not self._held.open.is_set():
            asyncio.get_running_loop().call_later(0.005, self._run, job_id, inputs)
            return
        self.in_flight -= 1
        try:
            outputs = self._answer(inputs)
        except InferenceFailed as error:
            self.on_error(self, job_id, error)
            return
        self.on_answer(self, job_id, outputs, 1000)

    def kill(self) -> None:
        self.ready = False


def _echo(inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    x = inputs["x"]
    with np.errstate(over="ignore"):
        return [x.sum(axis=1), x * 2]


def _kinds(inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    return [inputs[name] for name in KINDS]


def _fail(inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    raise InferenceFailed("/secret/path: it failed at 0xdeadbeef")


KINDS = (
    "BOOL",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
)
_X = (TensorSpec("x", "FP32", (-1, 3)),)
_HOUSE = Signature(
    (TensorSpec("input", "FP64", (-1, 3)),),
    (TensorSpec("price", "FP64", (-1,)),),
    (Field("area"), Field("town", "category", categories=("Bern", "Rom"), closed=True), Field("age", nullable=False)),
    {"input": (Column("area"), Column("town", "code"), Column("age"))},
)
MODELS: dict[str, tuple[Hello, Answer, Held | None]] = {
    "echo": (
        Hello("echo", Signature(_X, (TensorSpec("sum", "FP32", (-1,)), TensorSpec("twice", "FP32", (-1, 3)))),
              Tensors(("sum", "twice"))), _echo, None,
    ),
    "kinds": (
        Hello("kinds", Signature(tuple(TensorSpec(k, k, (-1,)) for k in KINDS),
                                 tuple(TensorSpec(f"{k}_out", k, (-1,)) for k in KINDS)),
              Tensors(tuple(f"{k}_out" for k in KINDS))), _kinds, None,
    ),
    "house": (
        Hello("house", _HOUSE, Regression()),
        lambda inputs: [np.nan_to_num(inputs["input"]) @ np.array([1.0, 1000.0, 0.1])], None,
    ),
    "pets": (
        Hello("pets", Signature(_X, (TensorSpec("label", "INT64", (-1,)), TensorSpec("p", "FP32", (-1, 3)))),
              Classification(("cat", "dog", "emu"), 0, 1, label_is_index=True)),
        lambda inputs: [inputs["x"].argmax(axis=1), inputs["x"]], None,
    ),
    "mirror": (
        Hello("mirror", Signature((TensorSpec("x", "FP32", (-1, -1)),), (TensorSpec("twice", "FP32", (-1, -1)),)),
              Tensors(("twice",))), lambda inputs: [inputs["x"] * 2], None,
    ),
    "held": (Hello("held", Signature(_X, (TensorSpec("sum", "FP32", (-1,)),)), Regression()),
             lambda inputs: [inputs["x"].sum(axis=1)], HELD),
    "failing": (Hello("failing", Signature(_X, (TensorSpec("sum", "FP32", (-1,)),)), Regression()), _fail, None),
}  # fmt: skip


async def _start(
    path: Path, *, trust: bool = False, threads: int = 1, memory_bytes: int | None = None
) -> tuple[Any, Hello]:
    name = path.stem
    if name not in MODELS:
        raise ArtifactInvalid(f'"{path.name}": broken on purpose')
    hello, answer, held = MODELS[name]
    return Instance(answer, held), hello


class Running:
    """A server in a thread."""

    def __init__(self, paths: list[Path], settings: ServerSettings, limits: Limits, tracer: Any = None) -> None:
        self._paths, self._settings, self._limits, self._tracer = paths, settings, limits, tracer
        self._up = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self.server: Server
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self._thread.start()
        assert self._up.wait(20)

    async def _main(self) -> None:
        self.loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.server = Server(Engine(_start, limits=self._limits), self._settings, self._tracer)
        await self.server.bind()
        await self.server.load(self._paths)
        self._up.set()
        await self._stop.wait()
        await self.server.close()

    @property
    def port(self) -> int:
        assert self.server.http_port is not None
        return self.server.http_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.server.grpc_port}"

    def do(self, work: Any) -> Any:
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(20)

    def end(self) -> None:
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self._stop.set)

    def wait(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in (*MODELS, "broken"):
        (folder / f"{name}.onnx").write_bytes(b"")
    return folder


@pytest.fixture
def hold() -> Iterator[Held]:
    """The model that answers only when it is told to, told not to."""
    HELD.open.clear()
    HELD.rows.clear()
    yield HELD
    HELD.open.set()


@contextmanager
def serving(models: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(limits: Limits | None = None, only: tuple[str, ...] = (), tracer: Any = None, **settings: Any) -> Running:
        paths = [models / f"{name}.onnx" for name in only] or [models]
        chosen = ServerSettings(**{"http_port": 0, "grpc_port": None} | settings)
        started.append(Running(paths, chosen, limits or Limits(), tracer))
        return started[-1]

    yield start
    for running in started:
        running.end()
    for running in started:
        running.wait()


@pytest.fixture(scope="module")
def serve(models: Path) -> Iterator[Callable[..., Running]]:
    """Start servers that are stopped when the file's tests are through."""
    with serving(models) as start:
        yield start


@pytest.fixture(scope="package")
def server(models: Path) -> Iterator[Running]:
    """One server with both doors, for everything that leaves no trace."""
    with serving(models) as start:
        yield start(grpc_port=0, admin=True)


@pytest.fixture(scope="package")
def aio_server(models: Path) -> Iterator[Running]:
    """The same with gRPC on the library's door."""
    pytest.importorskip("grpc")
    with serving(models) as start:
        yield start(grpc_port=0, admin=True, grpc_door="aio")


@pytest.fixture(params=["own", "aio"])
def grpc_server(request: pytest.FixtureRequest) -> Running:
    """Each of the two gRPC doors in turn."""
    found: Running = request.getfixturevalue("server" if request.param == "own" else "aio_server")
    return found

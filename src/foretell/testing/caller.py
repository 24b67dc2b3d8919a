"""The client: a server in a thread of this process, and the calls that ask it."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Coroutine, Mapping, Sequence
from json import JSONDecodeError, dumps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np

from foretell.engine.engine import Engine
from foretell.engine.limits import Limits
from foretell.errors import ConfigError, ForetellError
from foretell.protocol.status import Refused
from foretell.server.desk import HttpDesk
from foretell.server.doors import Doors
from foretell.server.settings import ServerSettings
from foretell.testing.fakes import FakeModel, starting
from foretell.testing.wire import Reply, Wire

__all__ = ["Client", "Reply", "client"]

_JSON, _ARROW = "application/json", "application/vnd.apache.arrow.stream"
T = TypeVar("T")


def client(
    *paths: str | Path,
    models: Mapping[str, FakeModel] | None = None,
    trust: bool = False,
    limits: Limits | None = None,
    settings: ServerSettings | None = None,
) -> Client:
    """Return a client of a server that is in this process. Close it, or use it in `with`.

    Args:
        paths: Artifacts, bundles, or folders of models, as for `foretell serve`.
        models: Stand-ins for more models, by name.
        trust: Whether files that may run code may be opened.
        limits: Of the engine.
        settings: Of the doors; where they would listen means nothing here.

    Raises:
        ConfigError: A path is not there or holds no model, or there is neither a path nor a model.

    Note:
        As on a server, a model that cannot be loaded does not raise here: its requests are refused, with the reason.
    """
    if not paths and not models:
        raise ConfigError("client: no model; give a path, or models={name: FakeModel(...)}")
    return Client([Path(p) for p in paths], models or {}, trust, limits, settings or ServerSettings())


class Client:
    """Asks the server in this process.

    Calls block. Threads may call at the same time: each call has a connection of its own, and the engine batches them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        models: Mapping[str, FakeModel],
        trust: bool,
        limits: Limits | None,
        settings: ServerSettings,
    ) -> None:
        self._folder = TemporaryDirectory(prefix="foretell-testing-")
        # The engine knows a model by where it lies.
        fakes = {Path(self._folder.name) / f"{name}.onnx": fake for name, fake in models.items()}
        for path in fakes:
            path.touch()
        self._idle: list[Wire] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="foretell-testing", daemon=True)
        self._thread.start()
        self._engine = Engine(starting(fakes), limits=limits, trust=trust)
        try:
            self._desk = self._do(self._open([*paths, *fakes], settings))
        except BaseException:
            self.close()
            raise

    def predict(self, model: str, rows: Any, *, version: str = "", timeout_ms: float | None = None) -> list[Any]:
        """Predict rows through `POST /v1/models/MODEL:predict`.

        Args:
            model: Its name.
            rows: A row as a dict, a list of dicts or lists, an array of shape (rows, fields). A pandas or polars frame
                or an Arrow table goes as Arrow. An encoded picture as bytes, or a list of them.
            version: Of the model; without it the default one.
            timeout_ms: End to end.

        Returns:
            A prediction for each row, as it is on the wire: a number, or a dict of `label`, `probability` and
            `probabilities`.

        Raises:
            ForetellError: What the server refused it with, of the same class.
        """
        of = f"/versions/{version}" if version else ""
        body, kind = _body_of(rows)
        headers = {"content-type": kind}
        if timeout_ms is not None:
            headers["x-request-timeout-ms"] = f"{timeout_ms:g}"
        reply = self.request("POST", f"/v1/models/{model}{of}:predict", body, headers)
        if reply.status != 200:
            raise _error_of(reply)
        found: list[Any] = reply.json()["predictions"]
        return found

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Reply:
        """Return the reply to GET."""
        return self.request("GET", path, None, headers)

    def post(
        self, path: str, *, json: Any = None, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Return the reply to POST: of `json` as JSON, or of `body`, whose `content-type` is in `headers`."""
        if json is not None:
            body, headers = dumps(json).encode(), {"content-type": _JSON, **(headers or {})}
        return self.request("POST", path, body, headers)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Return the reply to a request. `host` and `content-length` are added where they are not given.

        Raises:
            ConnectionResetError: The server closed the connection without an answer.
        """
        given = {"host": "localhost"} | {name.lower(): value for name, value in (headers or {}).items()}
        if body is not None:
            given.setdefault("content-length", str(len(body)))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items()), "\r\n"]
        return self._do(self._ask("\r\n".join(lines).encode("latin-1") + (body or b"")))

    def close(self) -> None:
        """End the models and the server's thread. Idempotent."""
        if self._loop.is_closed():
            return
        self._do(self._engine.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self._folder.cleanup()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise ConfigError("client: it is closed; make another")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self, paths: Sequence[Path], settings: ServerSettings) -> HttpDesk:
        doors = Doors(self._engine)
        desk = HttpDesk(self._engine, settings, doors)
        await self._engine.start(paths)
        doors.started = True
        return desk

    async def _ask(self, data: bytes) -> Reply:
        wire = self._idle.pop() if self._idle else Wire(self._desk)
        try:
            return await wire.ask(data)
        finally:
            if wire.is_idle:
                self._idle.append(wire)
            else:
                wire.close()


def _body_of(rows: Any) -> tuple[bytes, str]:
    """Return rows as a body, and its content type."""
    if hasattr(rows, "__arrow_c_stream__"):
        import pyarrow as pa

        table, sink = pa.table(rows), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return sink.getvalue().to_pybytes(), _ARROW
    if isinstance(rows, bytes):
        return rows, "application/octet-stream"
    if isinstance(rows, Mapping):
        rows = [rows]
    return dumps({"instances": _plain(rows)}).encode(), _JSON


def _plain(value: Any) -> Any:
    """Return rows as JSON has them: numpy's numbers as Python's, NaN as null."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return {"b64": b64encode(value).decode()}
    raise ConfigError(f"rows: {type(value).__name__} has no form in JSON; give numbers, texts, true, false or None")


def _error_of(reply: Reply) -> ForetellError:
    """Return the error that a server told of, as the class it was there."""
    try:
        told = reply.json()
    except JSONDecodeError:
        told = {}
    code, text = told.get("code", ""), told.get("error", f"status {reply.status}")
    kinds: list[type[ForetellError]] = [ForetellError]
    for kind in kinds:  # grows while it is walked: the tree, level by level
        if kind.code == code and "code" in vars(kind):
            return kind(text)
        kinds += kind.__subclasses__()
    return Refused(text, code=code, status=reply.status)

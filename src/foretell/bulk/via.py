"""Predicts by a running server: rows are prepared here, its model runs there, its outputs are read here.

1. facts     the server says what its model takes and gives, and the digest of it
2. prepare   as everywhere: a row that does not fit is refused here, with its place, and never sent
3. ask       tensors in the binary form of the Open Inference Protocol, as bulk, several requests under way
4. read      outputs as the model's task reads them, so that the columns are those of a local run

Knows no file and no thread of the job.
"""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from foretell.bulk.blocks import Answered, AnsweredPictures
from foretell.bulk.link import Link, Reply, line_of
from foretell.errors import ArtifactInvalid, ConfigError, InferenceFailed, InternalError, MachineError
from foretell.model.data.refusals import Refusal
from foretell.model.data.table import Prepared, TablePreparation
from foretell.model.describe import read_signature, read_task
from foretell.model.tasks.predictions import Predictions, Task
from foretell.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["KEY_VARIABLE", "Via", "via"]

KEY_VARIABLE = "FORETELL_API_KEY"
"""Variable of the environment with the key of the server, if it asks for one: a command line is for all to see."""

_PATIENCE_S = 120.0
_REQUEST_ROWS = 2048
_REQUEST_BYTES = 1 << 22
_UNDER_WAY = 8
"""Requests at once: enough that the server never waits for this side, few enough that its queue stays short."""
_LOOK_S = 5.0
"""So often it is asked whether the model is still the same."""
_TIMEOUT_MS = "60000"
_BINARY = "application/octet-stream"

Outputs = list[NDArray[Any]]


class Via:
    """The model of a server. Safe to use from several threads; close it."""

    def __init__(self, link: Link, name: str) -> None:
        """Ask a server what its model is.

        Args:
            link: To the server; closed with this.
            name: Of the model; empty: the only one.

        Raises:
            ConfigError: There is no such model, it takes no rows, or this is no server of Foretell.
            MachineError: No answer.
        """
        self._link = link
        self.name = name or self._only_name()
        self._base = f"/v2/models/{quote(self.name, safe='')}"
        self._version = self._newest()
        self._base += f"/versions/{quote(self._version, safe='')}"
        self.signature, self._task, self.digest = self._facts()
        if not self.signature.fields or self.signature.image is not None:
            raise ConfigError(f'"{self.url}": takes no rows of columns; --via is for models that do')
        self._preparation = TablePreparation(self.signature)
        self._pool = ThreadPoolExecutor(_UNDER_WAY, thread_name_prefix="foretell-via")
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        width = sum(max(spec.width, 1) * 8 for spec in self.signature.inputs)
        self._rows = max(1, min(_REQUEST_ROWS, _REQUEST_BYTES // width))

    @property
    def url(self) -> str:
        """Where the model is."""
        return f"{self._link.root}/v1/models/{self.name}"

    def predict(self, data: Any) -> Answered:
        """Predict rows given as dicts; see `Predictor`."""
        return self._answered(self._preparation.prepare(data))

    def predict_arrow(self, batch: pa.RecordBatch, first_row: int = 0) -> Answered:
        """Predict the rows of a batch; see `Predictor`.

        Raises:
            InvalidInput: A row does not fit the model.
            ConfigError: The server has another model under this name now.
            InferenceFailed: The model failed there.
            MachineError: The server does not answer for two minutes.
        """
        return self._answered(self._preparation.prepare_arrow(batch, first_row))

    def predict_pictures(self, pictures: Sequence[Any]) -> AnsweredPictures:
        """Refuse: see `__init__`."""
        raise InternalError("via: pictures were sent. This is a bug.")

    def refusals(self, data: Any) -> list[Refusal]:
        """Return all rows that `predict` would refuse; see `Model.refusals`."""
        return self._preparation.refusals(data)

    def info(self) -> dict[str, Any]:
        """Return plain facts, as `Model.info` does."""
        runner = {"kind": self.url, "file": "", "rows_from": 1}
        return {"name": self.name, "task": self._task.name, "runners": [runner], "digest": self.digest, "notes": []}

    def give_up(self) -> None:
        """End all requests under way, also from a signal handler; what waits for them raises."""
        self._link.close()

    def close(self) -> None:
        """Let go of requests under way, and of connections."""
        self._link.close()
        self._pool.shutdown(cancel_futures=True)

    def __enter__(self) -> Via:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answered(self, prepared: Prepared) -> Predictions:
        inputs, rows, notes = prepared
        self._look()
        starts = range(0, rows, self._rows)
        parts = [{name: array[at : at + self._rows] for name, array in inputs.items()} for at in starts]
        asked = [self._pool.submit(self._ask, part) for part in parts]
        try:
            answers = [future.result() for future in asked]
        finally:
            for future in asked:
                future.cancel()
        if not answers:
            return Predictions(self._task, [_empty(spec) for spec in self.signature.outputs], notes)
        return Predictions(self._task, [np.concatenate(c) for c in zip(*answers, strict=True)], notes)

    def _ask(self, inputs: dict[str, NDArray[Any]]) -> Outputs:
        rows = len(next(iter(inputs.values())))
        head, body = _message(inputs, self.signature)
        headers = {
            "content-type": _BINARY,
            "inference-header-content-length": str(head),
            "x-request-priority": "bulk",
            "x-request-timeout-ms": _TIMEOUT_MS,
        }
        reply = self._link.ask("POST", f"{self._base}/infer", body, headers)
        if reply.status == 413 and rows > 1:  # the server takes less at once
            halves = [{n: a[: rows // 2] for n, a in inputs.items()}, {n: a[rows // 2 :] for n, a in inputs.items()}]
            return [np.concatenate(c) for c in zip(*map(self._ask, halves), strict=True)]
        if reply.status != 200:
            raise self._refused(reply)
        return _outputs(reply, self.signature.outputs, rows)

    def _look(self) -> None:
        """Ask now and then whether the model is still the same: another one may be loaded under its name."""
        with self._lock:
            if time.monotonic() - self._looked < _LOOK_S:
                return
            self._looked = time.monotonic()
        if self._facts()[2] != self.digest:
            raise ConfigError(
                f'"{self.url}": version {self._version} has become another model; start the job anew with --overwrite'
            )

    def _facts(self) -> tuple[Signature, Task, str]:
        parameters = self._document(f"{self._base}/config").get("parameters", {})
        try:
            import orjson

            facts = {key: orjson.loads(parameters[key]["string_value"]) for key in ("signature", "task")}
            digest = str(parameters["digest"]["string_value"])
            return read_signature(facts["signature"]), read_task(facts["task"]), digest
        except (KeyError, TypeError, ValueError, ArtifactInvalid) as e:
            raise ConfigError(
                f'"{self.url}": does not say what its model is; expected a server of this version of Foretell'
            ) from e

    def _only_name(self) -> str:
        names = [str(name) for name in self._document("/v2/models").get("models", [])]
        if len(names) != 1:
            told = f"it serves {len(names)} models: {', '.join(names[:10])}"
            raise ConfigError(f'"{self._link.root}": {told}; name one: {self._link.root}/v1/models/NAME')
        return names[0]

    def _newest(self) -> str:
        versions = self._document(self._base).get("versions") or []
        if not versions:
            raise ConfigError(f'"{self.url}": no version of it is ready; see {self._link.root}/v1/models')
        return str(max(versions, key=lambda v: (int(v) if str(v).isdigit() else -1, str(v))))

    def _document(self, path: str) -> dict[str, Any]:
        import orjson

        reply = self._link.ask("GET", path)
        if reply.status != 200:
            raise self._refused(reply)
        try:
            found = orjson.loads(reply.body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError(f'"{self._link.root}{path}": got no JSON object; is this a server of Foretell?')
        return found

    def _refused(self, reply: Reply) -> ConfigError | InferenceFailed | MachineError:
        said = f'"{self._link.root}": {line_of(reply)}'
        if reply.status in (401, 403):
            return ConfigError(f"{said}; set {KEY_VARIABLE} to a key of the server")
        if reply.status >= 500:
            return InferenceFailed(f"{said}; the server's log has more")
        return ConfigError(f"{said} ({reply.status})")


def via(url: str, name: str = "", *, patience_s: float = _PATIENCE_S) -> Via:
    """Return the model of a running server.

    Args:
        url: Of the server, or of one of its models: `http://host:8000[/v1/models/NAME]`.
        name: Of the model, where the URL names none.
        patience_s: How long a server may not answer before the job ends.

    Raises:
        ConfigError: It is no such URL, or the server has no such model.
        MachineError: No answer.
    """
    if importlib.util.find_spec("orjson") is None:
        raise ConfigError("--via: needs the library orjson, which is not installed; pip install 'foretell[serve]'")
    key = os.environ.get(KEY_VARIABLE)
    link = Link(url, {"authorization": f"Bearer {key}"} if key else {}, patience_s=patience_s)
    path = urlsplit(url).path.strip("/").split("/")
    if path[:2] in (["v1", "models"], ["v2", "models"]) and len(path) == 3:
        name = unquote(path[2].partition(":")[0])
    elif path != [""]:
        raise ConfigError(f'"{url}": expected http://host:port, or http://host:port/v1/models/NAME')
    try:
        return Via(link, name)
    except BaseException:
        link.close()
        raise


def _message(inputs: dict[str, NDArray[Any]], signature: Signature) -> tuple[int, bytes]:
    """Return the length of the JSON of a request, and its JSON and tensors."""
    import orjson

    from foretell.protocol.tensors import to_raw

    told, raws = [], []
    for spec in signature.inputs:
        array = inputs[spec.name]
        raws.append(to_raw(array))
        parameters = {"binary_data_size": len(raws[-1])}
        told.append(
            {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape), "parameters": parameters}
        )
    head = orjson.dumps({"inputs": told, "parameters": {"binary_data_output": True}})
    return len(head), b"".join([head, *raws])


def _outputs(reply: Reply, specs: Sequence[TensorSpec], rows: int) -> Outputs:
    """Return the outputs of an answer, in the order of the signature."""
    import orjson

    from foretell.protocol.tensors import from_raw

    try:
        at = int(reply.headers["inference-header-content-length"])
        found, rest = {}, memoryview(reply.body)[at:]
        for told in orjson.loads(reply.body[:at])["outputs"]:
            size = told["parameters"]["binary_data_size"]
            found[told["name"]] = (told["shape"], rest[:size])
            rest = rest[size:]
        arrays = []
        for spec in specs:
            shape, raw = found[spec.name]
            count = int(np.prod(shape))
            if shape[0] != rows:
                raise ValueError(f"{shape[0]} rows")
            arrays.append(from_raw(bytes(raw) if spec.datatype == "BYTES" else raw, shape, count, spec))
    except (KeyError, TypeError, ValueError, IndexError) as e:
        raise MachineError(f"the server's answer to {rows} rows cannot be read ({e}); is something between?") from e
    return arrays


def _empty(spec: TensorSpec) -> NDArray[Any]:
    from foretell.dtypes import dtype_of

    return np.empty((0, *(max(d, 0) for d in spec.shape[1:])), dtype_of(spec.datatype))

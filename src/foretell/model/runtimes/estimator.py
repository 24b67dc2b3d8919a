"""The runtime of an estimator that has no graph: it runs itself, in a boxed-in child process.

Its file runs code when opened, so a runner must be trusted. A process that died is started once more for the call;
then the call fails. Knows nothing of estimators.
"""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.errors import ArtifactUntrusted, InferenceFailed, LoadError
from foretell.model.runtimes.base import Runner
from foretell.model.runtimes.boxed import Boxed
from foretell.model.runtimes.frames import pack_array, unpack_array
from foretell.signature import Signature

__all__ = ["EstimatorRuntime", "open"]


class EstimatorRuntime:
    """Passes batches to the process that holds the estimator. See `Runtime`."""

    def __init__(self, runner: Runner, signature: Signature) -> None:
        self._runner, self._signature = runner, signature
        self._lock = threading.Lock()
        self._closed = False
        self._boxed = self._start()

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Runtime.infer`."""
        payloads = [pack_array(_sendable(inputs[spec.name])) for spec in self._signature.inputs]
        boxed = self._living()
        try:
            return self._answer(boxed, payloads)
        except LoadError as error:
            if boxed.alive:
                raise InferenceFailed(str(error)) from error
        try:
            return self._answer(self._living(), payloads)
        except LoadError as error:
            raise InferenceFailed(f"{error}, twice") from error

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            self._boxed.close()

    def _living(self) -> Boxed:
        """Return the process, started again if it died."""
        with self._lock:
            if self._closed:
                raise InferenceFailed(f'"{self._runner.file}": the model is closed')
            if not self._boxed.alive:
                self._boxed.close()
                self._boxed = self._start()
            return self._boxed

    def _start(self) -> Boxed:
        boxed = Boxed(self._runner.file)
        header = {
            "command": "host",
            "kind": self._runner.options.get("kind", "pickle"),
            "trust": self._runner.trusted,
            "fields": [asdict(f) for f in self._signature.fields],
            "named": self._signature.named,
        }
        try:
            boxed.ask(header, [self._runner.content], doing="opening it")
        except BaseException:
            boxed.close()
            raise
        return boxed

    def _answer(self, boxed: Boxed, payloads: list[bytes]) -> list[NDArray[Any]]:
        _, contents = boxed.ask({"command": "infer"}, payloads, doing="predicting")
        arrays = [unpack_array(c) for c in contents]
        if len(arrays) != len(self._signature.outputs):
            raise InferenceFailed(
                f'"{self._runner.file}": {len(arrays)} outputs, expected {len(self._signature.outputs)}'
            )
        return [np.asarray(a, dtype_of(spec.datatype)) for a, spec in zip(arrays, self._signature.outputs, strict=True)]


def open(runner: Runner, signature: Signature, threads: int = 1) -> EstimatorRuntime:
    """Start a process that holds the estimator.

    Raises:
        ArtifactUntrusted: The runner is not trusted.
        LoadError: The estimator cannot be constructed.
    """
    if not runner.trusted:
        raise ArtifactUntrusted(
            f'"{runner.file}": the estimator itself runs here, and opening it runs whatever code is in it; '
            "if you made it yourself, pass --trust (trust=True in Python)"
        )
    return EstimatorRuntime(runner, signature)


def _sendable(array: NDArray[Any]) -> NDArray[Any]:
    """Return texts as an array of fixed width, which needs no pickle."""
    if array.dtype != object:
        return array
    return np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else v or "" for v in array], np.str_)

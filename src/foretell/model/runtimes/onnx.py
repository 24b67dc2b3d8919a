"""Runs ONNX models in ONNX Runtime, on the processor.

The bytes have been checked by `formats/onnx.py`, or came out of a bundle with its digest: nothing here opens a file.
"""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, InferenceFailed, OutOfMemory, RuntimeMissing
from foretell.model.runtimes.base import Runner
from foretell.signature import Signature

__all__ = ["EvenRows", "FixedBatch", "OnnxRuntime", "open"]

_SENSITIVE = tuple(
    b"\x22%c%b" % (len(name), name)  # as a node of a graph has the name of its operator
    for name in (b"Exp", b"Log", b"LogSoftmax", b"Sigmoid", b"Softmax", b"Softplus", b"Tanh", b"SVMRegressor")
)
_LOG = _SENSITIVE[1]
_TREES = b"TreeEnsemble"
_NO_MEMORY = re.compile("Failed to allocate memory|bad_alloc")
"""How ONNX Runtime says that it got no memory: as a failure like any other."""
_SMALL_BYTES = 1 << 20
"""Graphs up to this size answer a few more rows in no time; so do trees of any size for copies of a row."""


class OnnxRuntime:
    """An ONNX Runtime session. Several threads may run it at once."""

    def __init__(self, session: Any, outputs: list[str], name: str) -> None:
        # The session's own `run` checks names and devices in Python first, which takes longer than a small
        # model does; the native session under it checks names, types and shapes again.
        self._session = session
        self._run = getattr(session, "_sess", session).run
        self._outputs = outputs
        self._name = name
        self._failures = _failures()

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Runtime.infer`."""
        try:
            outputs: list[NDArray[Any]] = self._run(self._outputs, inputs, None)
        except self._failures as error:
            kind = OutOfMemory if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) else InferenceFailed
            raise kind(f'"{self._name}": {_one_line(error)}') from error
        return outputs

    def close(self) -> None:
        """Let the session go. Idempotent."""
        self._session = None
        self._run = _closed


class FixedBatch:
    """A model whose batch dimension is a number, not free: run it that many rows at a time.

    The last call is filled up with copies of its last row, and their answers are cut off again.
    """

    def __init__(self, runtime: OnnxRuntime, batch_rows: int) -> None:
        self._runtime = runtime
        self._batch_rows = batch_rows

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run rows in calls of the fixed number; see `Runtime.infer`."""
        rows, step = len(next(iter(inputs.values()))), self._batch_rows
        if rows == step:
            return self._runtime.infer(inputs)
        parts = []
        for at in range(0, rows, step):
            chunk = {name: _filled(array[at : at + step], step) for name, array in inputs.items()}
            outputs = self._runtime.infer(chunk)
            if any(output.ndim == 0 or len(output) != step for output in outputs):
                raise InferenceFailed(
                    f"the model takes exactly {step} rows and does not answer them one by one; got {rows} rows"
                )
            parts.append([output[: rows - at] for output in outputs])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def close(self) -> None:
        """Close the session. Idempotent."""
        self._runtime.close()


class EvenRows:
    """A model whose kernels round the last elements otherwise: run it on a multiple of a few rows.

    ONNX Runtime computes float64 functions two elements at a time and what is left over by another library, and
    Softmax of one row by another sum than that of two, so the same row would differ in its last bit alone and in
    company. The call is filled up with copies of its last row, and their answers are cut off again.
    """

    def __init__(self, runtime: OnnxRuntime, step: int) -> None:
        self._runtime = runtime
        self._step = step

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Runtime.infer`."""
        rows = len(next(iter(inputs.values())))
        count = rows + -rows % self._step
        if count == rows:
            return self._runtime.infer(inputs)
        outputs = self._runtime.infer({name: _filled(array, count) for name, array in inputs.items()})
        return [output[:rows] if output.ndim and len(output) == count else output for output in outputs]

    def close(self) -> None:
        """Close the session. Idempotent."""
        self._runtime.close()


def open(runner: Runner, signature: Signature, threads: int = 1) -> OnnxRuntime | FixedBatch | EvenRows:
    """Open a session on `threads` processors; see `open_runtime`."""
    # Since 1.31 it gathers events in the home of the user, to be sent to its makers, unless it is told not to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise RuntimeMissing("onnxruntime is not installed; run: pip install onnxruntime") from error
    try:
        session = onnxruntime.InferenceSession(
            # Its fallback prints, and tries the same provider again.
            runner.content,
            _options(onnxruntime, threads),
            providers=["CPUExecutionProvider"],
            enable_fallback=0,
        )
    except _failures() as error:
        raise ArtifactInvalid(f'"{runner.file}": ONNX Runtime refuses it: {_one_line(error)}') from error
    _check_names(session, signature, runner.file)
    runtime = OnnxRuntime(session, [spec.name for spec in signature.outputs], runner.file)
    batch_rows = {spec.shape[0] if spec.shape else 0 for spec in signature.inputs}
    fixed = batch_rows.pop() if len(batch_rows) == 1 else -1
    if fixed > 0:
        return FixedBatch(runtime, fixed)
    step = _steady_rows(runner.content, signature)
    return EvenRows(runtime, step) if step > 1 else runtime


def _steady_rows(content: bytes, signature: Signature) -> int:
    """Return of how many rows the calls of a graph must be a multiple, for a row to be answered alike in any of them.

    Measured, operator by operator and estimator by estimator: with one thread, products of matrices, trees and
    functions of float32 do not depend on the rows; functions of float64 do, and Log.
    """
    if any(not spec.shape or spec.shape[0] >= 0 for spec in (*signature.inputs, *signature.outputs)):
        return 1
    if len(content) > _SMALL_BYTES and _TREES not in content:
        return 1
    if _LOG in content:
        return 4
    is_wide = any(spec.datatype == "FP64" for spec in signature.outputs)
    return 2 if is_wide and any(name in content for name in _SENSITIVE) else 1


def _options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Bytes can be a valid ONNX file and a file of ONNX Runtime's own, unchecked format at once.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if threads > 1:
        # Waiting threads would otherwise keep their processors busy between calls.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _check_names(session: Any, signature: Signature, file: str) -> None:
    """Check that the session takes and gives what the signature says, so that a call cannot fail on it."""
    for what, specs, found in (
        ("input", signature.inputs, [i.name for i in session.get_inputs()]),
        ("output", signature.outputs, [o.name for o in session.get_outputs()]),
    ):
        missing = [spec.name for spec in specs if spec.name not in found]
        if missing or (what == "input" and len(specs) != len(found)):
            raise ArtifactInvalid(
                f'"{file}": its {what}s are {found}, the signature says {[s.name for s in specs]}; convert it again'
            )


@cache
def _failures() -> tuple[type[BaseException], ...]:
    """Return everything ONNX Runtime raises; its own classes have no common one."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    own = [c for c in vars(native).values() if isinstance(c, type) and issubclass(c, Exception)]
    return (*own, RuntimeError, ValueError, TypeError, MemoryError, UnicodeDecodeError)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    # "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions ..."
    text = text.rpartition("[ONNXRuntimeError] : ")[2] if text.startswith("[ONNXRuntimeError]") else text
    return text if len(text) <= 300 else text[:297] + "..."


def _filled(rows: NDArray[Any], count: int) -> NDArray[Any]:
    if len(rows) == count:
        return rows
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])


def _closed(*_: Any) -> Any:
    raise InferenceFailed("the model is closed; load it again")

"""Run a model in XGBoost's own library: slower to answer one row than a graph, faster for many.

The library is called through its C interface (`xgboost/c_api.h`). Its Python package imports scikit-learn,
pandas and more, which takes two seconds of a process that only predicts, and 0.2 ms of every call.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, InferenceFailed, RuntimeMissing
from foretell.model.runtimes.base import Runner, Runtime
from foretell.signature import Signature

__all__ = ["XGBoostRuntime", "open", "softmax"]

_VALUE, _MARGIN = 0, 1
"""Kinds of prediction, as `XGBoosterPredictFromDense` counts them."""


def open(runner: Runner, signature: Signature, threads: int = 1) -> Runtime:
    """Open a runner of kind `xgboost`; its options are `rounds` and `softmax`.

    The content must have been read by `trees.xgboost.read`, since the library believes what is in it.

    Raises:
        RuntimeMissing: xgboost is not installed.
        ArtifactInvalid: xgboost refuses the content.
    """
    return XGBoostRuntime(runner.content, signature, runner.options, threads)


class XGBoostRuntime:
    """A booster of trees and what its outputs lack."""

    def __init__(self, content: bytes, signature: Signature, options: Mapping[str, Any], threads: int) -> None:
        self._library = _library()
        self._handle = ctypes.c_void_p()
        self._features = signature.inputs[0].width
        self._width = signature.outputs[0].width
        self._softmax = bool(options.get("softmax", False))
        config = {
            "type": _MARGIN if self._softmax else _VALUE,
            "training": False,
            "iteration_begin": 0,
            "iteration_end": int(options.get("rounds", 0)),
            "missing": float("nan"),
            "strict_shape": True,
            "cache_id": 0,
        }
        self._config = json.dumps(config).encode()
        calls: tuple[tuple[Any, ...], ...] = (
            (self._library.XGBoosterCreate, None, ctypes.c_uint64(0), ctypes.byref(self._handle)),
            (self._library.XGBoosterLoadModelFromBuffer, self._handle, content, ctypes.c_uint64(len(content))),
            (self._library.XGBoosterSetParam, self._handle, b"nthread", str(threads).encode()),
            (self._library.XGBoosterSetParam, self._handle, b"verbosity", b"0"),
        )
        for call, *arguments in calls:
            if call(*arguments) != 0:
                raise ArtifactInvalid(f"xgboost refuses the model: {self._last_error()}")

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Runtime.infer`."""
        matrix = inputs["features"]
        # The library reads beyond the end of a matrix that is too narrow.
        if matrix.ndim != 2 or matrix.shape[1] != self._features:
            raise InferenceFailed(f"features: shape {matrix.shape}, the model takes (-1, {self._features})")
        found = self._predict(matrix)
        if self._softmax:
            found = softmax(found)
        if self._width == 2 and found.shape[1] == 1:
            found = np.concatenate([1 - found, found], axis=1)
        return [found.reshape(len(matrix), self._width)]

    def close(self) -> None:
        """Free the booster. Idempotent."""
        handle, self._handle = self._handle, ctypes.c_void_p()
        if handle.value is not None:
            self._library.XGBoosterFree(handle)

    __del__ = close

    def _predict(self, matrix: NDArray[Any]) -> NDArray[Any]:
        shape, rank, result = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64(), ctypes.POINTER(ctypes.c_float)()
        interface = json.dumps(matrix.__array_interface__).encode()
        failed = self._library.XGBoosterPredictFromDense(
            self._handle,
            interface,
            self._config,
            None,
            ctypes.byref(shape),
            ctypes.byref(rank),
            ctypes.byref(result),
        )
        if failed:
            raise InferenceFailed(f"xgboost: {self._last_error()}")
        found = np.ctypeslib.as_array(result, tuple(shape[i] for i in range(rank.value)))
        # The library owns the memory, and this thread's next call writes over it.
        return found.reshape(len(matrix), -1).copy()

    def _last_error(self) -> str:
        """Return the message without the stack trace that the library adds."""
        text: bytes = self._library.XGBGetLastError() or b""
        return text.decode(errors="replace").strip().split("\n", 1)[0][:200]


def softmax(margins: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities (rows, classes) from margins, as XGBoost's scikit-learn classes do for `multi:softmax`."""
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


@cache
def _library() -> ctypes.CDLL:
    """Load the library that the installed package brings, without importing the package."""
    found = find_spec("xgboost")
    if found is None or not found.submodule_search_locations:
        raise RuntimeMissing("xgboost is not installed, this model runs in it: pip install 'foretell[xgboost]'")
    name = {"win32": "xgboost.dll", "darwin": "libxgboost.dylib"}.get(sys.platform, "libxgboost.so")
    path = Path(found.submodule_search_locations[0]) / "lib" / name
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise RuntimeMissing(
            f"xgboost: {name} cannot be loaded ({error}); install it anew: pip install --force-reinstall xgboost"
        ) from error
    library.XGBGetLastError.restype = ctypes.c_char_p
    return library

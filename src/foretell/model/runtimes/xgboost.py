"""Run a model in XGBoost itself: slower to answer one row than a graph, faster for many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, InferenceFailed, RuntimeMissing
from foretell.model.runtimes.base import Runner, Runtime
from foretell.signature import Signature

__all__ = ["XGBoostRuntime", "load", "open", "softmax"]


def load(content: bytes, threads: int = 0) -> Any:
    """Return an `xgboost.Booster`; 0 threads is all of them.

    The content must have been read by `trees.xgboost.read`, since the library believes what is in it.

    Raises:
        RuntimeMissing: xgboost is not installed.
        ArtifactInvalid: xgboost refuses the content.
    """
    try:
        import xgboost
    except ModuleNotFoundError as error:
        raise RuntimeMissing(
            "xgboost is not installed, this model runs in it: pip install 'foretell[xgboost]'"
        ) from error
    try:
        booster = xgboost.Booster()
        booster.load_model(bytearray(content))
        booster.set_param({"nthread": threads, "verbosity": 0})
    except xgboost.core.XGBoostError as error:
        raise ArtifactInvalid(f"xgboost refuses the model: {_first_line(error)}") from error
    return booster


def open(runner: Runner, signature: Signature, threads: int = 1) -> Runtime:
    """Open a runner of kind `xgboost`; its options are `rounds` and `softmax`."""
    return XGBoostRuntime(load(runner.content, threads), signature, runner.options)


class XGBoostRuntime:
    """A booster of trees and what its outputs lack."""

    def __init__(self, booster: Any, signature: Signature, options: Mapping[str, Any]) -> None:
        self._booster = booster
        self._rounds = int(options.get("rounds", 0))
        self._softmax = bool(options.get("softmax", False))
        self._features = signature.inputs[0].width
        self._width = signature.outputs[0].width

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Runtime.infer`."""
        import xgboost

        matrix = inputs["features"]
        # The library reads beyond the end of a matrix that is too narrow.
        if matrix.ndim != 2 or matrix.shape[1] != self._features:
            raise InferenceFailed(f"features: shape {matrix.shape}, the model takes (-1, {self._features})")
        try:
            found = self._booster.inplace_predict(
                matrix,
                iteration_range=(0, self._rounds),
                predict_type="margin" if self._softmax else "value",
                validate_features=False,
                strict_shape=True,
            )
        except xgboost.core.XGBoostError as error:
            raise InferenceFailed(f"xgboost: {_first_line(error)}") from error
        if self._softmax:
            found = softmax(found)
        if self._width == 2 and found.shape[1] == 1:
            found = np.concatenate([1 - found, found], axis=1)
        return [found.reshape(len(matrix), self._width)]

    def close(self) -> None:
        """Let the booster go."""
        self._booster = None


def softmax(margins: NDArray[Any]) -> NDArray[Any]:
    """Return probabilities (rows, classes) from margins, as XGBoost's scikit-learn classes do for `multi:softmax`."""
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _first_line(error: Exception) -> str:
    """Return the message without the stack trace that the library adds."""
    return str(error).strip().split("\n", 1)[0][:200]

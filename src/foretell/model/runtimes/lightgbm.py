"""Run a model in LightGBM itself: the only way where leaves are linear functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, InferenceFailed, RuntimeMissing
from foretell.model.runtimes.base import Runner, Runtime
from foretell.signature import Signature

__all__ = ["LightGBMRuntime", "load", "open"]


def load(content: bytes) -> Any:
    """Return a `lightgbm.Booster`.

    The content must have been read by `trees.lightgbm.read`, since the library believes what is in it.

    Raises:
        RuntimeMissing: lightgbm is not installed.
        ArtifactInvalid: lightgbm refuses the content.
    """
    try:
        import lightgbm
    except ModuleNotFoundError as error:
        raise RuntimeMissing(
            "lightgbm is not installed, this model runs in it: pip install 'foretell[lightgbm]'"
        ) from error
    try:
        return lightgbm.Booster(model_str=content.decode("utf-8"))
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise ArtifactInvalid(f"lightgbm refuses the model: {error}") from error


def open(runner: Runner, signature: Signature, threads: int = 1) -> Runtime:
    """Open a runner of kind `lightgbm`; it has no options."""
    return LightGBMRuntime(load(runner.content), signature, threads)


class LightGBMRuntime:
    """A booster and what its outputs lack."""

    def __init__(self, booster: Any, signature: Signature, threads: int) -> None:
        self._booster = booster
        self._threads = threads
        self._features = signature.inputs[0].width
        self._width = signature.outputs[0].width

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Runtime.infer`."""
        import lightgbm

        matrix = inputs["features"]
        if matrix.ndim != 2 or matrix.shape[1] != self._features:
            raise InferenceFailed(f"features: shape {matrix.shape}, the model takes (-1, {self._features})")
        if not len(matrix):
            return [np.zeros((0, self._width))]
        try:
            found = np.asarray(self._booster.predict(matrix, num_threads=self._threads))
        except lightgbm.basic.LightGBMError as error:
            raise InferenceFailed(f"lightgbm: {error}") from error
        found = found.reshape(len(matrix), -1)
        if self._width == 2 and found.shape[1] == 1:
            found = np.concatenate([1 - found, found], axis=1)
        return [found]

    def close(self) -> None:
        """Let the booster go."""
        self._booster = None

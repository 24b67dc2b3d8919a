"""Run a model in CatBoost itself: the fastest way for many rows, and the only one for categories and text."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, InferenceFailed, RuntimeMissing
from foretell.model.runtimes.base import Runner, Runtime
from foretell.signature import Signature

__all__ = ["CatBoostRuntime", "files", "is_in_memory", "load", "open"]

_DESCRIPTORS = Path("/proc/self/fd")


def load(content: bytes, form: str) -> Any:
    """Return a `catboost.CatBoost`; the form is `cbm` or `json`.

    Raises:
        RuntimeMissing: catboost is not installed.
        ArtifactInvalid: catboost refuses the content.
    """
    try:
        import catboost
    except ModuleNotFoundError as error:
        raise RuntimeMissing(
            "catboost is not installed, this model runs in it: pip install 'foretell[catboost]'"
        ) from error
    model = catboost.CatBoost()
    try:
        if form == "cbm":
            return model.load_model(blob=content)
        with files(content) as (path,):  # Other forms than cbm are read from files only.
            return model.load_model(str(path), format=form)
    except catboost.CatBoostError as error:
        raise ArtifactInvalid(f"catboost refuses the model: {error}") from error


@contextmanager
def files(*contents: bytes) -> Iterator[tuple[Path, ...]]:
    """Give files of these contents, for a library that takes paths only; in memory where no folder can be written.

    A process that is boxed in may write nowhere, but what it holds in memory has a path too.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            paths = tuple(Path(folder, str(at)) for at in range(len(contents)))
        except OSError:
            if not hasattr(os, "memfd_create"):
                raise
            paths = tuple(_DESCRIPTORS / str(_in_memory(stack)) for _ in contents)
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        yield paths


def is_in_memory(path: Path) -> bool:
    """Whether a path that `files` gave is one that this process alone can open."""
    return path.parent == _DESCRIPTORS


def _in_memory(stack: ExitStack) -> int:
    descriptor = os.memfd_create("foretell-model")
    stack.callback(os.close, descriptor)
    return descriptor


def open(runner: Runner, signature: Signature, threads: int = 1) -> Runtime:
    """Open a runner of kind `catboost`.

    Its options are `form`, `prediction_type` (of CatBoost), and `category_columns` and `text_columns`:
    the places of the columns of the tensor `texts` among all columns of the model.
    """
    return CatBoostRuntime(load(runner.content, str(runner.options["form"])), signature, runner.options, threads)


class CatBoostRuntime:
    """A model, and where the columns of its tensors go."""

    def __init__(self, model: Any, signature: Signature, options: Mapping[str, Any], threads: int) -> None:
        self._model = model
        self._type = str(options["prediction_type"])
        self._categories = list(options.get("category_columns", ()))
        self._texts = list(options.get("text_columns", ()))
        self._threads = threads
        self._widths = {spec.name: spec.width for spec in signature.inputs}
        self._width = signature.outputs[0].width
        self._dtype = np.float32 if signature.outputs[0].datatype == "FP32" else np.float64

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch; see `Runtime.infer`."""
        import catboost

        for name, width in self._widths.items():
            if inputs[name].ndim != 2 or inputs[name].shape[1] != width:
                raise InferenceFailed(f"{name}: shape {inputs[name].shape}, the model takes (-1, {width})")
        rows = len(next(iter(inputs.values())))
        if not rows:
            return [np.zeros((0, self._width), self._dtype)]
        try:
            data = self._pool(inputs)
            found = self._model.predict(data, prediction_type=self._type, thread_count=self._threads)
        except catboost.CatBoostError as error:
            raise InferenceFailed(f"catboost: {str(error)[:200]}") from error
        return [np.asarray(found, self._dtype).reshape(rows, self._width)]

    def _pool(self, inputs: dict[str, NDArray[Any]]) -> Any:
        """Return the matrix, or with strings a pool whose columns are in the order of the model."""
        if "texts" not in inputs:
            return inputs["features"]
        import catboost

        strings = sorted([*self._categories, *self._texts])
        count = sum(self._widths.values())
        numbers = [i for i in range(count) if i not in strings]
        table = np.empty((len(inputs["texts"]), count), dtype=object)
        table[:, strings] = inputs["texts"]
        if numbers:
            table[:, numbers] = inputs["features"]
        return catboost.Pool(table, cat_features=self._categories, text_features=self._texts)

    def close(self) -> None:
        """Let the model go."""
        self._model = None

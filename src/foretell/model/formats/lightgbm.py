"""LightGBM: a `.txt` file to a signature, a task, and ways to run it.

The library is needed only for models with linear leaves, and as reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.errors import ArtifactInvalid
from foretell.model.formats.base import Answers, Opened
from foretell.model.formats.boosters import (
    class_labels,
    frame,
    graph_runners,
    is_installed,
    median_s,
    missing,
    names_of,
    signature_of,
)
from foretell.model.runtimes import Runner
from foretell.model.runtimes import lightgbm as runtime
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.model.trees.lightgbm import LightGBMFile, read
from foretell.model.trees.lightgbm_tree import ZERO
from foretell.model.trees.links import Builder
from foretell.signature import Field, Label, Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["LightGBMReference", "open_model"]


def open_model(name: str, content: bytes, *, classes: Sequence[Label] | None = None) -> Opened:
    """Open a model that LightGBM saved as text.

    Args:
        name: Of the file, for messages.
        content: The file.
        classes: Labels in the order of the encoded classes. The file has none; without them they are 0, 1, 2 ...

    Raises:
        ArtifactInvalid: It is damaged, or not a model of LightGBM.
        RuntimeMissing: Only the library can run it, and it is not installed.
    """
    try:
        found = read(content)
        fields, named = _fields(found)
        task = _task(found, classes)
        width = 2 if found.link == "logistic" else found.targets
        signature = signature_of(fields, named, "FP64", task, width, "FP64")
        runners = _runners(found, content, signature)
    except ArtifactInvalid as error:
        raise ArtifactInvalid(f"{name}: {error}") from error
    reference = LightGBMReference(content, signature, task) if is_installed("lightgbm") else None
    return Opened("lightgbm", signature, task, runners, _about(found), _notes(found), reference)


def _fields(found: LightGBMFile) -> tuple[list[Field], bool]:
    names, named = names_of(found.feature_names, found.n_features)
    if found.pandas_categories and len(found.pandas_categories) != len(found.categorical):
        raise ArtifactInvalid(
            f"{len(found.pandas_categories)} pandas categories for {len(found.categorical)} categorical features: "
            "which columns they belong to is not in the file; train with unordered categories only"
        )
    known = dict(zip(found.categorical, found.pandas_categories, strict=False))
    return [_field(name, index, found, known.get(index)) for index, name in enumerate(names)], named


def _field(name: str, index: int, found: LightGBMFile, categories: tuple[Label, ...] | None) -> Field:
    if categories is not None:
        return Field(name, "category", categories=categories)
    low, high = found.ranges.get(index, (None, None))
    return Field(name, "integer" if index in found.categorical else "number", low=low, high=high)


def _task(found: LightGBMFile, classes: Sequence[Label] | None) -> Task:
    if found.classes:
        return Classification(class_labels(classes, (), found.classes), probability_output=0)
    return Regression(name="ranking" if found.objective in ("lambdarank", "rank_xendcg") else "regression")


def _runners(found: LightGBMFile, content: bytes, signature: Signature) -> tuple[Runner, ...]:
    if found.model is None:
        if not is_installed("lightgbm"):
            raise missing("lightgbm", "this model runs in it")
        return (Runner("lightgbm", "model.txt", content),)
    before: dict[str, Any] = {}
    if found.zero_is_missing:
        before = {"before": _zeros_to_nan(found), "before_output": "known"}
    return graph_runners(found.model, signature.outputs[0].name, None, **before)


def _zeros_to_nan(found: LightGBMFile) -> list[Any]:
    """Return nodes that give the trees NaN where a zero counts as missing."""
    from onnx import numpy_helper

    build = Builder("zeros_", "FP64")
    mask = np.zeros((1, found.n_features), np.bool_)
    mask[0, list(found.zero_is_missing)] = True
    is_zero = build.add("LessOrEqual", [build.add("Abs", ["features"]), build.constant(ZERO)])
    where = build.add("And", [is_zero, build.add("Constant", [], value=numpy_helper.from_array(mask))])
    build.add("Where", [where, build.constant(np.nan), "features"])
    return build.finish("known")


def _about(found: LightGBMFile) -> dict[str, Any]:
    about: dict[str, Any] = {"library": "lightgbm", "objective": found.objective or "custom", "trees": found.trees}
    return about | ({"nodes": found.model.nodes} if found.model is not None else {})


def _notes(found: LightGBMFile) -> tuple[str, ...]:
    notes = []
    if found.model is None:
        notes.append("leaves are linear functions (linear_tree): the model runs in lightgbm, not as a graph")
    if not found.objective:
        notes.append("the objective is the user's own: predictions are raw scores")
    return tuple(notes)


class LightGBMReference:
    """The booster, asked with a DataFrame or a matrix of float64."""

    def __init__(self, content: bytes, signature: Signature, task: Task) -> None:
        self._content = content
        self._signature = signature
        self._task = task

    @cached_property
    def _booster(self) -> Any:
        return runtime.load(self._content)

    def predict(self, rows: pa.Table) -> Answers:
        """Answer with numbers, or with labels and probabilities as LightGBM's scikit-learn classes give them."""
        found = np.asarray(self._booster.predict(self._matrix(rows)))
        if not isinstance(self._task, Classification):
            return Answers(found)
        probabilities = found if found.ndim == 2 else np.stack([1 - found, found], axis=1)
        classes = np.array(self._task.classes, dtype=object)
        return Answers(classes[probabilities.argmax(axis=1)], probabilities)

    def _matrix(self, rows: pa.Table) -> Any:
        return frame(rows, self._signature.fields, "lightgbm")

    def time_s(self, rows: pa.Table) -> float:
        """Return the median seconds of a prediction of these rows."""
        matrix = self._matrix(rows)
        return median_s(lambda: self._booster.predict(matrix))

    def close(self) -> None:
        """Do nothing: the booster goes with the object."""

"""XGBoost: a `.json` or `.ubj` file to a signature, a task, and ways to run it.

A model that stopped early predicts with its best rounds, as XGBoost's scikit-learn classes do.
The library is needed only for models whose leaves are vectors, for speed in bulk, and as reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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
from foretell.model.runtimes import LONG_CHUNK_ROWS, Runner
from foretell.model.runtimes.xgboost import softmax
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.model.trees.ensemble import Ensemble
from foretell.model.trees.graph import output_width
from foretell.model.trees.linear import linear_to_onnx
from foretell.model.trees.xgboost import XGBoostFile, read
from foretell.signature import Field, Kind, Label, Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["XGBoostReference", "open_model"]

LIBRARY_ROWS = 64
"""Rows of a call from which on the library is usually faster than ONNX Runtime."""
_CLASSIFIERS = ("binary:hinge", "binary:logistic", "multi:softmax", "multi:softprob")
_KINDS: dict[str, Kind] = {"float": "number", "q": "number", "int": "integer", "i": "boolean", "c": "category"}


def open_model(name: str, content: bytes, *, classes: Sequence[Label] | None = None) -> Opened:
    """Open a model that XGBoost saved as JSON or UBJSON.

    Args:
        name: Of the file, for messages.
        content: The file.
        classes: Labels in the order of the encoded classes. The file has none; without them they are 0, 1, 2 ...

    Raises:
        ArtifactInvalid: It is damaged, or not a model of XGBoost.
        RuntimeMissing: Only the library can run it, and it is not installed.
    """
    try:
        found = read(content)
        fields, named = _fields(found)
        task = _task(found, classes)
        signature = signature_of(fields, named, "FP32", task, _width(found), "FP32")
        runners = _runners(found, content, signature)
    except ArtifactInvalid as error:
        raise ArtifactInvalid(f"{name}: {error}") from error
    reference = XGBoostReference(content, signature, task, found) if is_installed("xgboost") else None
    return Opened("xgboost", signature, task, runners, _about(found), _notes(found), reference)


def _fields(found: XGBoostFile) -> tuple[list[Field], bool]:
    names, named = names_of(found.feature_names, found.n_features)
    types = found.feature_types or ("float",) * found.n_features
    return [_field(n, t, found.categories.get(i)) for i, (n, t) in enumerate(zip(names, types, strict=True))], named


def _field(name: str, kind: str, categories: tuple[Label, ...] | None) -> Field:
    if kind not in _KINDS:
        raise ArtifactInvalid(f'feature "{name}": type "{kind}", expected one of {", ".join(_KINDS)}')
    if kind == "c" and categories:  # The library refuses a category it has not seen.
        return Field(name, "category", categories=categories, closed=True)
    return Field(name, "integer" if kind == "c" else _KINDS[kind])


def _task(found: XGBoostFile, classes: Sequence[Label] | None) -> Task:
    if found.objective in _CLASSIFIERS and (found.objective.startswith("multi") or found.targets == 1):
        return Classification(class_labels(classes, (), max(found.targets, 2)), probability_output=0)
    return Regression(name="ranking" if found.objective.startswith("rank:") else "regression")


def _width(found: XGBoostFile) -> int:
    if found.objective == "binary:logistic" and found.targets == 1:
        return 2
    return output_width(found.model) if isinstance(found.model, Ensemble) else found.targets


def _runners(found: XGBoostFile, content: bytes, signature: Signature) -> tuple[Runner, ...]:
    options = {"rounds": found.used_rounds, "softmax": found.objective == "multi:softmax"}
    file = "model.ubj" if content[1:2] not in b'" \r\n\t' else "model.json"
    library = Runner("xgboost", file, content, chunk_rows=LONG_CHUNK_ROWS, options=options)
    if found.model is None:
        if not is_installed("xgboost"):
            raise missing("xgboost", "this model runs in it")
        return (library,)
    output = signature.outputs[0].name
    if not isinstance(found.model, Ensemble):
        return (Runner("onnxruntime", "model.onnx", linear_to_onnx(found.model, output)),)
    bulk = replace(library, rows_from=LIBRARY_ROWS) if is_installed("xgboost") else None
    return graph_runners(found.model, output, bulk)


def _about(found: XGBoostFile) -> dict[str, Any]:
    about: dict[str, Any] = {"library": f"xgboost {found.version}"}
    about |= {"booster": found.booster, "objective": found.objective}
    if isinstance(found.model, Ensemble):
        about |= {"trees": len(found.model.trees), "nodes": found.model.nodes}
    return about | {"rounds": found.used_rounds}


def _notes(found: XGBoostFile) -> tuple[str, ...]:
    notes = []
    if found.used_rounds < found.rounds:
        notes.append(f"training stopped early: the best {found.used_rounds} of {found.rounds} rounds predict")
    if found.model is None:
        notes.append("leaves are vectors (multi_output_tree): the model runs in xgboost, not as a graph")
    notes += [
        f'feature "{found.feature_names[index]}": xgboost stored category names outside ASCII damaged; give codes'
        for index, known in found.categories.items()
        if not known and found.feature_names
    ]
    return tuple(notes)


class XGBoostReference:
    """The booster, asked as XGBoost's scikit-learn classes ask it."""

    def __init__(self, content: bytes, signature: Signature, task: Task, found: XGBoostFile) -> None:
        self._content = content
        self._signature = signature
        self._task = task
        self._rounds = 0 if found.booster == "gblinear" else found.used_rounds
        self._margin = found.objective == "multi:softmax"

    @cached_property
    def _booster(self) -> Any:
        try:
            import xgboost
        except ModuleNotFoundError as error:
            raise missing("xgboost", "the proof asks it") from error
        booster = xgboost.Booster()
        booster.load_model(bytearray(self._content))
        booster.set_param({"verbosity": 0})
        return booster

    def predict(self, rows: pa.Table) -> Answers:
        """Answer with numbers, or with labels and probabilities."""
        found = self._ask(self._matrix(rows))
        if not isinstance(self._task, Classification):
            return Answers(found)
        classes = np.array(self._task.classes, dtype=object)
        if found.ndim == 1:
            return Answers(classes[(found > 0.5).astype(np.intp)], np.stack([1 - found, found], axis=1))
        return Answers(classes[found.argmax(axis=1)], found)

    def _matrix(self, rows: pa.Table) -> Any:
        return frame(rows, self._signature.fields, "xgboost")

    def _ask(self, matrix: Any) -> Any:
        """Predict through a DMatrix, which every booster takes."""
        import xgboost

        named = self._booster.feature_names is not None and isinstance(matrix, np.ndarray)
        extra = {"feature_names": self._booster.feature_names, "feature_types": self._booster.feature_types}
        data = xgboost.DMatrix(matrix, enable_categorical=True, **(extra if named else {}))
        found = self._booster.predict(data, iteration_range=(0, self._rounds), output_margin=self._margin)
        return softmax(found) if self._margin else found

    def time_s(self, rows: pa.Table) -> float:
        """Return the median seconds of a prediction of these rows."""
        matrix = self._matrix(rows)
        return median_s(lambda: self._ask(matrix))

    def close(self) -> None:
        """Do nothing: the booster goes with the object."""

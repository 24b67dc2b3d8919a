"""CatBoost: a `.cbm` or `.json` file to a signature, a task, and ways to run it.

Numeric models become graphs. A `.cbm` is read by the library, in a process of its own, since the library
may crash on a damaged one; a `.json` is read here. Models with categories or text run in the library.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.errors import ArtifactInvalid
from foretell.model.formats import catboost_json
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
from foretell.model.runtimes import catboost as runtime
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.model.trees.catboost import CatBoostFile, read
from foretell.model.trees.graph import output_datatype
from foretell.model.trees.links import Builder
from foretell.signature import Column, Field, Label, Signature, TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CatBoostReference", "cbm_to_json", "open_model"]

LIBRARY_ROWS = 32
"""Rows of a call from which on the library is usually faster than ONNX Runtime."""
_TIMEOUT_S = 300
_RANKING = ("Yeti", "Pair", "Query", "Stochastic", "LambdaMart", "Group")


def open_model(name: str, content: bytes, *, classes: Sequence[Label] | None = None) -> Opened:
    """Open a model that CatBoost saved as CBM or JSON.

    Args:
        name: Of the file, for messages.
        content: The file.
        classes: Labels in the order of the classes, in place of those in the file.

    Raises:
        ArtifactInvalid: It is damaged, or not a model of CatBoost.
        RuntimeMissing: Only the library can read or run it, and it is not installed.
    """
    form = "cbm" if content.startswith(b"CBM1") else "json"
    try:
        found = read(cbm_to_json(content) if form == "cbm" else content)
        task = _task(found, classes)
        signature = _signature(found, task)
        runners = _runners(found, content, form, signature)
    except ArtifactInvalid as error:
        raise ArtifactInvalid(f"{name}: {error}") from error
    reference = CatBoostReference(content, form, signature, task, found) if is_installed("catboost") else None
    return Opened("catboost", signature, task, runners, _about(found), _notes(found), reference)


def cbm_to_json(content: bytes) -> bytes:
    """Let the library turn CBM into JSON, in a process that may crash."""
    if not is_installed("catboost"):
        raise missing("catboost", "a .cbm file is read by it")
    with runtime.files(content, b"") as (source, target):
        if runtime.is_in_memory(source):
            # Boxed in, where no process can be started: this one was made for a model that may crash.
            _translate_here(source, target)
        else:
            _translate_apart(source, target)
        return target.read_bytes()


def _translate_here(source: Path, target: Path) -> None:
    try:
        catboost_json.translate(str(source), str(target))
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ArtifactInvalid(f"catboost cannot read it: {line[:200]}") from error


def _translate_apart(source: Path, target: Path) -> None:
    command = [sys.executable, "-I", catboost_json.__file__, str(source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ArtifactInvalid(f"catboost did not read it in {_TIMEOUT_S} s") from error
    if done.returncode != 0 or not target.stat().st_size:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = lines[-1][:200] if lines else f"it ended with status {done.returncode}"
        raise ArtifactInvalid(f"catboost cannot read it: {why}")


def _task(found: CatBoostFile, classes: Sequence[Label] | None) -> Task:
    if found.classes:
        return Classification(class_labels(classes, found.classes, len(found.classes)), probability_output=0)
    return Regression(name="ranking" if found.loss.startswith(_RANKING) else "regression")


def _signature(found: CatBoostFile, task: Task) -> Signature:
    given = [f.name for f in found.features]
    names, named = names_of(given if all(given) else (), len(given))
    fields = [
        Field(name) if f.kind == "number" else Field(name, "text", nullable=False)
        for name, f in zip(names, found.features, strict=True)
    ]
    datatype = output_datatype(found.model) if found.model is not None else "FP64"
    plain = signature_of(fields, named, "FP32", task, found.targets, datatype)
    if all(f.kind == "number" for f in found.features):
        return plain
    numbers = tuple(Column(f.name) for f in fields if f.kind == "number")
    texts = tuple(Column(f.name, "text") for f in fields if f.kind == "text")
    inputs = (TensorSpec("features", "FP32", (-1, len(numbers))), TensorSpec("texts", "BYTES", (-1, len(texts))))
    chosen = inputs if numbers else inputs[1:]
    columns = {spec.name: numbers if spec.name == "features" else texts for spec in chosen}
    return Signature(chosen, plain.outputs, plain.fields, columns, named)


def _options(found: CatBoostFile, form: str) -> Mapping[str, Any]:
    places = {kind: [i for i, f in enumerate(found.features) if f.kind == kind] for kind in ("category", "text")}
    options: dict[str, Any] = {"form": form, "prediction_type": _prediction_type(found)}
    return options | {f"{kind}_columns": columns for kind, columns in places.items() if columns}


def _prediction_type(found: CatBoostFile) -> str:
    """Return what the library is asked for, as its scikit-learn classes ask."""
    if found.classes or found.loss in ("MultiLogloss", "MultiCrossEntropy"):
        return "Probability"
    if found.loss in ("Poisson", "Tweedie"):
        return "Exponent"
    return "RMSEWithUncertainty" if found.loss == "RMSEWithUncertainty" else "RawFormulaVal"


def _runners(found: CatBoostFile, content: bytes, form: str, signature: Signature) -> tuple[Runner, ...]:
    library = Runner("catboost", f"model.{form}", content, chunk_rows=LONG_CHUNK_ROWS, options=_options(found, form))
    if found.model is None:
        if not is_installed("catboost"):
            raise missing("catboost", "this model runs in it")
        return (library,)
    bulk = replace(library, rows_from=LIBRARY_ROWS)
    build = Builder("wide_", "FP64")
    build.add("Cast", ["features"], to=11)  # TensorProto.DOUBLE: sums are float64 in the library.
    before: dict[str, Any] = {"before": build.finish("wide"), "before_output": "wide", "input_datatype": "FP32"}
    output = signature.outputs[0].name
    return graph_runners(found.model, output, bulk if is_installed("catboost") else None, **before)


def _about(found: CatBoostFile) -> dict[str, Any]:
    about: dict[str, Any] = {"library": "catboost", "loss": found.loss, "trees": found.trees}
    return about | ({"nodes": found.model.nodes} if found.model is not None else {})


def _notes(found: CatBoostFile) -> tuple[str, ...]:
    notes = []
    if any(f.kind != "number" for f in found.features):
        notes.append("categories or text: the model runs in catboost, not as a graph")
    elif found.model is None:
        notes.append(f"loss {found.loss}: the model runs in catboost, not as a graph")
    if found.threshold is not None and found.threshold != 0.5:
        notes.append(f"labels are the most probable class; the model's own threshold {found.threshold} is not applied")
    return tuple(notes)


class CatBoostReference:
    """The model, asked as CatBoost's scikit-learn classes ask it."""

    def __init__(self, content: bytes, form: str, signature: Signature, task: Task, found: CatBoostFile) -> None:
        self._content = content
        self._form = form
        self._signature = signature
        self._task = task
        self._found = found

    @cached_property
    def _model(self) -> Any:
        return runtime.load(self._content, self._form)

    def predict(self, rows: pa.Table) -> Answers:
        """Answer with numbers, or with labels and probabilities."""
        data = self._data(rows)
        found = np.asarray(self._model.predict(data, prediction_type=_prediction_type(self._found)))
        if not isinstance(self._task, Classification):
            return Answers(found)
        labels = np.asarray(self._model.predict(data, prediction_type="Class")).reshape(-1)
        given = {str(was): now for was, now in zip(self._found.classes, self._task.classes, strict=True)}
        return Answers(np.array([given[str(label)] for label in labels.tolist()], dtype=object), found)

    def _data(self, rows: pa.Table) -> Any:
        """Return a matrix, or with categories or text a pool made of a DataFrame's worth of objects."""
        fields = self._signature.fields
        if all(f.kind == "number" for f in fields):
            return frame(rows, fields, "catboost")
        import catboost

        table = np.empty((rows.num_rows, len(fields)), dtype=object)
        for index, field in enumerate(fields):
            column = rows.column(field.name)
            table[:, index] = column.to_pylist() if field.kind == "text" else frame(rows, [field], "catboost")[:, 0]
        places = {
            kind: [i for i, f in enumerate(self._found.features) if f.kind == kind] for kind in ("category", "text")
        }
        return catboost.Pool(table, cat_features=places["category"], text_features=places["text"])

    def time_s(self, rows: pa.Table) -> float:
        """Return the median seconds of a prediction of these rows."""
        data = self._data(rows)
        return median_s(lambda: self._model.predict(data, prediction_type=_prediction_type(self._found)))

    def close(self) -> None:
        """Do nothing: the model goes with the object."""

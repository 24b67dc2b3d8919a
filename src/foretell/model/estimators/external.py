"""The rule for all that has no rule of its own: skl2onnx writes it, in float64 or else in float32.

What it writes is tried at once in ONNX Runtime, which lacks float64 for some operators. Whether it is right is
judged later, on rows, with the whole graph.
"""

from __future__ import annotations

import warnings
from copy import copy
from typing import Any

import numpy as np

from foretell.model.estimators.compile import Compiler, Source
from foretell.model.estimators.graph import OPSET, Tensor
from foretell.model.estimators.refused import NoGraphError

__all__ = ["by_skl2onnx"]


def by_skl2onnx(compiler: Compiler, estimator: Any, source: Source, method: str) -> Tensor:
    """Write an estimator with skl2onnx.

    Raises:
        NoGraphError: It cannot.
    """
    name = type(estimator).__name__
    if type(estimator).__module__.partition(".")[0] != "sklearn":
        raise NoGraphError(f"{name} is not one of scikit-learn's, and has no graph")
    x = compiler.numbers(source)
    if compiler.dry:
        return _placeholder(compiler, estimator, x, method)
    tried = ""
    for datatype in ("FP64", "FP32"):
        given = compiler.graph.cast(x, datatype)
        try:
            model = _converted(estimator, given, method)
        except Exception as error:  # noqa: BLE001 - skl2onnx raises anything
            tried = tried or f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            continue
        if any(node.op_type.startswith("TreeEnsemble") for node in model.graph.node):
            raise NoGraphError(f"{name} has no graph (trees within it)")
        return _read(compiler, estimator, model, given, method)
    raise NoGraphError(f"{name} has no graph ({tried})")


def _placeholder(compiler: Compiler, estimator: Any, x: Tensor, method: str) -> Tensor:
    name = compiler.graph.name("later")
    if method == "predict" and (hasattr(estimator, "classes_") or _groups(estimator)):
        return Tensor(name, "INT64", 1)
    return Tensor(name, "FP64", _width(estimator, x, method))


def _groups(estimator: Any) -> bool:
    """Return whether it sorts rows into groups: clusters, or what is inside and what is not (1, -1)."""
    from sklearn.base import is_clusterer, is_outlier_detector

    return is_clusterer(estimator) or is_outlier_detector(estimator) or type(estimator).__name__.endswith("Mixture")


def _converted(estimator: Any, x: Tensor, method: str) -> Any:
    import onnxruntime
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    if type(estimator).__name__ == "KBinsDiscretizer" and estimator.encode == "onehot":
        estimator = copy(estimator)
        estimator.encode = "onehot-dense"
    kind = DoubleTensorType if x.datatype == "FP64" else FloatTensorType
    options: dict[str, Any] = {}
    if hasattr(estimator, "classes_"):
        options["zipmap"] = False
        if method == "decision_function":
            options["raw_scores"] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = to_onnx(
            estimator,
            initial_types=[("X", kind([None, x.width]))],
            options={id(estimator): options} if options else None,
            target_opset={"": OPSET, "ai.onnx.ml": 3},
        )
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    zeros = np.zeros((2, x.width), np.float64 if x.datatype == "FP64" else np.float32)
    session.run(None, {"X": zeros})
    return model


def _read(compiler: Compiler, estimator: Any, model: Any, x: Tensor, method: str) -> Tensor:
    """Return the output that a method is, in float64 or as positions of labels."""
    graph = compiler.graph
    outputs = graph.inside(model, x.name)
    infos = {o: i for o, i in zip(outputs, model.graph.output, strict=True)}
    labels = hasattr(estimator, "classes_") and method == "predict"
    chosen = outputs[0] if labels or len(outputs) == 1 or method in ("predict", "transform") else outputs[1]
    element = infos[chosen].type.tensor_type.elem_type
    if labels:
        return _positions(compiler, estimator, chosen, element)
    if method == "predict" and _groups(estimator):
        return _group(compiler, estimator, chosen)
    wide = chosen if element == 11 else graph.op("Cast", chosen, to=11)
    width = _width(estimator, x, method)
    flat = graph.op("Reshape", wide, graph.constant(np.array([-1, width], np.int64)))
    return Tensor(flat, "FP64", width)


def _positions(compiler: Compiler, estimator: Any, labels: str, element: int) -> Tensor:
    graph, classes = compiler.graph, np.asarray(estimator.classes_)
    if element == 8:
        keys: dict[str, Any] = {"keys_strings": [str(c) for c in classes]}
    else:
        keys = {"keys_int64s": [int(c) for c in classes]}
        labels = graph.op("Cast", labels, to=7)
    places = list(range(len(classes)))
    if keys.get("keys_int64s") != places:
        labels = graph.op("LabelEncoder", labels, domain="ai.onnx.ml", values_int64s=places, default_int64=-1, **keys)
    return Tensor(graph.op("Reshape", labels, graph.constant(np.array([-1, 1], np.int64))), "INT64", 1)


def _group(compiler: Compiler, estimator: Any, chosen: str) -> Tensor:
    """Return the position of a group: of -1 and 1 for a detector of outliers."""
    from sklearn.base import is_outlier_detector

    graph = compiler.graph
    place = graph.op("Cast", chosen, to=7)
    if is_outlier_detector(estimator):
        place = graph.op("Cast", graph.op("Greater", place, graph.constant(np.int64(0))), to=7)
    return Tensor(graph.op("Reshape", place, graph.constant(np.array([-1, 1], np.int64))), "INT64", 1)


def _width(estimator: Any, x: Tensor, method: str) -> int:
    """Ask the estimator itself how wide its answer is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = getattr(estimator, method)(np.zeros((2, x.width)))
    return int(np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer).reshape(2, -1).shape[1])

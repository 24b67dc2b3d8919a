"""ONNX files of many producers: what each takes and gives, and the same answers as the library that trained it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC

from foretell.errors import ArtifactInvalid, ArtifactUntrusted
from foretell.model.formats.base import Opened
from foretell.model.formats.onnx import open_model
from foretell.model.formats.onnx_fields import listed
from foretell.model.runtimes import open_runtime
from foretell.model.tasks.predictions import Predictions

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*did not converge.*"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)
SPECIES = np.array(["setosa", "versicolor", "virginica"])[Y]
XB, YB = load_breast_cancer(return_X_y=True)
XB = XB.astype(np.float32)
XD, YD = load_diabetes(return_X_y=True)
XD = XD.astype(np.float32)


def predict(opened: Opened, inputs: dict[str, NDArray[Any]]) -> Predictions:
    return Predictions(opened.task, open_runtime(opened.runners[0], opened.signature).infer(inputs))


def model_of(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: tuple[Any, ...] = (), **metadata: str
) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, metadata)
    return model.SerializeToString()


def value(name: str, shape: list[Any] | None, kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, array: Any) -> Any:
    return numpy_helper.from_array(np.asarray(array), name)


def to_onnx(model: Any, x: Any, **options: Any) -> bytes:
    from skl2onnx import to_onnx as convert

    return convert(model, x, options=options or None).SerializeToString()


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "logistic": lambda: LogisticRegression(max_iter=500),
    "forest": lambda: RandomForestClassifier(9, max_depth=4, random_state=0),
    "mlp": lambda: MLPClassifier(max_iter=50, random_state=0),
}


@pytest.mark.parametrize("labels", ["text", "integer", "binary"])
@pytest.mark.parametrize("zipmap", [True, False, "columns"])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_skl2onnx_classifiers(kind: str, zipmap: Any, labels: str) -> None:
    y = {"text": SPECIES, "integer": Y + 3, "binary": (Y > 0).astype(np.int64)}[labels]
    model = CLASSIFIERS[kind]().fit(X, y)
    opened = open_model("m.onnx", to_onnx(model, X[:1], zipmap=zipmap))
    assert opened.task.classes == tuple(model.classes_.tolist())
    assert [f.name for f in opened.signature.fields] == ["x0", "x1", "x2", "x3"]
    assert not opened.signature.named
    found = predict(opened, {"X": X})
    expected = model.predict_proba(X)
    probabilities = found.probabilities
    assert probabilities is not None
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    sure = np.sort(expected)[:, -1] - np.sort(expected)[:, -2] > 1e-3
    assert np.array_equal(found.values[sure], model.predict(X)[sure])
    assert set(found.to_columns()) == {"prediction", "probability"} | {f"probability_{c}" for c in model.classes_}


@pytest.mark.parametrize("model", [LinearSVC(), SVC(), LogisticRegression(max_iter=500)], ids=["linear", "svc", "raw"])
def test_scores_are_not_called_probabilities(model: Any) -> None:
    options: dict[str, Any] = {"zipmap": False} if isinstance(model, SVC) else {}
    if isinstance(model, LogisticRegression):
        options = {"zipmap": False, "raw_scores": True}
    opened = open_model("m.onnx", to_onnx(model.fit(X, SPECIES), X[:1], **options))
    found = predict(opened, {"X": X})
    assert found.probabilities is None
    assert "scores, not probabilities" in opened.notes[0]
    assert np.mean(found.labels == model.predict(X)) > 0.99


def test_per_column_inputs_of_all_kinds() -> None:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import BooleanTensorType, FloatTensorType, Int64TensorType, StringTensorType

    rows = {
        "age": [20.0, 31, 42, 55] * 5,
        "n": list(range(20)),
        "city": ["a", "b", "c", "a"] * 5,
        "old": [True, False] * 10,
    }
    frame = pd.DataFrame(rows)
    columns = [("n", StandardScaler(), ["age", "n"]), ("c", OneHotEncoder(handle_unknown="ignore"), ["city"])]
    model = make_pipeline(ColumnTransformer([*columns, ("b", "passthrough", ["old"])]), LogisticRegression())
    model.fit(frame, frame.n > 9)
    types = {"age": FloatTensorType, "n": Int64TensorType, "city": StringTensorType, "old": BooleanTensorType}
    content = convert_sklearn(model, initial_types=[(n, t([None, 1])) for n, t in types.items()]).SerializeToString()
    opened = open_model("m.onnx", content)
    signature = opened.signature
    assert [(f.name, f.kind, f.nullable) for f in signature.fields] == [
        ("age", "number", True), ("n", "integer", False), ("city", "text", True), ("old", "boolean", False),
    ]  # fmt: skip
    assert signature.named
    assert {n: (c[0].field, c[0].encoding) for n, c in signature.columns.items()}["city"] == ("city", "text")
    dtypes = {"age": np.float32, "n": np.int64, "city": object, "old": bool}
    found = predict(opened, {n: np.array(rows[n], dtype=d)[:, None] for n, d in dtypes.items()})
    assert found.probabilities is not None
    np.testing.assert_allclose(found.probabilities, model.predict_proba(frame), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        (LinearRegression(), np.float32),
        (LinearRegression(), np.float64),
        (RandomForestRegressor(5, max_depth=4), np.float32),
    ],
)
def test_skl2onnx_regressors(model: Any, dtype: Any) -> None:
    model.fit(XD, YD)
    opened = open_model("m.onnx", to_onnx(model, XD[:1].astype(dtype)))
    found = predict(opened, {"X": XD.astype(dtype)})
    assert (found.task, found.values.shape) == ("regression", (len(XD),))
    np.testing.assert_allclose(found.values, model.predict(XD), rtol=1e-4)
    assert opened.signature.inputs[0].datatype == {4: "FP32", 8: "FP64"}[np.dtype(dtype).itemsize]


def test_several_targets() -> None:
    model = LinearRegression().fit(XD, np.c_[YD, YD * 2])
    found = predict(open_model("m.onnx", to_onnx(model, XD[:1])), {"X": XD})
    assert (found.task, found.values.shape) == ("regression", (len(XD), 2))


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("library", ["xgboost", "lightgbm", "catboost"])
def test_boosters(library: str, kind: str, tmp_path: Path) -> None:
    x, y = {"binary": (XB, YB), "multiclass": (X, Y), "regression": (XD, YD)}[kind]
    if library == "catboost":
        catboost = pytest.importorskip("catboost")
        model = catboost.CatBoostRegressor if kind == "regression" else catboost.CatBoostClassifier
        model = model(iterations=5, verbose=0, allow_writing_files=False).fit(x, y)
        model.save_model(str(tmp_path / "m.onnx"), format="onnx")
        content = (tmp_path / "m.onnx").read_bytes()
    else:
        content, model = converted(library, kind, x, y)
    opened = open_model("m.onnx", content)
    found = predict(opened, {opened.signature.inputs[0].name: x})
    assert opened.about["trees"] == (15 if kind == "multiclass" and library != "catboost" else 5)
    if kind == "regression":
        assert found.task == "regression"
        np.testing.assert_allclose(found.values, np.ravel(model.predict(x)), rtol=1e-3)
        return
    assert found.classes == tuple(range(3 if kind == "multiclass" else 2))
    assert found.probabilities is not None
    difference = np.abs(found.probabilities - model.predict_proba(x)).max(axis=1)
    # The converters round thresholds to float32, which can move a row that lies on one.
    assert np.mean(difference > 1e-4) < 0.02


def converted(library: str, kind: str, x: Any, y: Any) -> tuple[bytes, Any]:
    tools = pytest.importorskip("onnxmltools")
    from onnxmltools.convert.common.data_types import FloatTensorType

    module = pytest.importorskip(library)
    name = ("XGB" if library == "xgboost" else "LGBM") + ("Regressor" if kind == "regression" else "Classifier")
    model = getattr(module, name)(n_estimators=5, n_jobs=1, **({} if library == "xgboost" else {"verbose": -1}))
    model.fit(x, y)
    convert = getattr(tools, f"convert_{library}")
    result = convert(model, initial_types=[("input", FloatTensorType([None, x.shape[1]]))], target_opset=15)
    return result.SerializeToString(), model


def mlp(shape: list[Any], **metadata: str) -> bytes:
    nodes = [helper.make_node("Gemm", ["input", "w", "b"], ["h"]), helper.make_node("Relu", ["h"], ["output"])]
    constants = (constant("w", np.ones((shape[1], 1), np.float32)), constant("b", np.zeros(1, np.float32)))
    return model_of(nodes, [value("input", shape)], [value("output", [shape[0], 1])], constants, **metadata)


@pytest.mark.parametrize(
    "text",
    ['["a", "b", "c"]', "a,b,c", " a , b,c ", "['a', 'b', 'c']", '{"0": "a", "1": "b", "2": "c"}'],
)
@pytest.mark.parametrize("key", ["feature_names", "Feature_Names", "columns", "feature_names_in_"])
def test_names_from_metadata(key: str, text: str) -> None:
    signature = open_model("m.onnx", mlp(["batch", 3], **{key: text})).signature
    assert [f.name for f in signature.fields] == ["a", "b", "c"]
    assert signature.named


def test_a_wrong_number_of_names_is_said() -> None:
    opened = open_model("m.onnx", mlp(["batch", 3], feature_names="a,b"))
    assert [f.name for f in opened.signature.fields] == ["x0", "x1", "x2"]
    assert opened.notes == ('metadata "feature_names" has 2 names for 3 columns; they are not used',)


def test_lists_in_metadata() -> None:
    assert listed("[" * 10_000) == []
    assert listed("5") == []
    assert listed("[1, 2]") == ["1", "2"]


def test_an_image_network_takes_bare_tensors() -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["images"], ["p"]), helper.make_node("Flatten", ["p"], ["features"])]
    content = model_of(nodes, [value("images", ["n", 3, 8, 8])], [value("features", ["n", 3])])
    opened = open_model("m.onnx", content)
    assert opened.signature.fields == ()
    assert opened.signature.inputs[0].shape == (-1, 3, 8, 8)
    assert opened.task.name == "tensors"
    found = predict(opened, {"images": np.ones((2, 3, 8, 8), np.float32)})
    assert list(found.to_columns()) == ["features_0", "features_1", "features_2"]


@pytest.mark.parametrize(
    ("op", "output", "classes"),
    [("Softmax", "probabilities", (0, 1, 2)), ("Softmax", "y", None), ("Sigmoid", "probability", (0, 1))],
)
def test_a_network_is_a_classifier_only_if_it_says_so(op: str, output: str, classes: Any) -> None:
    width = 1 if op == "Sigmoid" else 3
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node(op, ["h"], [output])]
    weights = constant("w", np.ones((4, width), np.float32))
    content = model_of(nodes, [value("x", [None, 4])], [value(output, [None, width])], (weights,))
    opened = open_model("m.onnx", content)
    if classes is None:
        assert opened.task.name == "tensors"
        return
    assert opened.task.classes == classes
    found = predict(opened, {"x": np.zeros((2, 4), np.float32)})
    assert found.probabilities is not None
    assert found.probabilities.shape == (2, len(classes))


def test_class_names_from_metadata() -> None:
    nodes = [helper.make_node("Softmax", ["x"], ["probabilities"])]
    names = json.dumps({"0": "cat", "1": "dog"})
    content = model_of(nodes, [value("x", [None, 2])], [value("probabilities", [None, 2])], class_names=names)
    found = predict(open_model("m.onnx", content), {"x": np.array([[0, 5], [5, 0]], np.float32)})
    assert found.labels.tolist() == ["dog", "cat"]


def test_mixed_widths_and_kinds() -> None:
    nodes = [
        helper.make_node("Cast", ["count"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["half"], ["h"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flag", "one"], ["f1"]),
        helper.make_node("Cast", ["f1"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["sizes", "c", "h", "f"], ["all"], axis=1),
        helper.make_node("ReduceSum", ["all", "one"], ["total"]),
    ]
    inputs = [
        value("sizes", [None, 2]), value("count", [None, 1], TensorProto.INT32),
        value("half", [None, 1], TensorProto.FLOAT16), value("flag", [None], TensorProto.BOOL),
    ]  # fmt: skip
    opened = open_model("m.onnx", model_of(nodes, inputs, [value("total", [None, 1])], (constant("one", [1]),)))
    fields = [(f.name, f.kind, f.nullable) for f in opened.signature.fields]
    assert fields == [
        ("sizes_0", "number", True), ("sizes_1", "number", True), ("count", "integer", False),
        ("half", "number", True), ("flag", "boolean", False),
    ]  # fmt: skip
    rows = {"sizes": np.ones((3, 2), np.float32), "count": np.full((3, 1), 5, np.int32)}
    rows |= {"half": np.ones((3, 1), np.float16), "flag": np.array([True, False, True])}
    assert predict(opened, rows).values.tolist() == [9.0, 8.0, 9.0]


def test_a_fixed_batch_is_noted() -> None:
    opened = open_model("m.onnx", mlp([4, 3]))
    assert opened.signature.inputs[0].shape == (4, 3)
    assert "exactly 4 rows" in opened.notes[0]


def test_initializers_among_the_inputs_are_no_inputs() -> None:
    model = onnx.load_model_from_string(mlp(["n", 3]))
    model.graph.input.append(value("w", [3, 1]))
    assert [i.name for i in open_model("m.onnx", model.SerializeToString()).signature.inputs] == ["input"]


def test_unchanged_models_keep_their_bytes() -> None:
    content = mlp(["n", 3])
    assert open_model("m.onnx", content).runners[0].content is content


def edited(change: Callable[[Any], object]) -> bytes:
    model = onnx.load_model_from_string(mlp(["n", 3]))
    change(model)
    content: bytes = model.SerializeToString()
    return content


def custom(model: Any) -> None:
    model.graph.node[1].domain = "acme.ops"
    model.opset_import.append(helper.make_opsetid("acme.ops", 1))


def sequence(model: Any) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, [None]))
    model.graph.output.append(helper.make_value_info("list", kind))


def recursive(model: Any) -> None:
    node = helper.make_node("F", ["x"], ["y"], domain="own")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "F", ["x"], ["y"], [node], opsets))


def unfolding(model: Any) -> None:
    """Thirty functions, each calling the next one twice: 2^30 nodes when they are put in place."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for i in range(30):
        calls = [helper.make_node(f"F{i + 1}", ["x"], [f"y{k}"], domain="own") for k in range(2)]
        model.functions.append(helper.make_function("own", f"F{i}", ["x"], ["y0"], calls, opsets))
    last = [helper.make_node("Identity", ["x"], ["y0"])]
    model.functions.append(helper.make_function("own", "F30", ["x"], ["y0"], last, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("F0", ["output"], ["again"], domain="own"))


def nested(model: Any) -> None:
    graph = helper.make_graph([], "leaf", [], [])
    for _ in range(20):
        graph = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=graph)], "g", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=graph))


def without_opsets(model: Any) -> None:
    del model.opset_import[:]


def context(model: Any) -> None:
    node = helper.make_node(
        "EPContext", ["input"], ["e"], domain="com.microsoft", ep_cache_context="../x", embed_mode=0
    )
    model.graph.node.append(node)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def short_tensor(model: Any) -> None:
    model.graph.initializer[0].raw_data = b"1234"


def two_inputs_of_one_name(model: Any) -> None:
    model.graph.input.append(model.graph.input[0])


@pytest.mark.parametrize(
    ("change", "error", "expected"),
    [
        (custom, ArtifactInvalid, 'operator "Relu" of domain "acme.ops" is custom'),
        (sequence, ArtifactInvalid, 'output "list" is a sequence'),
        (recursive, ArtifactInvalid, "calls itself"),
        (unfolding, ArtifactInvalid, "unfold to"),
        (nested, ArtifactInvalid, "nested deeper than 16"),
        (without_opsets, ArtifactInvalid, "no operator set"),
        (context, ArtifactUntrusted, '"EPContext" reads other files'),
        (short_tensor, ArtifactInvalid, "has 4 bytes, its shape takes 12"),
        (two_inputs_of_one_name, ArtifactInvalid, "two of the same inputs"),
    ],
)
def test_unsound_models_are_refused(change: Callable[[Any], object], error: type[Exception], expected: str) -> None:
    with pytest.raises(error) as caught:
        open_model("m.onnx", edited(change))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)

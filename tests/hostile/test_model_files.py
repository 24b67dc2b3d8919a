"""Model files that are broken, or try to hurt: each works as it is or is refused in one line; nothing crashes."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

from foretell.dtypes import dtype_of
from foretell.errors import ArtifactInvalid, ArtifactUntrusted, ForetellError
from foretell.model.artifact import judge, judge_bytes, refuse_pickle
from foretell.model.formats import onnx_external
from foretell.model.formats.onnx import open_model
from foretell.model.runtimes import open_runtime

X, Y = load_iris(return_X_y=True)
X = X.astype(np.float32)


def dense_model() -> bytes:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"]),
        helper.make_node("Softmax", ["h"], ["probabilities"]),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    constants = [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")]
    constants.append(numpy_helper.from_array(np.arange(3, dtype=np.float32), "b"))
    outputs = [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])]
    outputs.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph(nodes, "g", [x], outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    from skl2onnx import to_onnx

    forest = RandomForestClassifier(4, max_depth=3, random_state=0).fit(X, np.array(["a", "b", "c"])[Y])
    linear = LinearRegression().fit(X, Y)
    return {
        "dense": dense_model(),
        "forest": to_onnx(forest, X[:1]).SerializeToString(),
        "linear": to_onnx(linear, X[:1]).SerializeToString(),
    }


def use(content: bytes, folder: Path | None = None) -> list[NDArray[Any]]:
    """Judge, open and run bytes as `predict` would."""
    artifact = judge_bytes(Path("m.onnx"), content)
    if artifact.format == "pickle":
        raise refuse_pickle(artifact)
    assert artifact.format == "onnx", artifact
    opened = open_model("m.onnx", artifact.content, folder)
    inputs = {}
    for spec in opened.signature.inputs:
        shape = tuple(3 if d < 0 else min(d, 64) for d in spec.shape)
        dtype = dtype_of(spec.datatype)
        inputs[spec.name] = np.full(shape, "a", object) if dtype.kind == "O" else np.ones(shape, dtype)
    return open_runtime(opened.runners[0], opened.signature).infer(inputs)


@pytest.mark.parametrize("name", ["dense", "forest", "linear"])
def test_cut_at_every_tenth_byte(models: dict[str, bytes], name: str, tmp_path: Path) -> None:
    content = models[name]
    whole = use(content)
    path = tmp_path / "model.onnx"
    for length in range(0, len(content), 10):
        path.write_bytes(content[:length])
        with pytest.raises(ArtifactInvalid) as caught:
            use(judge(path).content)
        assert "\n" not in str(caught.value)
    assert len(whole) >= 1


def test_what_a_cut_can_lose_unseen(models: dict[str, bytes]) -> None:
    """A cut that falls between two whole fields at the end loses what comes after: metadata, never weights."""
    model = onnx.load_model_from_string(models["dense"])
    helper.set_model_props(model, {"note": "x" * 50})
    content = model.SerializeToString()
    works = []
    for length in range(len(content)):
        try:
            works.append((length, use(content[:length])))
        except ArtifactInvalid:
            continue
    assert [length for length, _ in works] == [len(models["dense"])]
    for one, other in zip(works[0][1], use(content), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["dense", "forest", "linear"])
def test_flipped_bits_work_or_are_refused(models: dict[str, bytes], name: str) -> None:
    random = np.random.default_rng(20)
    works, refusals = 0, []
    for _ in range(200):
        content = bytearray(models[name])
        for _ in range(int(random.integers(1, 4))):
            content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        try:
            use(bytes(content))
            works += 1
        except ForetellError as error:
            refusals.append(str(error))
    assert works
    assert refusals
    assert not [text for text in refusals if "\n" in text]


def test_text_and_pickles_under_other_names(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_text("this is no model\n")
    with pytest.raises(ArtifactInvalid, match=r"named \.onnx, but it looks like text"):
        judge(path)
    for name in ("model.onnx", "model.json", "model.ubj", "model.txt"):
        path = tmp_path / name
        path.write_bytes(pickle.dumps(LinearRegression()))
        artifact = judge(path)
        assert artifact.format == "pickle"
        assert "is a pickle" in str(refuse_pickle(artifact))


def test_bytes_of_one_format_never_reach_the_opener_of_another(models: dict[str, bytes]) -> None:
    for content in (
        b"{}",
        json.dumps({"learner": {}}).encode(),
        pickle.dumps([1]),
        b"CBM1",
        b"",
        b"tree\nversion=v4\n",
    ):
        with pytest.raises(ArtifactInvalid):
            open_model("m.onnx", content)


# External data: every place where a tensor can be, every location that leads astray.


def external(location: str, offset: str | None = None, length: str | None = None, name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return tensor


def in_initializer(model: Any, tensor: TensorProto) -> None:
    model.graph.initializer[0].CopyFrom(tensor)


def in_constant(model: Any, tensor: TensorProto) -> None:
    del model.graph.initializer[0]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))


def in_unnamed_attribute(model: Any, tensor: TensorProto) -> None:
    """The attribute says that it is a number, and carries a tensor all the same."""
    found = model.graph.node[0].attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, f=1.0)
    found.t.CopyFrom(tensor)


def in_list_of_tensors(model: Any, tensor: TensorProto) -> None:
    found = model.graph.node[0].attribute.add(name="many", type=onnx.AttributeProto.TENSORS)
    found.tensors.add().CopyFrom(tensor)


def in_sparse_values(model: Any, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.add(dims=[4, 3]).values.CopyFrom(tensor)


def in_sparse_indices(model: Any, tensor: TensorProto) -> None:
    model.graph.sparse_initializer.add(dims=[4, 3]).indices.CopyFrom(tensor)


def in_sparse_attribute(model: Any, tensor: TensorProto) -> None:
    found = model.graph.node[0].attribute.add(name="s", type=onnx.AttributeProto.SPARSE_TENSOR)
    found.sparse_tensor.values.CopyFrom(tensor)


def in_subgraph(model: Any, tensor: TensorProto) -> None:
    inner = helper.make_graph([], "inner", [], [], [tensor])
    outer = helper.make_graph([helper.make_node("If", ["c"], ["y"], then_branch=inner)], "outer", [], [])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=outer))


def in_function(model: Any, tensor: TensorProto) -> None:
    nodes = [helper.make_node("Constant", [], ["y"], value=tensor)]
    model.functions.append(helper.make_function("own", "F", [], ["y"], nodes, [helper.make_opsetid("", 17)]))


def in_function_default(model: Any, tensor: TensorProto) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    function = helper.make_function("own", "F", ["x"], ["y"], nodes, [helper.make_opsetid("", 17)])
    function.attribute_proto.append(helper.make_attribute("t", tensor))
    model.functions.append(function)


def in_training(model: Any, tensor: TensorProto) -> None:
    model.training_info.add().initialization.initializer.add().CopyFrom(tensor)


PLACES = [
    in_initializer, in_constant, in_unnamed_attribute, in_list_of_tensors, in_sparse_values, in_sparse_indices,
    in_sparse_attribute, in_subgraph, in_function, in_function_default, in_training,
]  # fmt: skip
WEIGHTS = np.arange(12, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with weights, and every kind of way out of it."""
    (tmp_path / "secret").write_bytes(bytes(4096))
    inside = tmp_path / "model"
    (inside / "deep").mkdir(parents=True)
    for path in (inside / "w.bin", inside / "deep" / "w.bin"):
        path.write_bytes(bytes(64) + WEIGHTS.tobytes())
    (inside / "soft").symlink_to(tmp_path / "secret")
    (inside / "soft inside").symlink_to("w.bin")
    (inside / "soft folder").symlink_to(tmp_path, target_is_directory=True)
    os.link(tmp_path / "secret", inside / "hard")
    os.mkfifo(inside / "pipe")
    return inside


def model_with(place: Callable[[Any, TensorProto], None], tensor: TensorProto) -> bytes:
    model = onnx.load_model_from_string(dense_model())
    place(model, tensor)
    content: bytes = model.SerializeToString()
    return content


OUTSIDE = [
    "../secret", "../../etc/passwd", "/etc/passwd", "deep/../../secret", "./../secret", "deep/../w.bin/../../secret",
    "soft", "soft inside", "soft folder/secret", "hard", "pipe", "", ".", "*/_ORT_MEM_ADDR_/1234", "_ORT_MEM_ADDR_/x",
    "..\\secret", "C:\\secret", "file:///etc/passwd", "w.bin\0x", "/proc/self/environ", "/dev/zero",
]  # fmt: skip


@pytest.mark.parametrize("location", OUTSIDE)
@pytest.mark.parametrize("place", PLACES, ids=lambda f: f.__name__)
def test_locations_that_lead_out(folder: Path, place: Any, location: str) -> None:
    with pytest.raises(ArtifactUntrusted) as caught:
        use(model_with(place, external(location, "0", "48")), folder)
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "offset", "length", "expected"),
    [
        ("missing.bin", None, None, "No such file"),
        ("deep", None, None, "no regular file"),
        ("w.bin", "-1", None, "offset"),
        ("w.bin", "0x10", None, "offset"),
        ("w.bin", "1e3", None, "offset"),
        ("w.bin", "64", "-48", "length"),
        ("w.bin", "64", "47", "its shape takes 48"),
        ("w.bin", "64", "49", "its shape takes 48"),
        ("w.bin", "64", str(1 << 50), "its shape takes 48"),
        ("w.bin", "65", None, "wants bytes 65 to 113"),
        ("w.bin", str(1 << 59), None, "wants bytes"),
        ("w.bin", "9" * 30, None, "offset"),
        ("w.bin", "٣", None, "offset"),
    ],
)
def test_data_that_is_not_there(folder: Path, location: str, offset: Any, length: Any, expected: str) -> None:
    with pytest.raises((ArtifactInvalid, ArtifactUntrusted), match=expected):
        use(model_with(in_initializer, external(location, offset, length)), folder)


@pytest.mark.parametrize("kernel", ["openat2", "step by step"])
@pytest.mark.parametrize("location", ["w.bin", "deep/w.bin", "./deep/w.bin"])
def test_data_beside_the_model_is_taken_in(
    folder: Path, location: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kernel == "step by step":
        monkeypatch.setattr(onnx_external, "_openat2", lambda *_: None)
    content = model_with(in_initializer, external(location, "64", "48"))
    opened = open_model("m.onnx", content, folder)
    taken = onnx.load_model_from_string(opened.runners[0].content).graph.initializer[0]
    assert np.array_equal(numpy_helper.to_array(taken).reshape(-1), WEIGHTS)
    assert "1 tensors were taken in" in opened.notes[0]
    for path in (folder / "w.bin", folder / "deep" / "w.bin"):
        path.unlink()
    x = np.ones((2, 4), np.float32)
    found = open_runtime(opened.runners[0], opened.signature).infer({"x": x})
    logits = x @ WEIGHTS.reshape(4, 3) + np.arange(3)
    np.testing.assert_allclose(found[1], np.exp(logits - 24) / np.exp(logits - 24).sum(1, keepdims=True), rtol=1e-4)


@pytest.mark.parametrize("location", ["soft", "soft inside", "soft folder/secret", "hard", "pipe"])
def test_links_without_openat2(folder: Path, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_external, "_openat2", lambda *_: None)
    with pytest.raises(ArtifactUntrusted):
        use(model_with(in_initializer, external(location, "0", "48")), folder)


def test_a_location_said_twice(folder: Path) -> None:
    tensor = external("w.bin", "64", "48")
    tensor.external_data.add(key="location", value="../secret")
    with pytest.raises(ArtifactInvalid, match="says twice"):
        use(model_with(in_initializer, tensor), folder)


def test_external_data_without_a_folder() -> None:
    with pytest.raises(ArtifactInvalid, match="no folder is known"):
        use(model_with(in_initializer, external("w.bin")), None)


def test_more_than_two_gibibytes(folder: Path) -> None:
    with (folder / "big.bin").open("wb") as file:
        file.truncate(3 << 30)
    tensor = external("big.bin")
    tensor.dims[:] = [3 << 28, 1]
    with pytest.raises(ArtifactInvalid, match="larger than 2 GiB"):
        use(model_with(in_initializer, tensor), folder)


@pytest.mark.parametrize("dims", [[-4, 3], [1 << 40, 1 << 40], [2**62, 4]])
def test_shapes_that_cannot_be(dims: list[int], folder: Path) -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"1234")
    with pytest.raises(ArtifactInvalid):
        use(model_with(in_initializer, tensor), folder)
    outside = external("w.bin")
    outside.dims[:] = dims
    with pytest.raises(ArtifactInvalid):
        use(model_with(in_initializer, outside), folder)


def test_deep_protobuf_is_refused() -> None:
    content = b""
    for _ in range(5000):
        content = b"\x0a" + varint(len(content)) + content
    with pytest.raises(ArtifactInvalid):
        open_model("m.onnx", b"\x08\x08\x3a" + varint(len(content)) + content)


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def tree(**changes: Any) -> bytes:
    values: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.5, 0.0, 0.0], "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0], "target_nodeids": [1, 2], "target_ids": [0, 0],
        "target_weights": [1.0, 2.0], "n_targets": 1, "post_transform": "NONE",
    }  # fmt: skip
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **(values | changes))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    graph = helper.make_graph([node], "g", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])])
    opsets = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes_featureids": [10**8, 0, 0]}, {"nodes_featureids": [-(10**6), 0, 0]}, {"nodes_truenodeids": [0, 0, 0]},
        {"nodes_truenodeids": [77, 0, 0]}, {"target_ids": [10**7, 0]}, {"target_ids": [-5, 0]}, {"n_targets": 0},
        {"n_targets": -3}, {"nodes_values": [0.5]}, {"target_weights": [1.0]}, {"target_nodeids": [1, 99]},
    ],
    ids=str,
)  # fmt: skip
def test_trees_that_point_outside(changes: dict[str, Any]) -> None:
    """ONNX Runtime checks these itself; this holds it to that."""
    assert use(tree())[0].tolist() == [[2.0]] * 3
    with pytest.raises(ForetellError):
        use(tree(**changes))

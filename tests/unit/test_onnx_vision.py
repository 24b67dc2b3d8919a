"""What a network of pictures says of itself, and what is asked for, each with its line."""

from typing import Any

import pytest
import tomli_w
from onnx import TensorProto, helper

from foretell.errors import ArtifactInvalid
from foretell.model.formats.base import Opened
from foretell.model.formats.onnx import open_model
from foretell.model.formats.onnx_layouts import class_names
from foretell.model.formats.onnx_vision import sight_of
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.detection import Detection
from foretell.signature import TensorSpec

NCHW = (TensorSpec("images", "FP32", (-1, 3, 416, 640)),)
PREPARED = {"fit": "letterbox", "resize": "bilinear", "colour": "rgb", "scale": 1 / 255}
NAMES = {"names": str({0: "person", 1: "it's", 2: "car"})}
Shapes = dict[str, tuple[int, ...]]


def specs(shapes: Shapes) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(n, "INT64" if n in ("labels", "num_dets") else "FP32", shape) for n, shape in shapes.items()
    )


def sight(outputs: Shapes, metadata: dict[str, str] | None = None, task: dict[str, Any] | None = None) -> Any:
    given = {"task": task or {}, "signature": {"image": PREPARED}}
    return sight_of(NCHW, specs(outputs), {}, metadata or {}, given)


@pytest.mark.parametrize(
    ("outputs", "layout", "extra"),
    [
        ({"detections": (-1, 2535, 8)}, "yolo", {"outputs": (0,)}),
        ({"detections": (-1, -1, 8)}, "yolo", {}),
        ({"output0": (-1, 7, 8400)}, "yolov8", {}),
        ({"output0": (-1, 7, -1)}, "yolov8", {}),
        ({"out": (-1, 8400, 7)}, "yolov8_transposed", {}),
        ({"output0": (1, 300, 6)}, "end_to_end", {}),
        ({"features": (-1, 256), "output0": (1, 300, 6)}, "end_to_end", {"outputs": (1,)}),
        ({"dets": (-1, 100, 5), "labels": (-1, 100)}, "mmdeploy", {}),
        ({"boxes": (-1, 4), "labels": (-1,), "scores": (-1,)}, "boxes", {"batched": False, "normalized": False}),
        ({"scores": (-1,), "boxes": (-1, 4), "labels": (-1,)}, "boxes", {"outputs": (1, 2, 0)}),
        (
            {
                "detection_boxes": (1, 100, 4),
                "detection_classes": (1, 100),
                "detection_scores": (1, 100),
                "num_detections": (1,),
            },
            "boxes",
            {"outputs": (0, 1, 2, 3), "box": "yxyx", "normalized": True, "first_label": 1},
        ),
    ],
)
def test_layouts_that_names_and_shapes_tell(outputs: Shapes, layout: str, extra: dict[str, Any]) -> None:
    found = sight(outputs, NAMES)
    assert found.asked == ()
    assert isinstance(found.task, Detection)
    assert found.task.layout == layout
    assert found.task.classes == ("person", "it's", "car")
    assert {key: getattr(found.task, key) for key in extra} == extra
    assert (found.signature.image.width, found.signature.image.height) == (640, 416)
    assert [f.kind for f in found.signature.fields] == ["image"]


@pytest.mark.parametrize(
    ("outputs", "metadata", "keys"),
    [
        ({"output": (-1, 2535, 85)}, {}, ["task.layout", "task.classes"]),
        ({"output0": (-1, 84, 8400)}, {}, ["task.classes"]),
        ({"output": (-1, 25200, 11)}, NAMES, ["task.name"]),
        ({"logits": (-1, 100, 92), "pred_boxes": (-1, 100, 4)}, NAMES, ["task.activation"]),
        ({"scores": (-1, 300, 4), "boxes": (-1, 300, 4)}, NAMES, ["task.background", "task.normalized"]),
        ({"boxes": (-1, 300, 4), "labels": (-1, 300), "scores": (-1, 300)}, NAMES, ["task.normalized"]),
        ({"embedding": (-1, 512)}, {}, ["task.name"]),
        ({"mask": (-1, 21, 416, 640)}, {}, ["task.name"]),
    ],
)
def test_what_names_and_shapes_do_not_tell_is_asked_for(
    outputs: Shapes, metadata: dict[str, str], keys: list[str]
) -> None:
    found = sight(outputs, metadata)
    assert sorted({f"{a.table}.{a.key}" for a in found.asked}) == sorted(keys)
    assert found.signature is None
    for asked in found.asked:
        assert any(asked.line in note and f"[{asked.table}]" in note for note in found.notes)


def test_what_was_given_settles_it() -> None:
    outputs = {"logits": (-1, 100, 3), "pred_boxes": (-1, 100, 4)}
    found = sight(outputs, NAMES, {"activation": "sigmoid", "score_threshold": 0.5})
    assert (found.task.activation, found.task.background, found.task.score_threshold) == ("sigmoid", "none", 0.5)
    classes = [f"c{i}" for i in range(80)]
    for width, layout in ((85, "yolo"), (84, "yolov8_transposed")):
        assert sight({"o": (-1, 2535, width)}, {}, {"classes": classes}).task.layout == layout
    with pytest.raises(ArtifactInvalid, match="activation 'relu'"):
        sight(outputs, NAMES, {"activation": "relu"})
    with pytest.raises(ArtifactInvalid, match="threshold"):
        sight(outputs, NAMES, {"activation": "sigmoid", "threshold": 0.5})


def test_the_preparation_is_asked_for_key_by_key() -> None:
    free = (TensorSpec("x", "FP32", (-1, -1, -1, 3)),)
    task = {"layout": "yolo", "classes": ["a"]}
    found = sight_of(free, specs({"o": (-1, 99, 6)}), {}, {}, {"task": task})
    assert found is not None
    assert [a.key for a in found.asked] == ["width", "height", "fit", "resize", "colour", "scale"]
    bytes_in = (TensorSpec("x", "UINT8", (-1, 64, 32, 1)),)
    grey = sight_of(bytes_in, specs({"o": (-1, 99, 6)}), {}, {}, {"task": task})
    assert grey is not None
    assert [a.key for a in grey.asked] == ["fit", "resize"]


@pytest.mark.parametrize(
    "inputs",
    [
        (),
        (TensorSpec("x", "FP32", (-1, 30)),),
        (TensorSpec("x", "INT64", (-1, 3, 8, 8)),),
        (TensorSpec("x", "FP32", (-1, 16, 8, 8)),),
        (*NCHW, TensorSpec("orig_target_sizes", "INT64", (-1, 2))),
    ],
)
def test_other_networks_are_left_alone(inputs: tuple[TensorSpec, ...]) -> None:
    assert sight_of(inputs, specs({"o": (-1, 99, 8)}), {}, NAMES, {}) is None


ULTRALYTICS = {**NAMES, "stride": "32", "task": "detect", "imgsz": "[416, 640]", "author": "Ultralytics"}


def model(
    outputs: Shapes, last: str = "Identity", metadata: dict[str, str] | None = None, *, free: bool = False
) -> bytes:
    """Return a network that is read and never run: every output is made by one operator."""
    sides = ["h", "w"] if free else [416, 640]
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, *sides])
    nodes = [helper.make_node(last, ["images"] * (2 if last == "Add" else 1), [name]) for name in outputs]
    infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None if d < 0 else d for d in shape])
        for name, shape in outputs.items()
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", [picture], infos), opset_imports=[helper.make_opsetid("", 17)]
    )
    helper.set_model_props(made, metadata or {})
    return made.SerializeToString()


def opened(content: bytes, given: dict[str, Any] | None = None) -> Opened:
    return open_model("m.onnx", content, None, given)


@pytest.mark.parametrize("free", [False, True])
def test_an_export_of_ultralytics_needs_nothing_written(free: bool) -> None:
    content = model({"output0": (-1, 7, 5460)}, metadata=ULTRALYTICS, free=free)
    found = opened(content, {})
    image = found.signature.image
    assert image is not None
    assert (image.width, image.height, image.fit, image.pad, image.antialias) == (640, 416, "letterbox", 114, False)
    assert (image.scale, image.colour, image.layout) == (1 / 255, "rgb", "nchw")
    assert isinstance(found.task, Detection)
    assert found.task.layout == "yolov8"
    assert opened(content, {"signature": {"image": {"pad": 0}}}).signature.image.pad == 0  # type: ignore[union-attr]
    # Until somebody wants pictures it takes tensors as any network.
    plain = opened(content)
    assert (plain.signature.image, plain.task.name) == (None, "tensors")
    assert any('layout "yolov8"' in note for note in plain.notes)


@pytest.mark.parametrize(("last", "logits"), [("Softmax", False), ("Gemm", True), ("GlobalAveragePool", True)])
def test_a_classifier_of_ultralytics(last: str, logits: bool) -> None:
    found = opened(model({"output0": (-1, 3)}, last, ULTRALYTICS | {"task": "classify"}), {})
    assert isinstance(found.task, Classification)
    assert (found.task.logits, found.task.probability_output) == (logits, 0)
    assert found.task.classes == ("person", "it's", "car")
    assert found.signature.image is not None
    assert found.signature.image.fit == "crop"


def test_an_operator_that_tells_nothing_is_asked_about() -> None:
    given = {"task": {"name": "classification"}, "signature": {"image": PREPARED}}
    found = opened(model({"out": (-1, 3)}, "Add", NAMES), given)
    assert found.signature.image is None
    assert any("logits = true" in note for note in found.notes)
    given["task"] |= {"logits": True}
    assert opened(model({"out": (-1, 3)}, "Add", NAMES), given).task.name == "classification"


def test_a_network_without_a_word_says_what_to_add() -> None:
    notes = opened(model({"o": (-1, 2535, 85)})).notes
    assert any(n.startswith("read from the file: pictures of 640 x 416") for n in notes)
    lines = [n.partition("add: ")[2] for n in notes if n.startswith("model.toml")]
    keys = [line.split(" = ")[0] for line in lines]
    assert keys == ["classes", "layout", "fit", "resize", "colour", "scale"]
    assert all("\n" not in n for n in notes)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{0: 'a', 1: 'b'}", ["a", "b"]),
        ("{1: 'b', 0: 'a'}", ["a", "b"]),
        ('{"0": "a", "1": "b"}', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ("{10: 'k', 2: 'c'}", []),
        ("{'a': 0}", []),
        ("__import__('os').system('true')", []),
        ("[" * 5000, []),
        ("'a'", []),
        ("", []),
    ],
)
def test_names_in_metadata(text: str, names: list[str]) -> None:
    assert class_names({"names": text}) == names


def test_what_is_found_can_be_written() -> None:
    """The tables that `given` takes are those of model.toml."""
    from foretell.model.describe import write_signature, write_task

    found = opened(model({"output0": (-1, 7, 5460)}, metadata=ULTRALYTICS), {})
    assert tomli_w.dumps({"task": write_task(found.task), "signature": write_signature(found.signature)})

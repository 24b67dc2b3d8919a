"""Detectors exported for exactly one picture: converted, asked over folders, in lists, in videos, and served."""

import base64
import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import foretell
import foretell.testing
from foretell.cli.main import main

sys.path.insert(0, str(Path(__file__).parent))
from picture_networks import DETECTOR, SIDE, detector, plain, written

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
BOXES = DETECTOR.replace('layout = "yolo"', 'layout = "boxes"\nbatched = false').replace(
    'classes = ["red thing", "other"]', 'classes = ["background", "red thing", "green thing"]'
)


def without_axis() -> bytes:
    """As torchvision exports them: boxes (2, 4), labels (2,), scores (2,) of one picture; means of red and green."""
    inside = {
        "weights": np.array([[1, 0], [0, 1], [0, 0]], np.float32),
        "the boxes": np.array([[4, 6, 12, 10], [0, 4, 8, 12]], np.float32),
        "the labels": np.array([1, 2], np.int64),
        "flat": np.array([-1], np.int64),
        "row": np.array([1, 3], np.int64),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["means"]),
        helper.make_node("Reshape", ["means", "row"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["product"]),
        helper.make_node("Reshape", ["product", "flat"], ["scores"]),
        helper.make_node("Identity", ["the boxes"], ["boxes"]),
        helper.make_node("Identity", ["the labels"], ["labels"]),
    ]
    takes = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    gives = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [2, 4]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, [2]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [2]),
    ]
    tensors = [numpy_helper.from_array(v, k) for k, v in inside.items()]
    graph = helper.make_graph(nodes, "net", [takes], gives, tensors)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )


def of_one() -> bytes:
    """The other detector, with its free axis of rows made 1."""
    model = onnx.load_from_string(detector())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    for name, content, tables in (("boxes", without_axis(), BOXES), ("yolo", of_one(), DETECTOR)):
        file, picture = written(folder, name, content, tables)
        assert main(["convert", str(file), "--picture", str(picture), "-o", str(folder / name)]) == 0
    (folder / "photos").mkdir()
    for i in range(10):
        plain(RED if i % 2 else BLUE, 64, 32).save(folder / "photos" / f"{i}.png")
    plain(GREEN, 32, 32).save(folder / "photos" / "a.png")
    return folder


THING = {"label": "red thing", "score": pytest.approx(0.5), "box": [16, 8, 48, 24]}
GREEN_THING = {"label": "green thing", "score": pytest.approx(1.0), "box": [0, 8, 16, 24]}


@pytest.mark.parametrize("name", ["boxes", "yolo"])
def test_every_door_gives_the_same(made: Path, tmp_path: Path, name: str) -> None:
    pictures = sorted((made / "photos").iterdir())
    expected = [[THING] if i % 2 else [] for i in range(10)] + [[GREEN_THING] if name == "boxes" else []]
    with foretell.load(made / name, threads=3) as model:
        assert model.predict(pictures).to_list() == expected
        assert [model.predict(p)[0] for p in pictures] == expected
    out = tmp_path / "objects.csv"
    assert main(["predict", str(made / name), str(made / "photos"), "-o", str(out)]) == 0
    found = [(Path(r["source"]).stem, r["label"]) for r in csv.DictReader(out.read_text().splitlines())]
    assert found == [(p.stem, o["label"]) for p, objects in zip(pictures, expected, strict=True) for o in objects]
    route = f"/v1/models/{name}:predict"
    with foretell.testing.client(made / name) as client:
        contents = [p.read_bytes() for p in pictures]
        instances = [{"b64": base64.b64encode(c).decode()} for c in contents]
        told = client.post(route, json={"instances": instances})
        assert told.json()["predictions"] == expected

        def ask(content: bytes) -> list:
            return client.post(route, body=content, headers={"content-type": "image/png"}).json()["predictions"][0]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, contents * 3)) == expected * 3


def test_in_a_video(made: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
    from videos import write

    frames = [np.asarray(plain(c, 64, 32)) for c in (RED, BLUE, RED, RED)]
    clip = write(tmp_path / "clip.mp4", frames)
    with foretell.load(made / "boxes", threads=2) as model:
        labels = [[o["label"] for o in seen.objects()] for seen in model.watch(clip)]
    assert labels == [["red thing"], [], ["red thing"], ["red thing"]]

"""The converters of the vision example; with `--slow` the real weights on real pictures and video."""

import importlib
import json
import math
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

from foretell.model.data.image import ImagePreparation
from foretell.model.describe import read_task
from foretell.model.formats.onnx import open_model
from foretell.model.tasks.detection import Detection
from foretell.model.tasks.predictions import Predictions
from foretell.model.tracking import Tracker

EXAMPLE = Path(__file__).parents[2] / "examples" / "vision"
PARTS = ("fetch", "graph", "yolo", "efficientnet")


@pytest.fixture(scope="module")
def parts() -> Any:
    """The example's files, which import each other by their bare names."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield {name: importlib.import_module(name) for name in PARTS}
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in PARTS:
            sys.modules.pop(name, None)


# A network of every kind of layer that the converter knows, small enough to compute by hand.
CFG = """
[net]
width=8   # of the tensor
height=8
channels=3

[convolutional]
batch_normalize=1
filters=4
size=3
stride=1
pad=1
activation=leaky

[maxpool]
size=2
stride=2

[maxpool]
size=2
stride=1

[convolutional]
filters=14
size=1
stride=1
pad=1
activation=linear

[yolo]
mask = 3,4
anchors = 1,2, 3,4, 5,6, 7,8, 9,10
classes=2

[route]
layers = -3

[upsample]
stride=2

[route]
layers = -1, 0

[convolutional]
filters=14
size=1
stride=1
pad=1
activation=linear

[yolo]
mask = 0,1
anchors = 1,2, 3,4, 5,6, 7,8, 9,10
classes=2
"""


def convolved(x: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any]) -> NDArray[Any]:
    pad = kernel.shape[2] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[2:], axis=(1, 2))
    return np.einsum("chwij,ocij->ohw", windows, kernel) + bias[:, None, None]


def pooled(x: NDArray[Any], stride: int) -> NDArray[Any]:
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1)), constant_values=-np.inf) if stride == 1 else x
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2, 2), axis=(1, 2))
    return windows.max(axis=(3, 4))[:, ::stride, ::stride]


def sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def decoded(head: NDArray[Any], anchors: list[tuple[float, float]], side: int) -> list[list[float]]:
    """Decode a head box by box, in pixels of a tensor of this side, as darknet's get_yolo_box has it."""
    cells = head.shape[1]
    columns = len(head) // len(anchors)
    rows = []
    for a, (width, height) in enumerate(anchors):
        for j in range(cells):
            for i in range(cells):
                t = [float(v) for v in head[a * columns : (a + 1) * columns, j, i]]
                x, y = (i + sigmoid(t[0])) / cells * side, (j + sigmoid(t[1])) / cells * side
                rows.append([x, y, math.exp(t[2]) * width, math.exp(t[3]) * height, *(sigmoid(v) for v in t[4:])])
    return rows


def test_darknet_layers_do_what_darknet_does(parts: dict[str, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "small.cfg").write_text(CFG)
    rng = np.random.default_rng(2)
    shift, gain, mean = (rng.normal(size=4) for _ in range(3))
    variance = rng.uniform(0.5, 2, 4)
    first = rng.normal(size=(4, 3, 3, 3)) / 3
    heads = [(rng.normal(size=14), rng.normal(size=(14, n, 1, 1)) / 2) for n in (4, 8)]
    numbers = [shift, gain, mean, variance, first, *(part for head in heads for part in head)]
    body = np.concatenate([np.ravel(n) for n in numbers]).astype("<f4").tobytes()
    (tmp_path / "small.weights").write_bytes(np.array([0, 2, 0, 0, 0], "<i4").tobytes() + body)

    (_, net), *layers = parts["yolo"].sections_of(tmp_path / "small.cfg")
    converter = parts["yolo"].Converter(net, parts["yolo"].Weights.read(tmp_path / "small.weights"))
    for kind, section in layers:
        converter.layer(kind, section)
    converter.graph.add("Concat", "detections", *converter.heads, axis=1)
    converter.graph.save(tmp_path / "s.onnx", "s", ("images", ("n", 3, 8, 8)), ("detections", ("n", 160, 7)), {})
    picture = rng.random((3, 8, 8)).astype(np.float32)
    (found,) = ort.InferenceSession(tmp_path / "s.onnx").run(None, {"images": picture[None]})

    normal = convolved(picture, first, np.zeros(4)) - mean[:, None, None]
    normal = normal * (gain / np.sqrt(variance + 1e-5))[:, None, None] + shift[:, None, None]
    whole = np.where(normal > 0, normal, normal * 0.1)
    half = pooled(pooled(whole, 2), 1)
    coarse = convolved(half, heads[0][1], heads[0][0])
    # Three layers before the route is the second pooling; it comes back to the full side.
    fine = convolved(np.concatenate([half.repeat(2, axis=1).repeat(2, axis=2), whole]), heads[1][1], heads[1][0])
    expected = decoded(coarse, [(7, 8), (9, 10)], 8) + decoded(fine, [(1, 2), (3, 4)], 8)
    np.testing.assert_allclose(found[0], expected, rtol=2e-4, atol=1e-4)


def test_weights_of_another_network_are_refused(parts: dict[str, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "small.weights").write_bytes(bytes(20 + 40))
    weights = parts["yolo"].Weights.read(tmp_path / "small.weights")
    weights.take(4)
    with pytest.raises(SystemExit, match="7 numbers left, 108 expected"):
        weights.take(4, 3, 3, 3)


def test_every_class_has_a_name_of_its_own(parts: dict[str, ModuleType]) -> None:
    labels = {
        "0": "crane, bird",
        "1": "crane, machine",
        "2": "dog, hound",
        "3": "crane",
        "4": "maillot",
        "5": "maillot",
    }
    names = parts["efficientnet"].names_of(labels)
    assert names == ["crane, bird", "crane, machine", "dog", "crane", "maillot (4)", "maillot (5)"]


# The real weights


@pytest.fixture(scope="module")
def real(parts: dict[str, ModuleType], request: pytest.FixtureRequest) -> Path:
    """A folder with everything fetched and converted; kept between runs."""
    folder = request.config.cache.mkdir("vision")  # type: ignore[union-attr]
    parts["fetch"].fetch(folder)
    for name in ("yolo", "efficientnet"):
        parts[name].convert(folder)
    return Path(folder)


def letterboxed(picture: Image.Image, side: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the tensor, and the geometry: (original - offset) * scale."""
    width, height = picture.size
    scale = min(side / width, side / height)
    inner = (round(width * scale), round(height * scale))
    left, top = (side - inner[0]) // 2, (side - inner[1]) // 2
    ground = Image.new("RGB", (side, side), (128, 128, 128))
    ground.paste(picture.convert("RGB").resize(inner, Image.Resampling.BILINEAR), (left, top))
    tensor = np.asarray(ground, np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    return tensor, np.array([[width, height, inner[0] / width, inner[1] / height, left, top]])


def read_slowly(
    heads: list[NDArray[Any]], place: NDArray[np.float64], classes: list[str]
) -> list[tuple[str, float, list[float]]]:
    """Decode, map back and suppress, box by box in plain Python, from what the last convolutions give."""
    coarse, fine = heads
    rows = decoded(coarse, [(81, 82), (135, 169), (344, 319)], 416) + decoded(fine, [(23, 27), (37, 58), (81, 82)], 416)
    width, height, x_scale, y_scale, left, top = place
    found = []
    for x, y, w, h, objectness, *scores in rows:
        best = max(range(len(scores)), key=scores.__getitem__)
        if objectness * scores[best] > 0.25:
            box = [(x - w / 2 - left) / x_scale, (y - h / 2 - top) / y_scale]
            box += [(x + w / 2 - left) / x_scale, (y + h / 2 - top) / y_scale]
            found.append((classes[best], objectness * scores[best], box))
    kept: list[tuple[str, float, list[float]]] = []
    for label, score, box in sorted(found, key=lambda o: -o[1]):
        if all(label != other or overlap(box, before) <= 0.45 for other, _, before in kept):
            kept.append((label, score, box))
    edges = [width, height, width, height]
    return [(n, s, [min(max(v, 0), e) for v, e in zip(b, edges, strict=True)]) for n, s, b in kept]


def overlap(a: list[float], b: list[float]) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def frames_of(path: Path) -> list[Image.Image]:
    av = pytest.importorskip("av", reason="av reads the video; pip install av")
    with av.open(str(path)) as video:
        return [frame.to_image() for frame in video.decode(video=0)]


def yolo_session(folder: Path) -> tuple[ort.InferenceSession, list[str], Detection]:
    """Return the network with its last two convolutions given out too, the classes, and the task."""
    model = onnx.load(folder / "yolo.onnx")
    convolutions = {node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    last = [node.input[0] for node in model.graph.node if node.op_type == "Reshape" and node.input[0] in convolutions]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in last)
    task = read_task(tomllib.loads((folder / "yolo.toml").read_text())["task"])
    assert isinstance(task, Detection)
    return ort.InferenceSession(model.SerializeToString()), [str(c) for c in task.classes], task


@pytest.mark.slow
def test_boxes_are_those_of_a_reading_box_by_box(real: Path) -> None:
    session, classes, task = yolo_session(real)
    pictures = [Image.open(real / n) for n in ("astronaut.png", "chelsea.png", "coffee.png", "china.jpg", "flower.jpg")]
    pictures += frames_of(real / "bikes.mp4")[::10]
    total = 0
    for i, picture in enumerate(pictures):
        tensor, geometry = letterboxed(picture, 416)
        detections, *heads = session.run(None, {"images": tensor})
        expected = read_slowly([h[0] for h in heads], geometry[0], classes)
        found = Predictions(task, task.objects([detections], geometry, (416, 416)).arrays())[0]
        assert [o["label"] for o in found] == [n for n, _, _ in expected], f"picture {i}"
        for got, (_, score, box) in zip(found, expected, strict=True):
            assert got["score"] == pytest.approx(score, abs=1e-4)
            assert got["box"] == pytest.approx(box, abs=0.5)
        total += len(found)
    assert total >= 20, "too few objects to say anything"


@pytest.mark.slow
def test_what_is_on_the_street(real: Path) -> None:
    session, _, task = yolo_session(real)
    frames = frames_of(real / "bikes.mp4")
    tensor, geometry = letterboxed(frames[125], 416)
    found = Predictions(
        task, task.objects(session.run(["detections"], {"images": tensor}), geometry, (416, 416)).arrays()
    )
    best = {}
    for thing in found[0]:
        best.setdefault(thing["label"], round(thing["score"], 2))
    assert best["person"] == pytest.approx(0.97, abs=0.02)
    assert best["bicycle"] == pytest.approx(0.53, abs=0.03)


@pytest.mark.slow
def test_objects_of_the_street_keep_their_numbers(real: Path) -> None:
    session, classes, task = yolo_session(real)
    low = Detection(task.classes, "yolo", score_threshold=0.1)
    tracker = Tracker(high=0.4, begin=0.4)
    boxes, lives = 0, dict[int, list[str]]()
    for frame in frames_of(real / "bikes.mp4"):
        tensor, geometry = letterboxed(frame, 416)
        found = low.objects(session.run(["detections"], {"images": tensor}), geometry, (416, 416))
        count = int(found.counts[0])
        numbers = tracker.update(found.boxes[0, :count], found.scores[0, :count], found.labels[0, :count])
        for number, label in zip(numbers.tolist(), found.labels[0].tolist(), strict=False):
            if number > 0:
                boxes += 1
                lives.setdefault(number, []).append(classes[label])
    assert boxes > 200
    assert len(lives) <= 25, "objects change their numbers"
    assert all(len(set(labels)) == 1 for labels in lives.values())
    # The cyclist waits in sight for 33 frames.
    assert max(len(labels) for labels in lives.values() if labels[0] == "person") >= 30


@pytest.mark.slow
def test_what_is_in_the_photos(real: Path) -> None:
    session = ort.InferenceSession(real / "efficientnet.onnx")
    task = read_task(tomllib.loads((real / "efficientnet.toml").read_text())["task"])
    best = {}
    for name in ("coffee.png", "chelsea.png", "flower.jpg", "china.jpg"):
        picture = Image.open(real / name).convert("RGB")
        scale = 256 / min(picture.size)
        width, height = (int(s * scale) for s in picture.size)
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
        tensor = (np.asarray(picture, np.float32).transpose(2, 0, 1)[None] - 127) / 128
        best[name] = Predictions(task, session.run(None, {"image": tensor})).top(3)[0]
    assert best["coffee.png"][0] == ("espresso", pytest.approx(0.951, abs=0.005))
    assert {n for n, _ in best["chelsea.png"]} == {"tabby", "tiger cat", "Egyptian cat"}
    assert best["flower.jpg"][0][0] == "daisy"
    assert best["china.jpg"][0][0] == "palace"
    names = json.loads((real / "imagenet1k_label_to_names.json").read_text())
    assert [c.split(" (")[0] in names[str(i)] for i, c in enumerate(task.classes)] == [True] * 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolo", "efficientnet"])
def test_what_is_written_beside_a_network_is_all_that_it_needs(real: Path, name: str) -> None:
    given = tomllib.loads((real / f"{name}.toml").read_text())
    opened = open_model(f"{name}.onnx", (real / f"{name}.onnx").read_bytes(), None, given)
    image = opened.signature.image
    assert image is not None, opened.notes
    preparation = ImagePreparation(opened.signature)
    files = [real / n for n in ("coffee.png", "flower.jpg", "chelsea.png")]
    tensors, _, _, geometry = preparation.prepare(files)
    outputs = ort.InferenceSession(real / f"{name}.onnx").run(None, tensors)
    if isinstance(opened.task, Detection):
        outputs = opened.task.objects(outputs, geometry, (image.width, image.height)).arrays()
    found = Predictions(opened.task, outputs, sources=[f.name for f in files], picture=lambda i: Image.open(files[i]))
    columns = found.to_columns()
    best = dict(zip(columns["source"].tolist(), columns["label" if name == "yolo" else "prediction"], strict=False))
    assert best["coffee.png"] == {"yolo": "cup", "efficientnet": "espresso"}[name]
    assert found.draw().width > 600

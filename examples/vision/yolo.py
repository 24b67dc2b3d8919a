"""YOLOv3-tiny as darknet trained it -> ONNX, with numpy and onnx alone: yolo.py OUT.

    OUT/yolo.onnx    images [N, 3, 416, 416], RGB from 0 to 1 -> detections [N, 2535, 85]: centre x, centre y, width
                     and height in pixels of the tensor, objectness, and a score for each of COCO's 80 classes
    OUT/yolo.toml    how a picture becomes a tensor, and how the outputs are read: for model.toml

Darknet keeps weights as one run of float32 in the order of the layers; what the layers are is in the .cfg. Batch
normalisation is folded into the convolution before it, and the grid is decoded as in section 2.1 of Redmon and
Farhadi 2018, YOLOv3 (arXiv:1804.02767).
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tomli_w
from fetch import fetch
from graph import Graph
from numpy.typing import NDArray

EPSILON = 1e-5  # darknet's, in batch normalisation
SLOPE = 0.1  # of its leaky ReLU
TRAINED_MASK = {"0,1,2": "1,2,3"}
"""The .cfg of the package gives the fine head the anchors 0, 1, 2, but the weights were trained with 1, 2, 3: with the
others small boxes come out at half their size."""

Section = dict[str, str]


class Value(NamedTuple):
    """What a layer gives."""

    name: str
    channels: int
    height: int
    width: int


@dataclass
class Weights:
    """The numbers of a .weights file, taken in order."""

    numbers: NDArray[np.float32]
    at: int = 0

    @classmethod
    def read(cls, path: Path) -> "Weights":
        """Step over the header: three version numbers, then how many pictures were seen."""
        content = path.read_bytes()
        major, minor = np.frombuffer(content, "<i4", 2)
        return cls(np.frombuffer(content, "<f4", offset=20 if major * 10 + minor >= 2 else 16))

    def take(self, *shape: int) -> NDArray[np.float32]:
        """Return the next numbers in this shape."""
        count = int(np.prod(shape))
        found = self.numbers[self.at : self.at + count]
        if len(found) != count:
            sys.exit(f"weights: {len(found)} numbers left, {count} expected; the .cfg is of another network")
        self.at += count
        return found.reshape(shape)


def sections_of(path: Path) -> list[tuple[str, Section]]:
    """Read a .cfg: the kind of each section, and what it says."""
    found: list[tuple[str, Section]] = []
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("["):
            found.append((line.strip("[]"), {}))
        elif line:
            key, _, value = line.partition("=")
            found[-1][1][key.strip()] = value.strip()
    return found


class Converter:
    """Writes layer after layer into a graph."""

    def __init__(self, net: Section, weights: Weights) -> None:
        self.graph = Graph()
        self.weights = weights
        self.width, self.height = int(net["width"]), int(net["height"])
        self.outputs: list[Value] = []
        self.heads: list[str] = []
        self.rows = 0
        self.now = Value("images", int(net["channels"]), self.height, self.width)

    def layer(self, kind: str, section: Section) -> None:
        """Add the next layer."""
        add = getattr(self, f"_{kind}", None)
        if add is None:
            sys.exit(f"layer {len(self.outputs)}: [{kind}] is not known here")
        self.now = add(len(self.outputs), section)
        self.outputs.append(self.now)

    def _convolutional(self, i: int, section: Section) -> Value:
        count, size, stride = (int(section[k]) for k in ("filters", "size", "stride"))
        pad = size // 2 if section.get("pad") == "1" else 0
        bias = self.weights.take(count)
        scale = np.ones(count, np.float32)
        if section.get("batch_normalize") == "1":
            gain, mean, variance = (self.weights.take(count) for _ in range(3))
            scale = gain / np.sqrt(variance + EPSILON)
            bias = bias - mean * scale
        kernel = self.weights.take(count, self.now.channels, size, size) * scale[:, None, None, None]
        names = (self.graph.weight(f"w{i}", kernel), self.graph.weight(f"b{i}", bias))
        attributes = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [pad] * 4}
        name = self.graph.add("Conv", f"conv{i}", self.now.name, *names, **attributes)
        if section["activation"] == "leaky":
            name = self.graph.add("LeakyRelu", f"leaky{i}", name, alpha=SLOPE)
        height, width = ((side + 2 * pad - size) // stride + 1 for side in (self.now.height, self.now.width))
        return Value(name, count, height, width)

    def _maxpool(self, i: int, section: Section) -> Value:
        size, stride = int(section["size"]), int(section["stride"])
        # With a stride of 1 darknet pads to the right and below, so that the map stays as large as it was.
        pads = [0, 0, size - 1, size - 1] if stride == 1 else [0] * 4
        attributes = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": pads}
        name = self.graph.add("MaxPool", f"pool{i}", self.now.name, **attributes)
        return Value(name, self.now.channels, self.now.height // stride, self.now.width // stride)

    def _upsample(self, i: int, section: Section) -> Value:
        stride = int(section["stride"])
        scales = self.graph.weight(f"scales{i}", np.array([1, 1, stride, stride], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        name = self.graph.add("Resize", f"up{i}", self.now.name, "", scales, **how)
        return Value(name, self.now.channels, self.now.height * stride, self.now.width * stride)

    def _route(self, i: int, section: Section) -> Value:
        places = [int(n) for n in section["layers"].split(",")]
        sources = [self.outputs[n if n >= 0 else i + n] for n in places]
        if len(sources) == 1:
            return sources[0]
        name = self.graph.add("Concat", f"route{i}", *(s.name for s in sources), axis=1)
        return sources[0]._replace(name=name, channels=sum(s.channels for s in sources))

    def _yolo(self, i: int, section: Section) -> Value:
        """Decode a grid: every cell has a box for each of its anchors."""
        mask = TRAINED_MASK.get(section["mask"], section["mask"])
        every = np.array(section["anchors"].split(","), np.float32).reshape(-1, 2)
        anchors = every[[int(n) for n in mask.split(",")]]
        _, _, height, width = self.now
        columns = 5 + int(section["classes"])
        graph, count = self.graph, len(anchors)
        split = graph.weight(f"shape{i}", np.array([-1, count, columns, height, width]))
        grid = graph.add("Reshape", f"apart{i}", self.now.name, split)
        grid = graph.add("Transpose", f"cells{i}", grid, perm=[0, 1, 3, 4, 2])
        cells = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)[None, None].astype(np.float32)
        stride = np.array([self.width / width, self.height / height], np.float32)
        centre = graph.add("Sigmoid", f"offset{i}", self._columns(f"t_xy{i}", grid, 0, 2))
        centre = graph.add("Add", f"cell{i}", centre, graph.weight(f"cells_of{i}", cells))
        centre = graph.add("Mul", f"xy{i}", centre, graph.weight(f"stride{i}", stride))
        size = graph.add("Exp", f"times{i}", self._columns(f"t_wh{i}", grid, 2, 4))
        size = graph.add("Mul", f"wh{i}", size, graph.weight(f"anchors{i}", anchors[None, :, None, None]))
        scores = graph.add("Sigmoid", f"scores{i}", self._columns(f"t_scores{i}", grid, 4, columns))
        boxes = graph.add("Concat", f"boxes{i}", centre, size, scores, axis=4)
        flat = graph.weight(f"flat{i}", np.array([-1, count * height * width, columns]))
        self.heads.append(graph.add("Reshape", f"head{i}", boxes, flat))
        self.rows += count * height * width
        return self.now

    def _columns(self, name: str, source: str, start: int, end: int) -> str:
        ends = [self.graph.weight(f"{name}_{k}", np.array([v])) for k, v in (("from", start), ("to", end), ("of", 4))]
        return self.graph.add("Slice", name, source, *ends)


def convert(out: Path) -> None:
    """Write yolo.onnx and yolo.toml."""
    cfg, weights_file, names = fetch(out, "yolov3-tiny.cfg", "yolov3-tiny.weights", "coco.names")
    (_, net), *layers = sections_of(cfg)
    converter = Converter(net, Weights.read(weights_file))
    for kind, section in layers:
        converter.layer(kind, section)
    if converter.weights.at != len(converter.weights.numbers):
        sys.exit(f"{weights_file}: {len(converter.weights.numbers) - converter.weights.at} numbers are left over")
    converter.graph.add("Concat", "detections", *converter.heads, axis=1)
    classes = names.read_text().split("\n")
    classes = [c.strip() for c in classes if c.strip()]
    takes = ("images", ("rows", 3, converter.height, converter.width))
    gives = ("detections", ("rows", converter.rows, 5 + len(classes)))
    converter.graph.save(out / "yolo.onnx", "yolov3-tiny", takes, gives, {"names": str(dict(enumerate(classes)))})
    image = {"input": "images", "width": converter.width, "height": converter.height, "fit": "letterbox"}
    # Darknet fills up with grey, 0.5, and resizes without widening its filter.
    image |= {"resize": "bilinear", "antialias": False, "pad": 128, "colour": "rgb", "scale": 1 / 255}
    task = {"name": "detection", "layout": "yolo", "classes": classes}
    (out / "yolo.toml").write_text(tomli_w.dumps({"task": task, "signature": {"image": image}}))


if __name__ == "__main__":
    convert(Path(sys.argv[1]))

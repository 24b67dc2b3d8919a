"""Networks of pictures small enough to be answered by hand, made in memory."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIDE = 16
CLASSIFIER = """
[task]
name = "classification"
classes = ["red", "green", "blue"]
logits = true

[signature.image]
fit = "stretch"
resize = "bilinear"
colour = "rgb"
scale = 0.00392156862745098
"""
DETECTOR = """
[task]
name = "detection"
layout = "yolo"
classes = ["red thing", "other"]

[signature.image]
fit = "letterbox"
resize = "bilinear"
colour = "rgb"
scale = 0.00392156862745098
pad = 0
"""


def network(weights, bias, shape) -> bytes:
    """Return an ONNX file: the means of the three channels times weights plus bias, in this shape."""
    inside = {
        "weights": np.array(weights, np.float32),
        "bias": np.array(bias, np.float32),
        "shape": np.array(shape, np.int64),
        "flat": np.array([-1, 3], np.int64),
    }
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["means"]),
        helper.make_node("Reshape", ["means", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Reshape", ["sum", "shape"], ["out"]),
    ]
    takes = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 3, SIDE, SIDE])
    gives = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["rows", *shape[1:]])
    tensors = [numpy_helper.from_array(v, k) for k, v in inside.items()]
    graph = helper.make_graph(nodes, "net", [takes], [gives], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def classifier() -> bytes:
    """Ten times the mean of each channel are the logits."""
    return network(np.eye(3) * 10, np.zeros(3), [-1, 3])


def detector() -> bytes:
    """One box in the middle, 8 x 4 of 16 x 16; the objectness is the mean of red."""
    weights = np.zeros((3, 7))
    weights[0, 4] = 1
    return network(weights, [8, 8, 8, 4, 0, 1, 0], [-1, 1, 7])


def written(folder: Path, name: str, content: bytes, tables: str) -> tuple[Path, Path]:
    """Write a network and its tables."""
    file, picture = folder / f"{name}.onnx", folder / f"{name}.toml"
    file.write_bytes(content)
    picture.write_text(tables)
    return file, picture


def plain(colour: tuple[int, int, int], width: int = 32, height: int = 32) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", (width, height), colour)

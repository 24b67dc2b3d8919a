"""EfficientNet-lite0 from a PyTorch checkpoint -> ONNX, with numpy and onnx alone: efficientnet.py OUT.

    OUT/efficientnet.onnx    image [N, 3, 224, 224], RGB, (pixel - 127) / 128 -> logits [N, 1000] of ImageNet's classes
    OUT/efficientnet.toml    how a picture becomes a tensor, and how the outputs are read: for model.toml

A checkpoint is weights without code, so the network is written down here: Tan and Le 2019, EfficientNet
(arXiv:1905.11946), table 1, in the lite form: ReLU6 in place of swish, no squeeze-and-excitation, stem and head of
fixed width. The pickle in the checkpoint is read and never run.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tomli_w
from fetch import fetch
from graph import Graph
from numpy.typing import NDArray

from foretell.model.pickles.checkpoint import read_checkpoint

EPSILON = 1e-3  # in batch normalisation, as in TensorFlow, where it was trained
SIDE = 224


class Stage(NamedTuple):
    """Blocks of one kind: how many, and of the first of them the stride; later ones have 1."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class Network:
    """Writes convolutions into a graph, each with its batch normalisation folded in."""

    def __init__(self, weights: dict[str, NDArray[Any]]) -> None:
        self.graph = Graph()
        self.weights = weights
        self.side = SIDE
        self._limits = [self.graph.weight(n, np.float32(v)) for n, v in (("zero", 0), ("six", 6))]

    def convolve(
        self, name: str, value: str, convolution: str, norm: str, *, stride: int = 1, relu: bool = True
    ) -> str:
        """Add a convolution by the names of its weights; one filter a channel where the kernel is one deep."""
        kernel = self.weights[f"{convolution}.weight"]
        scale = self.weights[f"{norm}.weight"] / np.sqrt(self.weights[f"{norm}.running_var"] + EPSILON)
        bias = self.weights[f"{norm}.bias"] - self.weights[f"{norm}.running_mean"] * scale
        size = kernel.shape[2]
        # TensorFlow's SAME: as little padding as needed, the odd pixel to the right and below.
        missing = max((math.ceil(self.side / stride) - 1) * stride + size - self.side, 0)
        before, after = missing // 2, missing - missing // 2
        names = [self.graph.weight(f"{name}_w", kernel * scale[:, None, None, None])]
        names.append(self.graph.weight(f"{name}_b", bias))
        groups = len(kernel) if kernel.shape[1] == 1 else 1
        shape = {"kernel_shape": [size, size], "strides": [stride, stride], "pads": [before, before, after, after]}
        value = self.graph.add("Conv", name, value, *names, group=groups, **shape)
        self.side = math.ceil(self.side / stride)
        return self.graph.add("Clip", f"{name}_relu6", value, *self._limits) if relu else value

    def block(self, i: int, value: str, stage: Stage, *, stride: int, shortcut: bool) -> str:
        """Add an inverted bottleneck: widen, filter each channel, narrow."""
        names, inner = f"_blocks.{i}.", value
        if stage.expand != 1:
            inner = self.convolve(f"b{i}_expand", inner, f"{names}_expand_conv", f"{names}_bn0")
        inner = self.convolve(f"b{i}_depth", inner, f"{names}_depthwise_conv", f"{names}_bn1", stride=stride)
        inner = self.convolve(f"b{i}_project", inner, f"{names}_project_conv", f"{names}_bn2", relu=False)
        return self.graph.add("Add", f"b{i}_add", inner, value) if shortcut else inner


def convert(out: Path) -> None:
    """Write efficientnet.onnx and efficientnet.toml."""
    file, labels = fetch(out, "efficientnet-lite0-57934424.pth", "imagenet1k_label_to_names.json")
    network = Network(read_checkpoint(file.read_bytes()))
    graph = network.graph
    value = network.convolve("stem", "image", "_conv_stem", "_bn0", stride=2)
    i = 0
    for stage in STAGES:
        for repeat in range(stage.repeats):
            stride = stage.stride if repeat == 0 else 1
            value = network.block(i, value, stage, stride=stride, shortcut=repeat > 0)
            i += 1
    value = network.convolve("head", value, "_conv_head", "_bn1")
    value = graph.add("Flatten", "flat", graph.add("GlobalAveragePool", "pool", value))
    last = [graph.weight(n, network.weights[f"_fc.{n}"]) for n in ("weight", "bias")]
    graph.add("Gemm", "logits", value, *last, transB=1)
    classes = names_of(json.loads(labels.read_text()))
    takes, gives = ("image", ("rows", 3, SIDE, SIDE)), ("logits", ("rows", len(classes)))
    graph.save(out / "efficientnet.onnx", "efficientnet-lite0", takes, gives, {"names": str(dict(enumerate(classes)))})
    # The centre 7/8 of the shorter side, as in the paper's own evaluation.
    image: dict[str, Any] = {"input": "image", "width": SIDE, "height": SIDE, "fit": "crop", "crop_from": 256}
    image |= {"resize": "bicubic", "colour": "rgb", "scale": 1.0, "mean": [127.0], "std": [128.0]}
    task = {"name": "classification", "classes": classes, "probability_output": 0, "logits": True, "top": 5}
    (out / "efficientnet.toml").write_text(tomli_w.dumps({"task": task, "signature": {"image": image}}))


def names_of(labels: dict[str, str]) -> list[str]:
    """Return the first name of each class in the order of the classes; where two share it, their second too."""
    every = [labels[str(i)].split(", ") for i in range(len(labels))]
    first = [names[0] for names in every]
    found = [n if first.count(n) == 1 else ", ".join(names[:2]) for n, names in zip(first, every, strict=True)]
    return [n if found.count(n) == 1 else f"{n} ({i})" for i, n in enumerate(found)]


if __name__ == "__main__":
    convert(Path(sys.argv[1]))

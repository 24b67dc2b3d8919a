"""Layouts in which networks give what they found, and how each is read. Pure arithmetic on one picture's outputs.

Every layout comes out as candidates: boxes in pixels of the tensor (or parts of its sides), a score and a label
for each. Nothing is suppressed here, and nothing mapped back to the original picture.

    layout              outputs, in order                                            who gives it
    yolo                [N, boxes, 5 + classes]                                      darknet and YOLOv3, v5, v7 decoded
    yolov8              [N, 4 + classes, boxes]                                      YOLOv8, v9, 11, 12
    yolov8_transposed   [N, boxes, 4 + classes]                                      the same with a Transpose behind it
    end_to_end          [N, most, 6]                                                 YOLOv10, 26; exports with nms=True
    boxes               boxes [N, most, 4], labels [N, most], scores [N, most]       torchvision, SSD-12, RT-DETR, TF
    mmdeploy            dets [N, most, 5], labels [N, most]                          MMDetection by MMDeploy
    detr                logits [N, queries, classes (+ 1)], boxes [N, queries, 4]    DETR, Deformable DETR, RT-DETR
    ssd                 boxes [N, boxes, 4], scores [N, boxes, classes + background] SSD before suppression

The exact meaning of each is with its reader. Sources: the YOLOv5 and Ultralytics exporters (`export.py`,
`non_max_suppression`), Redmon and Farhadi 2018, Wang et al. 2024 (YOLOv10), torchvision's `detection` models,
TensorFlow's `exporter_lib_v2.py`, Carion et al. 2020 and `post_process_object_detection` of transformers (DETR),
`RTDETRPostProcessor`, MMDeploy's `end2end` models, Liu et al. 2016 (SSD).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LAYOUTS", "Activation", "Background", "BoxForm", "Candidates", "Layout", "Reading", "corners"]

Layout = Literal["yolo", "yolov8", "yolov8_transposed", "end_to_end", "boxes", "mmdeploy", "detr", "ssd"]

BoxForm = Literal["xyxy", "yxyx", "cxcywh", "xywh"]
"""The four numbers of a box.

xyxy: x_min, y_min, x_max, y_max. yxyx: y_min, x_min, y_max, x_max. cxcywh: the centre, width and height.
xywh: x_min, y_min, width and height.
"""

Background = Literal["none", "first", "last"]
"""Which column of the classes' scores means that there is no object."""

Activation = Literal["none", "sigmoid", "softmax"]
"""What makes scores of the classes' numbers: nothing, they are scores; the logistic function, each for itself; or the
softmax over all columns, the background's among them."""

Floats = NDArray[np.floating[Any]]


class Candidates(NamedTuple):
    """What may be objects, above the threshold of the score, in the order of the outputs."""

    boxes: Floats
    """(candidates, 4), in the layout's own form."""
    scores: Floats
    """(candidates,)"""
    labels: NDArray[np.int64]
    """(candidates,): number of the class; negative: background."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read scores: the part of a task that a layout needs."""

    threshold: float
    activation: Activation
    background: Background
    first_label: int
    multi_label: bool


@dataclass(frozen=True, slots=True)
class LayoutFacts:
    """What a layout is, where the task does not say otherwise."""

    outputs: tuple[str, ...]
    """What its outputs are, in order."""
    read: Callable[[list[NDArray[Any]], Reading], Candidates]
    """Reads the outputs of one picture, without the axis of pictures."""
    box: BoxForm = "xyxy"
    normalized: bool = False
    activation: Activation = "none"
    background: Background = "none"
    multi_label: bool = False
    iou_threshold: float = 1.0
    optional: int = 0
    """How many of the last outputs may be missing."""


def corners(boxes: Floats, form: BoxForm) -> Floats:
    """Return boxes of any form as x_min, y_min, x_max, y_max, shape (boxes, 4), in the same unit."""
    if form == "xyxy":
        return boxes
    if form == "yxyx":
        return boxes[:, [1, 0, 3, 2]]
    start, size = boxes[:, :2], boxes[:, 2:]
    if form == "cxcywh":
        start = start - size / 2
    return np.concatenate([start, start + size], axis=1)


def _yolo(outputs: list[NDArray[Any]], reading: Reading) -> Candidates:
    """Read rows of box, objectness and a score for each class.

    The score of a class is objectness times its own. All are from 0 to 1, so a box whose objectness is not above the
    threshold has no class above it, and most boxes end there. Where there is one class, its own score may be missing.
    YOLOX has this layout too, but its usual export leaves the boxes undecoded: export it with decode_in_inference.
    """
    (grid,) = outputs
    objectness = grid[:, 4]
    hopeful = np.flatnonzero(objectness > reading.threshold)
    chosen = grid[hopeful]
    scores = chosen[:, 5:] * chosen[:, 4:5] if grid.shape[1] > 5 else chosen[:, 4:5]
    return _by_class(chosen[:, :4], scores, reading)


def _yolov8(outputs: list[NDArray[Any]], reading: Reading) -> Candidates:
    """Read columns of box and a score for each class; there is no objectness."""
    (grid,) = outputs
    if reading.activation == "none":
        hopeful = np.flatnonzero(grid[4:].max(axis=0, initial=0) > reading.threshold)
        grid = grid[:, hopeful]
    return _by_class(grid[:4].T, grid[4:].T, reading)


def _yolov8_transposed(outputs: list[NDArray[Any]], reading: Reading) -> Candidates:
    """Read rows of box and a score for each class; there is no objectness."""
    return _by_class(outputs[0][:, :4], outputs[0][:, 4:], reading)


def _end_to_end(outputs: list[NDArray[Any]], reading: Reading) -> Candidates:
    """Read rows of box, score and class; unused rows have score 0."""
    (rows,) = outputs
    return _chosen(rows[:, :4], rows[:, 5], rows[:, 4], reading)


def _boxes(outputs: list[NDArray[Any]], reading: Reading) -> Candidates:
    """Read boxes, the label and the score of each, and how many of them count where a fourth output says it."""
    boxes, labels, scores = outputs[:3]
    if len(outputs) > 3:
        count = int(outputs[3].reshape(-1)[0])
        boxes, labels, scores = boxes[:count], labels[:count], scores[:count]
    return _chosen(boxes, labels.reshape(-1), scores.reshape(-1), reading)


def _mmdeploy(outputs: list[NDArray[Any]], reading: Reading) -> Candidates:
    """Read rows of box and score, and a label for each."""
    rows, labels = outputs
    return _chosen(rows[:, :4], labels, rows[:, 4], reading)


def _detr(outputs: list[NDArray[Any]], reading: Reading) -> Candidates:
    """Read logits of the classes, and boxes; with softmax the last class is "no object"."""
    logits, boxes = outputs
    return _by_class(boxes, logits, reading)


def _ssd(outputs: list[NDArray[Any]], reading: Reading) -> Candidates:
    """Read boxes, and a score for each class, of which one is the background."""
    boxes, scores = outputs
    return _by_class(boxes, scores, reading)


def _chosen(boxes: Floats, labels: NDArray[Any], scores: Floats, reading: Reading) -> Candidates:
    """Read boxes whose label the network has chosen."""
    if reading.activation == "sigmoid":
        scores = _sigmoid(scores)
    found = np.flatnonzero(scores > reading.threshold)
    return Candidates(boxes[found], scores[found], labels[found].astype(np.int64) - reading.first_label)


def _by_class(boxes: Floats, numbers: Floats, reading: Reading) -> Candidates:
    """Read boxes with a number for each class: the best class of each, or every class above the threshold."""
    scores = _activated(numbers, reading.activation)
    if reading.background != "none":
        scores = scores[:, 1:] if reading.background == "first" else scores[:, :-1]
    if reading.multi_label:
        found, labels = np.nonzero(scores > reading.threshold)
        return Candidates(boxes[found], scores[found, labels], labels.astype(np.int64))
    if not scores.size:
        return Candidates(boxes[:0], scores[:0].reshape(-1), np.empty(0, np.int64))
    best = scores.max(axis=1)
    found = np.flatnonzero(best > reading.threshold)
    return Candidates(boxes[found], best[found], scores[found].argmax(axis=1).astype(np.int64))


def _activated(numbers: Floats, activation: Activation) -> Floats:
    if activation == "sigmoid":
        return _sigmoid(numbers)
    if activation == "softmax":
        powers = np.exp(numbers - numbers.max(axis=1, keepdims=True, initial=-np.inf))
        total: Floats = powers / powers.sum(axis=1, keepdims=True)
        return total
    return numbers


def _sigmoid(numbers: Floats) -> Floats:
    # By tanh: the exponential of a large number overflows.
    half: Floats = np.tanh(numbers * numbers.dtype.type(0.5))
    return half * numbers.dtype.type(0.5) + numbers.dtype.type(0.5)


LAYOUTS: dict[str, LayoutFacts] = {
    "yolo": LayoutFacts(("grid",), _yolo, box="cxcywh", iou_threshold=0.45),
    "yolov8": LayoutFacts(("grid",), _yolov8, box="cxcywh", iou_threshold=0.7),
    "yolov8_transposed": LayoutFacts(("grid",), _yolov8_transposed, box="cxcywh", iou_threshold=0.7),
    "end_to_end": LayoutFacts(("rows",), _end_to_end),
    "boxes": LayoutFacts(("boxes", "labels", "scores", "count"), _boxes, optional=1),
    "mmdeploy": LayoutFacts(("rows", "labels"), _mmdeploy),
    "detr": LayoutFacts(
        ("logits", "boxes"), _detr, box="cxcywh", normalized=True, activation="softmax", background="last"
    ),
    "ssd": LayoutFacts(
        ("boxes", "scores"), _ssd, normalized=True, background="first", multi_label=True, iou_threshold=0.45
    ),
}
"""By name. Suppression: 0.45 is YOLOv3's, v5's and SSD's own, 0.7 that of Ultralytics since v8, 1 is none: the network
has done it, or never needed it."""

"""Detection: what is in a picture, and where. From a network's raw outputs to objects in pixels of the original.

1. read      candidates above the threshold, by the layout
2. map       boxes back through the picture's geometry, cut at its edges; empty and broken ones are dropped
3. order     by score, the highest first; equal ones in the order of the outputs
4. suppress  of boxes that overlap the best stays
5. keep      the first `max_objects`

Knows no picture: it takes the geometry of each row from the preparation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, InvalidOutput
from foretell.model.tasks.layouts import (
    LAYOUTS,
    Activation,
    Background,
    BoxForm,
    Candidates,
    Layout,
    LayoutFacts,
    Reading,
    corners,
)
from foretell.model.tasks.objects import Objects, object_specs
from foretell.model.tasks.overlap import suppress
from foretell.signature import Label, TensorSpec

__all__ = ["Detection", "plain_geometry"]

_MOST_CANDIDATES = 30_000
"""The best so many of a picture are looked at, as YOLOv5 does: a threshold near 0 must not cost minutes."""


def plain_geometry(rows: int, size: tuple[int, int]) -> NDArray[np.float64]:
    """Return the geometry of pictures that are the tensor itself: boxes come out in pixels of the tensor.

    Args:
        rows: How many pictures.
        size: Width and height of the tensor in pixels.
    """
    return np.tile(np.array([*size, 1.0, 1.0, 0.0, 0.0]), (rows, 1))


@dataclass(frozen=True)
class Detection:
    """Read objects from the outputs of a detector. What is None is as the layout has it (see `layouts`)."""

    classes: tuple[Label, ...]
    """Names of the classes in the order of their numbers, without the background. May be empty: numbers are names."""
    layout: Layout
    outputs: tuple[int, ...] = ()
    """Which output of the runtime is which of the layout's, by position; empty: they come in its order."""
    score_threshold: float = 0.25
    """Only objects with a score above it are given."""
    iou_threshold: float | None = None
    """Highest overlap (intersection over union) that two objects may have; 1: nothing is suppressed."""
    max_objects: int = 100
    """Most objects of one picture, the best. It is the length of the answered tensors. COCO counts 100."""
    per_class: bool = True
    """Whether only objects of one class suppress each other, or all do."""
    multi_label: bool | None = None
    """Whether a box may be several objects, one for each class above the threshold, or is the best class alone."""
    box: BoxForm | None = None
    normalized: bool | None = None
    """Whether boxes are parts of the tensor's sides, 0 to 1, or in its pixels."""
    activation: Activation | None = None
    background: Background | None = None
    first_label: int = 0
    """Number that the network gives the first class, where it gives numbers. TensorFlow: 1; lower is background."""
    batched: bool = True
    """Whether the outputs have an axis of pictures. torchvision's exports have none: one picture at a time."""

    def __post_init__(self) -> None:
        facts = LAYOUTS.get(self.layout)
        if facts is None:
            raise ArtifactInvalid(f'task: layout "{self.layout}", expected one of {", ".join(LAYOUTS)}')
        if self.background is None and self.layout == "detr" and self.activation == "sigmoid":
            # Focal loss, which goes with the sigmoid, has no class for "no object".
            object.__setattr__(self, "background", "none")
        for key in ("iou_threshold", "multi_label", "box", "normalized", "activation", "background"):
            if getattr(self, key) is None:
                object.__setattr__(self, key, getattr(facts, key))
        self._check(facts)

    @property
    def name(self) -> str:
        """Always `detection`."""
        return "detection"

    @property
    def answered(self) -> tuple[TensorSpec, ...]:
        """What `objects` gives as tensors: boxes, scores, labels, counts."""
        return object_specs(self.max_objects)

    def objects(self, outputs: Sequence[NDArray[Any]], geometry: NDArray[np.float64], size: tuple[int, int]) -> Objects:
        """Find the objects of every picture.

        Args:
            outputs: Of the network, raw, in its order.
            geometry: (pictures, 6): width and height of the original, x_scale, y_scale, x_offset, y_offset, where
                a point of the tensor is original * scale + offset.
            size: Width and height of the tensor in pixels.

        Raises:
            InvalidOutput: An output has not the shape that the layout has.
        """
        found = Objects.none(len(geometry), self.max_objects)
        used = self._used(outputs, len(geometry))
        for row, place in enumerate(geometry):
            with np.errstate(all="ignore"):  # what is not finite is dropped
                boxes, scores, labels = self._of_one([o[row] for o in used], place, size)
            count = len(scores)
            found.boxes[row, :count] = boxes
            found.scores[row, :count] = scores
            found.labels[row, :count] = labels
            found.counts[row] = count
        return found

    def values(self, outputs: list[NDArray[Any]]) -> NDArray[Any]:
        """Return the list of objects of each picture, an array of objects of shape (pictures,)."""
        records = self.records(outputs)
        values = np.empty(len(records), object)
        values[:] = records
        return values

    def probabilities(self, outputs: list[NDArray[Any]]) -> None:
        """Return None: the score of an object is its own, not one of a distribution."""
        return

    def records(self, outputs: list[NDArray[Any]]) -> list[Any]:
        """Return for each picture a list of `{"label", "score", "box": [x_min, y_min, x_max, y_max]}`."""
        boxes, scores, labels, counts = (o.tolist() for o in outputs)
        return [
            [
                {"label": self.label(labels[row][i]), "score": scores[row][i], "box": boxes[row][i]}
                for i in range(counts[row])
            ]
            for row in range(len(counts))
        ]

    def table(self, outputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return a row per object: `source` (the picture's index), `label`, `score`, `x_min` ... `y_max`."""
        found = Objects(*outputs)
        there = np.arange(self.max_objects) < found.counts[:, None]
        boxes = found.boxes[there]
        labels = [self.label(label) for label in found.labels[there].tolist()]
        names = np.array(labels, object if labels else str)  # an empty column of text is one of text too
        columns = {"source": np.repeat(np.arange(len(found.counts)), found.counts), "label": names}
        columns["score"] = found.scores[there]
        return columns | {key: boxes[:, i] for i, key in enumerate(("x_min", "y_min", "x_max", "y_max"))}

    def label(self, number: int) -> Label:
        """Return the name of a class; its number where it has none."""
        return self.classes[number] if 0 <= number < len(self.classes) else str(number + self.first_label)

    def _of_one(self, outputs: list[NDArray[Any]], place: NDArray[np.float64], size: tuple[int, int]) -> Candidates:
        """Return the objects of one picture, boxes in its own pixels."""
        found = LAYOUTS[self.layout].read(outputs, self._reading)
        best = np.argsort(-found.scores, kind="stable")[:_MOST_CANDIDATES]
        boxes = corners(found.boxes[best], self.box or "xyxy").astype(np.float64)
        if self.normalized:
            boxes *= (*size, *size)
        labels = found.labels[best]
        width, height, *_ = place
        # A box that leaves the picture is cut at its edge, but it is held against others as it was.
        whole = (boxes - np.tile(place[4:6], 2)) / np.tile(place[2:4], 2)
        # In the precision that is answered: neighbours in it may not be neighbours in the picture's.
        cut = np.clip(whole, 0, (width, height, width, height)).astype(np.float32)
        finite = np.isfinite(whole).all(axis=1) & np.isfinite(found.scores[best])
        kept = np.flatnonzero(finite & (cut[:, 2:] > cut[:, :2]).all(axis=1) & (labels >= 0))
        if self.iou_threshold is not None and self.iou_threshold < 1:
            groups = labels[kept] if self.per_class else None
            kept = kept[suppress(whole[kept].astype(np.float32), groups, self.iou_threshold, self.max_objects)]
        kept = kept[: self.max_objects]
        return Candidates(cut[kept], found.scores[best[kept]], labels[kept])

    @property
    def _reading(self) -> Reading:
        return Reading(
            self.score_threshold,
            self.activation or "none",
            self.background or "none",
            self.first_label,
            bool(self.multi_label),
        )

    def _used(self, outputs: Sequence[NDArray[Any]], rows: int) -> list[NDArray[Any]]:
        """Return the outputs that the layout reads, in its order, each with an axis of pictures."""
        facts = LAYOUTS[self.layout]
        places = self.outputs or tuple(range(min(len(outputs), len(facts.outputs))))
        if len(outputs) <= max(places, default=0) or len(places) < len(facts.outputs) - facts.optional:
            raise InvalidOutput(
                f'layout "{self.layout}": {len(outputs)} outputs, it reads {", ".join(facts.outputs)}; '
                "set task.layout and task.outputs in model.toml"
            )
        used = []
        for place, role in zip(places, facts.outputs, strict=False):
            found = outputs[place] if self.batched else outputs[place][None]
            self._check_shape(place, role, found, rows)
            used.append(found.astype(np.float32, copy=False) if found.dtype == np.float16 else found)
        return used

    def _check_shape(self, place: int, role: str, found: NDArray[Any], rows: int) -> None:
        """Compare an output with what the layout has there."""
        wanted = self._shape(role)
        fits = found.ndim == len(wanted) + 1 or role == "count"
        fits = fits and all(w in (-1, g) for w, g in zip(wanted, found.shape[1:], strict=False))
        if not fits or len(found) != rows:
            shape = ", ".join("any" if w < 0 else str(w) for w in wanted)
            raise InvalidOutput(
                f'output {place}: shape {found.shape}, layout "{self.layout}" with {len(self.classes)} classes takes '
                f"({rows}, {shape}) as {role}; set task.layout, task.outputs or task.classes in model.toml"
            )

    def _shape(self, role: str) -> tuple[int, ...]:
        """Return the shape of one picture's output, -1 for what is free."""
        classes = len(self.classes) or -1
        if role == "grid":
            # One class may go without a score of its own beside the objectness.
            lead = {"yolo": 5, "yolov8": 4, "yolov8_transposed": 4}[self.layout]
            width = -1 if classes < 2 else lead + classes
            return (width, -1) if self.layout == "yolov8" else (-1, width)
        columns = classes if classes < 0 or self.background == "none" else classes + 1
        if role == "boxes":
            return (-1, 4)
        if role == "rows":
            return (-1, 6 if self.layout == "end_to_end" else 5)
        if role == "count":
            return ()
        return (-1,) if self.layout in ("boxes", "mmdeploy") else (-1, columns)

    def _check(self, facts: LayoutFacts) -> None:
        """Refuse what a hand-written file may say and nothing can mean."""
        _one_of("box", self.box, get_args(BoxForm))
        _one_of("activation", self.activation, get_args(Activation))
        _one_of("background", self.background, get_args(Background))
        for key in ("per_class", "multi_label", "normalized", "batched"):
            _one_of(key, getattr(self, key), (True, False))
        for key in ("score_threshold", "iou_threshold"):
            _number(key, getattr(self, key), 0, 1)
        for key, low, high in (("max_objects", 1, 100_000), ("first_label", -1, 1_000_000)):
            _number(key, getattr(self, key), low, high)
            if not isinstance(getattr(self, key), int):
                raise ArtifactInvalid(f"task: {key} {getattr(self, key)!r}, expected a whole number")
        right = isinstance(self.outputs, tuple) and all(type(i) is int and 0 <= i < 1000 for i in self.outputs)
        if not right or not (not self.outputs or len(facts.outputs) - facts.optional <= len(self.outputs)):
            raise ArtifactInvalid(
                f'task: outputs {list(self.outputs)}, layout "{self.layout}" takes the positions of '
                f"{', '.join(facts.outputs)}"
            )


def _one_of(key: str, got: Any, known: tuple[Any, ...]) -> None:
    if got not in known or type(got) is not type(known[0]):
        raise ArtifactInvalid(f"task: {key} {got!r}, expected {', '.join(str(k).lower() for k in known)}")


def _number(key: str, got: Any, low: float, high: float) -> None:
    if not isinstance(got, (int, float)) or isinstance(got, bool) or not low <= got <= high:
        raise ArtifactInvalid(f"task: {key} {got!r}, expected a number from {low} to {high}")

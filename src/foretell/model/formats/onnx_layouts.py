"""What the outputs of a network of pictures are, by their names, shapes and the file's metadata: a table for a task.

Only what is certain is said. A shape that fits two layouts is left open, and what would settle it is asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foretell.signature import TensorSpec

__all__ = ["Ask", "Guess", "class_names", "guess_outputs"]

_MAX_NAMES_CHARS = 1 << 20
_MOST_END_TO_END = 1000
"""Networks that suppress by themselves give at most some hundreds of rows; grids have thousands."""
_BOXES = ("boxes", "bboxes", "pred_boxes", "detection_boxes")
_LABELS = ("labels", "label", "classes", "detection_classes", "class_ids", "pred_labels")
_SCORES = ("scores", "score", "confidences", "detection_scores", "pred_scores")
_LOGITS = ("logits", "pred_logits")
_SQUASHED, _RAW = {"Softmax"}, {"Gemm", "MatMul", "Add", "Conv", "Flatten", "Reshape", "GlobalAveragePool"}


@dataclass(frozen=True)
class Ask:
    """Something that the file does not say."""

    table: str
    """Table of model.toml: `task` or `signature.image`."""
    key: str
    why: str
    line: str
    """To add to the table, with an example for a value."""


@dataclass
class Guess:
    """What is known of a task, what it is known from, and what is not."""

    table: dict[str, Any] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    asked: list[Ask] = field(default_factory=list)

    def ask(self, key: str, why: str, line: str) -> None:
        """Add a question about the task, unless it was asked with more to say."""
        if all(key != asked.key for asked in self.asked):
            self.asked.append(Ask("task", key, why, line))


def class_names(metadata: Mapping[str, str]) -> list[str]:
    """Return the names of the classes under the key `names`, as exporters of YOLO write them; empty if none."""
    text = metadata.get("names", "")
    if not text or len(text) > _MAX_NAMES_CHARS:
        return []
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    if isinstance(found, dict):
        if sorted(map(str, found)) != sorted(map(str, range(len(found)))):
            return []
        found = [value for _, value in sorted(found.items(), key=lambda pair: int(pair[0]))]
    return [str(n) for n in found] if isinstance(found, list) else []


def guess_outputs(
    outputs: tuple[TensorSpec, ...], makers: Mapping[str, str], metadata: Mapping[str, str], given: Mapping[str, Any]
) -> Guess:
    """Say what the outputs mean.

    Args:
        outputs: Of the graph.
        makers: Operator that makes each output, by its name.
        metadata: The file's own.
        given: The table `task`, as far as somebody has written it.

    Returns:
        A guess whose table holds what was given too; what was given is never asked for, nor changed.
    """
    guess = Guess(dict(given))
    names = class_names(metadata)
    if "classes" not in guess.table and names:
        guess.table["classes"] = names
        guess.found.append(f"{len(names)} names of classes, in its metadata")
    if "layout" not in guess.table and guess.table.get("name") != "classification":
        _detection(guess, outputs)
    if guess.table.get("layout") and "name" not in guess.table:
        guess.table["name"] = "detection"
    if "name" not in guess.table or guess.table["name"] == "classification":
        _classification(guess, outputs, makers, metadata)
    if guess.table.get("name") == "detection" and "layout" not in guess.table:
        shapes = "; ".join(f"{o.name} {_shape(o)}" for o in outputs[:6])
        guess.ask("layout", f"the outputs are {shapes}", 'layout = "yolo"  # see the page on models of pictures')
    if guess.table.get("name") in ("detection", "classification") and "classes" not in guess.table:
        guess.ask("classes", "the file has no names", 'classes = ["person", "car"]  # in the order of the training')
    return guess


def _detection(guess: Guess, outputs: tuple[TensorSpec, ...]) -> None:
    by_role = {role: _named(outputs, names) for role, names in _ROLES.items()}
    boxes, labels, scores, logits = (by_role[r] for r in ("boxes", "labels", "scores", "logits"))
    if boxes is not None and labels is not None and scores is not None:
        _three(guess, outputs, (boxes, labels, scores))
    elif logits is not None and boxes is not None:
        _set(guess, "detr", (logits, boxes), "outputs named logits and boxes")
        if "activation" not in guess.table:
            why = "whether classes exclude each other (DETR) or not (Deformable DETR, RT-DETR) is not in the graph"
            guess.ask("activation", why, 'activation = "softmax"  # or "sigmoid"')
    elif boxes is not None and scores is not None and len(outputs[scores].shape) == 3:
        _set(guess, "ssd", (boxes, scores), "outputs named boxes and scores, a score for each class")
        for key, line in (("background", '"first"  # or "last", "none"'), ("normalized", "true  # or false: pixels")):
            if key not in guess.table:
                guess.ask(key, "it is not in the graph", f"{key} = {line}")
    elif [o.name for o in outputs[:2]] == ["dets", "labels"] and outputs[0].shape[2:] == (5,):
        _set(guess, "mmdeploy", (0, 1), "outputs dets and labels, as MMDeploy names them")
    else:
        _grid(guess, outputs)


def _three(guess: Guess, outputs: tuple[TensorSpec, ...], places: tuple[int, int, int]) -> None:
    """Recognise boxes, labels and scores: with an axis of pictures, or without as torchvision exports them."""
    ranks = tuple(len(outputs[p].shape) for p in places)
    if ranks == (2, 1, 1):
        _set(guess, "boxes", places, "boxes, labels and scores without an axis of pictures: one picture at a time")
        guess.table["batched"] = False
        return
    if ranks != (3, 2, 2):
        return
    if outputs[places[0]].name.startswith("detection_"):
        count = _named(outputs, ("num_detections",))
        _set(guess, "boxes", places if count is None else (*places, count), "outputs as TensorFlow names them")
        for key, value in (("box", "yxyx"), ("normalized", True), ("first_label", 1)):
            guess.table.setdefault(key, value)
        return
    _set(guess, "boxes", places, "outputs named boxes, labels and scores")
    if "normalized" not in guess.table:
        guess.ask("normalized", "pixels, or parts of the sides, is not in the graph", "normalized = false  # or true")


def _grid(guess: Guess, outputs: tuple[TensorSpec, ...]) -> None:
    """Recognise a single tensor by its shape and the number of classes."""
    grids = [i for i, o in enumerate(outputs) if len(o.shape) == 3 and o.datatype.startswith("FP")]
    if not grids:
        return
    (place, spec) = grids[0], outputs[grids[0]]
    _, first, last = spec.shape
    classes = len(guess.table.get("classes", ()))
    shape = f'output "{spec.name}" {_shape(spec)}'
    if last == 6 and 0 < first <= _MOST_END_TO_END:
        _set(guess, "end_to_end", (place,), f"{shape}: box, score and class of each")
        return
    fits = {"yolo": (last, 5, first), "yolov8": (first, 4, last), "yolov8_transposed": (last, 4, first)}
    if classes:
        right = [n for n, (wide, lead, boxes) in fits.items() if wide == lead + classes and boxes != wide]
        if len(right) == 1:
            _set(guess, right[0], (place,), f"{shape} and {classes} classes")
    elif min(first, last) > 5 or (first < 0 < last):
        # As many classes as the layout leaves; their names settle which it is.
        if 0 < first < last:
            _set(guess, "yolov8", (place,), f"{shape}: more columns than rows")
            why = f"{first - 4} names are wanted"
        else:
            guess.table.setdefault("name", "detection")
            why = f"{last - 5} names make it a grid with objectness (yolo), {last - 4} one without (yolov8_transposed)"
        guess.ask("classes", why, 'classes = ["person", "car"]  # in the order of the training')


def _classification(
    guess: Guess, outputs: tuple[TensorSpec, ...], makers: Mapping[str, str], metadata: Mapping[str, str]
) -> None:
    """Recognise a number for each class in the only output of two axes."""
    flat = [i for i, o in enumerate(outputs) if len(o.shape) == 2 and o.datatype.startswith("FP") and o.shape[1] > 1]
    if len(flat) != 1:
        if "name" not in guess.table:
            why = (
                f"what the outputs mean is not in the graph: {'; '.join(f'{o.name} {_shape(o)}' for o in outputs[:6])}"
            )
            guess.ask("name", why, 'name = "detection"  # or "classification"; leave it out for bare tensors')
        return
    spec = outputs[flat[0]]
    classes = len(guess.table.get("classes", ()))
    if "name" not in guess.table:
        if metadata.get("task") != "classify" and classes != spec.shape[1]:
            why = f'output "{spec.name}" has {spec.shape[1]} numbers, which may be classes or not'
            guess.ask("name", why, 'name = "classification"')
            return
        guess.table["name"] = "classification"
        guess.found.append(f'classification: output "{spec.name}" has a number for each of {spec.shape[1]} classes')
    guess.table.setdefault("probability_output", flat[0])
    maker = makers.get(spec.name, "")
    if "logits" not in guess.table:
        if maker in _SQUASHED | _RAW:
            guess.table["logits"] = maker in _RAW
            guess.found.append(
                f'"{spec.name}" holds {"logits" if maker in _RAW else "probabilities"}: {maker} makes it'
            )
        else:
            guess.ask("logits", f'operator {maker or "unknown"} makes "{spec.name}"', "logits = true  # or false")


def _set(guess: Guess, layout: str, places: tuple[int, ...], why: str) -> None:
    guess.table["layout"] = layout
    guess.table.setdefault("outputs", list(places))
    guess.found.append(f'detection, layout "{layout}": {why}')


def _named(outputs: tuple[TensorSpec, ...], names: tuple[str, ...]) -> int | None:
    """Return the position of the output with one of these names."""
    found = [i for i, o in enumerate(outputs) if o.name.lower().split(":")[0] in names]
    return found[0] if len(found) == 1 else None


def _shape(spec: TensorSpec) -> str:
    return f"({', '.join('any' if d < 0 else str(d) for d in spec.shape)})"


_ROLES = {"boxes": _BOXES, "labels": _LABELS, "scores": _SCORES, "logits": _LOGITS}

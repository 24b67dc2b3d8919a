"""Detection: every layout says the same three objects; thresholds, geometry, order, and what is refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, InvalidOutput
from foretell.model.describe import read_task, write_task
from foretell.model.tasks.detection import Detection, plain_geometry
from foretell.model.tasks.layouts import LAYOUTS, corners
from foretell.model.tasks.predictions import Predictions

CLASSES = ("car", "person", "dog")
SIZE = (200, 100)
BOXES = np.array([[10, 20, 50, 60], [100, 10, 140, 90], [150, 50, 190, 90]], np.float32)
LABELS = np.array([2, 0, 1])
SCORES = np.array([0.5, 0.9, 0.75], np.float32)
BEST_FIRST = [1, 2, 0]


def centred(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def hot(width: int, offset: int = 0, low: float = 0.0, scores: NDArray[np.float32] = SCORES) -> NDArray[np.float32]:
    found = np.full((3, width), low, np.float32)
    found[np.arange(3), LABELS + offset] = scores
    return found


def logit(p: NDArray[Any]) -> NDArray[Any]:
    return np.log(p / (1 - p))


def yolo() -> list[NDArray[Any]]:
    # Objectness takes its part of the score.
    return [np.concatenate([centred(BOXES), np.full((3, 1), 0.9375), hot(3) / 0.9375], axis=1)]


def yolov8() -> list[NDArray[Any]]:
    return [np.concatenate([centred(BOXES), hot(3)], axis=1).T]


def detr_softmax() -> list[NDArray[Any]]:
    # Two classes and "no object" share what the best class leaves.
    shares = np.repeat(((1 - SCORES) / 3)[:, None], 4, axis=1)
    shares[np.arange(3), LABELS] = SCORES
    return [np.log(shares).astype(np.float32), centred(BOXES) / np.tile(np.array(SIZE, np.float32), 2)]


def sides() -> NDArray[np.float32]:
    return BOXES / np.tile(np.array(SIZE, np.float32), 2)


CASES: dict[str, tuple[dict[str, Any], list[NDArray[Any]]]] = {
    "yolo": ({}, yolo()),
    "yolo in parts of the sides": (
        {"layout": "yolo", "normalized": True},
        [np.concatenate([centred(sides()), np.ones((3, 1)), hot(3)], axis=1)],
    ),
    "yolov8": ({}, yolov8()),
    "yolov8_transposed": ({}, [yolov8()[0].T]),
    "yolov8 of logits": (
        {"layout": "yolov8", "activation": "sigmoid"},
        [np.concatenate([centred(BOXES), logit(np.clip(hot(3), 1e-6, 1))], axis=1).T],
    ),
    "end_to_end": ({}, [np.concatenate([BOXES, SCORES[:, None], LABELS[:, None]], axis=1)]),
    "boxes": ({}, [BOXES, LABELS, SCORES]),
    "boxes of tensorflow": (
        {"layout": "boxes", "box": "yxyx", "normalized": True, "first_label": 1, "outputs": (3, 1, 2, 0)},
        [
            np.array(3.0),
            np.concatenate([LABELS + 1.0, [1.0]]),
            np.concatenate([SCORES, [1.0]]),
            np.concatenate([sides()[:, [1, 0, 3, 2]], [[0, 0, 1, 1]]]),
        ],
    ),
    "boxes of logits": ({"layout": "boxes", "activation": "sigmoid"}, [BOXES, LABELS, logit(SCORES)]),
    "mmdeploy": ({}, [np.concatenate([BOXES, SCORES[:, None]], axis=1), LABELS]),
    "detr": ({}, detr_softmax()),
    "detr of focal loss": (
        {"layout": "detr", "activation": "sigmoid"},
        [logit(np.clip(hot(3), 1e-6, 1)), centred(sides())],
    ),
    "ssd": ({}, [sides(), hot(4, 1)]),
    "ssd without background": ({"layout": "ssd", "background": "none"}, [sides(), hot(3)]),
    "ssd with the background last": ({"layout": "ssd", "background": "last"}, [sides(), hot(4)]),
}


def task_of(name: str, options: dict[str, Any]) -> Detection:
    return Detection(CLASSES, **{"layout": name, **options})


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", CASES)
def test_every_layout_says_the_same(name: str, dtype: type[Any]) -> None:
    options, one = CASES[name]
    task = task_of(name, options)
    raw = [np.stack([o, o]) if o.dtype.kind == "i" else np.stack([o, o]).astype(dtype) for o in one]
    found = task.objects(raw, plain_geometry(2, SIZE), SIZE)
    assert found.counts.tolist() == [3, 3]
    assert found.labels[0, :4].tolist() == [0, 1, 2, -1]
    near = 1e-4 if dtype is np.float32 else 0.2
    np.testing.assert_allclose(found.boxes[1, :3], BOXES[BEST_FIRST], atol=near)
    np.testing.assert_allclose(found.scores[0, :3], SCORES[BEST_FIRST], atol=near / 50)
    for array, spec in zip(found.arrays(), task.answered, strict=True):
        assert (2, *spec.shape[1:]) == array.shape


def test_every_layout_has_a_case() -> None:
    assert {options.get("layout", name) for name, (options, _) in CASES.items()} == set(LAYOUTS)


@pytest.mark.parametrize("name", CASES)
def test_a_task_is_written_and_read(name: str) -> None:
    task = task_of(name, CASES[name][0])
    written = write_task(task)
    assert read_task(written) == task
    assert None not in written.values(), "TOML has no null"


def test_outputs_without_an_axis_of_pictures() -> None:
    task = Detection(CLASSES, "boxes", batched=False)
    found = task.objects([BOXES, LABELS, SCORES], plain_geometry(1, SIZE), SIZE)
    assert found.counts.tolist() == [3]
    with pytest.raises(InvalidOutput, match=r"output 0: shape \(1, 3, 4\)"):
        task.objects([BOXES, LABELS, SCORES], plain_geometry(2, SIZE), SIZE)


def test_boxes_go_back_through_the_geometry_and_are_cut_at_the_edges() -> None:
    # An original of 50 x 40, twice as large in the tensor, moved by 20 and 5.
    place = np.array([[50, 40, 2.0, 2.0, 20.0, 5.0]])
    outside = np.array([[[0, 0, 15, 90], [10, 1, 60, 45], [119, 84, 500, 500], [30, 30, 30, 60]]], np.float32)
    task = Detection(CLASSES, "boxes")
    found = task.objects([outside, np.zeros((1, 4), int), np.full((1, 4), 0.9, np.float32)], place, SIZE)
    assert found.boxes[0, :2].tolist() == [[0, 0, 20, 20], [49.5, 39.5, 50, 40]], "one outside and one empty are gone"
    assert found.counts.tolist() == [2]


def test_thresholds_and_the_most() -> None:
    raw = [o[None] for o in CASES["boxes"][1]]
    exactly = Detection(CLASSES, "boxes", score_threshold=0.5)
    assert exactly.objects(raw, plain_geometry(1, SIZE), SIZE).counts.tolist() == [2], "above it, not on it"
    one = Detection(CLASSES, "boxes", max_objects=1).objects(raw, plain_geometry(1, SIZE), SIZE)
    assert one.boxes.shape == (1, 1, 4)
    assert one.labels.tolist() == [[0]]


def crowd(labels: tuple[int, int]) -> list[NDArray[Any]]:
    """Return two boxes that overlap by 0.6."""
    boxes = np.array([[[0, 0, 80, 80], [20, 0, 100, 80]]], np.float32)
    return [boxes, np.array([labels]), np.array([[0.6, 0.8]], np.float32)]


@pytest.mark.parametrize(
    ("labels", "options", "expected"),
    [
        ((0, 0), {"iou_threshold": 0.5}, [0.8]),
        ((0, 0), {"iou_threshold": 0.7}, [0.8, 0.6]),
        ((0, 1), {"iou_threshold": 0.5}, [0.8, 0.6]),
        ((0, 1), {"iou_threshold": 0.5, "per_class": False}, [0.8]),
        ((0, 0), {}, [0.8, 0.6]),
    ],
)
def test_suppression_by_class_or_not(labels: tuple[int, int], options: dict[str, Any], expected: list[float]) -> None:
    found = Detection(CLASSES, "boxes", **options).objects(crowd(labels), plain_geometry(1, SIZE), SIZE)
    assert found.scores[0, : found.counts[0]].tolist() == pytest.approx(expected)


def test_a_box_is_its_best_class_or_every_class() -> None:
    grid = np.array([[[50, 50, 20, 20, 1.0, 0.7, 0.0, 0.6]]], np.float32)
    for multi, labels in ((False, [0]), (True, [0, 2])):
        found = Detection(CLASSES, "yolo", multi_label=multi).objects([grid], plain_geometry(1, SIZE), SIZE)
        assert found.labels[0, : found.counts[0]].tolist() == labels


def test_equal_scores_keep_the_order_of_the_outputs() -> None:
    boxes = np.array([[[i * 10, 0, i * 10 + 5, 5] for i in range(500)]], np.float32)
    scores = np.array([[0.5 + 0.25 * (i % 2) for i in range(500)]], np.float32)
    task = Detection(CLASSES, "boxes", max_objects=400)
    found = task.objects([boxes, np.zeros((1, 500), int), scores], plain_geometry(1, (5000, 100)), (5000, 100))
    assert (found.boxes[0, :, 0] / 10).tolist() == [*range(1, 500, 2), *range(0, 300, 2)]


def test_overlap_is_taken_before_boxes_are_cut() -> None:
    # Whole they overlap by 0.43, what is left of them in the picture by 1.
    boxes = np.array([[[-60, 10, 20, 50], [-20, 10, 20, 50]]], np.float32)
    raw = [boxes, np.zeros((1, 2), int), np.array([[0.9, 0.8]], np.float32)]
    found = Detection(CLASSES, "boxes", iou_threshold=0.6).objects(raw, plain_geometry(1, SIZE), SIZE)
    assert found.boxes[0, :2].tolist() == [[0, 10, 20, 50]] * 2


def test_boxes_that_are_not_finite_are_dropped() -> None:
    broken = [[-np.inf, 0, 20, 20], [0, 0, np.inf, 20], [np.nan, 0, 20, 20], [0, 0, 20, 20], [20, 20, 0, 0]]
    raw = [np.array([broken], np.float32), np.zeros((1, 5), int), np.full((1, 5), 0.9, np.float32)]
    found = Detection(CLASSES, "boxes").objects(raw, plain_geometry(1, SIZE), SIZE)
    assert found.counts.tolist() == [1]


@pytest.mark.parametrize("score", [np.inf, -np.inf, np.nan])
def test_scores_that_are_not_finite_are_dropped(score: float) -> None:
    rows = [[0, 0, 20, 20, score, 0], [0, 0, 20, 20, 0.9, 0]]
    found = Detection(CLASSES, "end_to_end").objects([np.array([rows], np.float32)], plain_geometry(1, SIZE), SIZE)
    assert found.scores[0, : found.counts[0]].tolist() == pytest.approx([0.9])


def test_boxes_that_are_empty_in_the_answer_are_dropped() -> None:
    left = np.nextafter(np.float32(3), np.float32(4))
    right = np.nextafter(left, np.float32(4))
    place = np.array([[30, 20, 3.0, 3.0, 0.0, 0.0]])  # a third of the one and of the other: one number as float32
    raw = np.array([[[left, 3, right, 20, 0.9, 0], [3, 3, 20, 20, 0.9, 0]]], np.float32)
    found = Detection(CLASSES, "end_to_end").objects([raw], place, SIZE)
    assert found.counts.tolist() == [1]


def test_a_grid_of_one_class_may_have_no_score_but_the_objectness() -> None:
    grid = np.array([[[50, 50, 20, 20, 0.75]]], np.float32)
    found = Detection(("face",), "yolo").objects([grid], plain_geometry(1, SIZE), SIZE)
    assert (found.scores[0, 0], found.labels[0, 0]) == (0.75, 0)


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(
        st.lists(
            st.one_of(st.floats(width=32), st.sampled_from([0.0, 0.5, 0.9, 1.0, 50.0, 1e30, -1e30])),
            min_size=8,
            max_size=8,
        ),
        max_size=12,
    ),
    layout=st.sampled_from(["yolo", "yolov8", "yolov8_transposed", "end_to_end", "ssd", "detr"]),
)
def test_any_numbers_give_boxes_inside_the_picture(values: list[list[float]], layout: str) -> None:
    numbers = np.array(values, np.float32).reshape(1, -1, 8)
    raw = {
        "yolo": [numbers],
        "yolov8": [numbers[:, :, :7].transpose(0, 2, 1)],
        "yolov8_transposed": [numbers[:, :, :7]],
        "end_to_end": [numbers[:, :, :6]],
        "ssd": [numbers[:, :, :4], numbers[:, :, 4:]],
        "detr": [numbers[:, :, 4:], numbers[:, :, :4]],
    }[layout]
    place = np.array([[30, 20, 3.0, 3.0, 10.0, 0.0]])
    found = Detection(CLASSES, layout, max_objects=5).objects(raw, place, SIZE)  # type: ignore[arg-type]
    count = found.counts[0]
    boxes, scores = found.boxes[0, :count], found.scores[0, :count]
    assert count <= 5
    assert ((boxes >= 0) & (boxes <= [30, 20, 30, 20])).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (np.diff(scores) <= 0).all()
    assert (scores > 0.25).all()


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        ("yolo", [(1, 9, 7)]),
        ("yolo", [(1, 8, 9)]),
        ("yolo", [(1, 9, 8, 1)]),
        ("yolo", [(2, 9, 8)]),
        ("yolov8", [(1, 9, 7)]),
        ("end_to_end", [(1, 9, 7)]),
        ("boxes", [(1, 9, 5), (1, 9), (1, 9)]),
        ("boxes", [(1, 9, 4), (1, 9), (1, 9, 3)]),
        ("boxes", [(1, 9, 4), (1, 9)]),
        ("detr", [(1, 9, 3), (1, 9, 4)]),
        ("ssd", [(1, 9, 4), (1, 9, 3)]),
    ],
)
def test_outputs_that_are_no_such_layout_are_refused(layout: Any, shapes: list[tuple[int, ...]]) -> None:
    with pytest.raises(InvalidOutput, match=r"set task\.layout") as caught:
        Detection(CLASSES, layout).objects([np.zeros(s, np.float32) for s in shapes], plain_geometry(1, SIZE), SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layout", "yolov4"),
        ("box", "xxyy"),
        ("activation", "relu"),
        ("background", 0),
        ("score_threshold", 1.5),
        ("score_threshold", "0.5"),
        ("iou_threshold", -0.1),
        ("max_objects", 0),
        ("max_objects", 2.5),
        ("per_class", 1),
        ("normalized", "yes"),
        ("first_label", 0.5),
        ("outputs", [0, 1]),
        ("outputs", ["grid"]),
        ("colour", "red"),
    ],
)
def test_what_nothing_can_mean_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ArtifactInvalid) as caught:
        read_task({"name": "detection", "classes": list(CLASSES), "layout": "boxes", key: value})
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_boxes_of_every_form() -> None:
    box = np.array([[10.0, 20.0, 50.0, 80.0]], np.float32)
    forms = {"xyxy": box, "yxyx": box[:, [1, 0, 3, 2]], "cxcywh": centred(box), "xywh": np.array([[10, 20, 40, 60.0]])}
    for form, given_box in forms.items():
        assert corners(given_box, form).tolist() == box.tolist()  # type: ignore[arg-type]


def two_pictures() -> Predictions:
    task = Detection(CLASSES, "boxes")
    raw = [np.stack([o, o]) for o in CASES["boxes"][1]]
    raw[2][1, 1:] = 0  # of the second picture only the dog is left
    return Predictions(task, task.objects(raw, plain_geometry(2, SIZE), SIZE).arrays(), sources=("a.jpg", "b.jpg"))


def test_predictions_are_a_list_of_objects_for_each_picture() -> None:
    found = two_pictures()
    assert len(found) == 2
    assert found[1] == [{"label": "dog", "score": 0.5, "box": [10.0, 20.0, 50.0, 60.0]}]
    assert [o["label"] for o in found[0]] == ["car", "person", "dog"]
    assert found.to_list() == list(found) == found.values.tolist()
    assert found.objects.counts.tolist() == [3, 1]
    with pytest.raises(AttributeError, match=r"use \.objects"):
        _ = found.labels


def test_a_table_has_a_row_for_each_object() -> None:
    table = two_pictures().to_arrow()
    assert table.column_names == ["source", "label", "score", "x_min", "y_min", "x_max", "y_max"]
    assert table["source"].to_pylist() == ["a.jpg"] * 3 + ["b.jpg"]
    assert table["label"].to_pylist() == ["car", "person", "dog", "dog"]
    assert table["x_max"].to_pylist() == [140.0, 190.0, 50.0, 50.0]
    frame = two_pictures().to_pandas()
    assert frame["score"].tolist() == pytest.approx([0.9, 0.75, 0.5, 0.5])


def test_without_names_the_source_is_the_row_and_a_label_its_number() -> None:
    task = Detection((), "boxes", first_label=1)
    found = task.objects([o[None] for o in CASES["boxes"][1]], plain_geometry(1, SIZE), SIZE)
    columns = Predictions(task, found.arrays()).to_columns()
    assert columns["source"].tolist() == [0, 0]
    assert columns["label"].tolist() == ["1", "2"], "0 is below the first class: background"


def test_no_object_at_all() -> None:
    task = Detection(CLASSES, "yolo")
    found = task.objects([np.zeros((1, 9, 8), np.float32)], plain_geometry(1, SIZE), SIZE)
    assert Predictions(task, found.arrays()).to_list() == [[]]
    empty = Predictions(task, found.arrays(), sources=("a.jpg",)).to_arrow()
    assert empty.num_rows == 0
    assert empty.schema == two_pictures().to_arrow().schema, "files of many pictures are written piece by piece"

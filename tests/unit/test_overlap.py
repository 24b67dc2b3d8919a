"""Overlap and suppression, held against the plain loop in exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foretell.model.tasks import overlap
from foretell.model.tasks.overlap import areas, iou, suppress

Box = tuple[int, int, int, int]


def exact_iou(a: Box, b: Box) -> Fraction:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return Fraction(shared, union) if union else Fraction(0)


def plainly(boxes: list[Box], labels: list[int] | None, threshold: float, most: int) -> list[int]:
    """The textbook: take the best that is left, strike out all that overlap it too much."""
    kept: list[int] = []
    for i, box in enumerate(boxes):
        rivals = [k for k in kept if labels is None or labels[k] == labels[i]]
        if len(kept) < most and all(exact_iou(boxes[k], box) <= Fraction(threshold) for k in rivals):
            kept.append(i)
    return kept


boxes_of = st.tuples(st.integers(-20, 40), st.integers(-20, 40), st.integers(0, 30), st.integers(0, 30)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(max_examples=150, deadline=None)
@given(
    boxes=st.lists(st.tuples(boxes_of, st.integers(0, 2)), max_size=40),
    # Halves of halves are the same in float32 as they are written, so that ties are ties in both.
    threshold=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]),
    most=st.sampled_from([1, 3, 100]),
    per_class=st.booleans(),
    block=st.sampled_from([1, 2, 7, 64]),
)
def test_suppression_is_that_of_the_plain_loop(
    boxes: list[tuple[Box, int]], threshold: float, most: int, per_class: bool, block: int
) -> None:
    corners = [b for b, _ in boxes]
    labels = [n for _, n in boxes] if per_class else None
    given_boxes = np.array(corners, np.float32).reshape(-1, 4)
    given_labels = None if labels is None else np.array(labels, np.int64)
    before, overlap._BLOCK = overlap._BLOCK, block
    try:
        kept = suppress(given_boxes, given_labels, threshold, most)
    finally:
        overlap._BLOCK = before
    assert kept.tolist() == plainly(corners, labels, threshold, most)


@given(first=st.lists(boxes_of, max_size=5), second=st.lists(boxes_of, max_size=5))
def test_iou_is_exact(first: list[Box], second: list[Box]) -> None:
    found = iou(np.array(first, np.float32).reshape(-1, 4), np.array(second, np.float32).reshape(-1, 4))
    assert found.shape == (len(first), len(second))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert found[i, j] == pytest.approx(float(exact_iou(a, b)), rel=1e-6)


def random_boxes(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 400, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 80, (count, 2))], axis=1).astype(np.float32)


def test_thousands_of_boxes_in_blocks() -> None:
    boxes = random_boxes(3_000, 3)
    kept = suppress(boxes, None, 0.5, 10_000)
    among = iou(boxes[kept], boxes[kept])
    np.fill_diagonal(among, 0)
    assert among.max() <= 0.5, "two that are kept overlap too much"
    lost = np.setdiff1d(np.arange(len(boxes)), kept)
    against = iou(boxes[lost], boxes[kept]) > 0.5
    earlier = kept[None, :] < lost[:, None]
    assert (against & earlier).any(axis=1).all(), "a box was removed by none that is better and kept"
    assert suppress(boxes, None, 0.5, 7).tolist() == kept[:7].tolist()


def test_boxes_turned_inside_out_have_no_area_and_overlap_nothing() -> None:
    boxes = np.array([[5, 5, 1, 1], [0, 0, 9, 9]], np.float32)
    assert areas(boxes).tolist() == [0, 81]
    assert suppress(boxes, None, 0.0, 9).tolist() == [0, 1]

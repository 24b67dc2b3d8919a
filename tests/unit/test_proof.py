"""A comparison counts rows that moved and labels that flipped; a pace chooses the faster way."""

import numpy as np
import pytest

from foretell.model.formats.base import Answers
from foretell.model.pace import choose
from foretell.model.proof import Tolerance, compare, default_tolerance

EXACT = Tolerance(1e-6, 0.0)


def test_equal_numbers_hold() -> None:
    values = np.array([1.0, 2.0, np.nan, np.inf])
    found = compare(Answers(values), Answers(values.copy()), EXACT, labels=False)
    assert found.holds
    assert (found.max_absolute, found.moved_rows, found.first_moved) == (0.0, 0, None)


@pytest.mark.parametrize("other", [np.nan, np.inf, 2.1])
def test_one_number_that_moves_is_counted_and_found(other: float) -> None:
    found = compare(Answers(np.array([1.0, 2.0])), Answers(np.array([1.0, other])), EXACT, labels=False)
    assert not found.holds
    assert (found.moved_rows, found.first_moved) == (1, 1)


def test_a_share_of_rows_may_move() -> None:
    original = np.arange(1000.0)
    moved = original.copy()
    moved[7] += 50
    assert compare(Answers(original), Answers(moved), Tolerance(1e-5, 1e-3), labels=False).holds
    moved[8] += 50
    assert not compare(Answers(original), Answers(moved), Tolerance(1e-5, 1e-3), labels=False).holds


def test_small_numbers_are_measured_against_the_spread() -> None:
    original = np.array([0.0, 1e6, -1e6])
    assert compare(Answers(original), Answers(original + 0.5), EXACT, labels=False).holds


def test_flipped_labels_are_counted_whatever_their_type() -> None:
    original = Answers(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9]]))
    converted = Answers(np.array(["0", "0", "1"], object), np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9]]))
    found = compare(original, converted, EXACT, labels=True)
    assert (found.flipped_labels, found.moved_rows, found.first_moved) == (1, 0, 1)
    assert not found.holds


def test_probabilities_are_compared_absolutely() -> None:
    original = Answers(np.array(["a"]), np.array([[1e-9, 1 - 1e-9]]))
    converted = Answers(np.array(["a"]), np.array([[3e-9, 1 - 3e-9]]))
    assert compare(original, converted, EXACT, labels=True).holds


def test_other_shapes_never_hold() -> None:
    found = compare(Answers(np.zeros((3, 2))), Answers(np.zeros((3, 1))), EXACT, labels=False)
    assert (found.moved_rows, found.max_absolute) == (3, np.inf)


def test_no_rows_hold() -> None:
    assert compare(Answers(np.zeros(0)), Answers(np.zeros(0)), EXACT, labels=False).holds


def test_float64_may_move_no_row() -> None:
    assert default_tolerance(float32=False).moved_share == 0
    assert default_tolerance(float32=True).moved_share > 0


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([{1: 1.0, 64: 5.0}], [(0, 1)]),
        ([{1: 1.0, 64: 5.0}, {1: 9.0, 64: 2.0}], [(0, 1), (1, 64)]),
        ([{1: 9.0, 64: 2.0}, {1: 1.0, 64: 5.0}], [(1, 1), (0, 64)]),
        ([{1: 1.0, 64: 5.0}, {1: 9.0, 64: 4.9}], [(0, 1)]),
        ([{1: 1.0, 8: 5.0, 64: 5.0}, {1: 9.0, 8: 2.0, 64: 9.0}], [(0, 1)]),
        ([{1: 1.0, 8: 9.0, 64: 9.0}, {1: 2.0, 8: 3.0, 64: 3.0}, {1: 5.0, 8: 5.0, 64: 1.0}], [(0, 1), (1, 8), (2, 64)]),
    ],
    ids=["alone", "bulk wins", "order does not matter", "not worth it", "not for good", "three ways"],
)
def test_choose(seconds: list[dict[int, float]], expected: list[tuple[int, int]]) -> None:
    assert choose(seconds) == expected

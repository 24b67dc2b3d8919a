"""Many rows at once get the labels and probabilities that numpy's own argmax and max give."""

import numpy as np
import pytest

from foretell.model.tasks.classification import Classification

_ODD = np.array([0.0, -0.0, 0.25, 0.5, 1.0, np.nan, np.inf, -np.inf], np.float32)


@pytest.mark.parametrize("width", [1, 2, 3, 10, 40])
def test_many_rows_get_what_argmax_and_max_say(width: int) -> None:
    random = np.random.default_rng(width)
    probabilities = _ODD[random.integers(0, len(_ODD), (1000, width))]
    task = Classification(tuple(range(width)), probability_output=0)
    columns = task.table([probabilities])
    np.testing.assert_array_equal(columns["prediction"], probabilities.argmax(axis=1))
    np.testing.assert_array_equal(columns["probability"], probabilities.max(axis=1))


def test_rows_of_a_long_call_get_what_they_get_alone() -> None:
    random = np.random.default_rng(0)
    second = _ODD[random.integers(0, len(_ODD), 500)]
    probabilities = np.stack([1 - second, second], axis=1)
    task = Classification(("no", "yes"), probability_output=0)
    together = task.table([probabilities])
    for row in range(len(second)):
        alone = task.table([probabilities[row : row + 1]])
        assert [together[name][row] for name in ("prediction",)] == list(alone["prediction"])
        np.testing.assert_array_equal(together["probability"][row : row + 1], alone["probability"])


def test_the_probability_is_that_of_the_label_given() -> None:
    task = Classification(("no", "yes"), label_output=0, probability_output=1)
    labels = np.array(["yes", "no"] * 50, object)
    probabilities = np.tile(np.array([[0.75, 0.25]], np.float32), (100, 1))
    assert task.table([labels, probabilities])["probability"].tolist() == [0.25, 0.75] * 50

"""Predictions read the outputs in the user's terms."""

import numpy as np
import pytest

from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Predictions
from foretell.model.tasks.regression import Regression
from foretell.model.tasks.tensors import Tensors

P = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32)


def test_regression() -> None:
    found = Predictions(Regression(), [np.array([[1.5], [2.5]])])
    assert found.to_list() == list(found) == [1.5, 2.5]
    assert found[1] == found[-1] == 2.5
    assert len(found) == 2
    assert found.to_arrow().to_pydict() == {"prediction": [1.5, 2.5]}
    assert found.probabilities is None
    assert np.asarray(found).tolist() == [1.5, 2.5]
    with pytest.raises(AttributeError, match="no labels"):
        _ = found.labels
    with pytest.raises(IndexError):
        _ = found[2]


def test_several_targets_get_a_column_each() -> None:
    found = Predictions(Regression(), [np.array([[1.0, 2.0]])])
    assert found.to_columns().keys() == {"prediction_0", "prediction_1"}
    assert found[0] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("classes", "labels"), [(("no", "yes"), ["no", "yes"]), ((0, 1), [0, 1]), ((False, True), [False, True])]
)
def test_the_most_probable_class_is_the_label(classes: tuple[str, ...], labels: list[object]) -> None:
    found = Predictions(Classification(classes, probability_output=0), [P])
    assert found.labels.tolist() == labels
    assert found.to_arrow().column_names == ["prediction", "probability", *(f"probability_{c}" for c in classes)]
    first = found[0]
    assert first["label"] == labels[0]
    assert first["probability"] == pytest.approx(0.9)
    assert list(first["probabilities"]) == [str(c) for c in classes]


def test_probability_is_that_of_the_label_the_model_gave() -> None:
    task = Classification(("no", "yes"), label_output=0, probability_output=1, label_is_index=True)
    found = Predictions(task, [np.array([[1], [1]]), P])
    assert found.labels.tolist() == ["yes", "yes"]
    assert found.to_columns()["probability"].tolist() == pytest.approx([0.1, 0.8])


def test_one_column_is_the_second_of_two_classes() -> None:
    found = Predictions(Classification(("no", "yes"), probability_output=0), [P[:, 1:]])
    assert found.labels.tolist() == ["no", "yes"]
    np.testing.assert_allclose(found.probabilities, P, rtol=1e-6)


def test_labels_without_probabilities() -> None:
    found = Predictions(Classification(("a", "b"), label_output=0), [np.array(["a", "b"], object)])
    assert found.to_columns().keys() == {"prediction"}
    assert found.to_list() == [{"label": "a"}, {"label": "b"}]


def test_unknown_outputs_keep_their_names() -> None:
    found = Predictions(Tensors(("y", "z")), [np.zeros((2, 1)), np.zeros((2, 3))])
    assert list(found.to_columns()) == ["y", "z_0", "z_1", "z_2"]


def test_repr_shows_a_few_rows() -> None:
    text = repr(Predictions(Regression(), [np.arange(100.0)]))
    assert text.startswith("<regression: 100 rows>")
    assert text.count("\n") == 6


LOGITS = np.array([[1.0, 3.0, 2.0], [800.0, -800.0, 799.0]], np.float32)
SOFTMAX = np.array([[0.09003057, 0.66524096, 0.24472847], [0.7310586, 0.0, 0.26894143]])


def test_logits_become_probabilities() -> None:
    found = Predictions(Classification(("a", "b", "c"), probability_output=0, logits=True), [LOGITS])
    np.testing.assert_allclose(found.probabilities, SOFTMAX, atol=1e-6)
    assert LOGITS[0].tolist() == [1, 3, 2], "the outputs are the caller's"
    one = Classification(("no", "yes"), probability_output=0, logits=True)
    np.testing.assert_allclose(one.probabilities([np.array([0.0, 2.0])])[:, 1], [0.5, 0.880797], atol=1e-6)  # type: ignore[index]


def test_the_best_of_many_classes() -> None:
    task = Classification(("a", "b", "c"), probability_output=0, logits=True, top=2)
    found = Predictions(task, [LOGITS], sources=("x.jpg", "y.jpg"))
    assert found.top(2)[0] == [("b", pytest.approx(0.665, abs=1e-3)), ("c", pytest.approx(0.245, abs=1e-3))]
    assert [n for n, _ in found.top(9)[1]] == ["a", "c", "b"]
    assert list(found[0]["probabilities"]) == ["b", "c"]
    columns = found.to_columns()
    assert list(columns) == ["source", "prediction", "probability", "prediction_2", "probability_2"]
    assert columns["prediction_2"].tolist() == ["c", "c"]
    assert columns["source"].tolist() == ["x.jpg", "y.jpg"]


def test_two_classes_of_one_name_keep_the_more_probable() -> None:
    task = Classification(("crane", "dog", "crane"), probability_output=0, top=3)
    found = Predictions(task, [np.array([[0.1, 0.3, 0.6]])])
    assert found[0] == {"label": "crane", "probability": 0.6, "probabilities": {"crane": 0.6, "dog": 0.3}}


def test_top_is_of_classifications() -> None:
    with pytest.raises(AttributeError, match="not a classification"):
        Predictions(Regression(), [P]).top()
    with pytest.raises(AttributeError, match="without probabilities"):
        Predictions(Classification(("a",), label_output=0), [np.array(["a"])]).top()

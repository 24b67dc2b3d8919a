from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from foretell.errors import InvalidInput
from foretell.model.data.tensors import TensorPreparation
from foretell.signature import Signature, TensorSpec

ONE = TensorPreparation(Signature((TensorSpec("x", "FP32", (-1, 3)),), ()))
TWO = TensorPreparation(Signature((TensorSpec("x", "FP64", (-1, 3)), TensorSpec("t", "BYTES", (-1,))), ()))


def test_a_tensor_that_fits_is_passed_on_not_copied() -> None:
    data = np.zeros((2, 3), np.float32)
    for given in (data, {"x": data}):
        found = ONE.prepare(given)
        assert found.inputs["x"] is data
        assert found.rows == 2


def test_numbers_widen_and_python_values_take_the_datatype() -> None:
    assert ONE.prepare(np.zeros((1, 3), np.int16)).inputs["x"].dtype == np.float32
    assert ONE.prepare([[1, 2, 3.5]]).inputs["x"].tolist() == [[1, 2, 3.5]]
    found = TWO.prepare({"x": np.ones((2, 3), np.float32), "t": ["a", "b"]})
    assert found.inputs["x"].dtype == np.float64
    assert found.inputs["t"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (np.zeros((2, 3)), "datatype float64, expected float32"),
        (np.zeros((2, 4), np.float32), r"shape \(2, 4\), the model takes \(-1, 3\)"),
        (np.zeros(3, np.float32), r"shape \(3,\), the model takes"),
        (np.float32(1), r"shape \(\), the model takes"),
        ([[1, 2], [3]], "ragged"),
        ([["a", "b", "c"]], "values of type <U1, expected float32"),
        ([[1e39, 0, 0]], "out of the range"),
        ({"y": 1}, 'input "y": the model has none of this name; it takes "x" FP32'),
        ({}, 'input "x": it is missing'),
    ],
)
def test_what_does_not_fit_is_refused(data: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        ONE.prepare(data)


def test_several_inputs() -> None:
    x = np.ones((2, 3))
    with pytest.raises(InvalidInput, match=r'different numbers of rows \("x" 2, "t" 1\)'):
        TWO.prepare({"x": x, "t": ["a"]})
    with pytest.raises(InvalidInput, match="expected a dict of"):
        TWO.prepare(x)
    for texts in ([1, 2], np.array([1, "a"], object), [None, "a"]):
        with pytest.raises(InvalidInput, match="text"):
            TWO.prepare({"x": x, "t": texts})

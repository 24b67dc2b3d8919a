"""Layout, merge and split."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from foretell.engine.batch import Layout, count_bytes, merge, split
from foretell.errors import InvalidInput
from foretell.signature import Signature, TensorSpec


def layout(*inputs, outputs=(("y", "FP32", (-1, 1)),)):
    return Layout(Signature(tuple(TensorSpec(*i) for i in inputs), tuple(TensorSpec(*o) for o in outputs)))


DTYPES = st.sampled_from([np.dtype(t) for t in ("f4", "f8", "i8", "u1", "?", "O")])


@st.composite
def requests(draw):
    """Several requests of the same inputs: two tensors each, of equal trailing shapes."""
    specs = [(name, draw(DTYPES), draw(npst.array_shapes(min_dims=0, max_dims=2, max_side=3))) for name in "ab"]
    rows = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    parts = []
    for count in rows:
        part = {}
        for name, dtype, rest in specs:
            if dtype.kind == "O":
                flat = draw(st.lists(st.text(max_size=3), min_size=count * int(np.prod(rest)), max_size=count * 9))
                part[name] = np.array(flat[: count * int(np.prod(rest))], object).reshape(count, *rest)
            else:
                part[name] = draw(npst.arrays(dtype, (count, *rest)))
        parts.append(part)
    return rows, parts


@given(requests())
def test_split_undoes_merge(drawn):
    rows, parts = drawn
    merged = merge(parts)
    assert all(len(array) == sum(rows) for array in merged.values())
    again = split([merged["a"], merged["b"]], rows)
    for part, (a, b) in zip(parts, again, strict=True):
        for name, array in (("a", a), ("b", b)):
            assert array.dtype == part[name].dtype
            np.testing.assert_array_equal(array, part[name])


def test_one_request_is_not_copied():
    part = {"x": np.zeros((2, 3), np.float32)}
    assert merge([part]) is part


@pytest.mark.parametrize(
    ("inputs", "rows", "message"),
    [
        ({"x": np.zeros((2, 3), "f8")}, 2, 'input "x": datatype FP64, the model takes FP32'),
        ({"x": np.zeros((2, 4), "f4")}, 2, 'input "x": shape [2, 4], the model takes [-1, 3]'),
        ({"x": np.zeros((2, 3, 1), "f4")}, 2, "shape [2, 3, 1]"),
        ({"x": np.zeros((3, 3), "f4")}, 2, 'input "x": 3 rows, the request has 2'),
        ({"x": np.zeros((0, 3), "f4")}, 0, "0 rows, expected at least 1"),
        ({"z": np.zeros((2, 3), "f4")}, 2, 'input "z": the model has no such input; it takes "x"'),
        ({}, 1, 'input "x": missing'),
        ({"x": np.zeros((2, 3), "f4"), "z": np.zeros(2)}, 2, 'input "z"'),
        ({"x": np.zeros((2, 3), "M8[s]")}, 2, "datetime64[s], the model takes FP32"),
    ],
)
def test_what_does_not_fit_is_refused(inputs, rows, message):
    with pytest.raises(InvalidInput) as caught:
        layout(("x", "FP32", (-1, 3))).check(inputs, rows)
    assert message in str(caught.value)


def test_free_dimensions_keep_apart_what_cannot_be_merged():
    free = layout(("x", "FP32", (-1, -1)), ("t", "BYTES", (-1, 1)))
    texts = np.array([["a"]], object)
    wide = free.check({"x": np.zeros((1, 5), "f4"), "t": texts}, 1)
    same = free.check({"x": np.ones((1, 5), "f4"), "t": np.array([["b"]])}, 1)
    narrow = free.check({"x": np.zeros((1, 4), "f4"), "t": texts}, 1)
    assert wide == same != narrow


@pytest.mark.parametrize(
    ("shape", "output", "batchable"),
    [((-1, 3), (-1, 1), True), ((1, 3), (1, 1), False), ((-1, 3), (1, 1), False), ((), (), False)],
)
def test_only_a_free_first_axis_everywhere_is_batchable(shape, output, batchable):
    assert layout(("x", "FP32", shape), outputs=[("y", "FP32", output)]).batchable is batchable


def test_a_model_without_rows_takes_its_tensors_as_they_are():
    fixed = layout(("x", "FP32", (1, 3)), outputs=[("y", "FP32", (1,))])
    assert fixed.check({"x": np.zeros((1, 3), "f4")}, 1) == ((1, 3),)
    with pytest.raises(InvalidInput, match="shape"):
        fixed.check({"x": np.zeros((2, 3), "f4")}, 2)


def test_bytes_are_counted():
    assert count_bytes({"x": np.zeros((2, 3), "f4"), "t": np.array(["a", "b"], object)}) == 24 + 128

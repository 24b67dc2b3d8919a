from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from foretell.errors import ArtifactInvalid, InvalidInput
from foretell.model.data.table import TablePreparation
from foretell.signature import Column, Encoding, Field, Signature, TensorSpec


def each(*parts: tuple[Field, Encoding, str], named: bool = True, **options: Any) -> TablePreparation:
    """A preparation with a tensor (rows, 1) for each field, by the field's name."""
    fields = tuple(field for field, _, _ in parts)
    inputs = tuple(TensorSpec(f.name, datatype, (-1, 1)) for f, _, datatype in parts)
    columns = {f.name: (Column(f.name, encoding),) for f, encoding, _ in parts}
    return TablePreparation(Signature(inputs, (), fields, columns, named), **options)


def matrix(*fields: Field, datatype: str = "FP32", named: bool = True) -> TablePreparation:
    columns = {"x": tuple(Column(f.name, "code" if f.categories else "number") for f in fields)}
    inputs = (TensorSpec("x", datatype, (-1, len(fields))),)
    return TablePreparation(Signature(inputs, (), fields, columns, named))


def refusal(preparation: TablePreparation, data: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        preparation.prepare(data)
    assert "\n" not in str(caught.value)
    return caught.value


XY = (Field("x"), Field("y"))


@pytest.mark.parametrize("rows", [1, 5, 3000])
def test_an_array_that_fits_is_passed_on_not_copied(rows: int) -> None:
    data = np.ones((rows, 2), np.float32)
    assert matrix(*XY).prepare(data).inputs["x"] is data
    data[0, 1] = np.nan
    assert matrix(*XY).prepare(data).inputs["x"] is data
    one = np.ones(2, np.float32)
    assert np.shares_memory(matrix(*XY).prepare(one).inputs["x"], one)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8", "i1", "u2", "i4", "i8", "u8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_another_dtype_is_cast(dtype: str, order: Any) -> None:
    data = np.array([[0, 1], [1, 1], [1, 0]], dtype, order=order)
    found = matrix(*XY).prepare(data).inputs["x"]
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.tolist() == data.tolist()


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("rows", [1, 4, 5000])
@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinities_are_refused_at_their_place(datatype: str, dtype: Any, rows: int, bad: float) -> None:
    data = np.zeros((rows, 2), dtype)
    data[0, 0] = np.nan
    data[rows - 1, 1] = bad
    fault = refusal(matrix(*XY, datatype=datatype), data)
    assert (fault.column, fault.row) == ("y", rows - 1)
    assert f"got {bad}, expected a finite number" in str(fault)


@pytest.mark.parametrize(("datatype", "most"), [("FP32", 3.4028235677973362e38), ("FP16", 65519.99)])
def test_the_greatest_numbers(datatype: str, most: float) -> None:
    preparation = matrix(Field("x"), datatype=datatype)
    over = 3.4028235677973366e38 if datatype == "FP32" else 65520.0
    for form in (lambda v: [v], lambda v: np.array([[v]]), lambda v: {"x": [v, v]}, lambda v: {"x": v}):
        assert np.isfinite(preparation.prepare(form(most)).inputs["x"]).all()
        assert refusal(preparation, form(over)).row == 0


def test_large_integers_round_and_say_so() -> None:
    exact, rounded = 2**60, 2**60 + 1
    for form in (
        lambda v: [v],
        lambda v: {"x": [v, 0]},
        lambda v: np.array([[v]]),
        lambda v: pa.table({"x": [v, None]}),
    ):
        assert matrix(Field("x"), datatype="FP64").prepare(form(exact)).notes == ()
        found = matrix(Field("x"), datatype="FP64").prepare(form(rounded))
        assert found.inputs["x"][0, 0] == 2.0**60
        assert "1152921504606846977 was rounded" in found.notes[0]


@pytest.mark.parametrize("datatype", ["INT8", "INT32", "INT64", "UINT8", "UINT64"])
def test_integers_are_exact_or_refused(datatype: str) -> None:
    preparation = each((Field("x", "integer"), "number", datatype))
    info = np.iinfo(preparation.prepare([[0]]).inputs["x"].dtype)
    for value in (int(info.min), int(info.max)):
        frames = [{"x": value}, {"x": [value] * 2}, pd.DataFrame({"x": [value] * 40})]
        frames += [pa.table({"x": np.array([value] * 2, np.uint64 if value > 2**63 else np.int64)})]
        for data in frames:
            assert preparation.prepare(data).inputs["x"][0, 0] == value
    assert preparation.prepare({"x": 5.0}).inputs["x"].tolist() == [[5]]
    for bad in (int(info.min) - 1, int(info.max) + 1, 5.5, float(info.max) * 2, "5", None, float("nan"), 2**70):
        assert refusal(preparation, {"x": [0, bad]}).row == 1
        assert refusal(preparation, [{"x": bad}]).row == 0
    for array in ([0.0, 5.5], [0.0, np.nan], [0.0, -1e30], [0.0, float(info.max) * 4]):
        assert refusal(preparation, {"x": np.array(array)}).row == 1


def test_text_is_no_number() -> None:
    for bad in ("abc", "12.5", "1"):
        for data in ([[1, 1], [1, bad]], pd.DataFrame({"x": [1, 1], "y": ["1", bad][1:] * 1 + [bad]}).iloc[::-1]):
            fault = refusal(matrix(*XY), data)
            assert fault.column == "y"
            assert f'got "{bad}", expected a number, this is text; send a number' in str(fault)
    assert np.isnan(matrix(*XY).prepare([["NA", "n/a"]]).inputs["x"]).all()


def test_missing_is_refused_where_the_model_takes_none() -> None:
    strict = matrix(Field("x"), Field("y", nullable=False))
    for data in (
        [[1, 1], [None, None]],
        np.array([[1, 1], [np.nan, np.nan]], np.float32),
        pa.table({"x": [1, None], "y": [1.0, None]}),
        pl.DataFrame({"x": [1, None], "y": [1, None]}),
        pd.DataFrame({"x": [1, 2], "y": pd.array([1, pd.NA], "Int64")}),
        np.ma.masked_array([[1, 1], [1, 1]], [[False, False], [True, True]]),
    ):
        fault = refusal(strict, data)
        assert (fault.column, fault.row) == ("y", 1)
        assert "the model takes none missing here" in str(fault)


def test_a_spelling_of_missing_that_is_a_category_is_that_category() -> None:
    preparation = matrix(Field("c", "category", categories=("None", "a", "")), datatype="FP64")
    for data in (
        [["None"], [""], ["NA"]],
        pd.DataFrame({"c": ["None", "", "NA"]}),
        pa.table({"c": ["None", "", "NA"]}),
    ):
        assert np.array_equal(preparation.prepare(data).inputs["x"][:, 0], [0, 2, np.nan], equal_nan=True)
    assert np.isnan(preparation.prepare([None]).inputs["x"]).all()


@pytest.mark.parametrize(
    ("categories", "value", "code", "noted"),
    [
        (("20", "30"), 20, 0, True),
        (("20", "30"), 30.0, 1, True),
        (("20.0", "30"), 20, 0, True),
        (("0.5",), 0.5, 0, True),
        (("20",), 21, -1, False),
        (("20",), "20 ", -1, False),
        (("True", "False"), False, 1, True),
        ((20, 30), 20.0, 0, False),
        ((20, 30), "30", 1, False),
        ((20, 30), "30.0", 1, False),
        ((20, 30), "thirty", -1, False),
        ((0.5, 1.5), "1.50", 1, False),
        ((False, True), 1, 1, False),
        ((False, True), "true", 1, False),
        (("a", 1), 1, 1, False),
        (("a", 1), "1", 1, False),
        ((2**53 + 1, 2**53), 2**53 + 1, 0, False),
    ],
)
def test_categories(categories: tuple[Any, ...], value: Any, code: int, noted: bool) -> None:
    preparation = matrix(Field("c", "category", categories=categories), datatype="FP64")
    for data in ({"c": value}, {"c": [value, value]}, pd.DataFrame({"c": [value] * 40}), pa.table({"c": [value]})):
        found = preparation.prepare(data)
        assert found.inputs["x"][0, 0] == code
        assert bool(found.notes) == noted


def test_a_closed_category_refuses_with_what_it_knows() -> None:
    preparation = matrix(Field("c", "category", categories=("a", "b", "c", "d", "e", "f"), closed=True))
    for data in (
        {"c": ["a", "z"]},
        pd.DataFrame({"c": ["a", "z"] * 40}),
        pd.DataFrame({"c": ["a", "z"]}, dtype="category"),
    ):
        fault = refusal(preparation, data)
        assert (fault.column, fault.row) == ("c", 1)
        assert 'got "z", expected one of "a", "b", "c", "d", "e" ... (6 in all)' in str(fault)


def test_an_unused_dictionary_entry_harms_nobody() -> None:
    preparation = matrix(Field("c", "category", categories=("a",), closed=True))
    unused = pd.DataFrame({"c": pd.Categorical(["a"] * 40, ["a", "z"])})
    assert preparation.prepare(unused).inputs["x"].tolist() == [[0]] * 40
    arrow = pa.DictionaryArray.from_arrays(pa.array([0, None, 0]), pa.array(["a", "z"]))
    assert np.array_equal(preparation.prepare(pa.table({"c": arrow})).inputs["x"][:, 0], [0, np.nan, 0], equal_nan=True)


def test_texts() -> None:
    preparation = each((Field("t", "text"), "text", "BYTES"))
    data = ["a", "", None, "NA", float("nan"), 5, 5.0, 0.5, True, b"b"]
    found = preparation.prepare({"t": data})
    assert found.inputs["t"][:, 0].tolist() == ["a", "", "", "", "", "5", "5", "0.5", "True", "b"]
    assert found.notes == (
        'column "t": "NA" was read as a missing value',
        'column "t": 5 was read as the text "5"',
    )
    assert preparation.prepare({"t": "", "x": 1}).notes == ('ignored columns that the model does not take: "x"',)
    kept = each((Field("t", "text"), "text", "BYTES"), missing_text=None)
    assert kept.prepare({"t": data}).inputs["t"][:5, 0].tolist() == ["a", None, None, None, None]
    assert refusal(preparation, {"t": ["a", b"\xff"]}).row == 1


@pytest.mark.parametrize(
    "value", [1j, [1], {"a": 1}, object(), print, {1}, "x" * 10**7, 10**5000, "a\nb\u2028c"], ids=type
)
def test_anything_else_is_refused_on_one_short_line(value: Any) -> None:
    fault = refusal(matrix(*XY), [{"x": 1, "y": value}])
    assert (fault.column, fault.row) == ("y", 0)
    assert len(str(fault)) < 200


def test_columns_go_by_name_and_extra_ones_are_named_once() -> None:
    preparation = matrix(*XY)
    for data in (
        {"z": 9, "y": 2, "x": 1},
        [{"z": 9, "y": 2, "x": 1}] * 2,
        pd.DataFrame({"z": ["?"], "y": [2], "x": [1]}),
        pl.DataFrame({"z": ["?"], "y": [2], "x": [1]}),
        pa.table({"z": ["?"], "y": [2], "x": [1]}),
        np.array([(9, 2, 1)], [("z", int), ("y", int), ("x", float)]),
        np.array([(9, 2, 1)], [("z", int), ("y", int), ("x", float)])[0],
        pd.Series({"z": 9, "y": 2, "x": 1}),
    ):
        found = preparation.prepare(data)
        assert found.inputs["x"][0].tolist() == [1, 2]
        assert found.notes == ('ignored columns that the model does not take: "z"',)


def test_a_missing_column_is_named_with_near_ones() -> None:
    preparation = matrix(Field("Lot_Area"), Field("y"))
    for data in (
        {"Lot_Aera": 1, "y": 2},
        pd.DataFrame({"Lot_Aera": [1], "y": [2]}),
        pa.table({"Lot_Aera": [1], "y": [2]}),
    ):
        fault = refusal(preparation, data)
        assert fault.column == "Lot_Area"
        assert 'column "Lot_Area": it is missing; did you mean "Lot_Aera"?' in str(fault)
    fault = refusal(preparation, [{"Lot_Area": 1, "y": 1}, {"Lot_Area": 1}])
    assert (fault.column, fault.row) == ("y", 1)


def test_duplicate_columns_are_refused() -> None:
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([2])], ["x", "y", "x"])
    frame = pd.DataFrame([[1, 2, 3]], columns=["x", "y", "x"])
    for data in (table, frame):
        fault = refusal(matrix(*XY), data)
        assert fault.column == "x"
        assert "two columns have this name" in str(fault)


@pytest.mark.parametrize(
    "data",
    [
        *[np.zeros((2, 3)), np.zeros(3), np.zeros((2, 2, 2)), [1, 2, 3], [[1, 2], [1, 2, 3]], [[1, 2], 3], [1, [2, 3]]],
        *[
            [{"x": 1, "y": 1}, 5],
            {"x": [1, 2], "y": [1]},
            {"x": [1, 2], "y": 1},
            "rows.csv",
            None,
            5,
            iter([]),
            object(),
        ],
        *[
            pl.DataFrame({"x": [1], "y": [1]}).lazy(),
            pl.Series([1, 2]),
            pa.array([1, 2]),
            {"x": np.zeros((2, 2)), "y": [1, 2]},
        ],
    ],
    ids=lambda d: type(d).__name__,
)
def test_what_is_no_table_of_the_right_width_is_refused(data: Any) -> None:
    assert str(refusal(matrix(*XY), data))


def test_no_rows() -> None:
    for data in (
        [],
        np.zeros((0, 2)),
        {"x": [], "y": []},
        pd.DataFrame({"x": [], "y": []}),
        pa.table({"x": [], "y": []}),
    ):
        found = matrix(*XY).prepare(data)
        assert found.rows == 0
        assert found.inputs["x"].shape == (0, 2)


def test_made_up_names_let_tables_go_by_position() -> None:
    made = matrix(Field("x0"), Field("x1"), named=False)
    for data in (pd.DataFrame({"p": [1], "q": [2]}), pa.table({"p": [1], "q": [2]}), pd.DataFrame([[1, 2]])):
        found = made.prepare(data)
        assert found.inputs["x"].tolist() == [[1, 2]]
        assert "by position" in found.notes[0]
        assert refusal(matrix(*XY), data).column == "x"
    assert made.prepare(pd.DataFrame({"x1": [2], "x0": [1]})).inputs["x"].tolist() == [[1, 2]]
    assert made.prepare({"x1": 2, "x0": 1}).inputs["x"].tolist() == [[1, 2]]
    assert "a row has 3 columns, expected 2" in str(refusal(made, pd.DataFrame([[1, 2, 3]])))
    assert refusal(made, {"p": 1, "q": 2}).column == "x0"


def test_a_field_that_no_tensor_takes_may_be_absent() -> None:
    fields = (Field("x"), Field("unused"), Field("y"))
    columns = {"t": (Column("y"), Column("x"))}
    preparation = TablePreparation(Signature((TensorSpec("t", "FP64", (-1, 2)),), (), fields, columns))
    for data in (
        {"x": 1, "y": 2},
        {"x": 1, "y": 2, "unused": "?"},
        [1, "?", 2],
        [[1, "?", 2]],
        pd.DataFrame({"x": [1], "y": [2]}),
    ):
        found = preparation.prepare(data)
        assert found.inputs["t"].tolist() == [[2, 1]]
        assert found.notes == ()


def test_rows_of_a_batch_count_from_the_start_of_the_file() -> None:
    batch = pa.record_batch({"x": [1.0, float("inf")], "y": [1.0, 1.0]})
    with pytest.raises(InvalidInput, match='column "x", row 1001: got inf') as caught:
        matrix(*XY).prepare_arrow(batch, 1000)
    assert caught.value.row == 1001


def test_dates() -> None:
    preparation = each((Field("d", "date"), "date", "INT64"))
    instants = pd.to_datetime(["2020-01-01T00:00", "2020-06-01T12:00"])
    expected = instants.as_unit("ns").asi8.tolist()
    berlin = pd.Series(instants.tz_localize("UTC").tz_convert("Europe/Berlin"))
    columns = [
        instants,
        berlin,
        pl.Series(instants.to_list()),
        pa.array(berlin),
        instants.to_numpy(),
        instants.to_list(),
    ]
    columns += [pa.array(instants.to_numpy().astype(f"M8[{unit}]")) for unit in ("s", "ms", "us", "ns")]
    columns += [["2020-01-01", "2020-06-01T14:00+02:00"], pa.array(["2020-01-01T00Z", "2020-06-01T12:00:00.000"])]
    for column in columns:
        assert preparation.prepare({"d": column}).inputs["d"][:, 0].tolist() == expected
    assert preparation.prepare({"d": pa.array([18262, None], pa.date32())}).inputs["d"][1, 0] == -(2**63)
    assert refusal(preparation, {"d": pa.array([0, 10**12], pa.timestamp("s"))}).row == 1
    assert refusal(preparation, {"d": ["2020-01-01", 5]}).row == 1
    assert refusal(matrix(Field("d")), {"d": instants}).row == 0


def test_polars_categories_and_views() -> None:
    preparation = matrix(Field("c", "category", categories=("a", "b")))
    for dtype in (pl.String, pl.Categorical, pl.Enum(["b", "a"])):
        data = pl.DataFrame({"c": pl.Series(["b", None, "a"], dtype=dtype)})
        assert np.array_equal(preparation.prepare(data).inputs["x"][:, 0], [1, np.nan, 0], equal_nan=True)
    view = pa.table({"c": pa.array(["b", "a"]).cast(pa.string_view())})
    assert preparation.prepare(view).inputs["x"].tolist() == [[1], [0]]


def test_extension_types_are_not_taken_for_their_storage() -> None:
    months = pd.DataFrame({"x": pd.period_range("2020-01", periods=40, freq="M"), "y": range(40)})
    assert refusal(matrix(*XY), months).column == "x"


@pytest.mark.parametrize(
    "signature",
    [
        Signature((TensorSpec("t", "FP32", (-1, 2)),), (), XY, {"t": (Column("x"),)}),
        Signature((TensorSpec("t", "FP32", (-1, 1)),), (), XY, {"t": (Column("z"),)}),
        Signature((TensorSpec("t", "FP32", (-1, 1)),), (), XY, {"t": (Column("x", "text"),)}),
        Signature((TensorSpec("t", "BYTES", (-1, 1)),), (), XY, {"t": (Column("x"),)}),
        Signature((TensorSpec("t", "FP32", (-1, 1)),), (), XY, {}),
        Signature((TensorSpec("t", "FP32", (-1, 1)),), (), (*XY, Field("x")), {"t": (Column("x"),)}),
    ],
)
def test_a_signature_that_does_not_add_up_is_refused(signature: Signature) -> None:
    with pytest.raises(ArtifactInvalid):
        TablePreparation(signature)

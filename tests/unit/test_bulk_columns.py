import pytest

from foretell.bulk.columns import choose, text_types
from foretell.errors import ConfigError, InvalidInput
from foretell.signature import Column, Field, Signature, TensorSpec


def signature(names, *, named=True):
    columns = {"x": tuple(Column(n) for n in names)}
    return Signature((TensorSpec("x", "FP32", (-1, len(names))),), (), tuple(map(Field, names)), columns, named)


def test_columns_go_by_name_in_any_order():
    chosen = choose(["k", "b", "z", "a"], signature("ab"), ["k", "a", "k"], "i.csv")
    assert chosen.fields == ((3, "a"), (1, "b"))
    assert chosen.kept == ((0, "k"), (3, "a"))
    assert chosen.positions == (3, 1, 0)
    assert chosen.notes == ('ignored columns that the model does not take: "z"',)


def test_all_columns_are_kept_and_none_is_ignored():
    chosen = choose(["k", "b", "a"], signature("ab"), "all", "i.csv")
    assert [name for _, name in chosen.kept] == ["k", "b", "a"]
    assert chosen.notes == ()


@pytest.mark.parametrize(
    ("names", "keep", "fields"),
    [
        (["p", "q"], (), ((0, "x0"), (1, "x1"))),
        (["p", "q"], "all", ((0, "x0"), (1, "x1"))),
        (["k", "p", "q"], ["k"], ((1, "x0"), (2, "x1"))),
        (["x1", "x0"], (), ((1, "x0"), (0, "x1"))),
        (["x1", "k", "x0"], ["k"], ((2, "x0"), (0, "x1"))),
    ],
)
def test_a_model_without_names_takes_columns_by_position(names, keep, fields):
    assert choose(names, signature(["x0", "x1"], named=False), keep, "i.csv").fields == fields


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a", "b", "a"], 'i.csv: column "a": two columns'),
        (["a", "c"], 'i.csv: column "b": it is missing'),
        (["a b"], "is the delimiter one of"),
    ],
)
def test_columns_that_do_not_fit_are_refused(names, problem):
    with pytest.raises(InvalidInput, match=problem):
        choose(names, signature("ab"), (), "i.csv")


def test_a_column_to_keep_must_be_there():
    with pytest.raises(ConfigError, match=r'no column "PDI" to keep.*did you mean "PID"'):
        choose(["PID", "a"], signature("a"), ["PDI"], "i.csv")


def test_a_delimiter_too_many_is_a_column_without_a_name():
    assert choose(["a", "", ""], signature("a"), (), "i.csv").fields == ((0, "a"),)


def test_integers_of_wide_tensors_are_read_exactly():
    fields = (Field("n"), Field("i", "integer"), Field("u", "integer"), Field("b", "boolean"), Field("c", "category"))
    tensors = (TensorSpec("f", "FP32", (-1, 3)), TensorSpec("i", "INT64", (-1, 1)), TensorSpec("u", "UINT64", (-1, 1)))
    columns = {"f": tuple(map(Column, "nbc")), "i": (Column("i"),), "u": (Column("u"),)}
    assert text_types(Signature(tensors, (), fields, columns)) == {
        "n": "float64",
        "i": "int64",
        "u": "uint64",
        "b": "text",
        "c": "text",
    }

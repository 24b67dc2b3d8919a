import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from foretell.bulk.frames import predict_frame
from foretell.bulk.shipped import ship
from foretell.errors import ArtifactUntrusted, ConfigError, InvalidInput
from foretell.model.tasks.detection import Detection
from foretell.model.tasks.objects import Objects
from foretell.model.tasks.predictions import Predictions

TABLE = pa.table({"k": ["x", "y", "z"], "b": [1, 2, None], "a": [0.5, 1.5, 2.5]})


def test_an_arrow_table_gives_a_table(sum_model):
    found = predict_frame(sum_model("ab"), TABLE, keep=["a", "k"])
    assert found.equals(pa.table({"a": [0.5, 1.5, 2.5], "k": ["x", "y", "z"], "prediction": [1.5, 3.5, 2.5]}))


def test_a_record_batch_gives_a_record_batch(sum_model):
    (batch,) = TABLE.to_batches()
    found = predict_frame(sum_model("ab"), batch, keep="all")
    assert isinstance(found, pa.RecordBatch)
    assert found.schema.names == ["k", "b", "a", "prediction"]
    assert found["b"].equals(batch["b"])


def test_chunks_of_a_table_are_joined(sum_model):
    found = predict_frame(sum_model("ab"), pa.concat_tables([TABLE, TABLE]), keep=["k"])
    assert found["prediction"].to_pylist() == [1.5, 3.5, 2.5] * 2


def test_a_pandas_frame_keeps_its_index(sum_model):
    frame = TABLE.to_pandas().set_index(pd.Index([7, 8, 9]))
    found = predict_frame(sum_model("ab"), frame, keep=["k"])
    expected = pd.DataFrame({"k": ["x", "y", "z"], "prediction": [1.5, 3.5, 2.5]}, index=[7, 8, 9])
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_a_dict_of_arrays_gives_one(sum_model):
    given = {"a": np.array([1, 2]), "b": np.array([0.5, np.nan]), "k": np.array(["x", None], object)}
    found = predict_frame(sum_model("ab"), given, keep=["k"])
    assert {name: column.tolist() for name, column in found.items()} == {"k": ["x", None], "prediction": [1.5, 2.0]}


def test_no_rows_give_none(sum_model):
    found = predict_frame(sum_model("ab"), TABLE.slice(0, 0), keep=["k"])
    assert found.schema.names == ["k", "prediction"]
    assert found.num_rows == 0


@pytest.mark.parametrize("kind", ["pyarrow", "pandas", "numpy"])
def test_a_bad_row_is_named(sum_model, kind):
    table = pa.table({"a": [1.0, float("inf")], "b": [1.0, 1.0]})
    batch = {"pyarrow": table, "pandas": table.to_pandas(), "numpy": {n: table[n].to_numpy() for n in "ab"}}[kind]
    with pytest.raises(InvalidInput, match=r'^batch: column "a", row 1: got inf') as caught:
        predict_frame(sum_model("ab"), batch)
    assert (caught.value.row, caught.value.column) == (1, "a")
    again = pickle.loads(pickle.dumps(caught.value))  # as it comes from another process
    assert (str(again), again.row, again.column) == (str(caught.value), 1, "a")


BAD = {"k": ["w", "x", "y", "z"], "a": [1.0, float("inf"), 2.0, float("-inf")], "b": [0.5] * 4}


def kinds_of(columns):
    return [pa.table(columns), pd.DataFrame(columns), {name: np.array(column) for name, column in columns.items()}]


@pytest.mark.parametrize("batch", kinds_of(BAD), ids=["pyarrow", "pandas", "numpy"])
def test_bad_rows_are_left_out_or_marked(sum_model, batch):
    skipped = pd.DataFrame(_plain(predict_frame(sum_model("ab"), batch, ["k"], "skip")))
    assert skipped.to_dict("list") == {"k": ["w", "y"], "prediction": [1.5, 2.5]}
    marked = pd.DataFrame(_plain(predict_frame(sum_model("ab"), batch, ["k"], "mark")))
    assert marked["k"].tolist() == BAD["k"]
    assert marked["prediction"].tolist()[::2] == [1.5, 2.5]
    assert marked["prediction"].isna().tolist() == [False, True, False, True]
    assert marked["error"].isna().tolist() == [True, False, True, False]
    assert marked["error"][1].startswith('column "a": got inf, expected a finite number')
    assert marked["error"][3].startswith('column "a": got -inf')


def test_good_rows_are_not_marked(sum_model):
    found = predict_frame(sum_model("ab"), TABLE, on_error="mark")
    assert found["error"].type == pa.string()
    assert found["error"].null_count == 3
    assert found["prediction"].to_pylist() == [1.5, 3.5, 2.5]
    assert predict_frame(sum_model("ab"), TABLE, on_error="skip").equals(predict_frame(sum_model("ab"), TABLE))


def test_labels_of_marked_rows_are_null(sum_model):
    found = predict_frame(sum_model("ab", classes=("no", "yes")), pa.table(BAD), on_error="mark")
    assert found["prediction"].to_pylist() == ["yes", None, "yes", None]
    only_bad = pa.table(BAD).take([1, 3])
    found = predict_frame(sum_model("ab", classes=("no", "yes")), only_bad, on_error="mark")
    assert found["prediction"].to_pylist() == [None, None]
    assert predict_frame(sum_model("ab"), only_bad, on_error="skip").num_rows == 0


def test_what_is_no_row_fails_whatever_is_asked(sum_model):
    with pytest.raises(InvalidInput, match='"b"'):
        predict_frame(sum_model("ab"), {"a": np.ones(2)}, on_error="mark")
    with pytest.raises(ConfigError, match="on_error: got 'quarantine', expected one of fail, skip, mark"):
        predict_frame(sum_model("ab"), TABLE, on_error="quarantine")
    with pytest.raises(ConfigError, match='"error": it is to be kept and an output has the same name'):
        predict_frame(sum_model("ab"), TABLE.rename_columns(["error", "b", "a"]), "all", "mark")
    with pytest.raises(ConfigError, match="'skip' is for models of rows"):
        predict_frame(_Finds(), {"bytes": [b""]}, on_error="skip")


def _plain(found):
    return found.to_pandas() if isinstance(found, pa.Table) else found


def test_what_does_not_fit_is_refused(sum_model):
    model = sum_model("ab")
    with pytest.raises(InvalidInput, match=r'^batch: .*"b"'):
        predict_frame(model, {"a": np.ones(2)})
    with pytest.raises(InvalidInput, match=r'"b" has shape \(2, 3\), expected one value a row'):
        predict_frame(model, {"a": np.ones(2), "b": np.ones((2, 3))})
    with pytest.raises(InvalidInput, match='column "b" is no column of one type'):
        predict_frame(model, {"a": np.ones(2), "b": np.array([1, "x"], object)})
    with pytest.raises(InvalidInput, match=r"got builtins.list, expected a pyarrow Table"):
        predict_frame(model, [[1, 2]])
    with pytest.raises(ConfigError, match='no column "c" to keep'):
        predict_frame(model, TABLE, keep=["c"])
    with pytest.raises(ConfigError, match='"prediction": it is to be kept and an output has the same name'):
        predict_frame(model, TABLE.append_column("prediction", pa.array([1, 2, 3])), keep="all")


class _Finds:
    """Finds as many objects in a picture as its first pixel says."""

    class signature:
        image = object()

    def predict_pictures(self, pictures):
        counts = np.array([len(p) if isinstance(p, (str, bytes)) else int(p.flat[0]) for p in pictures])
        rows, most = len(pictures), 4
        outputs = Objects(np.ones((rows, most, 4)), np.ones((rows, most)), np.zeros((rows, most), np.int64), counts)
        sources = list(pictures) if isinstance(pictures[0], str) else ()
        task = Detection(("cup",), "yolo", max_objects=most)
        return Predictions(task, list(outputs.arrays()), sources=sources)


def test_objects_take_kept_columns_of_their_picture():
    pictures = {"image": np.array([[[2]], [[0]], [[1]]], np.uint8), "k": np.array(["x", "y", "z"])}
    found = predict_frame(_Finds(), pictures, keep="all")
    assert (found["k"].tolist(), found["source"].tolist()) == (["x", "x", "z"], [0, 0, 2])
    table = pa.table({"path": ["aa", "", "a"], "k": ["x", "y", "z"]})
    found = predict_frame(_Finds(), table, keep=["k"])
    assert found.select(["k", "source"]).to_pylist() == [
        {"k": "x", "source": "aa"},
        {"k": "x", "source": "aa"},
        {"k": "z", "source": "a"},
    ]
    frame = pd.DataFrame({"bytes": [b"", b"abc"], "k": [1, 2]})
    assert predict_frame(_Finds(), frame, keep=["k"])["k"].tolist() == [2, 2, 2]
    with pytest.raises(InvalidInput, match="no column of pictures, expected one of image, bytes, path; it has"):
        predict_frame(_Finds(), frame[["k"]])
    with pytest.raises(ConfigError, match='no column "c" to keep'):
        predict_frame(_Finds(), frame, keep=["c"])


def test_a_model_travels_as_bytes(tmp_path, booster):
    path, rows, expected = booster
    shipped = pickle.loads(pickle.dumps(ship(path)))
    path.unlink()
    with shipped.load() as model:
        assert model.name == "xgb"
        assert np.array_equal(model.predict(rows).values, expected)
    (tmp_path / "code.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ArtifactUntrusted, match="--trust"):
        ship(tmp_path / "code.pkl")
    with pytest.raises(ConfigError, match="no such file"):
        ship(tmp_path / "none")


@pytest.fixture
def booster(tmp_path):
    import xgboost

    import foretell

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 3)).astype(np.float32)
    booster = xgboost.train({"max_depth": 3}, xgboost.DMatrix(rows, rows.sum(axis=1)), 5)
    path = tmp_path / "xgb.json"
    booster.save_model(path)
    return path, rows, foretell.load(path, threads=1).predict(rows).values

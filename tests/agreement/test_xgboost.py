"""XGBoost models as graphs and in their own runtime, against the library, on rows that try to tell them apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from foretell.errors import ArtifactInvalid
from foretell.model.formats.base import Opened
from foretell.model.formats.xgboost import open_model
from foretell.model.runtimes import open_runtime
from foretell.model.tasks import classification
from foretell.signature import Field

ROWS = 2500


def answer(opened: Opened, matrix: np.ndarray, runner: int) -> np.ndarray:
    chosen = opened.runners[runner]
    if chosen.kind != "onnxruntime":
        return open_runtime(chosen, opened.signature, 1).infer({"features": matrix})[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(chosen.content, options)
    assert [o.name for o in session.get_outputs()] == [o.name for o in opened.signature.outputs]
    return session.run(None, {"features": matrix})[0]


def column(field: Field, values: pa.ChunkedArray) -> np.ndarray:
    if field.kind != "category":
        return pd.to_numeric(values.to_pandas()).to_numpy(float)
    codes = {label: float(i) for i, label in enumerate(field.categories)}
    return np.array([np.nan if v is None else codes.get(v, -1.0) for v in values.to_pylist()])


def matrix_of(opened: Opened, rows: pa.Table) -> np.ndarray:
    columns = [column(f, rows.column(f.name)) for f in opened.signature.fields]
    return np.stack(columns, axis=1).astype(np.float32)


def agree(opened: Opened, rows: pa.Table, tolerance: float = 2e-6) -> None:
    """Hold every runner against the reference; the tolerance is relative to 1 or to the answer, if that is larger."""
    assert opened.reference is not None
    expected = opened.reference.predict(rows)
    matrix = matrix_of(opened, rows)
    for index in range(len(opened.runners)):
        found = answer(opened, matrix, index)
        assert found.shape == (rows.num_rows, opened.signature.outputs[0].width)
        assert found.dtype == np.float32
        numbers = opened.task.values([found]) if expected.probabilities is None else opened.task.probabilities([found])
        wanted = expected.values if expected.probabilities is None else expected.probabilities
        np.testing.assert_allclose(numbers, wanted, rtol=tolerance, atol=tolerance)
        if isinstance(opened.task, classification.Classification):
            flips = np.flatnonzero(np.asarray(opened.task.values([found])) != expected.values)
            margin = np.sort(wanted[flips], axis=1)[:, -1] - np.sort(wanted[flips], axis=1)[:, -2]
            assert (margin < tolerance).all()


def thresholds(content: bytes) -> dict[int, list[float]]:
    model = json.loads(content)["learner"]["gradient_booster"]
    found: dict[int, list[float]] = {}
    for tree in model.get("gbtree", model)["model"]["trees"]:
        for feature, value, left in zip(
            tree["split_indices"], tree["split_conditions"], tree["left_children"], strict=True
        ):
            if left != -1:
                found.setdefault(feature, []).append(float(np.float32(value)))
    return found


def hard_rows(x: np.ndarray, names: list[str], on: dict[int, list[float]], seed: int = 0) -> pa.Table:
    """Draw rows from the data, move a third of the values onto thresholds, and take a tenth away."""
    rng = np.random.default_rng(seed)
    rows = x[rng.integers(0, len(x), ROWS)].astype(float)
    for feature, values in on.items():
        where = rng.random(ROWS) < 0.33
        rows[where, feature] = rng.choice(values, where.sum())
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return pa.table({name: rows[:, i] for i, name in enumerate(names)})


def saved(booster: Any, form: str = "json") -> bytes:
    booster = booster.get_booster() if hasattr(booster, "get_booster") else booster
    return bytes(booster.save_raw(form))


def with_gaps(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    return x


CANCER, WINE, DIABETES = (load(return_X_y=True) for load in (load_breast_cancer, load_wine, load_diabetes))
SMALL = {"n_estimators": 30, "max_depth": 5, "n_jobs": 1}
MODELS: dict[str, Callable[[], Any]] = {
    "binary": lambda: xgboost.XGBClassifier(**SMALL).fit(with_gaps(CANCER[0]), CANCER[1]),
    "binary without gaps": lambda: xgboost.XGBClassifier(**SMALL).fit(*CANCER),
    "multiclass": lambda: xgboost.XGBClassifier(**SMALL).fit(with_gaps(WINE[0]), WINE[1]),
    "softmax": lambda: xgboost.XGBClassifier(**SMALL, objective="multi:softmax").fit(*WINE),
    "hinge": lambda: xgboost.XGBClassifier(**SMALL, objective="binary:hinge").fit(*CANCER),
    "forest": lambda: xgboost.XGBRFClassifier(n_estimators=20, n_jobs=1).fit(*WINE),
    "boosted forest": lambda: xgboost.XGBClassifier(**SMALL, num_parallel_tree=3).fit(*WINE),
    "regression": lambda: xgboost.XGBRegressor(**SMALL).fit(with_gaps(DIABETES[0]), DIABETES[1]),
    "dart": lambda: xgboost.XGBRegressor(**SMALL, booster="dart", rate_drop=0.3).fit(*DIABETES),
    "linear": lambda: xgboost.XGBRegressor(n_estimators=20, booster="gblinear", n_jobs=1).fit(*DIABETES),
    "linear classes": lambda: xgboost.XGBClassifier(n_estimators=20, booster="gblinear", n_jobs=1).fit(*WINE),
    "pruned": lambda: xgboost.XGBRegressor(**SMALL, gamma=3000, tree_method="exact").fit(*DIABETES),
    "two targets": lambda: xgboost.XGBRegressor(**SMALL).fit(DIABETES[0], np.stack([DIABETES[1], -DIABETES[1]], 1)),
    "vector leaves": lambda: xgboost.XGBRegressor(**SMALL, multi_strategy="multi_output_tree").fit(
        DIABETES[0], np.stack([DIABETES[1], -DIABETES[1]], 1)
    ),
    "quantiles": lambda: xgboost.XGBRegressor(
        **SMALL, objective="reg:quantileerror", quantile_alpha=[0.1, 0.9]
    ).fit(*DIABETES),
    "labels": lambda: xgboost.XGBClassifier(**SMALL).fit(CANCER[0], np.stack([CANCER[1], 1 - CANCER[1]], 1)),
    "ranking": lambda: xgboost.XGBRanker(**SMALL).fit(*CANCER, qid=np.arange(569) // 10),
    **{
        objective: (lambda o: lambda: xgboost.XGBRegressor(**SMALL, objective=o).fit(DIABETES[0], DIABETES[1] / 100))(
            objective
        )
        for objective in (
            "count:poisson", "reg:gamma", "reg:tweedie", "reg:squaredlogerror", "reg:pseudohubererror",
            "reg:absoluteerror", "survival:cox",
        )
    },
    "reg:logistic": lambda: xgboost.XGBRegressor(**SMALL, objective="reg:logistic").fit(
        DIABETES[0], DIABETES[1] / 400
    ),
    "binary:logitraw": lambda: xgboost.XGBRegressor(**SMALL, objective="binary:logitraw").fit(*CANCER),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_agrees_with_the_library(name: str) -> None:
    model = MODELS[name]()
    content = saved(model)
    opened = open_model("m.json", content)
    names = [f.name for f in opened.signature.fields]
    x = {"binary": CANCER, "multiclass": WINE}.get(name)
    x = x[0] if x else {30: CANCER, 13: WINE, 10: DIABETES}[len(names)][0]
    rows = hard_rows(x, names, {} if "linear" in name or name == "vector leaves" else thresholds(content))
    agree(opened, rows)
    again = open_model("m.ubj", saved(model, "ubj"))
    assert again.signature == opened.signature
    if opened.runners[0].kind == "onnxruntime":
        assert again.runners[0].content == opened.runners[0].content


@pytest.mark.parametrize("name", ["binary", "multiclass", "regression", "ranking"])
def test_reference_is_what_a_data_scientist_gets(name: str) -> None:
    model = MODELS[name]()
    opened = open_model("m.json", saved(model))
    x = {"multiclass": WINE, "regression": DIABETES}.get(name, CANCER)[0]
    found = opened.reference.predict(pa.table({f"x{i}": x[:, i] for i in range(x.shape[1])}))
    np.testing.assert_array_equal(found.values.astype(float), model.predict(x).astype(float))
    if found.probabilities is not None:
        np.testing.assert_array_equal(found.probabilities, model.predict_proba(x))


def test_early_stopping_predicts_with_the_best_rounds() -> None:
    x, y = DIABETES
    model = xgboost.XGBRegressor(n_estimators=200, early_stopping_rounds=5, n_jobs=1)
    model.fit(x[:300], y[:300], eval_set=[(x[300:], y[300:])], verbose=False)
    opened = open_model("m.json", saved(model))
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    assert "stopped early" in opened.notes[0]
    rows = pa.table({f"x{i}": x[:, i] for i in range(x.shape[1])})
    np.testing.assert_array_equal(opened.reference.predict(rows).values, model.predict(x))
    agree(opened, rows)


def ames_like(seed: int = 0, cut: int = 400) -> tuple[pd.DataFrame, np.ndarray]:
    """Wine with its numbers cut into words: one category with few values, one with hundreds, one of integers."""
    rng = np.random.default_rng(seed)
    x = np.tile(WINE[0], (8, 1)) + rng.normal(size=(len(WINE[0]) * 8, 13)) * 0.1
    frame = pd.DataFrame(x[:, :4], columns=["alcohol", "acid", "ash", "alkali"])
    frame["few"] = pd.Categorical(np.array(["a", "b b", "c", "d,e"])[(x[:, 6] * 10).astype(int) % 4])
    frame["many"] = pd.Categorical([f"v{int(v) % cut}" for v in x[:, 12]])
    frame["years"] = pd.Categorical((x[:, 9] * 10).astype(int) % 40)
    for name in ("few", "many", "years", "ash"):
        frame.loc[rng.random(len(frame)) < 0.1, name] = np.nan
    return frame, x[:, 12] + 200 * (frame["few"] == "c") + 30 * np.asarray(frame["years"].cat.codes)


def as_table(frame: pd.DataFrame) -> pa.Table:
    return pa.table({n: pa.array(c.astype(object).where(c.notna(), None).tolist()) for n, c in frame.items()})


@pytest.mark.parametrize("onehot", [1, 100])
def test_categories(onehot: int) -> None:
    frame, y = ames_like()
    model = xgboost.XGBRegressor(**SMALL, enable_categorical=True, max_cat_to_onehot=onehot).fit(frame, y)
    content = saved(model)
    opened = open_model("m.json", content)
    assert opened.signature.fields[4] == Field("few", "category", categories=("a", "b b", "c", "d,e"), closed=True)
    assert [f.name for f in opened.signature.fields if f.kind == "category"] == ["few", "many", "years"]
    rows = as_table(frame)
    agree(opened, rows)
    np.testing.assert_array_equal(opened.reference.predict(rows).values, model.predict(frame))
    assert open_model("m.ubj", saved(model, "ubj")).signature == opened.signature


def test_codes_that_no_set_has_go_where_the_library_sends_them() -> None:
    frame, y = ames_like()
    model = xgboost.XGBRegressor(**SMALL, enable_categorical=True).fit(frame, y)
    opened = open_model("m.json", saved(model))
    codes = frame.assign(**{n: frame[n].cat.codes.where(frame[n].notna()) for n in ("few", "many", "years")})
    matrix = codes.to_numpy(np.float32)
    for unknown in (-1, 41, 5000, 20_000_000):
        matrix[::3, 4] = matrix[1::3, 5] = matrix[2::3, 6] = unknown
        np.testing.assert_allclose(answer(opened, matrix, 0), answer(opened, matrix, 1), rtol=2e-6)


def test_names_outside_ascii_are_not_believed() -> None:
    """XGBoost stores the first two of these as `é` and `a`."""
    frame = pd.DataFrame({"c": pd.Categorical(["éa", "b", "c", "éa"] * 20)})
    model = xgboost.XGBRegressor(**SMALL, enable_categorical=True).fit(frame, frame["c"] == "b")
    opened = open_model("m.json", saved(model))
    assert opened.signature.fields == (Field("c", "integer"),)
    assert "damaged" in opened.notes[0]


def test_classes_can_be_given() -> None:
    model = MODELS["multiclass"]()
    assert open_model("m", saved(model)).task.classes == (0, 1, 2)
    assert open_model("m", saved(model), classes=("a", "b", "c")).task.classes == ("a", "b", "c")
    with pytest.raises(ArtifactInvalid, match="got 2 labels, the model has 3"):
        open_model("m", saved(model), classes=("a", "b"))


def test_a_larger_model_has_a_runner_for_bulk_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell.model.formats.xgboost.is_installed", lambda _: False)
    model = xgboost.XGBClassifier(n_estimators=150, max_depth=8, n_jobs=1).fit(CANCER[0], CANCER[1][::-1])
    opened = open_model("m.json", saved(model))
    assert opened.reference is None
    assert [(r.kind, r.file, r.rows_from) for r in opened.runners] == [
        ("onnxruntime", "model.onnx", 1),
        ("onnxruntime", "bulk.onnx", 1024),
    ]
    x = CANCER[0].astype(np.float32)
    for index in (0, 1):
        np.testing.assert_allclose(answer(opened, x, index), model.predict_proba(x), atol=2e-6)

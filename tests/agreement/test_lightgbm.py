"""LightGBM models as graphs and in their own runtime, against the library, on rows that try to tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from foretell.errors import ArtifactInvalid
from foretell.model.formats.base import Opened
from foretell.model.formats.lightgbm import open_model
from foretell.model.runtimes import Runner, open_runtime
from foretell.model.tasks import classification
from foretell.model.trees.lightgbm import read
from foretell.signature import Field

ROWS = 2500


def answer(opened: Opened, matrix: np.ndarray, runner: Runner) -> np.ndarray:
    if runner.kind != "onnxruntime":
        return open_runtime(runner, opened.signature, 1).infer({"features": matrix})[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(runner.content, options).run(None, {"features": matrix})[0]


def column(field: Field, values: pa.ChunkedArray) -> np.ndarray:
    if field.kind != "category":
        return pd.to_numeric(values.to_pandas()).to_numpy(float)
    codes = {label: float(i) for i, label in enumerate(field.categories)}
    return np.array([np.nan if v is None else codes.get(v, -1.0) for v in values.to_pylist()])


def agree(content: bytes, rows: pa.Table, tolerance: float = 1e-12) -> Opened:
    """Hold every runner against the reference: float64 on both sides, so sums differ in their last bits alone."""
    opened = open_model("m.txt", content)
    assert opened.reference is not None
    expected = opened.reference.predict(rows)
    matrix = np.stack([column(f, rows.column(f.name)) for f in opened.signature.fields], axis=1)
    for runner in (*opened.runners, Runner("lightgbm", "model.txt", content)):
        found = answer(opened, matrix, runner)
        assert found.dtype == np.float64
        assert found.shape == (rows.num_rows, opened.signature.outputs[0].width)
        numbers = opened.task.values([found]) if expected.probabilities is None else opened.task.probabilities([found])
        wanted = expected.values if expected.probabilities is None else expected.probabilities
        np.testing.assert_allclose(numbers, wanted, rtol=tolerance, atol=tolerance)
        if isinstance(opened.task, classification.Classification):
            np.testing.assert_array_equal(opened.task.values([found]), expected.values.astype(int))
    return opened


def hard_rows(x: np.ndarray, content: bytes, seed: int = 0) -> pa.Table:
    """Draw rows from the data, move a third of the values onto thresholds or just above, and take a tenth away."""
    rng = np.random.default_rng(seed)
    rows = x[rng.integers(0, len(x), ROWS)].astype(float)
    model = read(content).model
    for tree in model.trees if model is not None else ():
        for feature, value in zip(tree.feature[tree.left != -1], tree.threshold[tree.left != -1], strict=True):
            rows[rng.integers(0, ROWS, 4), feature] = value
            rows[rng.integers(0, ROWS, 4), feature] = np.nextafter(value, np.inf)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[rng.random(rows.shape) < 0.05] = 0
    rows[rng.random(rows.shape) < 0.02] = 1e-35
    rows[rng.random(rows.shape) < 0.02] = -2e-35
    rows[rng.random(rows.shape) < 0.02] = -1e-35
    return pa.table({f"x{i}": rows[:, i] for i in range(x.shape[1])})


def with_gaps(x: np.ndarray, gap: float = np.nan) -> np.ndarray:
    x = x.copy()
    x[np.random.default_rng(1).random(x.shape) < 0.2] = gap
    return x


CANCER, WINE, DIABETES = (load(return_X_y=True) for load in (load_breast_cancer, load_wine, load_diabetes))
SMALL = {"n_estimators": 30, "num_leaves": 15, "min_child_samples": 4, "n_jobs": 1, "verbose": -1}


def classifier(**options: Any) -> lightgbm.LGBMClassifier:
    return lightgbm.LGBMClassifier(**(SMALL | options))


def regressor(**options: Any) -> lightgbm.LGBMRegressor:
    return lightgbm.LGBMRegressor(**(SMALL | options))


MODELS: dict[str, Callable[[], Any]] = {
    "binary": lambda: classifier().fit(*CANCER),
    "binary with gaps": lambda: classifier().fit(with_gaps(CANCER[0]), CANCER[1]),
    "binary, steeper": lambda: classifier(sigmoid=2.5).fit(*CANCER),
    "zero is missing": lambda: classifier(zero_as_missing=True).fit(with_gaps(CANCER[0], 0), CANCER[1]),
    "zero is missing, centred": lambda: regressor(zero_as_missing=True).fit(with_gaps(DIABETES[0], 0), DIABETES[1]),
    "no missing": lambda: regressor(use_missing=False).fit(with_gaps(DIABETES[0]), DIABETES[1]),
    "multiclass": lambda: classifier().fit(with_gaps(WINE[0]), WINE[1]),
    "one against all": lambda: classifier(objective="multiclassova", sigmoid=1.5).fit(*WINE),
    "random forest": lambda: regressor(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7).fit(*DIABETES),
    "random forest classes": lambda: classifier(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7).fit(*WINE),
    "dart": lambda: regressor(boosting_type="dart").fit(*DIABETES),
    "constant": lambda: regressor(min_child_samples=10_000).fit(*DIABETES),
    "linear tree": lambda: regressor(linear_tree=True).fit(*DIABETES),
    "square root": lambda: regressor(reg_sqrt=True).fit(*DIABETES),
    "ranking": lambda: lightgbm.LGBMRanker(**SMALL).fit(*CANCER, group=[69, *[100] * 5]),
    "cross entropy": lambda: regressor(objective="cross_entropy").fit(DIABETES[0], DIABETES[1] / 400),
    "cross entropy lambda": lambda: regressor(objective="cross_entropy_lambda").fit(DIABETES[0], DIABETES[1] / 400),
    "own": lambda: regressor(objective=lambda y, p: (p - y, np.ones_like(y))).fit(*DIABETES),
    **{
        objective: (lambda o: lambda: regressor(objective=o).fit(with_gaps(DIABETES[0]), DIABETES[1]))(objective)
        for objective in ("regression", "huber", "fair", "quantile", "mape", "l1", "poisson", "gamma", "tweedie")
    },
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_agrees_with_the_library(name: str) -> None:
    model = MODELS[name]()
    content = model.booster_.model_to_string().encode()
    x = {30: CANCER, 13: WINE, 10: DIABETES}[model.n_features_][0]
    opened = agree(content, hard_rows(x, content))
    assert not opened.signature.named
    if name.startswith("zero"):
        assert read(content).zero_is_missing


@pytest.mark.parametrize("name", ["binary", "multiclass", "regression", "one against all"])
def test_reference_is_what_a_data_scientist_gets(name: str) -> None:
    model = MODELS[name]()
    opened = open_model("m.txt", model.booster_.model_to_string().encode())
    x = {30: CANCER, 13: WINE, 10: DIABETES}[model.n_features_][0]
    found = opened.reference.predict(pa.table({f"x{i}": x[:, i] for i in range(x.shape[1])}))
    np.testing.assert_array_equal(found.values.astype(float), model.predict(x))
    if found.probabilities is not None:
        np.testing.assert_array_equal(found.probabilities, model.predict_proba(x))


def mixed(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Wine with numbers cut into categories: few and many words, integers, truths; and a constant one."""
    rng = np.random.default_rng(seed)
    x = np.tile(WINE[0], (8, 1)) + rng.normal(size=(len(WINE[0]) * 8, 13)) * 0.1
    frame = pd.DataFrame(x[:, :3], columns=["alcohol", "malic acid", "ash"])
    frame["few"] = pd.Categorical(np.array(["Ä", "b b", 'c"', "d,e"])[(x[:, 6] * 10).astype(int) % 4])
    frame["same"] = pd.Categorical(["x"] * len(x))
    frame["many"] = pd.Categorical([f"v{int(v) % 400}" for v in x[:, 12]])
    frame["years"] = pd.Categorical((x[:, 9] * 10).astype(int) % 40)
    frame["old"] = x[:, 9] > 5
    for name in ("few", "many", "years", "ash"):
        frame.loc[rng.random(len(frame)) < 0.1, name] = np.nan
    return frame, x[:, 12] + 200 * (frame["few"] == 'c"') + 30 * np.asarray(frame["years"].cat.codes)


def as_table(frame: pd.DataFrame) -> pa.Table:
    names = [name.replace(" ", "_") for name in frame]
    return pa.table(
        {
            n: pa.array(c.astype(object).where(c.notna(), None).tolist())
            for n, (_, c) in zip(names, frame.items(), strict=True)
        }
    )


@pytest.mark.parametrize("onehot", [4, 100])
def test_categories_known_missing_and_unknown(onehot: int) -> None:
    frame, y = mixed()
    model = regressor(max_cat_to_onehot=onehot, min_data_per_group=2).fit(frame, y)
    content = model.booster_.model_to_string().encode()
    rows = as_table(frame)
    opened = agree(content, rows)
    fields = {f.name: f for f in opened.signature.fields}
    assert fields["few"] == Field("few", "category", categories=("b b", 'c"', "d,e", "Ä"))
    assert fields["years"].categories == tuple(range(40))
    assert fields["same"].categories == ("x",)
    assert (fields["alcohol"].low, fields["alcohol"].high) == (frame["alcohol"].min(), frame["alcohol"].max())
    np.testing.assert_array_equal(opened.reference.predict(rows).values, model.predict(frame))
    strange = as_table(frame.assign(few="zz", many=frame["many"].astype(object).fillna("new"), years=77))
    agree(content, strange)


def test_categories_given_as_codes() -> None:
    frame, y = mixed()
    codes = np.stack([frame["alcohol"], frame["many"].cat.codes, frame["years"].cat.codes], axis=1).astype(float)
    data = lightgbm.Dataset(codes, y, categorical_feature=[1, 2], params={"verbose": -1})
    model = lightgbm.train({"verbose": -1, "num_threads": 1}, data, 20)
    codes[::5, 1], codes[1::5, 2], codes[2::5, 2] = 5000, -1, np.nan
    opened = agree(model.model_to_string().encode(), pa.table({f"x{i}": codes[:, i] for i in range(3)}))
    assert [f.kind for f in opened.signature.fields] == ["number", "integer", "integer"]


def test_ordered_categories_are_refused() -> None:
    frame, y = mixed()
    frame["years"] = frame["years"].cat.as_ordered()
    content = regressor().fit(frame, y).booster_.model_to_string().encode()
    with pytest.raises(ArtifactInvalid, match="which columns they belong to"):
        open_model("m.txt", content)

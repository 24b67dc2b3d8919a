"""CatBoost models as graphs and in their own runtime, against the library, on rows that try to tell them apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import onnxruntime
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from foretell.errors import ArtifactInvalid, RuntimeMissing
from foretell.model.formats import catboost as format_catboost
from foretell.model.formats.base import Opened
from foretell.model.formats.catboost import open_model
from foretell.model.runtimes import Runner, open_runtime
from foretell.model.tasks import classification

ROWS = 2500


def saved(model: Any, folder: Path, form: str = "json") -> bytes:
    model.save_model(str(folder / "m"), format=form)
    return (folder / "m").read_bytes()


def answer(opened: Opened, inputs: dict[str, np.ndarray], runner: Runner) -> np.ndarray:
    if runner.kind != "onnxruntime":
        return open_runtime(runner, opened.signature, 1).infer(inputs)[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(runner.content, options).run(None, inputs)[0]


def inputs_of(opened: Opened, rows: pa.Table) -> dict[str, np.ndarray]:
    found = {}
    for spec in opened.signature.inputs:
        columns = [rows.column(c.field).to_pandas().to_numpy() for c in opened.signature.columns[spec.name]]
        found[spec.name] = np.stack(columns, axis=1).astype(np.float32 if spec.datatype == "FP32" else object)
    return found


def agree(opened: Opened, rows: pa.Table) -> None:
    assert opened.reference is not None
    expected = opened.reference.predict(rows)
    inputs = inputs_of(opened, rows)
    for runner in opened.runners:
        found = answer(opened, inputs, runner)
        # Leaves that are vectors are summed in float64 but come out as float32.
        tolerance = 1e-12 if opened.signature.outputs[0].datatype == "FP64" else 2e-6
        assert found.shape == (rows.num_rows, opened.signature.outputs[0].width)
        assert found.dtype == (np.float64 if tolerance < 1e-6 else np.float32)
        numbers = opened.task.values([found]) if expected.probabilities is None else opened.task.probabilities([found])
        wanted = expected.values if expected.probabilities is None else expected.probabilities
        np.testing.assert_allclose(numbers, wanted, rtol=tolerance, atol=tolerance)
        if isinstance(opened.task, classification.Classification):
            flips = np.flatnonzero(np.asarray(opened.task.values([found])) != expected.values)
            margin = np.sort(wanted[flips], axis=1)[:, -1] - np.sort(wanted[flips], axis=1)[:, -2]
            assert (margin < tolerance).all()


def hard_rows(x: np.ndarray, content: bytes, gaps: bool, names: list[str], seed: int = 0) -> pa.Table:
    """Draw rows from the data, move a third of the values onto borders, and take a tenth away."""
    rng = np.random.default_rng(seed)
    rows = x[rng.integers(0, len(x), ROWS)].astype(float)
    for feature in json.loads(content)["features_info"]["float_features"]:
        if feature["borders"]:
            where = rng.random(ROWS) < 0.33
            rows[where, feature["flat_feature_index"]] = rng.choice(feature["borders"], where.sum())
    if gaps:
        rows[rng.random(rows.shape) < 0.1] = np.nan
    return pa.table({name: rows[:, i] for i, name in enumerate(names)})


def with_gaps(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    return x


CANCER, WINE, DIABETES = (load(return_X_y=True) for load in (load_breast_cancer, load_wine, load_diabetes))
SMALL = {"iterations": 30, "depth": 4, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


def classifier(**options: Any) -> catboost.CatBoostClassifier:
    return catboost.CatBoostClassifier(**(SMALL | options))


def regressor(**options: Any) -> catboost.CatBoostRegressor:
    return catboost.CatBoostRegressor(**(SMALL | options))


TWO = np.stack([DIABETES[1], -DIABETES[1]], axis=1)
LEAFY = {"grow_policy": "Lossguide", "max_leaves": 12}
MODELS: dict[str, Callable[[], Any]] = {
    "binary": lambda: classifier().fit(*CANCER),
    "binary of words": lambda: classifier().fit(CANCER[0], np.array(["no", "yes"])[CANCER[1]]),
    "binary of truths": lambda: classifier().fit(CANCER[0], CANCER[1] > 0),
    "binary of floats": lambda: classifier().fit(CANCER[0], CANCER[1] * 0.5),
    "missing is least": lambda: classifier(nan_mode="Min").fit(with_gaps(CANCER[0]), CANCER[1]),
    "missing is greatest": lambda: classifier(nan_mode="Max").fit(with_gaps(CANCER[0]), CANCER[1]),
    "cross entropy": lambda: classifier(loss_function="CrossEntropy").fit(DIABETES[0], DIABETES[1] / 400),
    "multiclass": lambda: classifier().fit(with_gaps(WINE[0]), WINE[1]),
    "multiclass of words": lambda: classifier().fit(WINE[0], np.array(["b", "a", "c"])[WINE[1]]),
    "one against all": lambda: classifier(loss_function="MultiClassOneVsAll").fit(*WINE),
    "labels": lambda: classifier(loss_function="MultiLogloss").fit(CANCER[0], np.stack([CANCER[1], 1 - CANCER[1]], 1)),
    "regression": lambda: regressor().fit(with_gaps(DIABETES[0]), DIABETES[1]),
    "by leaf": lambda: regressor(**LEAFY).fit(with_gaps(DIABETES[0]), DIABETES[1]),
    "by depth": lambda: regressor(grow_policy="Depthwise").fit(*DIABETES),
    "multiclass by leaf": lambda: classifier(**LEAFY).fit(*WINE),
    "two targets": lambda: regressor(loss_function="MultiRMSE").fit(DIABETES[0], TWO),
    "quantiles": lambda: regressor(loss_function="MultiQuantile:alpha=0.1,0.9").fit(*DIABETES),
    "uncertain": lambda: regressor(loss_function="RMSEWithUncertainty").fit(*DIABETES),
    "ranking": lambda: catboost.CatBoostRanker(**SMALL).fit(*CANCER, group_id=np.arange(569) // 10),
    **{
        loss: (lambda name: lambda: regressor(loss_function=name).fit(*DIABETES))(loss)
        for loss in ("MAE", "Quantile:alpha=0.2", "Poisson", "Tweedie:variance_power=1.5", "Huber:delta=10", "MAPE")
    },
}


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_the_library(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    content = saved(model, tmp_path)
    opened = open_model("m.json", content)
    x = {30: CANCER, 13: WINE, 10: DIABETES}[len(opened.signature.fields)][0]
    gaps = name.startswith("missing") or name in ("multiclass", "regression", "by leaf")
    names = [f.name for f in opened.signature.fields]
    agree(opened, hard_rows(x, content, gaps, names))
    assert [r.kind for r in opened.runners] == ([] if name == "uncertain" else ["onnxruntime"]) + ["catboost"]
    # What the reference says is what a data scientist gets.
    table = pa.table({n: x[:, i] for i, n in enumerate(names)})
    found = opened.reference.predict(table)
    if opened.task.classes:
        np.testing.assert_allclose(found.probabilities, model.predict_proba(x), rtol=1e-12)
        assert found.values.astype(str).tolist() == model.predict(x).reshape(-1).astype(str).tolist()
        assert list(opened.task.classes) == model.classes_.tolist()
        assert {type(c) for c in opened.task.classes} == {type(c) for c in model.classes_.tolist()}
    elif name != "labels":
        np.testing.assert_allclose(found.values, model.predict(x), rtol=1e-12)


def test_cbm_is_the_same_model_as_json(tmp_path: Path) -> None:
    frame = pd.DataFrame(DIABETES[0], columns=[f"f {i}" for i in range(10)])
    model = regressor().fit(frame, DIABETES[1])
    opened, other = open_model("m.json", saved(model, tmp_path)), open_model("m.cbm", saved(model, tmp_path, "cbm"))
    assert opened.signature == other.signature
    assert [f.name for f in other.signature.fields] == list(frame)
    assert opened.runners[0].content == other.runners[0].content
    agree(other, pa.Table.from_pandas(frame))


def test_damaged_cbm_ends_in_one_line(tmp_path: Path) -> None:
    content = saved(regressor().fit(*DIABETES), tmp_path, "cbm")
    for damaged in (content[: len(content) // 2], content[:8] + b"\xff" * 400 + content[408:]):
        with pytest.raises(ArtifactInvalid, match=r"m\.cbm: catboost cannot read it") as caught:
            open_model("m.cbm", damaged)
        assert "\n" not in str(caught.value)


def test_cbm_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = regressor().fit(*DIABETES)
    monkeypatch.setattr(format_catboost, "is_installed", lambda _: False)
    with pytest.raises(RuntimeMissing, match=r"pip install 'foretell\[catboost\]'"):
        open_model("m.cbm", saved(model, tmp_path, "cbm"))
    opened = open_model("m.json", saved(model, tmp_path))
    assert opened.reference is None
    assert [r.kind for r in opened.runners] == ["onnxruntime"]


@pytest.mark.parametrize("one_hot", [2, 50])
def test_categories_and_text_run_in_the_library(one_hot: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = DIABETES
    frame = pd.DataFrame(
        {
            "word": np.where(x[:, 1] > 0, "ü b", "v"),
            "number": x[:, 0],
            "many": [f"v{i}" for i in rng.integers(0, 30, len(x))],
            "age": x[:, 2],
            "said": np.where(x[:, 3] > 0, "low pressure seen", "high pressure seen"),
        }
    )
    model = regressor(one_hot_max_size=one_hot, cat_features=["word", "many"], text_features=["said"]).fit(frame, y)
    content = saved(model, tmp_path, "cbm")
    opened = open_model("m.cbm", content)
    assert [(f.name, f.kind, f.nullable) for f in opened.signature.fields] == [
        ("word", "text", False),
        ("number", "number", True),
        ("many", "text", False),
        ("age", "number", True),
        ("said", "text", False),
    ]
    assert [r.kind for r in opened.runners] == ["catboost"]
    strange = frame.assign(many=frame["many"].where(frame["number"] > 0, "never seen"))
    for rows in (frame, strange):
        agree(opened, pa.Table.from_pandas(rows))
        expected = model.predict(rows)
        np.testing.assert_allclose(opened.reference.predict(pa.Table.from_pandas(rows)).values, expected, rtol=1e-12)


def test_classes_with_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"said": ["good day", "bad day", "good night", "bad night"] * 25})
    model = classifier(text_features=["said"]).fit(frame, ["up", "down"] * 50)
    opened = open_model("m.cbm", saved(model, tmp_path, "cbm"))
    assert opened.task.classes == ("down", "up")
    agree(opened, pa.Table.from_pandas(frame))


def test_a_threshold_of_its_own_is_said(tmp_path: Path) -> None:
    model = MODELS["binary"]()
    model.set_probability_threshold(0.9)
    opened = open_model("m.json", saved(model, tmp_path))
    assert any("threshold" in note for note in opened.notes)

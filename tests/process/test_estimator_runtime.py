"""Estimators without a graph run in a process of their own."""

import os
import signal
import sys
import threading
import warnings
from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from foretell.errors import ArtifactUntrusted, InferenceFailed, LoadError
from foretell.model.formats.sklearn import open_model
from foretell.model.model import Model
from foretell.model.runtimes import open_runtime

MODULE = '''
"""Steps of a house price model."""
from sklearn.base import BaseEstimator, TransformerMixin


class Parts(BaseEstimator, TransformerMixin):
    """Area, the age at the sale, and whether it has a pool."""

    def fit(self, X, y=None):
        self.feature_names_in_ = list(X.columns)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        out = X[["area"]].copy()
        out["age"] = (X["sold"] - X["built"]).dt.days
        out["pool"] = X["pool"].fillna("none").ne("none").astype(float)
        return out.to_numpy()
'''


@pytest.fixture
def homes(tmp_path, monkeypatch):
    """Return rows and a fitted pipeline whose first step is a class of a module in the working directory."""
    (tmp_path / "house_parts.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("house_parts", None)
    from house_parts import Parts

    rows = pd.DataFrame(
        {
            "area": [100.0, 150.0, 80.0, 200.0, 120.0, 90.0],
            "built": pd.to_datetime(
                ["1970-01-01", "1999-05-02", "2001-02-03", "1950-07-08", "1980-01-01", "1990-01-01"]
            ),
            "sold": pd.to_datetime(["2010-01-01"] * 6),
            "pool": ["none", "big", None, "small", "none", "big"],
        }
    )
    pipeline = make_pipeline(Parts(), Ridge()).fit(rows, [1.0, 3.0, 0.5, 4.0, 2.0, 1.5])
    joblib.dump(pipeline, "homes.joblib")
    yield tmp_path / "homes.joblib", pipeline, rows
    sys.modules.pop("house_parts", None)


def test_a_custom_step_runs_as_itself(homes):
    path, pipeline, rows = homes
    opened = open_model(path, trust=True, sample=pa.Table.from_pandas(rows, preserve_index=False))
    try:
        assert [r.kind for r in opened.runners] == ["estimator"]
        assert "Parts is not one of scikit-learn's" in opened.notes[0]
        assert {f.name: f.kind for f in opened.signature.fields} == {
            "area": "number", "built": "date", "sold": "date", "pool": "text",
        }  # fmt: skip
        with Model(opened) as model:
            np.testing.assert_allclose(model.predict(rows).values, pipeline.predict(rows))
            one = model.predict({"area": 100, "built": "1970-01-01", "sold": "2010-01-01", "pool": "none"})
            np.testing.assert_allclose(one.values, pipeline.predict(rows[:1]))
    finally:
        opened.reference.close()


def test_without_trust_at_load_it_is_not_hosted(homes):
    path, _, rows = homes
    opened = open_model(path, trust=True, sample=pa.Table.from_pandas(rows, preserve_index=False))
    opened.reference.close()
    with pytest.raises(ArtifactUntrusted, match="opening it runs whatever code"):
        open_runtime(replace(opened.runners[0], trusted=False), opened.signature)


@pytest.fixture
def doubled(tmp_path):
    """Return a classifier with text labels behind a step that has no graph."""
    path = tmp_path / "doubled.joblib"
    X = np.random.default_rng(0).normal(size=(80, 3))
    y = np.where(X[:, 0] + X[:, 1] > 0, "up", "down")
    estimator = make_pipeline(FunctionTransformer(np.cbrt), RandomForestClassifier(5, random_state=0)).fit(X, y)
    joblib.dump(estimator, path)
    opened = open_model(path, trust=True)
    yield opened, estimator, X
    opened.reference.close()


def test_labels_probabilities_and_threads(doubled):
    opened, estimator, X = doubled
    answers: dict[int, list[str]] = {}
    with Model(opened) as model:

        def ask(place):
            answers[place] = model.predict(X[place : place + 10]).values.tolist()

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(0, 80, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = model.predict(X)
    assert [label for i in range(0, 80, 10) for label in answers[i]] == estimator.predict(X).tolist()
    np.testing.assert_allclose(found.probabilities, estimator.predict_proba(X))


@pytest.mark.parametrize(
    "estimator",
    [KNeighborsClassifier(metric="manhattan"), KMeans(3, n_init=1), HistGradientBoostingClassifier(max_iter=5)],
    ids=lambda e: type(e).__name__,
)
def test_libraries_find_what_they_need_inside_the_box(tmp_path, estimator):
    X, y = np.random.default_rng(0).normal(size=(90, 3)), np.arange(90) % 3
    estimator.fit(X, y)
    joblib.dump(estimator, tmp_path / "model.joblib")
    opened = open_model(tmp_path / "model.joblib", trust=True)
    try:
        assert opened.reference.predict(pa.table({f"x{i}": X[:, i] for i in range(3)})).values.tolist() == (
            estimator.predict(X).tolist()
        )
        assert not opened.notes
    finally:
        opened.reference.close()


def test_a_dead_process_is_started_once_more(doubled):
    opened, _, X = doubled
    runtime = open_runtime(opened.runners[0], opened.signature)
    inputs = {spec.name: X[:, i] for i, spec in enumerate(opened.signature.inputs)}
    try:
        first = runtime.infer(inputs)
        os.kill(runtime._boxed._process.pid, signal.SIGKILL)
        runtime._boxed._process.wait()
        np.testing.assert_array_equal(runtime.infer(inputs)[0], first[0])
    finally:
        runtime.close()
    with pytest.raises(InferenceFailed, match="closed"):
        runtime.infer(inputs)


def test_closing_ends_the_process_and_removes_its_folder(tmp_path):
    joblib.dump(LinearRegression().fit(np.eye(3), [1.0, 2.0, 3.0]), tmp_path / "m.joblib")
    opened = open_model(tmp_path / "m.joblib", trust=True)
    boxed = opened.reference._boxed
    process, scratch = boxed._process, boxed._scratch
    opened.reference.close()
    opened.reference.close()
    assert process.poll() is not None
    assert not os.path.exists(scratch)
    with pytest.raises(LoadError, match="closed"):
        opened.reference.predict(pa.table({"x0": [1.0], "x1": [1.0], "x2": [1.0]}))


def test_skops_needs_no_trust_for_what_is_known(tmp_path):
    skops = pytest.importorskip("skops.io")
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skops.dump(make_pipeline(Ridge()).fit(X, y), tmp_path / "known.skops")
        skops.dump(make_pipeline(FunctionTransformer(np.cbrt), Ridge()).fit(X, y), tmp_path / "strange.skops")
    opened = open_model(tmp_path / "known.skops")
    opened.reference.close()
    assert [r.kind for r in opened.runners] == ["onnxruntime"]
    with pytest.raises(ArtifactUntrusted, match="--trust"):
        open_model(tmp_path / "strange.skops")


def test_a_bare_booster_is_opened_by_its_own_format(tmp_path):
    xgboost = pytest.importorskip("xgboost")
    X, y = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    estimator = xgboost.XGBClassifier(n_estimators=3).fit(X, y)
    joblib.dump(estimator, tmp_path / "boosted.joblib")
    opened = open_model(tmp_path / "boosted.joblib", trust=True)
    assert opened.format == "xgboost"
    with Model(opened) as model:
        np.testing.assert_allclose(model.predict(X).probabilities, estimator.predict_proba(X), atol=1e-6)
    if opened.reference is not None:
        opened.reference.close()

"""A row gets the same answer, bit for bit, alone and among any others; and no more than that is promised."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from foretell.model.data.table import TablePreparation
from foretell.model.load import load, load_steady
from foretell.model.runtimes import Runner
from foretell.model.runtimes.onnx import EvenRows, OnnxRuntime
from foretell.model.runtimes.onnx import open as open_onnx

sys.path.insert(0, str(Path(__file__).parent))
from sklearn_reading import converted, table_of

pytestmark = pytest.mark.filterwarnings("ignore")
COMPANY = (2, 3, 4, 5, 7, 8, 13, 16, 31, 64, 101)
"""Rows of a call."""


def bits(array):
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "f" else array


def assert_steady(infer, inputs, rows, tolerance=0.0):
    """Hold random companies against each row alone: equal bits, or as near as `tolerance`."""
    rng = np.random.default_rng(0)
    alone = [infer({k: v[at : at + 1] for k, v in inputs.items()}) for at in range(rows)]
    for count in COMPANY:
        chosen = rng.integers(0, rows, count)
        for at, found in enumerate(infer({k: v[chosen] for k, v in inputs.items()})):
            expected = np.concatenate([alone[row][at] for row in chosen])
            assert found.shape == expected.shape
            if tolerance:
                np.testing.assert_allclose(found, expected, rtol=tolerance)
            else:
                np.testing.assert_array_equal(bits(found), bits(expected), err_msg=f"{count} rows")


WINE = load_wine()
NAMES = np.array(["barolo", "grignolino", "barbera"])[WINE.target]
ESTIMATORS = {
    "logistic": (LogisticRegression(max_iter=200), NAMES, EvenRows),
    "one_against_rest": (OneVsRestClassifier(LogisticRegression()), NAMES, EvenRows),
    "network": (MLPClassifier((9,), max_iter=50, random_state=0), NAMES, EvenRows),
    "poisson": (PoissonRegressor(), WINE.data[:, 0], EvenRows),
    "support_vectors": (SVR(), WINE.data[:, 0], EvenRows),
    "boosted": (GradientBoostingClassifier(n_estimators=5), NAMES, EvenRows),
    "boosted_poisson": (HistGradientBoostingRegressor(max_iter=5, loss="poisson"), WINE.data[:, 0], EvenRows),
    "forest": (RandomForestClassifier(5, random_state=0), NAMES, OnnxRuntime),
    "ridge": (Ridge(), WINE.data[:, 0], OnnxRuntime),
}


def run(reading):
    content = reading.graphs["model.onnx"]
    runtime = open_onnx(Runner("onnxruntime", "model.onnx", content), reading.signature)
    return runtime, TablePreparation(reading.signature).prepare(table_of(WINE.data)).inputs


@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators(name):
    estimator, y, kind = ESTIMATORS[name]
    pipeline = make_pipeline(StandardScaler(), estimator).fit(WINE.data, y)
    runtime, inputs = run(converted(pipeline))
    assert type(runtime) is kind  # those that need no company of even rows do not pay for it
    assert_steady(runtime.infer, inputs, 60)


def test_sums_of_logarithms_are_as_near_as_rounding():
    """What is not promised: ONNX Runtime adds up the rows of a ReduceLogSumExp by their place in memory."""
    runtime, inputs = run(converted(make_pipeline(StandardScaler(), GaussianNB()).fit(WINE.data, NAMES)))
    assert_steady(runtime.infer, inputs, 60, tolerance=1e-12)


@pytest.fixture(scope="module")
def boosters(tmp_path_factory):
    """Files of the three libraries, whose own library takes calls of many rows."""
    catboost, lightgbm = pytest.importorskip("catboost"), pytest.importorskip("lightgbm")
    xgboost = pytest.importorskip("xgboost")
    folder = tmp_path_factory.mktemp("boosters")
    X, y = WINE.data, WINE.target
    xgboost.XGBClassifier(n_estimators=20, max_depth=4).fit(X, y).save_model(folder / "xgb.json")
    lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(X, y).booster_.save_model(folder / "lgb.txt")
    model = catboost.CatBoostClassifier(iterations=20, verbose=0, allow_writing_files=False).fit(X, NAMES)
    model.save_model(str(folder / "cat.cbm"))
    return folder


@pytest.mark.parametrize("file", ["xgb.json", "lgb.txt", "cat.cbm"])
def test_boosters_as_they_are_served(boosters, file):
    model = load_steady(boosters / file)
    assert len(model.info()["runners"]) == 1
    inputs, _, _ = model.prepare(WINE.data)
    assert_steady(lambda given: model.infer(given, len(given["features"])), inputs, 60)


@pytest.mark.parametrize("file", ["xgb.json", "cat.cbm"])
def test_in_bulk_the_library_rounds_otherwise(boosters, file):
    """Python and files take the faster runner, whose float32 sums differ by a few parts in ten million."""
    steady, swift = load_steady(boosters / file), load(boosters / file)
    assert len(swift.info()["runners"]) == 2
    expected, found = (model.predict(WINE.data) for model in (steady, swift))
    assert list(found.labels) == list(expected.labels)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=3e-6)

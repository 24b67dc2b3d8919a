"""From a trained model to a bundle and back: the same answers, the proof in between."""

import hashlib
import json
import tomllib
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import foretell
from foretell.errors import ArtifactUntrusted, ConfigError, InvalidInput, ProofFailed
from foretell.model import convert as converting
from foretell.model.convert import convert
from foretell.model.formats.base import Answers, Opened
from foretell.model.load import open_artifact


@pytest.fixture(scope="module")
def iris() -> pd.DataFrame:
    table = load_iris(as_frame=True).frame
    table["species"] = np.array(["setosa", "versicolor", "virginica"])[table.pop("target")]
    return table


@pytest.fixture(scope="module")
def flowers(iris: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("iris") / "iris.joblib"
    joblib.dump(RandomForestClassifier(20, random_state=0).fit(iris.drop(columns="species"), iris["species"]), path)
    return path


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cancer") / "cancer.ubj"
    x, y = load_breast_cancer(return_X_y=True)
    xgboost.XGBClassifier(n_estimators=60, max_depth=4).fit(x, y).save_model(path)
    return path


def test_sample_target_and_score(flowers: Path, iris: pd.DataFrame, tmp_path: Path) -> None:
    report = convert(flowers, tmp_path / "b", sample=pa.Table.from_pandas(iris), target="species", trust=True)
    assert report.sample_rows == 150
    assert report.drawn_rows > 0
    assert report.original.startswith("scikit-learn")
    assert all(c.holds and c.flipped_labels == 0 for c in report.comparisons.values())
    assert report.score["accuracy"] > 0.99
    model = foretell.load(tmp_path / "b")
    original = joblib.load(flowers)
    rows = iris.drop(columns="species")
    found = model.predict(rows)
    assert found.labels.tolist() == original.predict(rows).tolist()
    np.testing.assert_allclose(found.probabilities, original.predict_proba(rows), atol=1e-6)


def test_a_bundle_holds_what_it_says(flowers: Path, iris: pd.DataFrame, tmp_path: Path) -> None:
    bundle = tmp_path / "b"
    convert(flowers, bundle, sample=pa.Table.from_pandas(iris), target="species", trust=True)
    files = {p.name for p in bundle.iterdir()}
    assert {"model.toml", "golden.jsonl", "proof.json", "SHA256SUMS", "model.onnx"} <= files
    assert not {f for f in files if f.endswith((".joblib", ".pkl"))}
    for line in (bundle / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    manifest = tomllib.loads((bundle / "model.toml").read_text())
    assert manifest["about"]["library"].startswith("scikit-learn")
    assert [f["name"] for f in manifest["signature"]["field"]] == list(iris.columns[:4])
    golden = [json.loads(line) for line in (bundle / "golden.jsonl").read_text().splitlines()]
    assert golden[0]["row"] == iris.drop(columns="species").iloc[0].to_dict()
    assert golden[0]["answer"]["label"] == "setosa"


def test_without_a_sample_rows_are_drawn(cancer: Path, tmp_path: Path) -> None:
    report = convert(cancer, tmp_path / "b")
    assert report.sample_rows == 0
    assert report.drawn_rows >= 1000
    assert {"model.onnx", "model.ubj"} == set(report.comparisons)
    assert set(report.speed_us_per_row) == {"original", *report.comparisons}


def test_every_runtime_gives_the_same_answers(cancer: Path, tmp_path: Path) -> None:
    convert(cancer, tmp_path / "b")
    x = load_breast_cancer().data
    model = foretell.load(tmp_path / "b")
    alone = np.concatenate([model.predict(row).probabilities for row in x[:200]])
    original = xgboost.XGBClassifier()
    original.load_model(cancer)
    np.testing.assert_allclose(alone, original.predict_proba(x[:200]), atol=1e-6)
    many = model.predict(np.tile(x, (20, 1)))
    np.testing.assert_allclose(many.probabilities[:200], alone, atol=1e-6)


def test_labels_are_named(cancer: Path, tmp_path: Path) -> None:
    convert(cancer, tmp_path / "b", labels=["malignant", "benign"])
    found = foretell.load(tmp_path / "b").predict(load_breast_cancer().data[:5])
    assert set(found.labels) <= {"malignant", "benign"}
    assert list(found.to_columns()) == ["prediction", "probability", "probability_malignant", "probability_benign"]
    with pytest.raises(ConfigError, match="got 3 names, expected 2"):
        convert(cancer, tmp_path / "c", labels=["a", "b", "c"])
    assert not (tmp_path / "c").exists()


class Liar:
    """An original that says something else of every tenth row."""

    def predict(self, rows: pa.Table) -> Answers:
        wrong = np.arange(rows.num_rows) % 10 == 0
        return Answers(np.where(wrong, 1, 0), np.stack([1.0 - wrong, wrong], axis=1))

    def time_s(self, rows: pa.Table) -> float:
        return 1.0

    def close(self) -> None:
        """Do nothing."""


def test_another_answer_is_refused_and_nothing_written(
    cancer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lied(*args: object, **kwargs: object) -> Opened:
        return replace(open_artifact(*args, **kwargs), reference=Liar())  # type: ignore[arg-type]

    monkeypatch.setattr(converting, "open_artifact", lied)
    with pytest.raises(ProofFailed, match=r"differs from the original in \d+ of 2000 rows"):
        convert(cancer, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_golden_examples_are_replayed(cancer: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "b"
    convert(cancer, bundle)
    golden = [json.loads(line) for line in (bundle / "golden.jsonl").read_text().splitlines()]
    golden[3]["answer"]["probabilities"] = [0.123, 0.877]
    (bundle / "golden.jsonl").write_text("".join(json.dumps(g) + "\n" for g in golden))
    names = sorted(p.name for p in bundle.iterdir() if p.name != "SHA256SUMS")
    sums = [f"{hashlib.sha256((bundle / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (bundle / "SHA256SUMS").write_text("".join(sums))
    with pytest.raises(ProofFailed, match="golden row 3"):
        foretell.load(bundle)


def test_a_pickle_needs_trust(flowers: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactUntrusted, match="--trust"):
        convert(flowers, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_sample_must_fit(flowers: Path, iris: pd.DataFrame, tmp_path: Path) -> None:
    short = pa.Table.from_pandas(iris.drop(columns="petal width (cm)"))
    with pytest.raises(InvalidInput, match=r"petal width \(cm\)"):
        convert(flowers, tmp_path / "b", sample=short, trust=True)
    with pytest.raises(ConfigError, match='--target "price"'):
        convert(flowers, tmp_path / "b", sample=pa.Table.from_pandas(iris), target="price", trust=True)


def test_a_large_table_is_the_same_as_its_rows(cancer: Path) -> None:
    x = np.tile(load_breast_cancer().data, (20, 1))
    with foretell.load(cancer, threads=2) as model:
        frame = pd.DataFrame(x, columns=[f.name for f in model.signature.fields])
        expected = model.predict(x).probabilities
        for data in (frame, pa.Table.from_pandas(frame), x.astype(np.float32)):
            np.testing.assert_array_equal(model.predict(data).probabilities, expected)
        frame.iloc[9000, 3] = np.inf
        with pytest.raises(InvalidInput, match="row 9000") as refused:
            model.predict(frame)
        assert refused.value.row == 9000


def test_no_rows_are_no_predictions(cancer: Path) -> None:
    found = foretell.load(cancer).predict(np.zeros((0, 30)))
    assert len(found) == 0
    assert found.to_arrow().num_rows == 0


def test_one_artifact_in_a_folder(cancer: Path) -> None:
    assert foretell.load(cancer.parent).info()["format"] == "xgboost"


def test_linear_model_with_numbers_as_labels(tmp_path: Path) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    joblib.dump(LogisticRegression(max_iter=10_000).fit(x, y), tmp_path / "l.joblib")
    with foretell.load(tmp_path / "l.joblib", trust=True) as model:
        assert model.predict(x).labels.tolist() == joblib.load(tmp_path / "l.joblib").predict(x).tolist()


def test_a_vectorizer_takes_a_column_of_texts(tmp_path: Path) -> None:
    words = ["good home", "bad home", "nice place", "awful place"]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(words, ["up", "down", "up", "down"])
    joblib.dump(model, tmp_path / "t.joblib")
    report = convert(tmp_path / "t.joblib", tmp_path / "b", sample=pa.table({"review": words}), trust=True)
    assert report.opened.runners[0].kind == "estimator"
    with pytest.raises(ArtifactUntrusted, match="--trust"):
        foretell.load(tmp_path / "b")
    with foretell.load(tmp_path / "b", trust=True) as loaded:
        found = loaded.predict([{"review": text} for text in words])
    assert found.labels.tolist() == ["up", "down", "up", "down"]
    np.testing.assert_allclose(found.probabilities, model.predict_proba(words), atol=1e-12)

"""The commands as a user types them: output columns, exit codes, one line for an error."""

import json
import subprocess
import sys
from pathlib import Path

import joblib
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression


def foretell(*arguments: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "foretell.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=120)


def refused(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Check that a command was refused as the contract says, and return its line."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models as joblib, their bundles, and rows."""
    folder = tmp_path_factory.mktemp("home")
    rows = load_iris(as_frame=True).data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    species = load_iris().target_names[load_iris().target]
    joblib.dump(LogisticRegression(max_iter=1000).fit(rows, species), folder / "species.joblib")
    joblib.dump(LinearRegression().fit(rows.iloc[:, :3], rows.iloc[:, 3]), folder / "width.joblib")
    rows.insert(0, "id", range(100, 250))
    rows.to_csv(folder / "rows.csv", index=False)
    rows.assign(species=species).to_csv(folder / "sample.csv", index=False)
    for name in ("species", "width"):
        done = foretell("convert", folder / f"{name}.joblib", "--trust", "-o", folder / name)
        assert done.returncode == 0, done.stderr
    return folder


def test_classification_columns(home: Path, tmp_path: Path) -> None:
    done = foretell("predict", home / "species", home / "rows.csv", "-o", tmp_path / "o.parquet", "--keep", "id")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    table = pq.read_table(tmp_path / "o.parquet")
    labels = ("setosa", "versicolor", "virginica")
    assert table.column_names == ["id", "prediction", "probability", *(f"probability_{label}" for label in labels)]
    expected = joblib.load(home / "species.joblib").predict(pd.read_csv(home / "rows.csv").iloc[:, 1:])
    assert table["prediction"].to_pylist() == expected.tolist()
    assert table["id"].to_pylist() == [str(i) for i in range(100, 250)]  # as it stands in the file


def test_regression_columns_on_stdout(home: Path) -> None:
    done = foretell("predict", home / "width", home / "rows.csv")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "prediction"
    assert len(lines) == 151


def test_stdin(home: Path) -> None:
    done = foretell("predict", home / "width", "-", stdin=(home / "rows.csv").read_text())
    assert done.stdout.count("\n") == 151


def test_verbose_says_what_was_ignored(home: Path) -> None:
    done = foretell("predict", home / "width", home / "rows.csv", "-v")
    assert '"id"' in done.stderr
    assert "onnxruntime" in done.stderr


def test_inspect_without_running(home: Path) -> None:
    done = foretell("inspect", home / "species.joblib", "--json")
    about = json.loads(done.stdout)["pickle"]
    assert about["class"].endswith("LogisticRegression")
    assert about["feature_names"] == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert about["classes"] == ["setosa", "versicolor", "virginica"]


def test_inspect_a_bundle(home: Path) -> None:
    facts = json.loads(foretell("inspect", home / "species", "--json").stdout)
    assert facts["task"]["classes"] == ["setosa", "versicolor", "virginica"]
    assert len(facts["signature"]["field"]) == 4
    assert facts["proof"]["comparisons"]["model.onnx"]["holds"]
    text = foretell("inspect", home / "species").stdout
    assert "petal_width  number" in text
    assert "into 3 classes: setosa, versicolor, virginica" in text


def test_bench(home: Path) -> None:
    found = json.loads(foretell("bench", home / "width", "--json").stdout)
    assert all(seconds > 0 for seconds in found["seconds_per_call"].values())


def test_convert_reports_the_proof(home: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("eins\nzwei\ndrei\n")
    done = foretell(
        "convert", home / "species.joblib", "--trust", "-o", tmp_path / "b", "--sample", home / "sample.csv",
        "--target", "species", "--labels", tmp_path / "names.txt",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "150 sample rows" in done.stdout
    assert "0 rows moved, 0 labels flipped" in done.stdout
    assert "accuracy 0.9" in done.stdout
    assert "landlock" in done.stdout or "none" in done.stdout
    assert "probability_drei" in foretell("predict", tmp_path / "b", home / "rows.csv").stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict"], "required"),
        (["predict", "{home}/nothing", "{home}/rows.csv"], "no such file"),
        (["predict", "{home}/width", "{home}/nothing.csv"], "no such file"),
        (["predict", "{home}/width", "{home}/rows.csv", "-o", "{tmp}/o.xlsx"], ".xlsx"),
        (["predict", "{home}/width", "{home}/rows.csv", "--threads", "0"], "expected 1 or more"),
        (["predict", "{home}/width", "{home}/rows.csv", "--keep", "nothing"], "nothing"),
        (["convert", "{home}/width.joblib", "--trust", "-o", "{home}/species"], "exists already"),
        (["convert", "{home}/width", "-o", "{tmp}/b"], "is a bundle already"),
        (["frobnicate"], "invalid choice"),
    ],
)
def test_wrong_use_is_2(home: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    assert says in refused(foretell(*(a.format(home=home, tmp=tmp_path) for a in arguments)), 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sepal_length,sepal_width\n1,2\n", '"petal_length"'),
        ("sepal_length,sepal_width,petal_length\n1,2,3\n4,abc,6\n", 'line 3: column "sepal_width": got "abc"'),
        ("sepal_length,sepal_width,petal_length\n1,2,inf\n", '"petal_length"'),
        ("sepal_length,sepal_width,petal_length\n1,2,\n", '"petal_length"'),
        ("", "empty"),
    ],
)
def test_wrong_data_is_3(home: Path, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    done = foretell("predict", home / "width", tmp_path / "bad.csv", "-o", tmp_path / "o.csv")
    assert says in refused(done, 3)
    assert [p.name for p in tmp_path.iterdir()] == ["bad.csv"]


def test_a_refused_model_is_4(home: Path, tmp_path: Path) -> None:
    assert "--trust" in refused(foretell("predict", home / "width.joblib", home / "rows.csv"), 4)
    assert "--trust" in refused(foretell("convert", home / "width.joblib", "-o", tmp_path / "b"), 4)
    (tmp_path / "model.onnx").write_text("this is text")
    assert '"model.onnx"' in refused(foretell("predict", tmp_path / "model.onnx", home / "rows.csv"), 4)


def test_a_trusted_pickle_predicts_without_a_bundle(home: Path) -> None:
    done = foretell("predict", home / "width.joblib", home / "rows.csv", "--trust")
    assert done.stdout == foretell("predict", home / "width", home / "rows.csv").stdout


def test_a_full_disk_is_5(home: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = [sys.executable, "-m", "foretell.cli.main", "predict", str(home / "width"), str(home / "rows.csv")]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 5, done.stderr
    assert done.stderr.count("\n") == 1

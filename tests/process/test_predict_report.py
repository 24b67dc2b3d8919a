"""`foretell predict` as a user types it, with a real model: bad rows, the summary, `--json`, `--dry-run`."""

import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

COMMAND = [sys.executable, "-m", "foretell.cli.main"]


def foretell(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of people in three cities, 3,000 rows, and the same rows with four bad ones among them."""
    folder = tmp_path_factory.mktemp("home")
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "age": rng.integers(18, 90, 3000),
            "income": rng.lognormal(10, 0.6, 3000).round(2),
            "city": rng.choice(["Bonn", "Köln", "Ulm"], 3000),
        }
    )
    prepare = make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["age", "income"]))
    buys = np.where(rows.income > 25_000, "yes", "no")
    joblib.dump(make_pipeline(prepare, LogisticRegression()).fit(rows, buys), folder / "buys.joblib")
    joblib.dump(make_pipeline(prepare, Ridge()).fit(rows, rows.income * 2 + rows.age), folder / "spends.joblib")
    rows.head(100).to_csv(folder / "sample.csv", index=False)
    for name in ("buys", "spends"):
        done = foretell(
            "convert", folder / f"{name}.joblib", "--sample", folder / "sample.csv", "--trust", "-o", folder / name
        )
        assert done.returncode == 0, done.stderr
    rows.to_csv(folder / "rows.csv", index=False)
    lines = (folder / "rows.csv").read_text().splitlines(keepends=True)
    bad = ["forty,1.0,Bonn\n", "40,1.0,Berlin\n", "40,,Bonn\n", "40,1.0\n"]
    (folder / "bad.csv").write_text("".join([*lines[:1000], *bad[:2], *lines[1000:2000], *bad[2:], *lines[2000:]]))
    return folder


@pytest.mark.parametrize("name", ["buys", "spends"])
def test_bad_rows_are_quarantined_and_the_others_answered_as_without_them(
    home: Path, tmp_path: Path, name: str
) -> None:
    quarantine = tmp_path / "bad.jsonl"
    done = foretell(
        *("predict", home / name, home / "bad.csv", "-o", tmp_path / "o.csv", "--keep", "city"),
        *("--on-error", f"quarantine={quarantine}"),
    )
    assert done.returncode == 0
    assert done.stderr == f'foretell: 4 of 3,004 rows got no answer; they are in "{quarantine}"\n'
    clean = foretell("predict", home / name, home / "rows.csv", "-o", tmp_path / "c.csv", "--keep", "city")
    assert clean.returncode == 0, clean.stderr
    assert (tmp_path / "o.csv").read_bytes() == (tmp_path / "c.csv").read_bytes()
    found = [json.loads(line) for line in quarantine.read_text().splitlines()]
    assert [(b["line"], b["column"], b["text"]) for b in found] == [
        (1001, "age", "forty,1.0,Bonn"),
        (1002, "city", "40,1.0,Berlin"),
        (2003, "income", "40,,Bonn"),
        (2004, None, "40,1.0"),
    ]
    assert {b["file"] for b in found} == {str(home / "bad.csv")}
    assert found[1]["reason"] == (
        'got "Berlin", expected one of "Bonn", "Köln", "Ulm"; the model takes no other category'
    )


def test_without_the_option_the_first_bad_row_ends_it(home: Path, tmp_path: Path) -> None:
    done = foretell("predict", home / "buys", home / "bad.csv", "-o", tmp_path / "o.csv")
    assert done.returncode == 3
    assert done.stderr.startswith("foretell: bad.csv line ")
    assert not (tmp_path / "o.csv").exists()


def test_a_machine_gets_one_object(home: Path, tmp_path: Path) -> None:
    done = foretell(
        "predict", home / "buys", home / "bad.csv", "-o", tmp_path / "o.csv", "--on-error", "skip", "--json"
    )
    found = json.loads(done.stdout)
    assert done.stdout.count("\n") == 1
    assert (found["rows"], found["rows_read"], found["errors"], found["files"]) == (3000, 3004, 4, 1)
    answers = pd.read_csv(tmp_path / "o.csv")["prediction"].value_counts()
    assert found["predictions"] == {"prediction": {"labels": answers.to_dict()}}
    assert found["processor_s"]["predict"] > 0


def test_the_distribution_of_numbers_is_that_of_the_output(home: Path, tmp_path: Path) -> None:
    done = foretell("predict", home / "spends", home / "rows.csv", "-o", tmp_path / "o.csv", "--json")
    told = json.loads(done.stdout)["predictions"]["prediction"]
    answers = pd.read_csv(tmp_path / "o.csv")["prediction"]
    assert (told["count"], told["missing"]) == (3000, 0)
    assert told["min"] == pytest.approx(answers.min())
    assert told["max"] == pytest.approx(answers.max())
    assert told["mean"] == pytest.approx(answers.mean(), rel=1e-5)
    for share, value in told["quantiles"].items():
        assert value == pytest.approx(answers.quantile(float(share)), rel=0.02)


def test_a_person_gets_a_summary_and_a_bar(home: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 120))  # nothing fits into a window of no width
    command = [*COMMAND, "predict", home / "buys", home / "bad.csv", "-o", tmp_path / "o.csv", "--on-error", "skip"]
    child = subprocess.Popen([*map(str, command)], stderr=theirs, stdout=subprocess.PIPE)
    os.close(theirs)
    said = b""
    while True:
        try:
            more = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not more:
            break
        said += more
    os.close(ours)
    assert child.communicate() == (b"", None)
    assert child.returncode == 0
    shown = said.decode()
    assert "predict:" in shown
    assert "3,000 rows of 1 file" in shown
    assert "4 of 3,004 rows got no answer; they were skipped" in shown
    assert "processor time: read" in shown
    assert "  no " in shown


def test_a_dry_run_writes_nothing(home: Path, tmp_path: Path) -> None:
    done = foretell("predict", home / "buys", home / "rows.csv", "-o", tmp_path / "o.parquet", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines()[:-1])
    assert lines["uses"] == "age, income, city"
    assert lines["writes"] == (f"{tmp_path}/o.parquet, with prediction, probability, probability_no, probability_yes")
    assert "3,000 rows" in lines["reads"]
    assert "by 3,000 rows answered now" in lines["takes"]
    told = foretell("predict", home / "buys", home / "rows.csv", "-o", tmp_path / "o.parquet", "--dry-run", "--json")
    assert json.loads(told.stdout)["rows"] == 3000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--on-error", "ignore"], "expected fail, skip or quarantine=FILE"),
        (["--on-error", "quarantine="], "expected fail, skip or quarantine=FILE"),
        (["--json"], "name a file for them with -o"),
        (["--dry-run"], "name a file for them with -o"),
        (["-o", "o.csv", "--on-error", "quarantine=bad.xlsx"], "the ending says the format"),
    ],
)
def test_wrong_use(home: Path, options: list[str], problem: str) -> None:
    done = foretell("predict", home / "buys", home / "rows.csv", *options)
    assert done.returncode == 2
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1

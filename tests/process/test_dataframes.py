"""The examples of dataframe libraries run on real homes, and give the prices that `foretell predict` gives."""

import re
import subprocess
import sys

import pandas as pd
import pytest
from tests.process.homes import EXAMPLES, make_homes, prices

PAGE = EXAMPLES.parent / "docs" / "dataframes.md"
LIBRARIES = ["pandas", "polars", "spark", "ray"]


@pytest.fixture(scope="module")
def homes(tmp_path_factory):
    return make_homes(tmp_path_factory.mktemp("homes"))


def run(library, homes, out):
    script = EXAMPLES / "dataframes" / f"score_{library}.py"
    done = subprocess.run(
        [sys.executable, script, homes / "ames", homes / "homes.csv", out], capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("pandas", "o.csv"),
        ("polars", "o.parquet"),
        pytest.param("spark", "o", marks=pytest.mark.ray),
        pytest.param("ray", "o", marks=pytest.mark.ray),
    ],
)
def test_the_prices_are_those_of_the_command(homes, tmp_path, library, name):
    if library in ("spark", "ray"):
        pytest.importorskip(f"py{library}" if library == "spark" else library, reason="scripts/test --ray")
    run(library, homes, tmp_path / name)
    found = (pd.read_csv if name.endswith(".csv") else pd.read_parquet)(tmp_path / name)
    assert list(found.columns) == ["Id", "prediction"]
    assert dict(zip(found["Id"], found["prediction"], strict=True)) == prices(homes)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_page_shows_the_script(library):
    """All but how it is called and where its imports come from."""
    script = (EXAMPLES / "dataframes" / f"score_{library}.py").read_text()
    body = script.split("sys.argv[1:]\n")[1].strip()
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert any(body in block for block in blocks), f"docs/dataframes.md does not show score_{library}.py"

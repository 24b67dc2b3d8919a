"""Real homes, and a light model of their prices as a bundle, for tests of dataframe libraries."""

from pathlib import Path

import joblib
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from sklearn.compose import make_column_transformer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from foretell.bulk.job import predict_files
from foretell.model.convert import convert
from foretell.model.load import load

EXAMPLES = Path(__file__).parents[2] / "examples"
NUMBERS = ["Gr_Liv_Area", "Lot_Area", "Year_Built", "Bedroom_AbvGr"]
WORDS = ["Neighborhood", "House_Style", "Central_Air", "Alley"]


def make_homes(out):
    """Write `homes.csv` and the bundle `ames`; return the folder."""
    homes = pd.read_csv(EXAMPLES / "ames" / "ames.csv")
    words = OneHotEncoder(handle_unknown="ignore")
    prepare = make_column_transformer(("passthrough", NUMBERS), (words, WORDS))
    model = make_pipeline(prepare, GradientBoostingRegressor(n_estimators=20, random_state=0))
    model.fit(homes[NUMBERS + WORDS], homes["Sale_Price"])
    joblib.dump(model, out / "ames.joblib")
    homes.drop(columns="Sale_Price").to_csv(out / "homes.csv", index=False)
    sample = pa.Table.from_pandas(homes[:300], preserve_index=False)
    convert(out / "ames.joblib", out / "ames", sample=sample, target="Sale_Price", trust=True)
    return out


def prices(out):
    """Return what `foretell predict` says: prices by Id."""
    with load(out / "ames") as model:
        predict_files(model, [str(out / "homes.csv")], str(out / "prices.parquet"), keep=["Id"])
    found = pa.parquet.read_table(out / "prices.parquet")
    return dict(zip(map(int, found["Id"].to_pylist()), found["prediction"].to_pylist(), strict=True))

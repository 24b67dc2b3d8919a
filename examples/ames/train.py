"""Train a pipeline on the homes sold in Ames, as a data scientist would: train.py OUT.

Writes OUT/ames.joblib, OUT/homes.csv (the sales it was trained on), OUT/new_homes.csv (homes it has not
seen, without their prices) and OUT/sold.csv (what those sold for).
"""

import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def main(out: Path) -> None:
    homes = pd.read_csv(Path(__file__).with_name("ames.csv"))
    seen, new = train_test_split(homes, test_size=0.2, random_state=0)
    features, price = seen.drop(columns=["Id", "Sale_Price"]), seen["Sale_Price"]
    numbers = make_column_selector(dtype_include=np.number)
    words = make_column_selector(dtype_exclude=np.number)
    prepare = ColumnTransformer(
        [
            ("numbers", SimpleImputer(strategy="median"), numbers),
            (
                "words",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="none"),
                    OneHotEncoder(handle_unknown="ignore", min_frequency=5),
                ),
                words,
            ),
        ]
    )
    model = make_pipeline(
        prepare,
        GradientBoostingRegressor(n_estimators=400, max_depth=4, learning_rate=0.05, subsample=0.8, random_state=0),
    )
    model.fit(features, price)
    out.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out / "ames.joblib")
    seen.to_csv(out / "homes.csv", index=False)
    new.drop(columns="Sale_Price").to_csv(out / "new_homes.csv", index=False)
    new[["Id", "Sale_Price"]].to_csv(out / "sold.csv", index=False)
    print(f"trained on {len(seen):,} sales of homes with {features.shape[1]} features; {len(new):,} homes kept aside")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""Train on the first day, choose the threshold on the first day, keep the last day for later: train.py OUT.

Reads OUT/creditcard.csv. Writes OUT/fraud.ubj (XGBoost), OUT/labels.txt, OUT/first_day.csv (what it was trained on),
OUT/last_day.csv (payments the model has not seen, with what XGBoost itself says of them) and OUT/threshold.txt.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from xgboost import XGBClassifier

DAY = 24 * 3600
BLOCK = 6 * 3600
PRECISION = 0.9
"""Of ten alerts, nine should be frauds: the threshold is the lowest that kept this on the first day."""
LABELS = ["genuine", "fraud"]


def main(out: Path) -> None:
    payments = pd.read_csv(out / "creditcard.csv")
    # "Time" counts seconds from the first payment: it would say which day it is, not whether it is fraud.
    features = [name for name in payments.columns if name not in ("Time", "Class")]
    first, last = payments[payments["Time"] < DAY], payments[payments["Time"] >= DAY].copy()

    threshold = choose_threshold(first, features)
    model = train(first, features)
    last["xgboost"] = model.predict_proba(last[features])[:, 1]

    model.save_model(out / "fraud.ubj")
    (out / "labels.txt").write_text("\n".join(LABELS))
    (out / "threshold.txt").write_text(f"{threshold}\n")
    first.assign(Class=first["Class"].map(dict(enumerate(LABELS)))).to_csv(out / "first_day.csv", index=False)
    last.to_csv(out / "last_day.csv", index=False)
    print(
        f"trained on the first day: {len(first):,} payments, {first['Class'].sum()} frauds; threshold {threshold:.3f}"
    )


def train(payments: pd.DataFrame, features: list[str]) -> XGBClassifier:
    # One thread: so few trees take seconds, and the result is the same on every machine.
    model = XGBClassifier(
        n_estimators=200, max_depth=4, learning_rate=0.1, subsample=0.8, colsample_bytree=0.5, random_state=0, n_jobs=1
    )
    return model.fit(payments[features], payments["Class"])


def choose_threshold(payments: pd.DataFrame, features: list[str]) -> float:
    """Return the lowest score from which on nine in ten of the first day's alerts would have been frauds.

    Every block of six hours is scored by a model that was trained on the other blocks, so no payment is scored by
    a model that knows its answer. Blocks of time, not random rows: frauds come in bursts of near copies.
    """
    scores = np.empty(len(payments))
    block = (payments["Time"] // BLOCK).to_numpy()
    for each in np.unique(block):
        held_out = block == each
        scores[held_out] = train(payments[~held_out], features).predict_proba(payments.loc[held_out, features])[:, 1]
    return lowest_with_precision(scores, payments["Class"].to_numpy(), PRECISION)


def lowest_with_precision(scores: np.ndarray, is_fraud: np.ndarray, precision: float) -> float:
    """Return the lowest score s such that of all payments with a score of at least s this share is fraud."""
    order = np.argsort(-scores)
    scores, frauds = scores[order], np.cumsum(is_fraud[order])
    # Where scores are equal, all of them are alerts or none: only the last one of them can be the threshold.
    is_last = np.append(scores[:-1] != scores[1:], True)
    kept = np.flatnonzero(is_last & (frauds >= precision * np.arange(1, len(scores) + 1)))
    if not len(kept):
        sys.exit(f"no threshold has a precision of {precision} on these payments")
    return float(scores[kept[-1]])


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""One row, in process: what a prediction costs beyond the runtime, and beside the original library.

python benchmarks/one_row.py
"""

import sys

import joblib
import models
import numpy as np
import pandas as pd
from common import heading, in_turn, median, ratio, session, thirty_floats, verdict

import foretell


def gbdt() -> bool:
    """A 30-float GBDT row beside `session.run` of the same graph on a ready array."""
    case = models.xgboost()
    model = foretell.load(case.path)
    row = thirty_floats()[0][:1]
    runner = model._opened.runners[0]
    run, name = session(runner.content, 1), model.signature.inputs[0].name
    np.testing.assert_allclose(model.predict(row).probabilities[:, 1], case.original(row), atol=1e-6)
    taken = in_turn({"session.run": lambda: run.run(None, {name: row}), "foretell": lambda: model.predict(row)})
    floor, ours = median(taken["session.run"]), median(taken["foretell"])
    print(f"session.run {floor * 1e6:.1f} us, model.predict {ours * 1e6:.1f} us")
    return verdict("microseconds over session.run", (ours - floor) * 1e6, 15, at_most=True)


def forest() -> bool:
    """A forest of 100 trees beside scikit-learn's own predict_proba."""
    case = models.forest()
    model = foretell.load(case.path, trust=True)
    row = thirty_floats()[0][:1]
    np.testing.assert_allclose(model.predict(row).probabilities[:, 1], case.original(row), atol=1e-5)
    calls = {"scikit-learn": lambda: case.original(row), "foretell": lambda: model.predict(row)}
    taken = in_turn(calls, at_least_s=0.2)
    theirs, ours = median(taken["scikit-learn"]), median(taken["foretell"])
    print(f"predict_proba {theirs * 1e6:,.0f} us, foretell {ours * 1e6:.1f} us")
    return verdict("times scikit-learn's predict_proba", ratio(taken["scikit-learn"], taken["foretell"]), 200)


def ames() -> bool:
    """An Ames row given as a dict beside the fitted pipeline on a one-row DataFrame made from the same dict."""
    path = models.ames()
    pipeline = joblib.load(path)
    model = foretell.load(path, trust=True)
    homes = pd.read_csv(path.with_name("new_homes.csv"))
    row = {k: None if v != v else v for k, v in homes.iloc[0].items()}
    np.testing.assert_allclose(model.predict(row).values, pipeline.predict(homes[:1]), rtol=1e-5)
    calls = {"pipeline": lambda: pipeline.predict(pd.DataFrame([row])), "foretell": lambda: model.predict(row)}
    taken = in_turn(calls, at_least_s=0.2)
    theirs, ours = median(taken["pipeline"]), median(taken["foretell"])
    print(f"pipeline.predict {theirs * 1e6:,.0f} us, foretell {ours * 1e6:.1f} us")
    return verdict("times the pipeline's predict", ratio(taken["pipeline"], taken["foretell"]), 20)


if __name__ == "__main__":
    heading("One row, in process")
    sys.exit(not all([gbdt(), forest(), ames()]))

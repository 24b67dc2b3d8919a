"""The models of the benchmarks, trained and saved once, each with its original."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import CORES, saved, thirty_floats


@dataclass(frozen=True)
class Case:
    """A trained model on disk, the original to ask, and its graph as the public converters make it."""

    name: str
    path: Path
    original: Callable[[np.ndarray], np.ndarray]
    """Probabilities of the second class, in the original library with all cores."""
    graph: Callable[[], bytes] | None
    """The ONNX file that skl2onnx, onnxmltools or the library itself writes; None where they cannot."""


def cases() -> list[Case]:
    return [forest(), boosted(), logistic(), xgboost(), lightgbm(), catboost()]


def _estimator(name: str, make: Callable[[], Any]) -> tuple[Path, Any]:
    import joblib

    path = saved(f"{name}.joblib", lambda p: joblib.dump(make().fit(*thirty_floats()), p))
    return path, joblib.load(path)


def _sklearn(name: str, make: Callable[[], Any]) -> Case:
    path, model = _estimator(name, make)

    def graph() -> bytes:
        from skl2onnx import to_onnx

        x, _ = thirty_floats()
        return to_onnx(model, x[:1], options={"zipmap": False}).SerializeToString()

    return Case(name, path, lambda x: model.predict_proba(x)[:, 1], graph)


def forest() -> Case:
    from sklearn.ensemble import RandomForestClassifier

    return _sklearn("forest", lambda: RandomForestClassifier(100, n_jobs=CORES, random_state=0))


def boosted() -> Case:
    from sklearn.ensemble import HistGradientBoostingClassifier

    case = _sklearn("boosted", lambda: HistGradientBoostingClassifier(max_iter=200, random_state=0))
    return Case(case.name, case.path, case.original, None)  # skl2onnx 1.20 fails on its numpy integers


def logistic() -> Case:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _sklearn("logistic", lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)))


def xgboost() -> Case:
    import onnxmltools
    import xgboost as xgb
    from onnxmltools.convert.common.data_types import FloatTensorType

    def make(path: Path) -> None:
        xgb.XGBClassifier(n_estimators=300, max_depth=6).fit(*thirty_floats()).save_model(path)

    path = saved("xgboost.json", make)
    model = xgb.XGBClassifier()
    model.load_model(path)
    booster = model.get_booster()
    booster.set_param({"nthread": CORES})

    def graph() -> bytes:
        kinds = [("input", FloatTensorType([None, 30]))]
        return onnxmltools.convert_xgboost(model, initial_types=kinds, target_opset=15).SerializeToString()

    return Case("xgboost", path, booster.inplace_predict, graph)


def lightgbm() -> Case:
    import lightgbm as lgb
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    def make(path: Path) -> None:
        lgb.LGBMClassifier(n_estimators=300, verbose=-1).fit(*thirty_floats()).booster_.save_model(path)

    path = saved("lightgbm.txt", make)
    booster = lgb.Booster(model_file=str(path))

    def graph() -> bytes:
        kinds = [("input", FloatTensorType([None, 30]))]
        return onnxmltools.convert_lightgbm(
            booster, initial_types=kinds, target_opset=15, zipmap=False
        ).SerializeToString()

    return Case("lightgbm", path, lambda x: booster.predict(x, num_threads=CORES), graph)


def catboost() -> Case:
    import catboost as cb

    def make(path: Path) -> None:
        cb.CatBoostClassifier(iterations=500, verbose=False, allow_writing_files=False).fit(
            *thirty_floats()
        ).save_model(str(path))

    path = saved("catboost.cbm", make)
    model = cb.CatBoostClassifier().load_model(str(path))

    def graph() -> bytes:
        written = saved("catboost.onnx", lambda p: model.save_model(str(p), format="onnx"))
        return written.read_bytes()

    return Case("catboost", path, lambda x: model.predict_proba(x)[:, 1], graph)


def ames() -> Path:
    """Return the fitted pipeline of examples/ames; homes.csv and new_homes.csv lie beside it."""
    return saved("ames.joblib", _train_ames)


def _train_ames(path: Path) -> None:
    sys.path.insert(0, str(path.parents[2] / "examples" / "ames"))
    import train

    train.main(path.parent)

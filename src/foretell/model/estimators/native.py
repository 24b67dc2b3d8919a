"""Models of boosting libraries inside estimators: their own bytes, which their own formats read.

Nothing here parses: XGBoost, LightGBM and CatBoost write, and Foretell's readers of their files read.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["library_of", "native_bytes", "native_model"]

_WRAPPERS = {
    "xgboost": ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor", "Booster"),
    "lightgbm": ("LGBMClassifier", "LGBMRegressor", "LGBMRanker", "Booster"),
    "catboost": ("CatBoostClassifier", "CatBoostRegressor", "CatBoostRanker", "CatBoost"),
}


def library_of(estimator: Any) -> str | None:
    """Return the library whose model an estimator is, or None. Subclasses of a user's own do not count."""
    kind = type(estimator)
    package = kind.__module__.partition(".")[0]
    return package if kind.__name__ in _WRAPPERS.get(package, ()) else None


def native_model(estimator: Any) -> tuple[str, bytes, list[Any] | None] | None:
    """Return library, file and classes of a bare model of a boosting library; None for all else."""
    library = library_of(estimator)
    if library is None:
        return None
    if library == "xgboost" and not _is_nan(getattr(estimator, "missing", None)):
        return None  # its file does not say which value stands for missing
    classes = getattr(estimator, "classes_", None)
    plain = None if classes is None or np.ndim(classes) != 1 or not len(classes) else np.asarray(classes).tolist()
    return library, native_bytes(estimator, library), plain


def native_bytes(estimator: Any, library: str) -> bytes:
    """Return the model as a file of its library."""
    if library == "xgboost":
        booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
        return bytes(booster.save_raw("ubj"))
    if library == "lightgbm":
        booster = getattr(estimator, "booster_", estimator)
        return str(booster.model_to_string()).encode()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.json")
        try:
            estimator.save_model(str(file), format="json")
        except Exception:  # noqa: BLE001 - the library has no JSON for texts and embeddings
            return bytes(estimator._serialize_model())
        return file.read_bytes()


def _is_nan(value: Any) -> bool:
    return value is None or value != value

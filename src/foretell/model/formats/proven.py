"""Prove a library's model file before that library reads it.

XGBoost and LightGBM believe the indices in a file, and CatBoost may crash on one; a file that comes with a
bundle is as little to be trusted as a bare one. Knows no signature and no task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from foretell.errors import ArtifactInvalid
from foretell.model.formats.catboost import cbm_to_json
from foretell.model.runtimes import Runner
from foretell.model.trees import catboost, lightgbm, xgboost

__all__ = ["prove_runner"]

_READERS: Mapping[str, Callable[[bytes], Any]] = {
    "xgboost": xgboost.read,
    "lightgbm": lightgbm.read,
    "catboost": lambda content: catboost.read(cbm_to_json(content) if content.startswith(b"CBM1") else content),
}


def prove_runner(runner: Runner) -> None:
    """Read the file of a runner with our own reader, if its runtime is a boosting library; nothing for others.

    Raises:
        ArtifactInvalid: The file is damaged, or made to hurt.
        RuntimeMissing: It is a `.cbm` and catboost is not installed.
    """
    read = _READERS.get(runner.kind)
    if read is None:
        return
    try:
        read(runner.content)
    except ArtifactInvalid as error:
        raise ArtifactInvalid(f"{runner.file}: {error}") from error

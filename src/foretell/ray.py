"""A model for a Ray Data pipeline: `ds.map_batches(foretell.ray.predictor("ames/"), ...)`.

The model's files go with the pipeline: a node needs foretell, no file of the machine that drives it.
Ray itself is imported where it is needed only.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from foretell.bulk.columns import Keep
from foretell.bulk.frames import OnBadRow, predict_frame
from foretell.bulk.shipped import Shipped, ship

__all__ = ["predictor"]

_MOST_IN_CLASS_BYTES = 1 << 24
"""Larger models are put into Ray's object store, once, instead of going along with the class."""


def predictor(
    model: str | Path, *, keep: Keep = (), on_error: OnBadRow = "fail", trust: bool = False
) -> type[Callable[[Any], Any]]:
    """Return a class for `Dataset.map_batches`: each actor loads the model once and predicts batch after batch.

        ds.map_batches(predictor("ames/"), compute=ray.data.ActorPoolStrategy(size=2), batch_format="pyarrow")

    Args:
        model: A bundle, a folder that holds one artifact, or an artifact. It is read now.
        keep: Names of columns to put before the predictions, or "all".
        on_error: What becomes of a bad row. "fail": it ends the pipeline. "skip": it is left out. "mark": it stays,
            without an answer, and a column `error` says why; it is null for the other rows.
        trust: Whether a file that may run code may be opened by the actors, boxed in.

    Returns:
        A class whose objects turn a batch of any `batch_format` into one of the same kind: the kept columns, then the
        output columns as `foretell predict` writes them, with the answers that it has for a block of these rows, bit
        for bit. A model of pictures takes them from the column "image", "bytes" or "path". An object predicts in the
        thread that calls it.

        With "fail" a bad row raises `InvalidInput` in the actor: the message names column, row and value, its `row`
        counts from the first one of the batch. Ray Data ends the pipeline then, with that message.

    Raises:
        ConfigError: There is no such model.
        LoadError: It cannot be opened.
    """
    shipped = _stored(ship(model, trust=trust))

    class Predictor:
        def __init__(self) -> None:
            self._model = _fetched(shipped).load()

        def __call__(self, batch: Any) -> Any:
            return predict_frame(self._model, batch, keep, on_error)

    return Predictor


def _stored(shipped: Shipped) -> Any:
    if shipped.size_bytes <= _MOST_IN_CLASS_BYTES:
        return shipped
    import ray

    return ray.put(shipped)


def _fetched(stored: Any) -> Shipped:
    if isinstance(stored, Shipped):
        return stored
    import ray

    found: Shipped = ray.get(stored)
    return found

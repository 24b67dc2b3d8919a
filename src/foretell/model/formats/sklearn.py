"""scikit-learn: a pickle, a joblib or a skops file, opened only in a boxed-in child process.

The parent, here, sends the bytes that were judged and gets back a signature, a task and graphs; it never
unpickles. Knows how to ask the child, and nothing of estimators.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.errors import ArtifactInvalid, ArtifactUntrusted, InternalError, LoadError
from foretell.model.artifact import Artifact, judge_bytes, read_bytes, refuse_pickle
from foretell.model.describe import read_signature, read_task
from foretell.model.formats.base import Answers, Opened
from foretell.model.runtimes import LONG_CHUNK_ROWS, Runner
from foretell.model.runtimes.boxed import Boxed
from foretell.model.runtimes.frames import pack_table, unpack_array
from foretell.model.trees.graph import BULK_ROWS
from foretell.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EstimatorReference", "open_model"]

_CACHE_BYTES = 2 << 20


class EstimatorReference:
    """The original estimator, in its process. See `Reference`."""

    def __init__(self, boxed: Boxed) -> None:
        self._boxed = boxed

    def predict(self, rows: pa.Table) -> Answers:
        """Answer rows; see `Reference.predict`."""
        _, contents = self._boxed.ask({"command": "predict"}, [pack_table(rows)], doing="predicting")
        arrays = [unpack_array(c) for c in contents]
        if len(arrays) not in (1, 2) or any(len(a) != rows.num_rows for a in arrays):
            raise ArtifactInvalid(f'"{self._boxed.subject}": the original did not answer {rows.num_rows} rows')
        return Answers(*arrays)

    def time_s(self, rows: pa.Table) -> float:
        """Time it; see `Reference.time_s`."""
        answer, _ = self._boxed.ask({"command": "time"}, [pack_table(rows)], doing="predicting")
        seconds = answer.get("seconds")
        if not isinstance(seconds, float) or not seconds > 0:
            raise ArtifactInvalid(f'"{self._boxed.subject}": the original took {seconds!r} seconds')
        return seconds

    def close(self) -> None:
        """End its process."""
        self._boxed.close()


def open_model(path: Path, *, trust: bool = False, sample: pa.Table | None = None) -> Opened:
    """Open a pickled or skops estimator in a boxed-in child process.

    Args:
        path: The file.
        trust: Whether it may run code, inside the box. A skops file that names no unknown type needs no trust.
        sample: Rows like those of training: kinds and ranges of columns, and more rows for the check of the graph.

    Raises:
        ArtifactUntrusted: It may run code, and `trust` is not given. Nothing of it was run.
        ArtifactInvalid: It is damaged, or holds no estimator.
        RuntimeMissing: A module that it needs is not installed.
        LoadError: It cannot be constructed, or its process died.
    """
    artifact = judge_bytes(path, read_bytes(path))
    if artifact.format == "pickle" and not trust:
        raise refuse_pickle(artifact)
    if artifact.format not in ("pickle", "skops"):
        raise InternalError(f'"{path.name}": a {artifact.format} file was given to scikit-learn. This is a bug.')
    boxed = Boxed(path.name)
    try:
        opened = _opened(boxed, artifact, trust, sample)
    except BaseException:
        boxed.close()
        raise
    if not isinstance(opened.reference, EstimatorReference):
        boxed.close()
    return opened


def _opened(boxed: Boxed, artifact: Artifact, trust: bool, sample: pa.Table | None) -> Opened:
    payloads = [artifact.content] + ([pack_table(sample)] if sample is not None else [])
    header = {"command": "open", "kind": artifact.format, "trust": trust}
    answer, contents = boxed.ask(header, payloads, doing="opening it")
    try:
        if "native" in answer:
            return _native(artifact, answer, contents)
        return _described(boxed, artifact, trust, answer, contents)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ArtifactInvalid(f'"{artifact.path.name}": its process did not describe it as agreed: {error}') from error


def _described(boxed: Boxed, artifact: Artifact, trust: bool, answer: dict[str, Any], contents: list[bytes]) -> Opened:
    if artifact.format == "skops" and not trust and not answer["graphs"]:
        raise ArtifactUntrusted(
            f'"{artifact.path.name}": it has no graph, so the estimator itself must run wherever it is served; '
            "pass --trust (trust=True in Python) if you made it yourself"
        )
    signature = read_signature(answer["signature"])
    if answer["graphs"]:
        graphs = zip(answer["graphs"], contents, strict=True)
        first, *bulk = [
            Runner("onnxruntime", name, content, chunk_rows=_chunk_rows(signature)) for name, content in graphs
        ]
        runners = (first, *(replace(runner, rows_from=BULK_ROWS) for runner in bulk))
    else:
        file = "estimator.skops" if artifact.format == "skops" else "estimator.joblib"
        fields = {"kind": artifact.format}
        runners = (Runner("estimator", file, artifact.content, options=fields, trusted=trust),)
    return Opened(
        "scikit-learn",
        signature,
        read_task(answer["task"]),
        runners,
        dict(answer["about"]),
        tuple(map(str, answer["notes"])),
        EstimatorReference(boxed),
    )


def _native(artifact: Artifact, answer: dict[str, Any], contents: list[bytes]) -> Opened:
    """Open the model of a boosting library that was inside, by the format of that library."""
    from dataclasses import replace

    from foretell.model.formats import catboost, lightgbm, xgboost

    openers = {"xgboost": xgboost.open_model, "lightgbm": lightgbm.open_model, "catboost": catboost.open_model}
    classes = answer["classes"]
    if answer["native"] not in openers or not (classes is None or isinstance(classes, list)):
        raise LoadError(f'"{artifact.path.name}": holds a model of "{answer["native"]}"')
    opened = openers[answer["native"]](artifact.path.name, contents[0], classes=classes)
    about = {**opened.about, "estimator": answer["about"]["estimator"], "box": answer["about"]["box"]}
    return replace(opened, about=about)


def _chunk_rows(signature: Signature) -> int:
    """Return how many rows of the widest matrix that a graph may make of a row fit in a processor's cache.

    A bare forest reads float32 rows as they come; before other models each category may become a column.
    """
    if signature.inputs[0].datatype == "FP32":
        return LONG_CHUNK_ROWS
    width = sum(len(field.categories) or 1 for field in signature.fields)
    return max(512, min(LONG_CHUNK_ROWS, _CACHE_BYTES // (8 * width)))

"""From a path to a loaded model: judge the file, open it by its format, replay its golden examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.dtypes import dtype_of
from foretell.errors import ConfigError, InternalError, ProofFailed, RuntimeMissing
from foretell.model.artifact import Artifact, judge
from foretell.model.bundle import Bundle, Golden, read_bundle
from foretell.model.formats.base import Answers, Opened
from foretell.model.model import Model
from foretell.model.picture_golden import replay_pictures
from foretell.model.proof import Tolerance, compare
from foretell.model.tasks.predictions import Predictions
from foretell.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["answers_of", "load", "load_steady", "open_artifact", "replay"]

_FORMATS = {
    "onnx": "onnx",
    "pickle": "sklearn",
    "skops": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "torch": "torch",
    "torchscript": "torchscript",
}
"""File of the family in `formats/`, imported when a model of it is opened."""


def load(path: str | Path, *, trust: bool = False, threads: int | None = None) -> Model:
    """Load a trained model: a bundle, a folder holding one artifact, or an artifact.

    Args:
        path: `ames/`, `xgb.json`, `model.onnx`, `ames.joblib` ...
        trust: Whether to open a file that may run code. It is opened in a boxed-in child process.
        threads: Processors a call of many rows may use; None: all that this process has.

    Raises:
        ConfigError: Nothing is there.
        ArtifactInvalid: Damaged, or not a model.
        ArtifactUntrusted: It may run code, and `trust` is not given.
        RuntimeMissing: A library is not installed; the message has the pip line.
        ProofFailed: A bundle's golden examples no longer get their answers.
    """
    return _load(path, lambda opened: opened, trust, threads)


def load_steady(path: str | Path, *, trust: bool = False, threads: int | None = None) -> Model:
    """Load a model that gives a row the same answer, bit for bit, whatever rows are called with it.

    A model with several runners rounds as the one that takes the call, which is chosen by the number of rows. Where
    strangers' rows share a call that number is chance, so the runner for one row takes them all. See `load`.
    """
    return _load(path, _only_first, trust, threads)


def _load(path: str | Path, chosen: Callable[[Opened], Opened], trust: bool, threads: int | None) -> Model:
    artifact = judge(Path(path))
    if artifact.format == "bundle":
        bundle = read_bundle(artifact.path, trust=trust)
        model = Model(_proven(chosen(bundle.opened)), name=bundle.name, threads=threads)
        replay(model, bundle)
        return model
    opened = open_artifact(artifact, trust=trust)
    if opened.reference is not None:
        opened.reference.close()
    return Model(chosen(opened), name=artifact.path.stem, threads=threads)


def _only_first(opened: Opened) -> Opened:
    return replace(opened, runners=(min(opened.runners, key=lambda runner: runner.rows_from),))


def open_artifact(
    artifact: Artifact,
    *,
    trust: bool = False,
    sample: pa.Table | None = None,
    inputs: Sequence[TensorSpec] = (),
    picture: Mapping[str, Any] | None = None,
) -> Opened:
    """Open a bare artifact by its format. The caller closes `reference`.

    `inputs` say what a TorchScript file takes; others say it themselves. `picture` has what is not in an ONNX file of
    a network of pictures: see `formats.onnx.open_model`.
    """
    if inputs and artifact.format != "torchscript":
        raise ConfigError(f'"{artifact.path.name}": says itself which inputs it takes; leave --input out')
    if artifact.format not in _FORMATS:
        raise InternalError(f'"{artifact.path.name}": format "{artifact.format}" has no opener. This is a bug.')
    module = import_module(f"foretell.model.formats.{_FORMATS[artifact.format]}")
    opened: Opened
    if _FORMATS[artifact.format] == "sklearn":
        opened = module.open_model(artifact.path, trust=trust, sample=sample)
    elif artifact.format == "torchscript":
        opened = module.open_model(artifact.path.name, artifact.content, trust=trust, inputs=inputs)
    elif artifact.format == "onnx":
        opened = module.open_model(artifact.path.name, artifact.content, artifact.path.parent, picture)
    else:
        opened = module.open_model(artifact.path.name, artifact.content)
    return opened


def _proven(opened: Opened) -> Opened:
    """Read the files of boosting libraries before those do, and leave out a runner whose library is not here.

    A bundle's digests say that nothing changed since it was written, not who wrote it.
    """
    if all(runner.kind == "onnxruntime" for runner in opened.runners):
        return opened
    from foretell.model.formats.proven import prove_runner  # brings every family's reader

    runners = []
    for runner in opened.runners:
        try:
            prove_runner(runner)
        except RuntimeMissing:
            if runner is opened.runners[0]:
                raise
        else:
            runners.append(runner)
    return replace(opened, runners=tuple(runners))


def answers_of(predictions: Predictions) -> Answers:
    """Return predictions in the form that a proof compares."""
    return Answers(np.asarray(predictions.values), predictions.probabilities)


def replay(model: Model, bundle: Bundle) -> None:
    """Check that a model gives its bundle's golden examples their answers.

    Raises:
        ProofFailed: One differs by more than the bundle's tolerance; nothing is served then.
    """
    if not bundle.golden.rows:
        return
    if model.signature.image is not None:
        replay_pictures(model, bundle.golden, bundle.tolerance)
        return
    expected = _golden_answers(bundle.golden)
    found = answers_of(model.predict(golden_columns(model.signature, bundle.golden.rows)))
    result = compare(expected, found, Tolerance(bundle.tolerance, 0.0), labels=bool(model.task_reader.classes))
    if not result.holds:
        raise ProofFailed(
            f'bundle "{bundle.name}": golden row {result.first_moved} got another answer here, '
            f"{result.max_relative:.2g} from the original's, at most {bundle.tolerance:g} expected; "
            "convert the model again on this machine"
        )


def golden_columns(signature: Signature, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return golden rows as columns or, where the model takes bare tensors, as arrays."""
    if signature.fields:
        return {f.name: [row.get(f.name) for row in rows] for f in signature.fields}
    return {spec.name: np.array([row[spec.name] for row in rows], dtype_of(spec.datatype)) for spec in signature.inputs}


def _golden_answers(golden: Golden) -> Answers:
    first = golden.answers[0]
    if "label" not in first:
        return Answers(np.array([a["value"] for a in golden.answers], np.float64))
    probabilities = None
    if "probabilities" in first:
        probabilities = np.array([a["probabilities"] for a in golden.answers], np.float64)
    return Answers(np.array([a["label"] for a in golden.answers], object), probabilities)

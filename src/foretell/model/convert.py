"""Convert an artifact into a bundle, with the proof.

1 open      the artifact by its format; a pickle in a boxed-in child process
2 prove     every runner against the original, and measure which is the faster for how many rows (`proving`)
3 write     the bundle: runners, signature, golden examples, report, digests
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretell.errors import ConfigError
from foretell.model.artifact import Artifact, judge
from foretell.model.bundle import Bundle, write_bundle
from foretell.model.formats.base import Opened
from foretell.model.formats.torch_onnx import with_onnx
from foretell.model.formats.torch_sight import with_sight
from foretell.model.load import open_artifact
from foretell.model.model import Model
from foretell.model.picture_golden import TOLERANCE, golden_pictures
from foretell.model.proving import Report, prove
from foretell.model.relabel import relabel
from foretell.signature import TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Report", "convert"]

_TORCH = ("torch", "torchscript")


def convert(
    path: str | Path,
    bundle: str | Path,
    *,
    sample: pa.Table | None = None,
    target: str | None = None,
    labels: Sequence[str] | None = None,
    trust: bool = False,
    tolerance: float | None = None,
    inputs: Sequence[TensorSpec] = (),
    picture: Mapping[str, Any] | None = None,
    pictures: Sequence[Any] = (),
) -> Report:
    """Convert an artifact into a bundle, proven against the original.

    Args:
        path: The artifact.
        bundle: Folder to write; nothing may be there.
        sample: Rows like those of training; texts as they stand in the file.
        target: Column of the sample that holds the truth: left out of the rows, and scored.
        labels: Names of the classes, in their order.
        trust: Whether to open a file that may run code, boxed in.
        tolerance: Largest difference of a row; see `proof.Tolerance`. None: by what the graph computes in.
        inputs: What a TorchScript file takes, in the order of its forward; others say it themselves.
        picture: How a picture becomes a tensor and what the outputs mean, where the file does not say it: tables
            `task` and `signature.image`, as in model.toml.
        pictures: For golden examples of a model of pictures, in any form that `Model.predict` takes.

    Raises:
        ProofFailed: A runner answers otherwise than the original; nothing was written.
        LoadError: The artifact cannot be opened.
        InvalidInput: The sample does not fit the model.
        ConfigError: Something is at `bundle` already, or `target` is no column of the sample.
    """
    artifact, folder = judge(Path(path)), Path(bundle)
    if artifact.format == "bundle":
        raise ConfigError(f'"{path}": is a bundle already; give the artifact it was made from')
    if folder.exists():
        raise ConfigError(f'"{folder}": exists already; name a folder that does not, or remove it first')
    truth = None
    if sample is not None:
        sample, truth = _without_target(sample, target)
    tables = _picture_tables(artifact, picture, labels)
    opened = open_artifact(artifact, trust=trust, sample=sample, inputs=inputs, picture=tables)
    if picture is not None and artifact.format in _TORCH:
        return _convert_torch_pictures(artifact, opened, folder, tables or {}, pictures, tolerance)
    if opened.signature.image is not None:
        return _convert_pictures(opened, folder, pictures)
    if pictures:
        raise ConfigError(f'--sample: has pictures, "{artifact.path.name}" takes none; {_unknown(artifact, opened)}')
    if picture is not None:
        raise ConfigError(_unknown(artifact, opened))
    if artifact.format == "torch":
        opened = with_onnx(artifact.path.name, opened)
    try:
        found = prove(artifact, opened, sample, truth, tolerance, folder)
    finally:
        if opened.reference is not None:
            opened.reference.close()
    named, golden = relabel(found.opened, found.golden, labels) if labels else (found.opened, found.golden)
    write_bundle(folder, Bundle(folder.name, named, golden, found.limit.difference, found.report.as_dict()))
    return replace(found.report, opened=named)


def _picture_tables(
    artifact: Artifact, picture: Mapping[str, Any] | None, labels: Sequence[str] | None
) -> Mapping[str, Any] | None:
    """Return what is given of a network of pictures, the labels with it: they say how wide its outputs are."""
    if artifact.format != "onnx" and picture is None:
        return None
    if artifact.format not in ("onnx", *_TORCH):
        raise ConfigError(f'--picture: "{artifact.path.name}" is no network of ONNX or PyTorch; leave it out')
    tables = dict(picture or {})
    if labels:
        tables["task"] = {**tables.get("task", {}), "classes": list(labels)}
    return tables


def _unknown(artifact: Artifact, opened: Opened) -> str:
    asked = [note for note in opened.notes if note.startswith("model.toml, [")]
    if not asked:
        return f'--picture: "{artifact.path.name}" has no input that a picture fits; leave it out'
    lines = "; ".join(note.removeprefix("model.toml, ") for note in asked)
    return f'--picture: "{artifact.path.name}" needs {len(asked)} more lines: {lines}'


def _convert_pictures(opened: Opened, folder: Path, pictures: Sequence[Any]) -> Report:
    """Write the bundle of a network of pictures: it is its own original, and its golden pictures hold it to that."""
    with Model(opened, name=folder.name) as model:
        golden = golden_pictures(model, pictures)
    report = Report(folder, opened, "", len(pictures), 0 if pictures else len(golden.rows), {}, {}, {})
    write_bundle(folder, Bundle(folder.name, opened, golden, TOLERANCE, report.as_dict()))
    return report


def _convert_torch_pictures(
    artifact: Artifact,
    opened: Opened,
    folder: Path,
    tables: Mapping[str, Any],
    pictures: Sequence[Any],
    tolerance: float | None,
) -> Report:
    """Write the bundle of a program that takes pictures: its graph is proven on tensors, then both take pictures."""
    if opened.reference is not None:
        opened.reference.close()
    sighted = with_sight(opened, tables)
    if sighted.signature.image is None:
        raise ConfigError(_unknown(artifact, sighted))
    if artifact.format == "torch":
        opened = with_onnx(artifact.path.name, opened)
    found = prove(artifact, opened, None, None, tolerance, folder)
    sighted = with_sight(found.opened, tables)
    with Model(sighted, name=folder.name) as model:
        golden = golden_pictures(model, pictures)
    report = replace(found.report, opened=sighted, sample_rows=len(pictures))
    write_bundle(folder, Bundle(folder.name, sighted, golden, TOLERANCE, report.as_dict()))
    return report


def _without_target(sample: pa.Table, target: str | None) -> tuple[pa.Table, pa.ChunkedArray | None]:
    if target is None:
        return sample, None
    if target not in sample.column_names:
        known = ", ".join(sample.column_names[:8])
        raise ConfigError(f'--target "{target}": the sample has no such column; it has {known} ...')
    return sample.drop_columns([target]), sample.column(target)

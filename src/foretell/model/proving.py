"""The proof of a conversion: every runner against the original, and which of them is the faster for how many rows.

1 rows      the sample's, and rows drawn from the signature
2 ask       the original, in its own library, and every runner
3 compare   each runner's answers with the original's; beyond tolerance there is no bundle
4 measure   the original and the runners at 1 row and at many; each runner gets the rows it is faster at

Writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from foretell.errors import ForetellError, ProofFailed
from foretell.model.artifact import Artifact
from foretell.model.bundle import Golden
from foretell.model.data.table import TablePreparation
from foretell.model.draw import draw_rows
from foretell.model.formats.base import Answers, Opened, Reference
from foretell.model.load import answers_of
from foretell.model.model import Model
from foretell.model.pace import CHUNKS, ROWS, choose, fastest, time_s
from foretell.model.proof import Comparison, Tolerance, compare, default_tolerance
from foretell.model.runtimes import Runner
from foretell.model.sample import fit_sample, score
from foretell.model.tensor_proof import prove_tensors

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Proven", "Report", "prove"]

_DRAWN_ROWS = 2_000
_DRAWN_BESIDE_SAMPLE = 256
_SAMPLE_ROWS = 50_000
_GOLDEN_ROWS = 16
_SPEED_ROWS = (1, 1024)


@dataclass(frozen=True)
class Report:
    """What a conversion did and found."""

    bundle: Path
    opened: Opened
    original: str
    """What it was held against: a library and its version, or "" where the file is its own original."""
    sample_rows: int
    drawn_rows: int
    comparisons: Mapping[str, Comparison]
    """By the file of the runner."""
    speed_us_per_row: Mapping[str, Mapping[int, float]]
    """Microseconds a row, by `original` or the runner's file, then by rows of the call."""
    score: Mapping[str, float]
    """How the converted model does against the target column of the sample."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, as `proof.json` holds them."""
        return {
            "original": self.original,
            "sample_rows": self.sample_rows,
            "drawn_rows": self.drawn_rows,
            "comparisons": {name: c.as_dict() for name, c in self.comparisons.items()},
            "speed_us_per_row": {k: {str(n): v for n, v in t.items()} for k, t in self.speed_us_per_row.items()},
            "score": dict(self.score),
            "about": dict(self.opened.about),
        }


class Proven(NamedTuple):
    """What a bundle is made of."""

    report: Report
    opened: Opened
    """With the runners that are kept, each with the rows it is the faster at."""
    golden: Golden
    limit: Tolerance


def prove(
    artifact: Artifact,
    opened: Opened,
    sample: pa.Table | None,
    truth: pa.ChunkedArray | None,
    tolerance: float | None,
    folder: Path,
) -> Proven:
    """Prove the runners of an opened artifact against its original, and measure them.

    Args:
        artifact: For messages.
        opened: The artifact; its `reference` is asked, and left open.
        sample: Rows like those of training, without the target.
        truth: The target of those rows.
        tolerance: Largest difference of a row; see `proof.Tolerance`. None: by what the graph computes in.
        folder: Where the bundle is to be, for the report.

    Raises:
        ProofFailed: A runner answers otherwise than the original.
        InvalidInput: The sample does not fit the model.
    """
    limit = default_tolerance(float32=any(s.datatype == "FP32" for s in opened.signature.inputs))
    if tolerance is not None:
        limit = replace(limit, difference=tolerance)
    if not opened.signature.fields and len(opened.runners) > 1:
        return _prove_tensors(artifact, opened, limit, folder)
    if not opened.signature.fields:
        report = Report(folder, opened, "", 0, 0, {}, {}, {})
        return Proven(report, opened, Golden([], []), limit)
    rows, sample_rows, original = _rows(opened, sample)
    alone = {
        r.file: replace(opened, runners=(replace(r, rows_from=1, chunk_rows=max(CHUNKS)),)) for r in opened.runners
    }
    models = {name: Model(one, threads=1) for name, one in alone.items()}
    try:
        answers = {name: answers_of(model.predict(rows)) for name, model in models.items()}
        expected = original or answers[opened.runners[0].file]
        comparisons = _compared(artifact, opened, expected, answers, limit)
        chunks = {name: _chunk_rows(model, rows) for name, model in models.items()}
        speeds = _speeds(models, opened.reference, rows)
    finally:
        for model in models.values():
            model.close()
    opened = _one_of_both(opened, {name: speeds[name] for name in models})
    proven = replace(opened, runners=_paced(opened, speeds, chunks))
    report = Report(
        bundle=folder,
        opened=proven,
        original=f"{opened.format} {version(opened.format)}" if original else "",
        sample_rows=sample_rows,
        drawn_rows=rows.num_rows - sample_rows,
        comparisons=comparisons,
        speed_us_per_row={k: {n: v[n] / n * 1e6 for n in _SPEED_ROWS} for k, v in speeds.items()},
        score=score(answers[opened.runners[0].file], truth, bool(opened.task.classes), sample_rows),
    )
    return Proven(report, proven, _golden(rows, expected, sample_rows, bool(opened.task.classes)), limit)


def _prove_tensors(artifact: Artifact, opened: Opened, limit: Tolerance, folder: Path) -> Proven:
    """Prove a model of bare tensors, whose last runner is the original."""
    proof = prove_tensors(opened, limit)
    for name, comparison in proof.comparisons.items():
        _refuse_difference(artifact, name, comparison, limit)
    proven = _one_of_both(opened, proof.seconds)
    speeds = {name: {n: s / n * 1e6 for n, s in taken.items()} for name, taken in proof.seconds.items()}
    original = f"{opened.format} {version(opened.format)}"
    report = Report(folder, proven, original, 0, proof.rows, proof.comparisons, speeds, {})
    return Proven(report, proven, proof.golden, limit)


def _one_of_both(opened: Opened, seconds: Mapping[str, Mapping[int, float]]) -> Opened:
    """Keep the faster of ONNX Runtime and PyTorch: not for some rows' sake must a server hold both libraries."""
    if opened.format != "torch" or len(opened.runners) == 1:
        return opened
    taken = fastest(seconds)
    note = f"{taken} is the faster one on this machine" if taken != opened.runners[0].file else ""
    kept = tuple(runner for runner in opened.runners if runner.file == taken)
    return replace(opened, runners=kept, notes=(*opened.notes, note) if note else opened.notes)


def _rows(opened: Opened, sample: pa.Table | None) -> tuple[pa.Table, int, Answers | None]:
    """Return the rows of the proof, how many of them are the sample's, and what the original says of them.

    The original may refuse drawn rows that no user would send; beside a sample it is then asked without them.
    """
    import pyarrow as pa

    ask = opened.reference.predict if opened.reference else None
    if sample is None:
        rows = draw_rows(opened.signature, _DRAWN_ROWS)
        return rows, 0, ask(rows) if ask else None
    fitted = fit_sample(sample.slice(0, _SAMPLE_ROWS), opened.signature)
    TablePreparation(opened.signature).prepare(fitted)  # what cannot be predicted is refused before anything is asked
    drawn = draw_rows(opened.signature, _DRAWN_BESIDE_SAMPLE)
    both = pa.concat_tables([fitted, drawn.cast(fitted.schema)])
    if ask is None:
        return both, fitted.num_rows, None
    try:
        return both, fitted.num_rows, ask(both)
    except ForetellError:
        return fitted, fitted.num_rows, ask(fitted)


def _compared(
    artifact: Artifact, opened: Opened, expected: Answers, answers: Mapping[str, Answers], limit: Tolerance
) -> dict[str, Comparison]:
    comparisons = {}
    for name, found in answers.items():
        result = comparisons[name] = compare(expected, found, limit, labels=bool(opened.task.classes))
        _refuse_difference(artifact, name, result, limit)
    return comparisons


def _refuse_difference(artifact: Artifact, name: str, result: Comparison, limit: Tolerance) -> None:
    if not result.holds:
        raise ProofFailed(
            f'"{artifact.path.name}": {name} differs from the original in {result.moved_rows} of {result.rows} '
            f"rows (largest difference {result.max_relative:.3g}, {limit.difference:g} allowed) and flips "
            f"{result.flipped_labels} labels, at most {result.allowed_rows} expected; nothing was written. "
            "Give --tolerance if that is near enough"
        )


def _speeds(models: Mapping[str, Model], reference: Reference | None, rows: pa.Table) -> dict[str, dict[int, float]]:
    """Return seconds of a call by its rows, for the original and for every runner."""
    speeds: dict[str, dict[int, float]] = {}
    if reference is not None:
        speeds["original"] = {n: reference.time_s(_repeat(rows, n)) for n in _SPEED_ROWS}
    one = rows.slice(0, 1).to_pylist()[0]
    for name, model in models.items():
        calls: dict[int, Any] = {n: _repeat(rows, n) for n in ROWS} | {1: one}
        speeds[name] = {n: time_s(partial(model.predict, data)) for n, data in calls.items()}
    return speeds


def _chunk_rows(model: Model, rows: pa.Table) -> int:
    """Return the piece of a long call that the model is fastest with, per row."""
    inputs, count, _ = model.prepare(_repeat(rows, max(CHUNKS)))

    def call(chunk: int) -> object:
        return [model.infer({k: a[at : at + chunk] for k, a in inputs.items()}, chunk) for at in range(0, count, chunk)]

    return min(CHUNKS, key=lambda chunk: time_s(lambda: call(chunk), budget_s=0.1))


def _paced(opened: Opened, speeds: Mapping[str, Mapping[int, float]], chunks: Mapping[str, int]) -> tuple[Runner, ...]:
    ways = choose([speeds[r.file] for r in opened.runners])
    runners = [replace(opened.runners[way], rows_from=rows) for way, rows in ways]
    return tuple(replace(r, chunk_rows=chunks[r.file]) for r in runners)


def _golden(rows: pa.Table, expected: Answers, sample_rows: int, labels: bool) -> Golden:
    """Pick rows evenly, from the sample where there is one, with what the original said of them."""
    count = sample_rows or rows.num_rows
    picked = list(range(0, count, max(1, count // _GOLDEN_ROWS)))[:_GOLDEN_ROWS]
    values = expected.values[picked].tolist()
    answers: list[dict[str, Any]] = [{"label" if labels else "value": value} for value in values]
    if expected.probabilities is not None:
        for answer, row in zip(answers, expected.probabilities[picked].tolist(), strict=True):
            answer["probabilities"] = row
    return Golden(rows.take(picked).to_pylist(), answers)


def _repeat(rows: pa.Table, count: int) -> pa.Table:
    """Return `count` rows: these, from the first, over and over."""
    import numpy as np

    return rows.take(np.arange(count) % rows.num_rows).combine_chunks()

"""An estimator read: what it takes and gives, and the ways to run it.

1 columns   from the names and the number of features it was fitted on
2 outcome   what it answers
3 graph     one graph if all its steps have one
4 missing   which columns may be missing: asked of the estimator
5 check     the graph's answers beside the estimator's; a graph that is wrong is dropped, and that is said
6 or else   the estimator itself runs, in a process like this one

Runs in the child process. Knows no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.errors import LoadError
from foretell.model.draw import draw_rows
from foretell.model.estimators.asking import check, learn_required, plain_frame
from foretell.model.estimators.compile import SOURCE, Plan
from foretell.model.estimators.fallback import columns_of, fields_of
from foretell.model.estimators.inputs import Inputs
from foretell.model.estimators.outcome import Outcome, outcome_of
from foretell.model.estimators.refused import NoGraphError
from foretell.model.estimators.rows import frame_of_table
from foretell.model.estimators.rules import OTHERWISE, RULES
from foretell.model.tasks.predictions import Task
from foretell.signature import Field, Signature, TensorSpec

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Reading", "host", "read"]

_SAMPLE_ROWS = 512


@dataclass(frozen=True)
class Reading:
    """What was found out about an estimator."""

    inputs: Inputs
    outcome: Outcome
    signature: Signature
    task: Task
    graphs: Mapping[str, bytes]
    """Files by name: `model.onnx`, perhaps `bulk.onnx`; empty where the estimator itself must run."""
    notes: tuple[str, ...]


def read(estimator: Any, sample: pa.Table | None = None) -> Reading:
    """Read a fitted estimator.

    Raises:
        LoadError: It does not say which columns it takes, or does not predict.
    """
    inputs = _inputs(estimator, sample)
    if sample is not None:
        sample = sample.slice(0, _SAMPLE_ROWS)
    plan = Plan(estimator, inputs, (), RULES, OTHERWISE)
    reason = ""
    try:
        return _graph(plan, sample)
    except NoGraphError as error:
        reason = str(error)
    return _itself(estimator, inputs, sample, reason)


def host(estimator: Any, fields: tuple[Field, ...], named: bool) -> tuple[Inputs, Outcome]:
    """Get ready to answer tensors, one per field, with the estimator itself: no graph is written.

    Raises:
        LoadError: The fields are not its columns, or it does not predict.
    """
    inputs = Inputs(tuple(f.name for f in fields), named, _takes_texts(estimator))
    texts = [f.kind == "text" or any(isinstance(c, str) for c in f.categories) for f in fields]
    inputs.texts |= {place for place, is_text in enumerate(texts) if is_text}
    plan = Plan(estimator, inputs, (("values", "predict", True),), RULES, OTHERWISE)
    with suppress(NoGraphError):  # what was learned before it was refused is what counts
        plan.settle()
    frame = frame_of_table(_one_row(Signature((), (), fields)), inputs)
    return inputs, outcome_of(estimator, frame)


def _inputs(estimator: Any, sample: pa.Table | None) -> Inputs:
    for step in _first_steps(estimator):
        names = getattr(step, "feature_names_in_", None)
        if names is not None:
            return Inputs(tuple(map(str, names)), named=True)
        count = getattr(step, "n_features_in_", None)
        if isinstance(count, (int, np.integer)):
            return Inputs(tuple(f"x{i}" for i in range(count)), named=False)
    if _takes_texts(estimator) and (sample is None or sample.num_columns == 1):
        name = "text" if sample is None else sample.column_names[0]
        return Inputs((name,), named=sample is not None, flat=True, texts={0})
    if sample is not None:
        return Inputs(tuple(sample.column_names), named=True)
    raise LoadError(
        f"{type(estimator).__name__} does not say which columns it was fitted on; convert it with --sample DATA"
    )


def _takes_texts(estimator: Any) -> bool:
    """Return whether the first step is a vectorizer of texts: those take a list of texts, not a table."""
    mixins = {kind.__name__ for kind in type(_first_steps(estimator)[-1]).__mro__}
    return "_VectorizerMixin" in mixins


def _first_steps(estimator: Any) -> list[Any]:
    found = [estimator]
    while hasattr(found[-1], "steps") and found[-1].steps:
        found.append(found[-1].steps[0][1])
    return found


def _graph(plan: Plan, sample: pa.Table | None) -> Reading:
    """Read it as a graph.

    Raises:
        NoGraphError: A step has none, or its answers are not the estimator's.
    """
    estimator, inputs = plan.estimator, plan.inputs
    plan.wanted = (("values", "predict", True),)
    plan.settle()
    outcome = outcome_of(estimator, plain_frame(inputs))
    plan.wanted = outcome.wanted
    graph, bulk = plan.write()
    learn_required(estimator, inputs, outcome)
    _learn_ranges(inputs, sample)
    reading = Reading(
        inputs,
        outcome,
        Signature(
            (TensorSpec(SOURCE, plan.datatype, (-1, len(inputs.uses))),),
            _outputs(graph),
            inputs.fields(),
            {SOURCE: inputs.columns()},
            inputs.named,
        ),
        outcome.task,
        {"model.onnx": graph} | ({"bulk.onnx": bulk} if bulk else {}),
        (),
    )
    for name, content in reading.graphs.items():
        check(inputs, outcome, reading.signature, estimator, sample, (name, content))
    return reading


def _outputs(graph: bytes) -> tuple[TensorSpec, ...]:
    import onnx

    kinds = {1: "FP32", 11: "FP64", 7: "INT64"}
    outputs = onnx.load_from_string(graph).graph.output
    return tuple(
        TensorSpec(
            o.name,
            kinds[o.type.tensor_type.elem_type],
            tuple(d.dim_value if d.HasField("dim_value") else -1 for d in o.type.tensor_type.shape.dim),
        )
        for o in outputs
    )


def _learn_ranges(inputs: Inputs, sample: pa.Table | None) -> None:
    """Take the ranges of a sample, which says more than the estimator."""
    if sample is None:
        return
    for place, name in enumerate(inputs.names):
        if name in sample.column_names and place not in inputs.vocabulary and not inputs.is_text(place):
            values = _numbers(sample.column(name))
            values = values[np.isfinite(values)]
            if len(values):
                inputs.low[place], inputs.high[place] = float(values.min()), float(values.max())


def _numbers(column: pa.ChunkedArray) -> Any:
    import pyarrow as pa

    try:
        return column.cast(pa.float64()).to_numpy()
    except pa.ArrowException:
        return np.empty(0)


def _itself(estimator: Any, inputs: Inputs, sample: pa.Table | None, reason: str) -> Reading:
    """Read it as something that runs itself."""
    _learn_ranges(inputs, sample)
    fields = fields_of(inputs, sample)
    frame = frame_of_table(_one_row(Signature((), (), fields)), inputs)
    try:
        outcome = outcome_of(estimator, frame)
        answers = outcome.answers(estimator, frame)
    except LoadError:
        raise
    except Exception as error:
        raise LoadError(
            f"it has no graph ({reason}), and does not take a row of its own columns either "
            f"({type(error).__name__}: {error}); convert it with --sample DATA, which shows what they hold"
        ) from error
    specs, columns = columns_of(fields)
    signature = Signature(specs, outcome.specs(answers), fields, columns, inputs.named)
    notes = (f"runs as the estimator itself, in a process of its own: {reason}",)
    return Reading(inputs, replace(outcome, task=outcome.own_task()), signature, outcome.own_task(), {}, notes)


def _one_row(signature: Signature) -> pa.Table:
    calm = tuple(replace(f, nullable=False, closed=True) for f in signature.fields)
    return draw_rows(replace(signature, fields=calm), 1)

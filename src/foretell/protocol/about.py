"""What is told of models: metadata, configuration, states and statistics, as the protocols write them.

Durations are counts and nanoseconds, as Triton's statistics extension has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from foretell.engine.instance import Hello
from foretell.engine.lifecycle import State
from foretell.engine.served import Served
from foretell.engine.statistics import Duration
from foretell.model.describe import write_signature, write_task
from foretell.protocol.columns import described_inputs
from foretell.signature import TensorSpec

__all__ = [
    "EXTENSIONS", "PLATFORM", "config_of", "index_entry", "index_state", "model_metadata", "statistics_of",
    "status_entry",
]  # fmt: skip

EXTENSIONS = ("binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters",
              "schedule_policy", "statistics")  # fmt: skip
"""Of Triton's extensions, those that are spoken here."""

PLATFORM = "foretell"
_INDEX_STATES = {
    State.READY: "READY",
    State.LOADING: "LOADING",
    State.DRAINING: "UNLOADING",
}
_TF_STATES = {
    State.NEW: "START",
    State.LOADING: "LOADING",
    State.READY: "AVAILABLE",
    State.DRAINING: "UNLOADING",
    State.UNLOADED: "END",
    State.FAILED: "END",
}
"""As TensorFlow Serving's state of a model names them."""


def model_metadata(name: str, versions: list[str], hello: Hello) -> dict[str, Any]:
    """Return the metadata of a model: its tensors, with -1 for a free dimension."""
    return {
        "name": name,
        "versions": versions,
        "platform": f"{PLATFORM}_{hello.about.get('format', 'model')}",
        "inputs": [_tensor(spec) for spec in _inputs(hello)],
        "outputs": [_tensor(spec) for spec in _outputs(hello)],
        "properties": {"task": hello.task.name} | _prepared(hello),
    }


def config_of(name: str, hello: Hello, max_batch_size: int) -> dict[str, Any]:
    """Return Triton's model configuration, as far as it means something here.

    Its parameters are for `bulk.via`: what prepares rows and reads outputs elsewhere as they are here.
    """
    facts = {"signature": write_signature(hello.signature), "task": write_task(hello.task)}
    parameters = {key: {"string_value": orjson.dumps(value).decode()} for key, value in facts.items()}
    if "digest" in hello.about:
        parameters["digest"] = {"string_value": str(hello.about["digest"])}
    return {
        "name": name,
        "platform": f"{PLATFORM}_{hello.about.get('format', 'model')}",
        "backend": PLATFORM,
        "max_batch_size": max_batch_size,
        "input": [_config_tensor(spec) for spec in _inputs(hello)],
        "output": [_config_tensor(spec) for spec in _outputs(hello)],
        "dynamic_batching": {},
        "parameters": parameters,
    }


def _inputs(hello: Hello) -> Sequence[TensorSpec]:
    """Return the inputs that are told of: whoever sends all of them sends what the model takes."""
    return described_inputs(hello.signature) if hello.pictures is None else hello.pictures.inputs


def _outputs(hello: Hello) -> Sequence[TensorSpec]:
    return (hello.signature if hello.pictures is None else hello.pictures).outputs


def _prepared(hello: Hello) -> dict[str, str]:
    """Return the tensors that a model of pictures takes and gives in place of those that are told of, in words."""
    if hello.pictures is None:
        return {}
    pairs = {"prepared_inputs": hello.signature.inputs, "prepared_outputs": hello.signature.outputs}
    return {
        key: "; ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs)
        for key, specs in pairs.items()
    }


def index_state(served: Served) -> str:
    """Return the state of a version as the repository extension names it."""
    return _INDEX_STATES.get(served.state, "UNAVAILABLE")


def index_entry(served: Served) -> dict[str, Any]:
    """Return a version as the repository index lists it."""
    return {"name": served.name, "version": served.version, "state": index_state(served), "reason": served.reason}


def status_entry(served: Served) -> dict[str, Any]:
    """Return the state of a version as TensorFlow Serving tells it."""
    failed = served.state is State.FAILED
    return {
        "version": served.version,
        "state": _TF_STATES[served.state],
        "status": {"error_code": "UNKNOWN" if failed else "OK", "error_message": served.reason},
    }


def statistics_of(versions: Iterable[Served]) -> dict[str, Any]:
    """Return the statistics of versions."""
    return {"model_stats": [_statistics(served) for served in versions]}


def _statistics(served: Served) -> dict[str, Any]:
    found = served.statistics
    nothing = _duration(Duration())
    return {
        "name": served.name,
        "version": served.version,
        "last_inference": found.last_inference_ms,
        "inference_count": found.inference_rows,
        "execution_count": found.execution_batches,
        "inference_stats": {
            "success": _duration(found.success),
            "fail": _duration(found.fail),
            "queue": _duration(found.queue),
            "compute_input": nothing,
            "compute_infer": _duration(found.run),
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [
            {"batch_size": rows, "compute_input": nothing, "compute_infer": _duration(took), "compute_output": nothing}
            for rows, took in sorted(found.batches.items())
        ],
        "memory_usage": [],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _config_tensor(spec: TensorSpec) -> dict[str, Any]:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": list(spec.shape[1:]) or [1]}

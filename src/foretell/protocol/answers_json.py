"""Answers of the Open Inference Protocol v2 over HTTP: responses to bodies, with binary tensors.

The commonest answer has a short way of its own, `plain_json`. Knows no HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from foretell.protocol.classification import classify
from foretell.protocol.tensors import to_raw
from foretell.request import InferResponse
from foretell.signature import Signature

__all__ = ["AnswersJson", "Asked", "AskedOutput"]

_NUMPY_FROM = 4096
"""From so many elements on, orjson reads the array itself."""


@dataclass(frozen=True, slots=True)
class AskedOutput:
    """One output a caller asked for."""

    index: int
    """Among the outputs of the signature."""
    binary: bool
    classes: int = 0
    """As `score:index[:label]` texts of this many best classes; 0: as it is."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller wants back, and how."""

    id: str
    outputs: tuple[AskedOutput, ...]
    pictures: bool = False
    """They are answers to encoded pictures."""


class AnswersJson:
    """Bodies of the answers of one version of a model."""

    def __init__(self, signature: Signature, labels: tuple[str, ...]) -> None:
        """Take what the answers are like, and the names of the classes for the classification extension."""
        self._outputs = signature.outputs
        self._labels = labels
        self._all_json = tuple(AskedOutput(at, False) for at in range(len(signature.outputs)))

    def encode(self, response: InferResponse, asked: Asked | None) -> tuple[bytes, int | None]:
        """Return the body, and the bytes of its JSON part if binary tensors follow."""
        outputs, blobs = [], []
        for want in self._all_json if asked is None else asked.outputs:
            spec, found = self._outputs[want.index], response.outputs[want.index]
            datatype = spec.datatype
            if want.classes:
                found, datatype = classify(found, want.classes, self._labels), "BYTES"
            entry: dict[str, Any] = {"name": spec.name, "datatype": datatype, "shape": found.shape}
            if want.binary:
                blob = to_raw(found)
                blobs.append(blob)
                entry["parameters"] = {"binary_data_size": len(blob)}
            else:
                entry["data"] = _values(found)
            outputs.append(entry)
        document: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
        if asked is not None and asked.id:
            document["id"] = asked.id
        document["outputs"] = outputs
        head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        if b"null" in head and _count_nonfinite(outputs):
            head = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
        if not blobs:
            return head, None
        return b"".join((head, *blobs)), len(head)


def _values(found: NDArray[Any]) -> Any:
    """Return the elements, flat, as JSON takes them: FP32 as the float64 of the same value."""
    flat = found.reshape(-1)
    if flat.dtype.kind == "O":
        return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in flat.tolist()]
    if len(flat) < _NUMPY_FROM or flat.dtype.kind not in "fiu":
        return flat.tolist()
    return np.ascontiguousarray(flat, np.float64 if flat.dtype.kind == "f" else None)


def _count_nonfinite(outputs: list[dict[str, Any]]) -> bool:
    """Say in the parameters of each output how many of its numbers JSON could not tell; whether there were any."""
    found = False
    for entry in outputs:
        if "data" in entry and entry["datatype"].startswith("FP"):
            count = int(np.count_nonzero(~np.isfinite(np.asarray(entry["data"], np.float64))))
            if count:
                entry["parameters"] = {"nonfinite": count}
                found = True
    return found

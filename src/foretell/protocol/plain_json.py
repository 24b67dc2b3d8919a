"""The short way of the Open Inference Protocol over JSON: one matrix of plain numbers in, all outputs back.

Clients send the same body again and again with other numbers in it. So what stands around the numbers is read
once, with all checks, and recognised byte for byte from then on; of a batch of answers the numbers are written
once, and cut. Whatever is not recognised takes the long way, which knows why. Knows no HTTP.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from foretell.dtypes import dtype_of
from foretell.request import Batch
from foretell.signature import Signature, TensorSpec

__all__ = ["PlainAnswers", "PlainBodies"]

_FORMATS = {"FP32": "f", "FP64": "d"}
_NUMBERS = b"0123456789+-.eE, \t\r\n[]"
_FRAMES = 256
_MOST_FRAME_BYTES = 1024
_MOST_VALUES = 1 << 16
_MOST_ROWS = 1024


class _Frame(NamedTuple):
    """What stands around the numbers of a body."""

    start: int
    """Where the numbers stand in it. One that has them elsewhere is another, though its bytes be the same."""
    pack: Callable[..., bytes]
    shape: tuple[int, int]
    values: int


class PlainBodies:
    """Bodies of one version of a model whose only input is a matrix of floats.

    Attributes:
        name: Of the input.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self.name = spec.name
        self._datatype = spec.datatype
        self._width = spec.shape[1]
        self._dtype = dtype_of(spec.datatype)
        self._format = _FORMATS[spec.datatype]
        self._frames: dict[bytes, _Frame] = {}
        self._last = b""

    @classmethod
    def of(cls, signature: Signature) -> PlainBodies | None:
        """Return the reader of a signature's bodies, or None where there is no short way."""
        if len(signature.inputs) != 1:
            return None
        (spec,) = signature.inputs
        fits = spec.datatype in _FORMATS and len(spec.shape) == 2 and spec.shape[0] < 0 < spec.shape[1]
        return cls(spec) if fits else None

    def decode(self, body: bytes) -> NDArray[Any] | None:
        """Return the matrix of a body that has nothing else in it; None where it takes a closer look."""
        start = body.find(b"[", body.find(b'"data"'))
        end = body.find(b"]", start) + 1
        frame = body[:start] + body[end:]
        known = self._frames.get(frame) or self._learn(frame, start)
        if known is None or known.start != start:
            return None
        span = body[start:end]
        # Nothing but numbers: no text, no truth, no null, nothing nested.
        if span.translate(None, _NUMBERS):
            return None
        try:
            values = orjson.loads(span)
            if len(values) != known.values:
                return None
            # Packing refuses what does not fit the datatype: JSON's numbers are finite, so are these.
            return np.ndarray(known.shape, self._dtype, known.pack(*values))
        except (ValueError, TypeError, OverflowError, struct.error):
            return None

    def decode_all(self, bodies: list[bytes]) -> tuple[NDArray[Any] | None, list[int]]:
        """Read many bodies at once.

        Returns:
            The rows of all that have nothing else in them, in order, or None if there are none; and for each body
            how many of them are its own, 0 where it takes a closer look.
        """
        spans, values, rows = [], [], []
        for body in bodies:
            start = body.find(b"[", body.find(b'"data"'))
            end = body.find(b"]", start) + 1
            text = body[:start] + body[end:]
            known = self._frames.get(text) or self._learn(text, start)
            span = body[start:end]
            if known is None or known.start != start or span.translate(None, _NUMBERS):
                rows.append(0)
            else:
                spans.append(span)
                values.append(known.values)
                rows.append(known.shape[0])
        if not spans:
            return None, rows
        try:
            # Whatever a body holds, it is one list to its neighbours: it ends at its first bracket.
            read = orjson.loads(b"[%b]" % b",".join(spans))
            if list(map(len, read)) == values:
                packed = struct.pack(f"={sum(values)}{self._format}", *chain.from_iterable(read))
                return np.ndarray((sum(rows), self._width), self._dtype, packed), rows
        except (ValueError, TypeError, OverflowError, struct.error):
            pass
        return self._decode_each(bodies)

    def _decode_each(self, bodies: list[bytes]) -> tuple[NDArray[Any] | None, list[int]]:
        """Find out which of them is at fault."""
        found = [self.decode(body) for body in bodies]
        arrays = [array for array in found if array is not None]
        return (np.concatenate(arrays) if arrays else None), [0 if array is None else len(array) for array in found]

    def _learn(self, text: bytes, start: int) -> _Frame | None:
        """Read what stands around the numbers; remember it the second time it comes in a row."""
        if start < 0 or len(text) > _MOST_FRAME_BYTES:
            return None
        try:
            frame = self._read(orjson.loads(text[:start] + b"[]" + text[start:]), text, start)
        except (ValueError, TypeError, KeyError):
            return None
        if frame is None or text != self._last:
            self._last = text
            return frame
        if len(self._frames) >= _FRAMES:
            self._frames.clear()
        self._frames[text] = frame
        return frame

    def _read(self, document: Any, text: bytes, start: int) -> _Frame | None:
        # With as many colons as keys no key is there twice.
        if type(document) is not dict or len(document) != 1 or text.count(b":") != 5:
            return None
        (tensor,) = document["inputs"]
        if len(tensor) != 4 or tensor["name"] != self.name or tensor["datatype"] != self._datatype:
            return None
        rows, width = tensor["shape"]
        fits = type(rows) is int and type(width) is int and width == self._width and rows > 0 and tensor["data"] == []
        if not fits or rows * width > _MOST_VALUES:
            return None
        pack = struct.Struct(f"={rows * width}{_FORMATS[self._datatype]}").pack
        return _Frame(start, pack, (rows, width), rows * width)


class PlainAnswers:
    """The answers of one version of a model, all outputs as JSON: texts that HTTP sends, cut from those of a batch."""

    def __init__(self, signature: Signature) -> None:
        self._outputs = signature.outputs
        self._frames: dict[int, tuple[bytes, int]] = {}
        self._are_plain = all(
            spec.datatype.startswith(("FP", "INT", "UINT")) and len(spec.shape) in (1, 2) and -1 not in spec.shape[1:]
            for spec in signature.outputs
        )

    def numbers(self, batch: Batch) -> list[list[bytes]] | None:
        """Return for each output the text of each row's numbers; None where some are not finite, or are strange.

        Written once for each batch, and kept in its notes.
        """
        if batch.notes is None:
            batch.notes = _texts(batch) if self._are_plain and batch.rows <= _MOST_ROWS else []
        return batch.notes or None

    def frame(self, rows: int, batch: Batch) -> tuple[bytes, int]:
        """Return the body of an answer of so many rows with a place for the numbers of each output, and its bytes."""
        found = self._frames.get(rows)
        if found is None:
            if len(self._frames) >= _FRAMES:
                self._frames.clear()
            found = self._frames[rows] = self._framed(rows, batch)
        return found

    def _framed(self, rows: int, batch: Batch) -> tuple[bytes, int]:
        entries = [
            {"name": spec.name, "datatype": spec.datatype, "shape": (rows, *spec.shape[1:]), "data": None}
            for spec in self._outputs
        ]
        told = {"model_name": batch.model, "model_version": batch.version, "outputs": entries}
        text = orjson.dumps(told)
        places = text.replace(b"%", b"%%").replace(b'"data":null', b'"data":[%b]')
        return places, len(text) - 2 * len(entries)


def _texts(batch: Batch) -> list[list[bytes]]:
    """Return the numbers of each row of each output; an empty list where there is no short way."""
    found = []
    for output in batch.outputs:
        if output.ndim not in (1, 2) or len(output) != batch.rows or (output.ndim == 2 and not output.shape[1]):
            return []
        text = orjson.dumps(output.tolist())
        if b"null" in text:
            return []
        found.append(text[1:-1].split(b",") if output.ndim == 1 else text[2:-2].split(b"],["))
    return found

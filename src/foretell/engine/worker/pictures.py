"""A model of pictures as its worker runs it: encoded pictures in, answers out, and what is wrong with single ones.

The tensor of pictures is BYTES, one element a picture: bytes as they are, or `Base64`. The answers are those of
`Answered`, and one more: for each picture an empty text, or the code of an error and its line. Knows no frame.
"""

from __future__ import annotations

import binascii
import io
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.engine.worker.messages import read_failure, write_failure
from foretell.engine.worker.warmup import measure
from foretell.errors import ForetellError, InvalidInput
from foretell.model.tasks.answered import Answered
from foretell.model.tasks.predictions import Task
from foretell.request import Base64
from foretell.signature import Signature, TensorSpec

__all__ = ["Sight", "errors_of", "picture_signature"]

_WIDTH, _HEIGHT = 1024, 768
"""Of the picture that is measured: a middling photograph."""
_BROKEN = "image: its base64 is broken ({}); send the standard alphabet with padding, without line breaks"


def picture_signature(field: str, signature: Signature, task: Task) -> Signature | None:
    """Return what a network takes and gives where pictures are sent to it; None: its outputs have no row for each."""
    answered = Answered.of(task, signature.outputs)
    if any(spec.shape[:1] != (-1,) for spec in answered.specs):
        return None
    return Signature((TensorSpec(field, "BYTES", (-1,)),), answered.specs)


class SeesPictures(Protocol):
    """A model of pictures: `foretell.model.model.Model`."""

    signature: Signature
    task_reader: Task

    def see(self, contents: Sequence[bytes]) -> tuple[list[NDArray[Any]], dict[int, ForetellError]]:
        """Answer encoded pictures; see `Seeing.see`."""
        ...


class Sight:
    """Runs batches of pictures.

    Attributes:
        signature: What it takes and gives.
    """

    def __init__(self, model: SeesPictures, signature: Signature) -> None:
        self.signature = signature
        self._see = model.see

    @classmethod
    def of(cls, model: Any) -> Sight | None:
        """Return what runs pictures through a model; None where it takes none."""
        if model.signature.image is None:
            return None
        found = picture_signature(model.signature.fields[0].name, model.signature, model.task_reader)
        return None if found is None else cls(model, found)

    def infer(self, pictures: NDArray[np.object_]) -> list[NDArray[Any]]:
        """Answer a batch.

        Args:
            pictures: Shape (rows,), of bytes or `Base64`.

        Returns:
            The answers, and the errors as texts, shape (rows,).
        """
        broken: dict[int, ForetellError] = {}
        contents: list[bytes] = []
        for row, given in enumerate(pictures.tolist()):
            try:
                contents.append(_decoded(bytes(given)) if isinstance(given, Base64) else bytes(given))
            except InvalidInput as reason:
                broken[row] = reason
                contents.append(b"")
        outputs, errors = self._see(contents)
        texts = np.full(len(contents), "", object)
        for row, error in (errors | broken).items():
            texts[row] = write_failure(error)
        return [*outputs, texts]

    def measure(self) -> tuple[tuple[int, float], ...]:
        """Warm it up; return (rows, seconds) of batches of a middling photograph."""
        picture = drawn(_WIDTH, _HEIGHT)

        def infer(inputs: dict[str, NDArray[Any]], rows: int) -> list[NDArray[Any]]:
            (pictures,) = inputs.values()
            pictures.fill(picture)
            return self.infer(pictures)[:-1]

        return measure(infer, self.signature)


def errors_of(texts: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return for each row its error, or None."""
    errors = np.full(len(texts), None, object)
    for row, text in enumerate(texts.tolist()):
        if text:
            errors[row] = read_failure(text)
    return errors


def drawn(width: int, height: int) -> bytes:
    """Return a JPEG with slopes and grain, about as hard to decode as a photograph; the same each time."""
    from PIL import Image as images

    y, x = np.mgrid[0:height, 0:width]
    grain = (x * 7919 + y * 104729 + (x * y) % 251) % 64
    pixels = np.stack([x * 191 // width + grain, y * 191 // height + grain, (x + y) * 191 // (width + height)], axis=2)
    file = io.BytesIO()
    images.fromarray(pixels.astype(np.uint8)).save(file, "JPEG", quality=88)
    return file.getvalue()


def _decoded(text: bytes) -> bytes:
    """Return the bytes of base64 that stood in JSON, where a character may be written in several ways."""
    try:
        if b"\\" in text:
            text = json.loads(b'"%b"' % text).encode()
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        reason = str(error) if isinstance(error, binascii.Error) else "it is no JSON text"
        raise InvalidInput(_BROKEN.format(reason)) from None

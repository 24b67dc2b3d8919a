"""What a stream says of a frame, as JSON: its number and how old it is, and its predictions or its error. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from foretell.errors import ForetellError
from foretell.model.tracking import Tracker
from foretell.protocol.status import Refused, error_text
from foretell.protocol.strict_json import read_json

__all__ = ["Tag", "Tracks", "error_message", "stale_message", "tag_of", "told", "with_predictions"]

Tag = str | int | float | None
_LONGEST_TAG = 128
_LONGEST_TAG_MESSAGE = 1024


def tag_of(message: bytes) -> tuple[Tag] | None:
    """Return the tag in a message `{"tag": ...}`, which names the next frame; None: the message is a frame.

    Raises:
        Refused: It is no text of at most 128 characters, and no number.
    """
    if len(message) > _LONGEST_TAG_MESSAGE or b'"tag"' not in message:
        return None
    try:
        document = read_json(message)
    except Refused:
        return None  # as a frame it is refused
    if type(document) is not dict or document.keys() != {"tag"}:
        return None
    tag = document["tag"]
    if (tag is not None and type(tag) not in (str, int, float)) or (type(tag) is str and len(tag) > _LONGEST_TAG):
        raise Refused(f'"tag": expected a number, or a text of at most {_LONGEST_TAG} characters', code="bad_parameter")
    return (tag,)


def told(number: int, tag: Tag, arrived: float, age_s: float, dropped: int) -> dict[str, Any]:
    """Return what is said of any frame.

    Args:
        number: Of the frame, from 0 on.
        tag: That the client gave it.
        arrived: Seconds since 1970.
        age_s: Seconds since then.
        dropped: Older frames that were dropped, and of which no message has told yet.
    """
    found: dict[str, Any] = {"frame": number}
    if tag is not None:
        found["tag"] = tag
    return found | {"arrived": round(arrived, 4), "age_ms": round(age_s * 1e3, 3), "dropped": dropped}


def stale_message(about: dict[str, Any]) -> bytes:
    """Return the message of a frame whose answer came too late: a newer one was there before."""
    return orjson.dumps(about | {"stale": True})


def error_message(about: dict[str, Any], error: ForetellError) -> bytes:
    """Return the message of a frame that ended in an error."""
    return orjson.dumps(about | {"error": error_text(error), "code": error.code})


def with_predictions(about: dict[str, Any], predictions: bytes) -> bytes:
    """Return the message of a frame that was answered.

    Args:
        about: It.
        predictions: The body of `:predict`: `{"predictions": [...]}`.
    """
    return b"%b,%b" % (orjson.dumps(about)[:-1], predictions[1:])


class Tracks:
    """Numbers the objects of one stream: what is seen in several frames keeps its number."""

    def __init__(self) -> None:
        self._tracker = Tracker()
        self._classes: dict[Any, int] = {}

    def number(self, pictures: list[list[dict[str, Any]]], frames: int) -> None:
        """Give each object its `track`: a number, or None while it was seen once only.

        Args:
            pictures: The objects of each picture of a frame, as `:predict` tells them. They are changed.
            frames: How many frames have gone by since the last call.
        """
        for objects in pictures:
            classes = [self._classes.setdefault(found["label"], len(self._classes)) for found in objects]
            boxes = [found["box"] for found in objects]
            numbers = self._tracker.update(
                _array(boxes), _array([o["score"] for o in objects]), _array(classes), frames
            )
            frames = 1
            for found, number in zip(objects, numbers.tolist(), strict=True):
                found["track"] = number if number > 0 else None


def _array(values: list[Any]) -> Any:
    import numpy as np

    return np.asarray(values)

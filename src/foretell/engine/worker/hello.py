"""What a worker said of itself, believed only as far as it fits. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foretell.engine.instance import Hello
from foretell.engine.worker.pictures import picture_signature
from foretell.errors import ArtifactInvalid, LoadError
from foretell.model.describe import read_signature, read_task

__all__ = ["hello_of"]

_MOST_PACES = 64


def hello_of(facts: dict[str, Any], warmup_s: float, resident_bytes: int | None = None) -> Hello:
    """Return the hello of a worker from its facts.

    Args:
        facts: As `facts_of` wrote them.
        warmup_s: Seconds from its start.
        resident_bytes: Memory it holds now, as the front measured it; joins `about`.

    Raises:
        LoadError: A fact is missing or of the wrong kind.
    """
    try:
        signature, task = read_signature(facts["signature"]), read_task(facts["task"])
        field = facts.get("pictures")
        about = dict(facts["about"])
        if resident_bytes is not None:
            about["resident_bytes"] = resident_bytes
        return Hello(
            name=str(facts["name"]),
            signature=signature,
            task=task,
            about=about,
            sandbox={str(key): str(value) for key, value in dict(facts["sandbox"]).items()},
            warmup_s=warmup_s,
            paces=_paces_of(facts["paces"]),
            pictures=None if field is None else picture_signature(str(field), signature, task),
            picture_paces=_paces_of(facts.get("picture_paces", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArtifactInvalid) as error:
        raise LoadError(f"worker: a hello that does not fit: {error}") from error


def _paces_of(given: Sequence[Any]) -> tuple[tuple[int, float], ...]:
    return tuple((int(rows), float(seconds)) for rows, seconds in given[:_MOST_PACES])

"""What the parameters and names of an inference request mean, the same over HTTP and gRPC."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from numpy.typing import NDArray

from foretell.errors import InvalidInput
from foretell.protocol.status import Refused
from foretell.request import BULK, INTERACTIVE
from foretell.signature import TensorSpec

__all__ = ["classes_of", "index_of", "names_of", "priority_of", "same_rows", "sooner", "unknown_input"]


def same_rows(found: dict[str, NDArray[Any]], specs: dict[str, TensorSpec]) -> int:
    """Return the rows of the inputs, which must all be there and have as many."""
    for name in specs:
        if name not in found:
            raise InvalidInput(f'input "{name}": it is missing; the model takes {names_of(specs)}', column=name)
    rows = {len(a) if a.ndim else 1 for a in found.values()}
    if len(rows) > 1:
        error = InvalidInput("inputs: they have different numbers of rows; send as many in each")
        error.code = "shape_mismatch"
        raise error
    return rows.pop() if rows else 0


def unknown_input(name: Any, specs: dict[str, TensorSpec]) -> InvalidInput:
    """Return the refusal of an input the model has not."""
    return InvalidInput(f'input "{str(name)[:80]}": the model has none of this name; it takes {names_of(specs)}')


def index_of(name: Any, positions: dict[str, int]) -> int:
    """Return the place of an output by its name."""
    index = positions.get(name) if isinstance(name, str) else None
    if index is None:
        raise InvalidInput(
            f'output "{str(name)[:80]}": the model has none of this name; it gives {names_of(positions)}'
        )
    return index


def classes_of(parameters: dict[str, Any]) -> int:
    """Return how many best classes an output is asked as; 0: as it is."""
    classes = parameters.get("classification", 0)
    if type(classes) is not int or not 0 <= classes <= 1_000_000:
        raise Refused('"classification": expected an integer from 1 to 1000000', code="bad_parameter")
    return classes


def sooner(timeout_s: float | None, parameters: dict[str, Any]) -> float | None:
    """Return the shorter of a timeout and the parameter `timeout`, which is in microseconds; 0 is none."""
    given = parameters.get("timeout", 0)
    if type(given) is str and given.isascii() and given.isdigit() and len(given) < 19:
        given = int(given)
    if type(given) is not int or not 0 <= given < 1 << 63:
        raise Refused('"timeout": expected microseconds, an integer of at least 0', code="bad_parameter")
    if "sequence_id" in parameters and parameters["sequence_id"] not in (0, ""):
        raise Refused('"sequence_id": no model here keeps a state; leave it out', code="bad_parameter", status=501)
    if not given:
        return timeout_s
    return given / 1e6 if timeout_s is None else min(timeout_s, given / 1e6)


def priority_of(parameters: dict[str, Any]) -> int:
    """Return our priority of the parameter `priority`: 0 and 1 are interactive, greater is bulk."""
    given = parameters.get("priority", 0)
    if type(given) is not int or not 0 <= given < 1 << 63:
        raise Refused('"priority": expected an integer of at least 0', code="bad_parameter")
    return BULK if given > 1 else INTERACTIVE


def names_of(names: Iterable[str]) -> str:
    """Return the first names, quoted."""
    listed = [f'"{name}"' for name in names]
    return ", ".join(listed[:8]) + (" ..." if len(listed) > 8 else "")

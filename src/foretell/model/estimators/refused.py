"""Why an estimator has no graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["NoGraphError", "step"]


class NoGraphError(Exception):
    """A step has no graph; the text says which, and why. The estimator itself runs instead."""

    def __init__(self, reason: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        where = f'step "{".".join(self.path)}": ' if self.path else ""
        return where + self.reason


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say in a refusal that it came from this step."""
    try:
        yield
    except NoGraphError as error:
        raise NoGraphError(error.reason, (name, *error.path)) from error

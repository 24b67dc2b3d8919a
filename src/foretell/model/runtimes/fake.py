"""Runtimes for tests: no framework, no file, answers that can be foretold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from foretell.errors import InferenceFailed

__all__ = ["FailingRuntime", "FakeRuntime"]


class FakeRuntime:
    """Answer with a function of the inputs, and count the calls."""

    def __init__(self, answer: Callable[[dict[str, NDArray[Any]]], list[NDArray[Any]]]) -> None:
        self._answer = answer
        self.calls: list[int] = []
        """Rows of each call so far."""
        self.closed = False

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return `answer(inputs)`."""
        self.calls.append(len(next(iter(inputs.values()))))
        return self._answer(inputs)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


class FailingRuntime:
    """Raise on every call."""

    def infer(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Raise InferenceFailed."""
        raise InferenceFailed("fake runtime: told to fail")

    def close(self) -> None:
        """Do nothing."""

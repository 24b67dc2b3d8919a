"""What the engine needs of an event loop, so that tests can run it in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Loop", "Timer"]


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> None:
        """Do not call."""
        ...


class Loop(Protocol):
    """An asyncio loop, or `fakes.FakeLoop`."""

    def call_soon(self, callback: Callable[..., Any], /, *args: Any) -> Any:
        """Call in this iteration or the next."""
        ...

    def call_later(self, delay: float, callback: Callable[..., Any], /, *args: Any) -> Timer:
        """Call after so many seconds."""
        ...

    def call_exception_handler(self, context: dict[str, Any], /) -> None:
        """Report an exception that nobody else can."""
        ...

"""Processor time by step. Counts the time of the thread that asks, so that waiting costs nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["STEPS", "Spent"]

T = TypeVar("T")

STEPS = ("read", "parse", "predict", "encode", "write")


class Spent:
    """Seconds of processor time by step. For one thread."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def on(self, step: str) -> Iterator[None]:
        """Count what runs inside for a step."""
        began = time.thread_time()
        try:
            yield
        finally:
            self.add({step: time.thread_time() - began})

    def over(self, step: str, found: Iterator[T]) -> Iterator[T]:
        """Yield what an iterator yields; count the time it takes for a step."""
        while True:
            with self.on(step):
                try:
                    one = next(found)
                except StopIteration:
                    return
            yield one
            del one

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count what was counted elsewhere."""
        for step, more in seconds.items():
            self.seconds[step] = self.seconds.get(step, 0.0) + more

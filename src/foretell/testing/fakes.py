"""Models that answer with a function. No file, no framework."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.engine.instance import Hello, Instance, StartInstance
from foretell.engine.worker.local import LocalInstance, start_local_instance
from foretell.errors import InvalidOutput
from foretell.model.runtimes.fake import FakeRuntime
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Task
from foretell.model.tasks.regression import Regression
from foretell.signature import Column, Field, Label, Signature, TensorSpec

__all__ = ["FakeModel", "starting"]

_THREADED = ((1, 1.0),)
"""What makes an instance answer in a thread: a fake may sleep, or wait for the test."""


class FakeModel:
    """A stand-in for a trained model.

    Args:
        fields: Names of its columns, numbers all, or `Field`s. A category reaches `answer` as its code.
        answer: Called with FP64 of shape (rows, fields), missing values NaN. Returns numbers of shape (rows,), or with
            `classes` probabilities of shape (rows, classes). It may sleep, wait for an event, or raise.
        classes: Labels of a classifier. Without them it is a regression.

    Attributes:
        calls: Rows of each call so far, as they were batched.
    """

    def __init__(
        self,
        fields: Sequence[str | Field],
        answer: Callable[[NDArray[np.float64]], Any],
        *,
        classes: Sequence[Label] = (),
    ) -> None:
        found = tuple(f if isinstance(f, Field) else Field(f) for f in fields)
        columns = tuple(Column(f.name, "code" if f.kind == "category" else "number") for f in found)
        self._row = (len(classes),) if classes else ()
        self._answer = answer
        self._runtime = FakeRuntime(self._checked)
        self.calls = self._runtime.calls
        self.name = "fake"
        self.signature = Signature(
            (TensorSpec("input", "FP64", (-1, len(found))),),
            (TensorSpec("answer", "FP64", (-1, *self._row)),),
            found,
            {"input": columns},
        )
        self.task_reader: Task = Regression()
        if classes:
            self.task_reader = Classification(tuple(classes), probability_output=0)

    def infer(self, inputs: dict[str, NDArray[Any]], rows: int) -> list[NDArray[Any]]:
        """Run prepared tensors."""
        del rows
        return self._runtime.infer(inputs)

    def info(self) -> dict[str, Any]:
        """Return plain facts."""
        return {"name": self.name, "format": "fake", "task": self.task_reader.name}

    def _checked(self, inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        found = np.asarray(self._answer(inputs["input"]), np.float64)
        wanted = (len(inputs["input"]), *self._row)
        if found.shape != wanted:
            raise InvalidOutput(f"fake model: answered with shape {found.shape}, expected {wanted}")
        return [found]


def starting(fakes: Mapping[Path, FakeModel]) -> StartInstance:
    """Return what starts instances: of a fake by its path, of any other model in this process."""

    async def start(path: Path, *, trust: bool, threads: int, memory_bytes: int | None) -> tuple[Instance, Hello]:
        fake = fakes.get(path)
        if fake is None:
            return await start_local_instance(path, trust=trust, threads=threads, memory_bytes=memory_bytes)
        hello = Hello(path.stem, fake.signature, fake.task_reader, fake.info())
        return LocalInstance(asyncio.get_running_loop(), fake, _THREADED), hello

    return start

"""No known task: the outputs as they are, under their own names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from foretell.signature import Label

__all__ = ["Tensors"]


@dataclass(frozen=True, slots=True)
class Tensors:
    """Give the outputs of the runtime unread; `values` is the first of them."""

    outputs: tuple[str, ...]
    """Names of the outputs, in order."""

    @property
    def name(self) -> str:
        """Always `tensors`."""
        return "tensors"

    @property
    def classes(self) -> tuple[Label, ...]:
        """None: nothing is known of the outputs."""
        return ()

    def values(self, outputs: list[NDArray[Any]]) -> NDArray[Any]:
        """Return the first output."""
        return outputs[0]

    def probabilities(self, outputs: list[NDArray[Any]]) -> None:
        """Return None: nothing is known of the outputs."""
        return

    def records(self, outputs: list[NDArray[Any]]) -> list[Any]:
        """Return the first output as plain values, one per row."""
        found: list[Any] = self.values(outputs).tolist()
        return found

    def table(self, outputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return a column per output; `name_0`, `name_1` ... where a row has several elements."""
        columns: dict[str, NDArray[Any]] = {}
        for name, found in zip(self.outputs, outputs, strict=True):
            flat = found.reshape(len(found), -1)
            if flat.shape[1] == 1:
                columns[name] = flat[:, 0]
            else:
                columns |= {f"{name}_{i}": flat[:, i] for i in range(flat.shape[1])}
        return columns

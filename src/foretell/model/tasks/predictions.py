"""Answers in the user's terms.

A `Predictions` holds the raw outputs of one call and reads them only when asked, so that one row in
a hot loop pays for nothing it does not use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from foretell.model.tasks.classification import Classification
from foretell.model.tasks.detection import Detection
from foretell.model.tasks.objects import Objects
from foretell.signature import Label

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from PIL.Image import Image as Picture

__all__ = ["Predictions", "Task"]

Outputs = list[NDArray[Any]]
_SHOWN_PICTURES = 8
"""So many pictures are shown in a notebook at once."""


class Task(Protocol):
    """What a runtime's outputs mean."""

    @property
    def name(self) -> str:
        """Name of the task in the field's words: `regression`, `classification` ..."""
        ...

    @property
    def classes(self) -> tuple[Label, ...]:
        """Classes of a classifier, in the order of its probabilities; empty for other tasks."""
        ...

    def values(self, outputs: Outputs) -> NDArray[Any]:
        """Return the prediction of each row: numbers, or labels. Shape (rows,) or (rows, targets)."""
        ...

    def probabilities(self, outputs: Outputs) -> NDArray[Any] | None:
        """Return (rows, classes), or None where the model gives none."""
        ...

    def table(self, outputs: Outputs) -> dict[str, NDArray[Any]]:
        """Return the output columns of these rows, in order, by name."""
        ...

    def records(self, outputs: Outputs) -> list[Any]:
        """Return one plain Python value per row."""
        ...


class Predictions:
    """Predictions of one call, one per row, in the order of the rows.

    `len`, iteration and indexing go by row and give plain Python values: a number for a regression,
    `{"label", "probability", "probabilities"}` for a classification, for a detection a list of
    `{"label", "score", "box": [x_min, y_min, x_max, y_max]}`.
    """

    __slots__ = ("_outputs", "_picture", "_task", "notes", "sources")

    def __init__(
        self,
        task: Task,
        outputs: Outputs,
        notes: tuple[str, ...] = (),
        *,
        sources: Sequence[str] = (),
        picture: Callable[[int], Picture] | None = None,
    ) -> None:
        self._task = task
        self._outputs = outputs
        self._picture = picture
        self.notes = notes
        """What was coerced or ignored in the data, one line each."""
        self.sources = sources
        """Where each row came from, such as the name of a picture's file; empty where rows have no names."""

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """Return the predictions of several calls of one model as one; at least one. Names and pictures are left."""
        columns = zip(*(part._outputs for part in parts), strict=True)
        notes = dict.fromkeys(note for part in parts for note in part.notes)
        return cls(parts[0]._task, [np.concatenate(column) for column in columns], tuple(notes))

    @property
    def task(self) -> str:
        """Name of the task: `regression`, `classification`, `detection` ..."""
        return self._task.name

    @property
    def values(self) -> NDArray[Any]:
        """The prediction of each row: a number, or a label. Shape (rows,) or (rows, targets)."""
        return self._task.values(self._outputs)

    @property
    def labels(self) -> NDArray[Any]:
        """The label of each row of a classification, shape (rows,); AttributeError otherwise."""
        if isinstance(self._task, Detection):
            raise AttributeError("labels: a picture has any number of them; use .objects or .to_columns()")
        if not self._task.classes:
            raise AttributeError(f"labels: this is a {self.task}, it has no labels; use .values")
        return self._task.values(self._outputs)

    @property
    def classes(self) -> tuple[Label, ...]:
        """Classes in the order of the columns of `probabilities`; empty for other tasks."""
        return self._task.classes

    @property
    def probabilities(self) -> NDArray[Any] | None:
        """Probabilities, shape (rows, classes); None where the model gives none."""
        return self._task.probabilities(self._outputs)

    @property
    def objects(self) -> Objects:
        """What a detection found, as arrays; AttributeError otherwise."""
        if not isinstance(self._task, Detection):
            raise AttributeError(f"objects: this is a {self.task}; use .values")
        return Objects(*self._outputs)

    def top(self, count: int = 5) -> list[list[tuple[Label, float]]]:
        """Return the most probable classes of each row with their probabilities, the most probable first.

        Raises:
            AttributeError: This is no classification, or it has no probabilities.
        """
        if not isinstance(self._task, Classification):
            raise AttributeError(f"top: this is a {self.task}, not a classification; use .values")
        order, best = self._task.best(self._outputs, count)
        return [
            [(self.classes[place], p) for place, p in zip(places, row, strict=True)]
            for places, row in zip(order.tolist(), best.tolist(), strict=True)
        ]

    def to_columns(self) -> dict[str, NDArray[Any]]:
        """Return the output columns by name, as `foretell predict` writes them: a detection has a row per object."""
        columns = self._task.table(self._outputs)
        if not len(self.sources):
            return columns
        names = np.array(self.sources, object)
        source = names[columns.pop("source")] if isinstance(self._task, Detection) else names
        return {"source": source if len(source) else source.astype(str)} | columns

    def pictures(self) -> list[Picture]:
        """Return the pictures themselves as people see them: whole, upright, RGB.

        Raises:
            AttributeError: These are no predictions of pictures.
        """
        return [self._original(row) for row in range(len(self))]

    def draw(self, row: int | None = None) -> Picture:
        """Return a copy of a picture with what was found in it; the original stays as it is.

        Args:
            row: Of the picture. None: the picture if there is one, a contact sheet of all of them if there are more.

        Raises:
            AttributeError: These are no predictions of pictures.
            IndexError: There is no such row.
        """
        from foretell.model.picture import contact_sheet

        if row is None and len(self) != 1:
            return contact_sheet([self._drawn(i) for i in range(len(self))], list(self.sources))
        return self._drawn(range(len(self))[row or 0])

    def to_arrow(self) -> pa.Table:
        """Return the output columns as a `pyarrow.Table`."""
        import pyarrow as pa

        return pa.table({name: pa.array(column) for name, column in self.to_columns().items()})

    def to_pandas(self) -> pd.DataFrame:
        """Return the output columns as a `pandas.DataFrame`."""
        import pandas as pd

        return pd.DataFrame(self.to_columns())

    def to_list(self) -> list[Any]:
        """Return one plain Python value per row, as indexing gives them."""
        return self._task.records(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_list())

    def __getitem__(self, row: int) -> Any:
        rows = range(len(self))
        at = rows[row]
        return Predictions(self._task, [o[at : at + 1] for o in self._outputs]).to_list()[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self.values, dtype=dtype)

    def __repr__(self) -> str:
        shown = self.to_list() if len(self) <= 8 else [*(self[i] for i in range(5)), "..."]
        lines = "".join(f"\n  {row}" for row in shown)
        return f"<{self.task}: {len(self)} row{'s' * (len(self) != 1)}>{lines}"

    def _repr_html_(self) -> str | None:
        """Show pictures in a notebook; it falls back to the text where there are none."""
        if self._picture is None:
            return None
        from foretell.model.picture import html_of

        shown = range(min(len(self), _SHOWN_PICTURES))
        html = html_of([self._drawn(i) for i in shown], [str(s) for s in self.sources[: len(shown)]])
        more = len(self) - len(shown)
        return html + (f"<p>and {more} more: .draw() shows them all</p>" if more else "")

    def _repr_png_(self) -> bytes | None:
        if self._picture is None or not len(self):
            return None
        from foretell.model.picture import png_of

        return png_of(self.draw())

    def _drawn(self, row: int) -> Picture:
        from foretell.model.picture import caption, draw

        picture = self._original(row)
        if isinstance(self._task, Detection):
            found, count = self.objects, int(self.objects.counts[row])
            names = [str(self._task.label(n)) for n in found.labels[row, :count].tolist()]
            return draw(picture, found.boxes[row, :count], names, found.scores[row, :count].tolist())
        record = self[row]
        text = f"{record['label']} {record.get('probability', 1):.2f}" if isinstance(record, dict) else f"{record}"
        return caption(picture, text)

    def _original(self, row: int) -> Picture:
        if self._picture is None:
            raise AttributeError(
                f"draw: these predictions of {len(self)} rows have no pictures; give pictures, not tensors"
            )
        return self._picture(row)

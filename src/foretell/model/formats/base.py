"""What a format makes of an artifact, and how the original is asked for the proof."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

from foretell.model.runtimes import Runner
from foretell.model.tasks.predictions import Task
from foretell.signature import Signature

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Answers", "Opened", "Reference"]


class Answers(NamedTuple):
    """What the original model says of some rows."""

    values: NDArray[Any]
    """(rows,) or (rows, targets) numbers of a regression; (rows,) labels of a classification."""
    probabilities: NDArray[Any] | None = None
    """(rows, classes) in the order of the task's classes; None where the original gives none."""


class Reference(Protocol):
    """The original model, in its own library: what a conversion is proven against."""

    def predict(self, rows: pa.Table) -> Answers:
        """Answer rows given as the user gives them: a column per field, nulls for missing values."""
        ...

    def time_s(self, rows: pa.Table) -> float:
        """Return the seconds of one prediction of these rows: the median of several, after a warm-up."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(frozen=True)
class Opened:
    """A trained model, read: what it takes and gives, and the ways to run it."""

    format: str
    """The family: `onnx`, `scikit-learn`, `xgboost`, `lightgbm`, `catboost`."""
    signature: Signature
    task: Task
    runners: tuple[Runner, ...]
    """Ways to run it, by `rows_from`. The first one takes a single row."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """Plain facts for people: estimator, library versions, number of trees, what was in force."""
    notes: tuple[str, ...] = ()
    """What a user should know: why a conversion was not possible, what was worked round."""
    reference: Reference | None = None
    """The original, where its library is installed; whoever opens it closes it."""

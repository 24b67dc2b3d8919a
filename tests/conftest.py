"""How examples are drawn, and a model whose answers can be foretold, for tests of files."""

import os

import numpy as np
import pytest
from hypothesis import settings

from foretell.model.data.table import TablePreparation
from foretell.model.tasks.classification import Classification
from foretell.model.tasks.predictions import Predictions
from foretell.model.tasks.regression import Regression
from foretell.signature import Column, Field, Signature, TensorSpec

# No deadline: a busy machine is no fault of the code. The same examples each time, so that a change is judged by what
# it changed; `scripts/test --explore` draws new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile(os.environ.get("FORETELL_EXAMPLES", "same"))


class SumModel:
    """Predicts the sum of its columns, in float64, missing values as 0; or two classes by its sign."""

    def __init__(self, fields, *, named=True, datatype="FP64", classes=()):
        fields = tuple(f if isinstance(f, Field) else Field(f) for f in fields)
        columns = tuple(Column(f.name, "code" if f.categories else "number") for f in fields)
        self.signature = Signature(
            inputs=(TensorSpec("x", datatype, (-1, len(fields))),),
            outputs=(TensorSpec("y", "FP64", (-1, 1)),),
            fields=fields,
            columns={"x": columns},
            named=named,
        )
        self._preparation = TablePreparation(self.signature)
        self._task = Classification(tuple(classes), probability_output=0) if classes else Regression()

    def predict(self, data):
        return self._answer(self._preparation.prepare(data))

    def predict_arrow(self, batch, first_row=0):
        return self._answer(self._preparation.prepare_arrow(batch, first_row))

    def refusals(self, data):
        return self._preparation.refusals(data)

    def _answer(self, prepared):
        x = prepared.inputs["x"]
        with np.errstate(over="ignore"):  # the sum of the largest numbers is infinite
            total = (np.nansum(x, axis=1) if x.dtype.kind == "f" else x.sum(axis=1)).reshape(-1, 1)
        if not self._task.classes:
            return Predictions(self._task, [total], prepared.notes)
        second = (total > 0).astype(np.float64)
        return Predictions(self._task, [np.hstack([1 - second, second])], prepared.notes)


@pytest.fixture
def sum_model():
    return SumModel

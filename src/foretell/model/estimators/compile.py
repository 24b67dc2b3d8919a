"""Turn a fitted estimator into one graph over one matrix of numbers and codes.

1 walk      from the user's columns to the last step; each type of estimator has a rule, skl2onnx has the rest
2 learn     on the way: which columns are numbers, which are categories, and with what values
3 repeat    until nothing new is learned: two encoders of one column share its codes
4 write     the model, and the signature of what it takes

Knows graphs and the order of the walk. What an estimator computes is in the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from foretell.model.estimators.graph import ML_OPSET, Graph, MlOpset, Raw, Tensor
from foretell.model.estimators.inputs import Inputs
from foretell.model.estimators.refused import NoGraphError

__all__ = ["SOURCE", "Compiler", "Plan", "Rule", "Source"]

SOURCE = "features"
_PASSES = 5
_STAY_SPARSE = {
    "StandardScaler", "MaxAbsScaler", "SelectKBest", "SelectPercentile", "SelectFromModel", "VarianceThreshold",
    "RFE", "RFECV", "FunctionTransformer",
}  # fmt: skip

T = TypeVar("T")
Source = Raw | Tensor
Rule = Callable[["Compiler", Any, Source, str], Tensor]
"""Writes one method of a fitted estimator: `transform`, `predict`, `predict_proba` or `decision_function`.

`predict` of a classifier gives positions in `classes_`, (rows, 1) INT64; of a regressor (rows, targets).
"""


class Compiler:
    """One walk: the graph so far, what is learned of the inputs, and the rules."""

    def __init__(self, plan: Plan, *, dry: bool = False, bulk: bool = False) -> None:
        self.graph = Graph(Tensor(SOURCE, plan.datatype, len(plan.inputs.uses)), plan.opset)
        self.inputs = plan.inputs
        self.dry = dry
        """Only learn: what is costly to write is left out."""
        self.bulk = bulk
        """Write trees the way that is faster for many rows."""
        self.splits = 0
        """Most trees of an ensemble in one node, if written for many rows; 0 where there is nothing to split."""
        self.asked: set[str] = set()
        """Datatypes in which steps took raw numbers."""
        self.opset = ML_OPSET
        self.origins: dict[str, tuple[int | None, ...]] = {}
        """For tensors that are raw numbers still: the raw column of each of their columns."""
        self.sparse: set[str] = set()
        """Tensors that are sparse matrices in scikit-learn: XGBoost takes what they leave out as missing."""
        self._plan = plan
        self._done: dict[tuple[int, Source, str], Tensor] = {}

    def once(self, estimator: Any, make: Callable[[Any], T]) -> T:
        """Return what `make` makes of an estimator, made once for all walks."""
        return self.remembered((id(estimator), make.__qualname__), lambda: make(estimator))

    def remembered(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` gives, made once for all walks."""
        if key not in self._plan.made:
            self._plan.made[key] = make()
        return cast("T", self._plan.made[key])

    def ml_opset(self, needed: MlOpset) -> MlOpset:
        """Ask for an opset of `ai.onnx.ml`, and return the one that this graph has: the least that was asked for."""
        self.opset = min(self.opset, needed)
        return min(self._plan.opset, needed)

    def emit(self, estimator: Any, source: Source, method: str) -> Tensor:
        """Write one method of an estimator; a second use of the same gives the same tensor.

        Raises:
            NoGraphError: It has no graph.
        """
        key = (id(estimator), source, method)
        if key not in self._done:
            rule = self._plan.rules.get(_name(estimator), self._plan.otherwise)
            done = self._done[key] = rule(self, estimator, source, method)
            if isinstance(source, Tensor) and source.name in self.sparse and _name(estimator) in _STAY_SPARSE:
                self.sparse.add(done.name)
        return self._done[key]

    def numbers(self, source: Source, datatype: str = "FP64") -> Tensor:
        """Return raw columns as numbers, or a tensor as it is, in a datatype.

        Raises:
            NoGraphError: A column holds text.
        """
        if isinstance(source, Raw):
            self.asked.add(datatype)
            for column in source.columns:
                if self.inputs.is_text(column):
                    raise NoGraphError(f'it reads column "{self.inputs.names[column]}", which holds text')
            places = [self.inputs.position(c, "number") for c in source.columns]
            columns = source.columns
            source = self.graph.pick(self.graph.source, places)
            self.origins[source.name] = columns
        found = self.graph.cast(source, datatype)
        self.origins[found.name] = self.origins.get(source.name, (None,) * source.width)
        return found

    def raw_columns(self, source: Source) -> tuple[int | None, ...]:
        """Return the raw column that each column of a source still is; None where it is something else."""
        if isinstance(source, Raw):
            return source.columns
        return self.origins.get(source.name, (None,) * source.width)

    def span(self, source: Source, low: Any, high: Any) -> None:
        """Remember ranges that a step saw in training, for columns that are raw still."""
        raw = self.raw_columns(source)
        known = [(c, a, b) for c, a, b in zip(raw, low, high, strict=True) if c is not None]
        self.inputs.span([c for c, _, _ in known], [a for _, a, _ in known], [b for _, _, b in known])

    def codes(self, raw: Raw) -> Tensor:
        """Return raw columns as codes of their vocabularies."""
        places = [self.inputs.position(c, "code") for c in raw.columns]
        return self.graph.pick(self.graph.source, places)


@dataclass
class Plan:
    """What all walks over one estimator share."""

    estimator: Any
    """Fitted."""
    inputs: Inputs
    """Filled on the way."""
    wanted: tuple[tuple[str, str, bool], ...]
    """Outputs: name, method, whether it is flat, (rows,)."""
    rules: Mapping[str, Rule]
    """By name of class, of scikit-learn's own classes and the wrappers of other libraries."""
    otherwise: Rule
    """For classes without a rule."""
    datatype: str = "FP64"
    """Of the one input, `features`: FP32 where nothing reads it but trees that take float32."""
    opset: MlOpset = ML_OPSET
    made: dict[Hashable, Any] = field(default_factory=dict)

    def settle(self) -> None:
        """Walk until nothing new is learned.

        Raises:
            NoGraphError: A step has no graph.
        """
        for _ in range(_PASSES):
            self.inputs.grown = False
            width = len(self.inputs.uses)
            walk, _outputs = self._walk(Compiler(self, dry=True))
            datatype = "FP32" if walk.asked == {"FP32"} else "FP64"
            settled = (width, self.datatype, self.opset) == (len(self.inputs.uses), datatype, walk.opset)
            self.datatype, self.opset = datatype, walk.opset
            if settled and not self.inputs.grown:
                return
        raise NoGraphError("its encoders do not settle on the values of their columns")

    def write(self) -> tuple[bytes, bytes | None]:
        """Return the model, and one for many rows where that differs.

        Raises:
            NoGraphError: A step has no graph.
        """
        self.settle()
        if not self.inputs.uses:
            raise NoGraphError("it reads no column")
        walk, outputs = self._walk(Compiler(self))
        if not walk.splits:
            return walk.graph.model(outputs), None
        bulk, bulk_outputs = self._walk(Compiler(self, bulk=True))
        return walk.graph.model(outputs), bulk.graph.model(bulk_outputs)

    def _walk(self, compiler: Compiler) -> tuple[Compiler, list[tuple[str, Tensor, bool]]]:
        whole = Raw(tuple(range(len(self.inputs.names))))
        return compiler, [(n, compiler.emit(self.estimator, whole, method), flat) for n, method, flat in self.wanted]


def _name(estimator: Any) -> str:
    """Return the name of a class whose code is known: its own subclasses may do anything."""
    kind = type(estimator)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package in ("sklearn", "xgboost", "lightgbm", "catboost") else ""

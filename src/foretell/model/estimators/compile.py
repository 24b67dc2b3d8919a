"""Turn a fitted estimator into one graph over one matrix of numbers and codes.

1 walk      from the user's columns to the last step; each type of estimator has a rule, skl2onnx has the rest
2 learn     on the way: which columns are numbers, which are categories, and with what values
3 repeat    until nothing new is learned: two encoders of one column share its codes
4 write     the model, and the signature of what it takes

Knows graphs and the order of the walk. What an estimator computes is in the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from foretell.model.estimators.graph import Graph, Raw, Tensor
from foretell.model.estimators.inputs import Inputs
from foretell.model.estimators.refused import NoGraphError

__all__ = ["SOURCE", "Compiler", "Rule", "Source", "compile_graph"]

SOURCE = "features"
_PASSES = 5

Source = Raw | Tensor
Rule = Callable[["Compiler", Any, Source, str], Tensor]
"""Writes one method of a fitted estimator: `transform`, `predict`, `predict_proba` or `decision_function`.

`predict` of a classifier gives positions in `classes_`, (rows, 1) INT64; of a regressor (rows, targets).
"""


class Compiler:
    """One walk: the graph so far, what is learned of the inputs, and the rules."""

    def __init__(self, graph: Graph, inputs: Inputs, rules: Mapping[str, Rule], otherwise: Rule) -> None:
        self.graph, self.inputs = graph, inputs
        self._rules, self._otherwise = rules, otherwise
        self.asked: set[str] = set()
        """Datatypes in which steps took raw numbers."""
        self._done: dict[tuple[int, Source, str], Tensor] = {}

    def emit(self, estimator: Any, source: Source, method: str) -> Tensor:
        """Write one method of an estimator; a second use of the same gives the same tensor.

        Raises:
            NoGraphError: It has no graph.
        """
        key = (id(estimator), source, method)
        if key not in self._done:
            rule = self._rules.get(_name(estimator), self._otherwise)
            self._done[key] = rule(self, estimator, source, method)
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
            source = self.graph.pick(self.graph.source, places)
        return self.graph.cast(source, datatype)

    def codes(self, raw: Raw) -> Tensor:
        """Return raw columns as codes of their vocabularies."""
        places = [self.inputs.position(c, "code") for c in raw.columns]
        return self.graph.pick(self.graph.source, places)


def compile_graph(
    estimator: Any,
    inputs: Inputs,
    wanted: list[tuple[str, str, bool]],
    rules: Mapping[str, Rule],
    otherwise: Rule,
) -> tuple[bytes, str]:
    """Write the graph of an estimator over all columns of its table.

    Args:
        estimator: Fitted.
        inputs: Filled on the way.
        wanted: Outputs: name, method, whether it is flat.
        rules: By name of class, of scikit-learn's own classes and the wrappers of other libraries.
        otherwise: For classes without a rule.

    Returns:
        The model, and the datatype of its one input, `features`.

    Raises:
        NoGraphError: A step has no graph.
    """
    datatype, whole = "FP64", Raw(tuple(range(len(inputs.names))))
    for _ in range(_PASSES):
        inputs.grown = False
        width = len(inputs.uses)
        graph = Graph(Tensor(SOURCE, datatype, width))
        compiler = Compiler(graph, inputs, rules, otherwise)
        outputs = [(name, compiler.emit(estimator, whole, method), flat) for name, method, flat in wanted]
        exact = "FP32" if compiler.asked == {"FP32"} else "FP64"
        if not inputs.grown and width == len(inputs.uses) and exact == datatype:
            if not width:
                raise NoGraphError("it reads no column")
            return graph.model(outputs), datatype
        datatype = exact
    raise NoGraphError("its encoders do not settle on the values of their columns")


def _name(estimator: Any) -> str:
    """Return the name of a class whose code is known: its own subclasses may do anything."""
    kind = type(estimator)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ if package in ("sklearn", "xgboost", "lightgbm", "catboost") else ""

"""All rules, by name of class."""

from __future__ import annotations

from foretell.model.estimators.compile import Rule
from foretell.model.estimators.distances import DISTANCES
from foretell.model.estimators.external import by_skl2onnx
from foretell.model.estimators.linear import LINEAR
from foretell.model.estimators.members import MEMBERS
from foretell.model.estimators.numeric import NUMERIC
from foretell.model.estimators.steps import STEPS
from foretell.model.estimators.trees import TREES
from foretell.model.estimators.wrapped import WRAPPED

__all__ = ["OTHERWISE", "RULES"]

RULES: dict[str, Rule] = STEPS | NUMERIC | LINEAR | TREES | DISTANCES | MEMBERS | WRAPPED
OTHERWISE: Rule = by_skl2onnx

"""Tree ensembles: what every library's trees have in common, proven sound, and written as a graph."""

from __future__ import annotations

from foretell.model.trees.ensemble import Ensemble, Tree
from foretell.model.trees.graph import to_onnx, tree_nodes

__all__ = ["Ensemble", "Tree", "to_onnx", "tree_nodes"]

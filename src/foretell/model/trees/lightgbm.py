"""LightGBM's text files: bytes to what is in them. The library is not needed, and reads less carefully.

What a file means is taken from the library's source (4.7). Knows no signature and no task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from foretell.errors import ArtifactInvalid
from foretell.model.trees.ensemble import Ensemble, Link
from foretell.model.trees.lightgbm_tree import MISSING_ZERO, kinds_of, read_tree
from foretell.model.trees.untrusted import MAX_FEATURES, number, whole
from foretell.signature import Label

__all__ = ["LightGBMFile", "read"]

_EXP, _RAW = ("poisson", "gamma", "tweedie"), ("huber", "fair", "quantile", "mape", "regression_l1", "regression_l2")
_RANKING = ("lambdarank", "rank_xendcg")
_PANDAS = "pandas_categorical:"


@dataclass(frozen=True, eq=False)
class LightGBMFile:
    """What a LightGBM file says."""

    model: Ensemble | None
    """None: leaves are linear functions (linear_tree), which only the library runs."""
    zero_is_missing: tuple[int, ...]
    """Features whose zeros go the way of missing values: zeros are to be made NaN before the trees."""
    n_features: int
    classes: int
    """Number of classes of a classifier, 0 for other tasks."""
    targets: int
    objective: str
    """Name of the objective; empty for an objective of the user's own."""
    link: Link
    trees: int
    feature_names: tuple[str, ...]
    categorical: tuple[int, ...]
    """Features with categorical splits or, if the file has its parameters, declared categorical."""
    pandas_categories: tuple[tuple[Label, ...], ...]
    """Values of the columns that were pandas categories, in the order of the columns."""
    ranges: Mapping[int, tuple[float, float]]
    """Least and greatest value seen in training, by feature."""


def read(content: bytes) -> LightGBMFile:
    """Read a model that LightGBM saved as text.

    Raises:
        ArtifactInvalid: It is damaged, or not a model of LightGBM.
    """
    head, blocks, tail = _cut(content)
    n_features = whole(head, "max_feature_idx", most=MAX_FEATURES - 1) + 1
    per_round = whole(head, "num_tree_per_iteration", most=10_000)
    n_classes = whole(head, "num_class", 1, 10_000)
    names = tuple(_required(head, "feature_names").split(" "))
    infos = _required(head, "feature_infos").split(" ")
    if len(names) != n_features or len(infos) != n_features or per_round < 1:
        raise ArtifactInvalid(f"{len(names)} feature_names and {len(infos)} feature_infos, expected {n_features}")
    if len(blocks) % per_round:
        raise ArtifactInvalid(f"{len(blocks)} trees, expected a multiple of {per_round}")
    categorical = _categorical(infos, tail)
    if categorical and "\nend of parameters" not in tail:
        raise ArtifactInvalid('no line "end of parameters": the file was cut short, and categories come after it')
    objective = _objective(head.get("objective", ""), per_round, n_classes)
    trees = [read_tree(block, index % per_round, f"tree {index}") for index, block in enumerate(blocks)]
    linear = any(t is None for t in trees)
    read_trees = [t for t in trees if t is not None]
    kinds = kinds_of(pair for _, found in read_trees for pair in found.items())
    model = Ensemble(
        tuple(tree for tree, _ in read_trees),
        n_features,
        datatype="FP64",
        targets=per_round,
        average="average_output" in head,
        link=objective.link,
        scale=objective.scale,
    )
    return LightGBMFile(
        model=None if linear else model.check(),
        zero_is_missing=tuple(sorted(f for f, kind in kinds.items() if kind == MISSING_ZERO)),
        n_features=n_features,
        classes=objective.classes,
        targets=per_round,
        objective=objective.name,
        link=objective.link,
        trees=len(blocks),
        feature_names=() if names == tuple(f"Column_{i}" for i in range(n_features)) else names,
        categorical=categorical,
        pandas_categories=_pandas_categories(tail),
        ranges=_ranges(infos),
    )


def _cut(content: bytes) -> tuple[dict[str, str], list[dict[str, str]], str]:
    """Cut the text into its head, its trees and what follows them; a file that was cut short ends here."""
    try:
        text = content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ArtifactInvalid("not UTF-8 text") from error
    if not text.startswith("tree\n"):
        raise ArtifactInvalid('the first line is not "tree"')
    before, end, after = text.partition("\nend of trees\n")
    if not end:
        raise ArtifactInvalid('no line "end of trees": the file was cut short')
    if "\nparameters:" in after and "\nend of parameters" not in after:
        raise ArtifactInvalid('no line "end of parameters": the file was cut short')
    first, *rest = re.split(r"^Tree=\d+$", before, flags=re.MULTILINE)
    head = _pairs(first)
    if "tree_sizes" in head and len(head["tree_sizes"].split()) != len(rest):
        raise ArtifactInvalid(f"{len(rest)} trees, tree_sizes says {len(head['tree_sizes'].split())}")
    return head, [_pairs(block) for block in rest], after


def _pairs(block: str) -> dict[str, str]:
    return {key: value for key, _, value in (line.partition("=") for line in block.split("\n")) if key}


def _required(pairs: Mapping[str, str], key: str) -> str:
    if key not in pairs:
        raise ArtifactInvalid(f'no "{key}"')
    return pairs[key]


class _Objective(NamedTuple):
    name: str
    link: Link
    scale: float = 1.0
    classes: int = 0


def _objective(line: str, targets: int, n_classes: int) -> _Objective:
    name, *words = line.split(" ")
    options = dict(word.split(":", 1) for word in words if ":" in word)
    scale = number(options.get("sigmoid", 1), "sigmoid")
    match name:
        case "binary" if targets == 1:
            return _Objective(name, "logistic", scale, 2)
        case "multiclass" if targets == n_classes:
            return _Objective(name, "softmax", 1.0, targets)
        case "multiclassova" if targets == n_classes:
            return _Objective(name, "logistic_each", scale, targets)
        case "cross_entropy" | "xentropy":
            return _Objective(name, "logistic_each")
        case "cross_entropy_lambda" | "xentlambda":
            return _Objective(name, "log1p_exp")
        case "regression" if "sqrt" in words:
            return _Objective(name, "sqrt_abs")
        case "regression" | "":
            return _Objective(name, "identity")
    if name in _EXP:
        return _Objective(name, "exp")
    if name in _RAW or name in _RANKING:
        return _Objective(name, "sqrt_abs" if "sqrt" in words else "identity")
    raise ArtifactInvalid(f'objective "{line[:60]}" with {targets} trees a round: not one of LightGBM')


def _categorical(infos: list[str], tail: str) -> tuple[int, ...]:
    """Return the categorical features: as the parameters name them, and those whose info lists categories."""
    listed = {i for i, info in enumerate(infos) if info != "none" and not info.startswith("[")}
    declared = re.search(r"^\[categorical_feature: ([\d,]*)\]$", tail, flags=re.MULTILINE)
    if declared and declared[1]:
        listed |= {int(i) for i in declared[1].split(",") if i and len(i) < 7 and int(i) < len(infos)}
    return tuple(sorted(listed))


def _pandas_categories(tail: str) -> tuple[tuple[Label, ...], ...]:
    """Return the categories that LightGBM's Python package writes after everything else."""
    rest = tail.partition("\nend of parameters")[2].strip() if "\nparameters:" in tail else tail.strip()
    line = rest.rpartition("\n")[2]
    if not line.startswith(_PANDAS):
        if line and _PANDAS.startswith(line):
            raise ArtifactInvalid("pandas_categorical: the file was cut short")
        return ()
    try:
        found = json.loads(line.removeprefix(_PANDAS))
    except (ValueError, RecursionError) as error:
        raise ArtifactInvalid("pandas_categorical: the file was cut short, or it is not JSON") from error
    lists = found or []
    plain = isinstance(lists, list) and all(isinstance(values, list) for values in lists)
    if not plain or not all(isinstance(v, (str, int, float)) for values in lists for v in values):
        raise ArtifactInvalid("pandas_categorical: expected lists of values")
    return tuple(tuple(values) for values in lists)


def _ranges(infos: list[str]) -> dict[int, tuple[float, float]]:
    ranges = {}
    for index, info in enumerate(infos):
        low, colon, high = info.strip("[]").partition(":")
        if info.startswith("[") and colon:
            ranges[index] = (number(low, "feature_infos"), number(high, "feature_infos"))
    return ranges

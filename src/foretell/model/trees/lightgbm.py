"""LightGBM's text files: bytes to what is in them. The library is not needed, and reads less carefully.

What a file means is taken from the library's source (4.7): a row goes left where `x <= threshold`; what counts
as missing is said by each node; a category of the set goes left. Knows no signature and no task.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid
from foretell.model.trees.ensemble import LEAF, Ensemble, Link, Tree
from foretell.model.trees.untrusted import MAX_FEATURES, number, whole
from foretell.signature import Label

__all__ = ["ZERO", "LightGBMFile", "read"]

_EXP, _RAW = ("poisson", "gamma", "tweedie"), ("huber", "fair", "quantile", "mape", "regression_l1", "regression_l2")
_RANKING = ("lambdarank", "rank_xendcg")
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_PANDAS = "pandas_categorical:"
ZERO = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: what is not larger is zero."""
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = 0, 1, 2


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
    trees = [_tree(block, index % per_round, f"tree {index}") for index, block in enumerate(blocks)]
    linear = any(t is None for t in trees)
    read_trees = [t for t in trees if t is not None]
    kinds = _kinds(pair for _, found in read_trees for pair in found.items())
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
        zero_is_missing=tuple(sorted(f for f, kind in kinds.items() if kind == _MISSING_ZERO)),
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


def _numbers(block: Mapping[str, str], key: str, count: int, dtype: type[Any]) -> NDArray[Any]:
    words = block.get(key, "").split()
    if len(words) != count:
        raise ArtifactInvalid(f"{key}: got {len(words)} numbers, expected {count}")
    try:
        return np.array(words, dtype=np.float64).astype(np.float64) if dtype is np.float64 else _whole(words)
    except (ValueError, OverflowError) as error:
        raise ArtifactInvalid(f"{key}: expected numbers") from error


def _whole(words: list[str]) -> NDArray[np.int64]:
    return np.array([int(word) for word in words], dtype=np.int64)


def _tree(block: Mapping[str, str], target: int, name: str) -> tuple[Tree, dict[int, int]] | None:
    """Return a tree, and for each feature it tests what that feature takes for missing; None if it is linear."""
    try:
        leaves = whole(block, "num_leaves")
        if whole(block, "is_linear", 0):
            return None
        value = _numbers(block, "leaf_value", leaves, np.float64)
        return (_constant(value, target), {}) if leaves == 1 else _branches(block, value, target)
    except ArtifactInvalid as error:
        raise ArtifactInvalid(f"{name}: {error}") from error


def _constant(value: NDArray[np.float64], target: int) -> Tree:
    leaf = np.full(1, LEAF)
    return Tree(np.zeros(1, np.int64), np.zeros(1), leaf, leaf, np.zeros(1, np.bool_), value, target)


def _branches(block: Mapping[str, str], value: NDArray[np.float64], target: int) -> tuple[Tree, dict[int, int]]:
    """Put the inner nodes first and the leaves after them; a child below 0 is the bit-inverse of a leaf."""
    inner = len(value) - 1
    feature = _numbers(block, "split_feature", inner, np.int64)
    threshold = _numbers(block, "threshold", inner, np.float64)
    kind = _numbers(block, "decision_type", inner, np.int64)
    sides = [_numbers(block, key, inner, np.int64) for key in ("left_child", "right_child")]
    left, right = (np.where(side < 0, inner + ~side, np.where(side < inner, side, -2)) for side in sides)
    missing = (kind >> 2) & 3
    categorical = (kind & _CATEGORICAL) != 0
    default_left = np.where(missing == _MISSING_NONE, threshold >= 0, (kind & _DEFAULT_LEFT) != 0) & ~categorical
    leaf = np.full(len(value), LEAF)
    tree = Tree(
        np.concatenate([feature, np.zeros_like(leaf)]),
        np.concatenate([_around_zero(threshold), np.zeros(len(leaf))]),
        np.concatenate([left, leaf]),
        np.concatenate([right, leaf]),
        np.concatenate([default_left, np.zeros(len(leaf), np.bool_)]),
        np.concatenate([np.zeros(inner), value]),
        target,
        _sets(block, np.flatnonzero(categorical), threshold),
    )
    if (missing > _MISSING_NAN).any():
        raise ArtifactInvalid("decision_type: a kind of missing value that LightGBM does not have")
    # Where zero goes the way of missing values anyway, nothing has to be done for it.
    is_zero = (missing == _MISSING_ZERO) & (default_left != (threshold >= 0))
    matters = ~categorical & (is_zero | (missing == _MISSING_NAN))
    return tree, _kinds(zip(feature[matters].tolist(), missing[matters].tolist(), strict=True))


def _around_zero(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move thresholds near zero out of the way of values near zero, which LightGBM takes for zero."""
    threshold = np.where((threshold >= 0) & (threshold < ZERO), ZERO, threshold)
    return np.where((threshold < 0) & (threshold >= -ZERO), np.nextafter(-ZERO, -1), threshold)


def _sets(
    block: Mapping[str, str], nodes: NDArray[np.int64], threshold: NDArray[np.float64]
) -> dict[int, NDArray[np.int64]]:
    """Return the categories that go left at each categorical node; its threshold is the index of a bit set."""
    if not len(nodes):
        return {}
    count = whole(block, "num_cat")
    bounds = _numbers(block, "cat_boundaries", count + 1, np.int64)
    words = _whole_words(block)
    if bounds[0] != 0 or bounds[-1] != len(words) or (np.diff(bounds) < 0).any():
        raise ArtifactInvalid("cat_boundaries: outside cat_threshold")
    sets = {}
    for node in nodes.tolist():
        index = threshold[node]
        if not (0 <= index < count and index == int(index)):
            raise ArtifactInvalid(f"node {node}: set {index}, expected one of {count}")
        bits = np.unpackbits(words[bounds[int(index)] : bounds[int(index) + 1]].view(np.uint8), bitorder="little")
        sets[node] = np.flatnonzero(bits)
    return sets


def _whole_words(block: Mapping[str, str]) -> NDArray[np.uint32]:
    words = _numbers(block, "cat_threshold", len(block.get("cat_threshold", "").split()), np.int64)
    if len(words) and (words.min() < 0 or words.max() > np.iinfo(np.uint32).max):
        raise ArtifactInvalid("cat_threshold: expected 32-bit words")
    return words.astype("<u4")


def _kinds(found: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return what each feature takes for missing.

    Raises:
        ArtifactInvalid: Zero is missing at one node and a number at another; the library writes no such file.
    """
    kinds: dict[int, int] = {}
    for feature, kind in found:
        if kinds.setdefault(feature, kind) != kind:
            raise ArtifactInvalid(f"feature {feature}: zero is missing at one node and a number at another")
    return kinds


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

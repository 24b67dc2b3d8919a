"""One tree of a LightGBM text file: its lines to nodes and leaves, and what its features take for missing.

What a line means is taken from the library's source (4.7): a row goes left where `x <= threshold`; what counts
as missing is said by each node; a category of the set goes left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid
from foretell.model.trees.ensemble import LEAF, Tree
from foretell.model.trees.untrusted import whole

__all__ = ["MISSING_ZERO", "ZERO", "kinds_of", "read_tree"]

_CATEGORICAL, _DEFAULT_LEFT = 1, 2
ZERO = float(np.float32(1e-35))
"""LightGBM's kZeroThreshold: what is not larger is zero."""
_MISSING_NONE, MISSING_ZERO, _MISSING_NAN = 0, 1, 2


def read_tree(block: Mapping[str, str], target: int, name: str) -> tuple[Tree, dict[int, int]] | None:
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
    is_zero = (missing == MISSING_ZERO) & (default_left != (threshold >= 0))
    matters = ~categorical & (is_zero | (missing == _MISSING_NAN))
    return tree, kinds_of(zip(feature[matters].tolist(), missing[matters].tolist(), strict=True))


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


def kinds_of(found: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Return what each feature takes for missing.

    Raises:
        ArtifactInvalid: Zero is missing at one node and a number at another; the library writes no such file.
    """
    kinds: dict[int, int] = {}
    for feature, kind in found:
        if kinds.setdefault(feature, kind) != kind:
            raise ArtifactInvalid(f"feature {feature}: zero is missing at one node and a number at another")
    return kinds


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

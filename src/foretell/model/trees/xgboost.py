"""XGBoost's own files, JSON and UBJSON: bytes to what is in them. The library is not needed.

What a file means is taken from the library's source (3.2): a row goes left where `x < condition`, NaN by
`default_left`; a category of the set goes right and every other number left. Knows no signature and no task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid
from foretell.model.trees import ubjson
from foretell.model.trees.ensemble import LEAF, Ensemble, Link, Tree
from foretell.model.trees.untrusted import MAX_FEATURES, floats, get, integers, load_json, number, singles, whole

__all__ = ["OBJECTIVES", "Linear", "XGBoostFile", "read"]

_PROBABILITY, _POSITIVE, _ANY = "logit", "log", "identity"
OBJECTIVES: dict[str, tuple[Link, str]] = {
    "binary:hinge": ("sign", _ANY),
    "binary:logistic": ("logistic", _PROBABILITY),
    "binary:logitraw": ("identity", _ANY),
    "count:poisson": ("exp", _POSITIVE),
    "multi:softmax": ("softmax", _ANY),
    "multi:softprob": ("softmax", _ANY),
    "rank:map": ("identity", _ANY),
    "rank:ndcg": ("identity", _ANY),
    "rank:pairwise": ("identity", _ANY),
    "reg:absoluteerror": ("identity", _ANY),
    "reg:expectileerror": ("identity", _ANY),
    "reg:gamma": ("exp", _POSITIVE),
    "reg:linear": ("identity", _ANY),
    "reg:logistic": ("logistic_each", _PROBABILITY),
    "reg:pseudohubererror": ("identity", _ANY),
    "reg:quantileerror": ("identity", _ANY),
    "reg:squarederror": ("identity", _ANY),
    "reg:squaredlogerror": ("identity", _ANY),
    "reg:tweedie": ("exp", _POSITIVE),
    "survival:aft": ("exp", _POSITIVE),
    "survival:cox": ("exp", _POSITIVE),
}
"""Link of an objective, and the link whose inverse its `base_score` went through."""


@dataclass(frozen=True, eq=False)
class Linear:
    """A gblinear model: `link(features @ weights + base)`, NaN counting as 0."""

    weights: NDArray[np.float32]
    """(features, targets)"""
    base: NDArray[np.float32]
    """(targets,)"""
    link: Link


@dataclass(frozen=True, eq=False)
class XGBoostFile:
    """What an XGBoost file says."""

    model: Ensemble | Linear | None
    """None: leaves are vectors (multi_output_tree), which only the library runs."""
    n_features: int
    objective: str
    booster: str
    targets: int
    version: str
    feature_names: tuple[str, ...]
    feature_types: tuple[str, ...]
    """`float`, `int`, `i` (boolean), `q`, `c` (category); empty where the file has none."""
    categories: Mapping[int, tuple[str | int, ...]]
    """Known values of categorical features by their index, in the order of the codes; empty where it is damaged.

    XGBoost (3.2) cuts the names of pandas categories by characters and stores them by bytes, so that one letter
    outside ASCII shifts and cuts the others, and nothing in the file tells.
    """
    rounds: int
    """Rounds of boosting in the file."""
    used_rounds: int
    """Rounds that predict: up to the best one where training was stopped early."""


def read(content: bytes) -> XGBoostFile:
    """Read a model that XGBoost saved as JSON or UBJSON.

    Raises:
        ArtifactInvalid: It is damaged, or not a model of XGBoost.
    """
    document = load_json(content) if _is_json(content) else ubjson.decode(content)
    if not isinstance(document, dict):
        raise ArtifactInvalid(f"UBJSON: got a {type(document).__name__}, expected an object")
    learner = get(document, "learner", dict)
    parameters = get(learner, "learner_model_param", dict)
    objective = get(get(learner, "objective", dict), "name", str)
    if objective not in OBJECTIVES:
        raise ArtifactInvalid(f'objective "{objective}": expected one of {", ".join(OBJECTIVES)}')
    n_features = whole(parameters, "num_feature", most=MAX_FEATURES)
    targets = max(whole(parameters, "num_class", 0, 10_000), whole(parameters, "num_target", 1, 10_000), 1)
    booster = get(learner, "gradient_booster", dict)
    base = _base(parameters, targets, OBJECTIVES[objective][1])
    link = _link(objective, targets)
    best = get(learner, "attributes", dict, {}).get("best_iteration")
    shape = _Shape(n_features, targets, base, link, whole({"best_iteration": best}, "best_iteration") if best else None)
    model, rounds, used = _model(booster, shape)
    return XGBoostFile(
        model=model,
        n_features=n_features,
        objective=objective,
        booster=get(booster, "name", str),
        targets=targets,
        version=".".join(str(v)[:9] for v in integers(document, "version", 3)),
        feature_names=_texts(learner, "feature_names", n_features),
        feature_types=_texts(learner, "feature_types", n_features),
        categories=_categories(booster, n_features),
        rounds=rounds,
        used_rounds=used,
    )


@dataclass(frozen=True)
class _Shape:
    n_features: int
    targets: int
    base: NDArray[np.float32]
    link: Link
    best: int | None


def _is_json(content: bytes) -> bool:
    """Tell the two apart by the second byte: UBJSON goes on with the length of the first key."""
    return content[:1] in b" \t\r\n" or (content[:1] == b"{" and content[1:2] in b'"} \t\r\n')


def _link(objective: str, targets: int) -> Link:
    link = OBJECTIVES[objective][0]
    return "logistic_each" if link == "logistic" and targets > 1 else link


def _base(parameters: dict[str, Any], targets: int, through: str) -> NDArray[np.float32]:
    """Return the margin that sums start with; `base_score` is in the space of predictions, one or for each target."""
    text = get(parameters, "base_score", str).strip()
    parts = text[1:-1].split(",") if text.startswith("[") and text.endswith("]") else [text]
    score = singles(np.array([number(p, "base_score") for p in parts]))
    if len(score) not in (1, targets):
        raise ArtifactInvalid(f'"base_score": got {len(score)} numbers, expected {targets}')
    with np.errstate(all="ignore"):
        margin = -np.log(1 / score - 1) if through == "logit" else np.log(score) if through == "log" else score
    if not np.isfinite(margin).all():
        raise ArtifactInvalid(f'"base_score": {text[:40]} has no {through}')
    return np.broadcast_to(np.asarray(margin, np.float32), (targets,)).copy()


def _texts(learner: dict[str, Any], key: str, count: int) -> tuple[str, ...]:
    found = get(learner, key, list, [])
    if len(found) not in (0, count) or not all(isinstance(f, str) for f in found):
        raise ArtifactInvalid(f'"{key}": got {len(found)} entries, expected {count} strings')
    return tuple(found)


def _model(booster: dict[str, Any], shape: _Shape) -> tuple[Ensemble | Linear | None, int, int]:
    name = get(booster, "name", str)
    match name:
        case "gblinear":
            return _linear(get(booster, "model", dict), shape)
        case "dart":
            model = get(get(booster, "gbtree", dict), "model", dict)
            return _trees(model, shape, singles(floats(booster, "weight_drop")))
        case "gbtree":
            return _trees(get(booster, "model", dict), shape, None)
    raise ArtifactInvalid(f'booster "{name}": expected gbtree, dart or gblinear')


def _linear(model: dict[str, Any], shape: _Shape) -> tuple[Linear, int, int]:
    count = (shape.n_features + 1) * shape.targets
    weights = singles(floats(model, "weights", count)).reshape(-1, shape.targets)
    if not np.isfinite(weights).all():
        raise ArtifactInvalid('"weights": expected finite numbers')
    rounds = whole(model, "boosted_rounds", 0)
    # The linear booster (3.2) starts every target with the first base.
    return Linear(weights[:-1], weights[-1] + shape.base[0], shape.link), rounds, rounds


def _trees(
    model: dict[str, Any], shape: _Shape, weights: NDArray[np.float32] | None
) -> tuple[Ensemble | None, int, int]:
    found = get(model, "trees", list)
    target = integers(model, "tree_info", len(found))
    starts = _round_starts(model, shape.targets, len(found))
    rounds = len(starts) - 1
    used = rounds if shape.best is None else min(shape.best + 1, rounds)
    if weights is not None and len(weights) != len(found):
        raise ArtifactInvalid(f'"weight_drop": got {len(weights)} numbers, expected {len(found)}')
    if not all(isinstance(t, dict) for t in found):
        raise ArtifactInvalid('"trees": expected objects')
    if any(whole(get(t, "tree_param", dict), "size_leaf_vector", 1) > 1 for t in found):
        return None, rounds, used
    trees = tuple(
        _tree(found[i], int(target[i]), None if weights is None else weights[i]) for i in range(int(starts[used]))
    )
    ensemble = Ensemble(trees, shape.n_features, "<", "FP32", shape.targets, shape.base, link=shape.link)
    return ensemble.check(), rounds, used


def _round_starts(model: dict[str, Any], targets: int, trees: int) -> NDArray[np.int64]:
    """Return the index of the first tree of each round, and the number of trees at the end."""
    if "iteration_indptr" in model:
        starts = integers(model, "iteration_indptr")
        if len(starts) and starts[0] == 0 and starts[-1] == trees and (np.diff(starts) >= 0).all():
            return starts
        raise ArtifactInvalid(f'"iteration_indptr": expected to rise from 0 to {trees}')
    a_round = targets * max(1, whole(get(model, "gbtree_model_param", dict), "num_parallel_tree", 1, 1_000_000))
    if trees % a_round:
        raise ArtifactInvalid(f'"trees": got {trees}, expected a multiple of {a_round}')
    return np.arange(0, trees + 1, a_round)


def _tree(found: dict[str, Any], target: int, weight: np.float32 | None) -> Tree:
    left = integers(found, "left_children")
    n = len(left)
    right, feature = integers(found, "right_children", n), integers(found, "split_indices", n)
    condition = singles(floats(found, "split_conditions", n))
    default_left = integers(found, "default_left", n) != 0
    with np.errstate(over="ignore"):
        value = condition if weight is None else condition * weight
    sets = _sets(found, n)
    swap = np.zeros(n, np.bool_)
    swap[list(sets)] = True
    swap &= left != LEAF
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    tree = Tree(feature, condition, left, right, default_left ^ swap, value, target, sets)
    return _without_deleted(tree) if whole(get(found, "tree_param", dict), "num_deleted", 0) else tree


def _sets(found: dict[str, Any], nodes: int) -> dict[int, NDArray[np.int64]]:
    """Return the set of each categorical node, checking that every segment lies in `categories`."""
    categorical = np.flatnonzero(integers(found, "split_type", nodes, 0))
    if not len(categorical):
        return {}
    categories, at = integers(found, "categories"), integers(found, "categories_nodes")
    segments, sizes = integers(found, "categories_segments", len(at)), integers(found, "categories_sizes", len(at))
    if (segments < 0).any() or (sizes < 0).any() or (segments + sizes > len(categories)).any():
        raise ArtifactInvalid('"categories_segments": outside "categories"')
    sets = {int(n): categories[s : s + k] for n, s, k in zip(at, segments, sizes, strict=True)}
    if set(sets) != set(categorical.tolist()):
        raise ArtifactInvalid('"categories_nodes": not the nodes whose "split_type" is 1')
    return sets


def _without_deleted(tree: Tree) -> Tree:
    """Drop the nodes that pruning left behind, unreachable, and number the others anew."""
    kept, level = [0], [0]
    while level:
        level = [int(side[n]) for n in level for side in (tree.left, tree.right) if tree.left[n] != LEAF]
        kept += level
        if len(kept) > tree.nodes or any(not 0 <= n < tree.nodes for n in level):
            raise ArtifactInvalid("trees: children outside the tree, or more than once")
    if len(set(kept)) != len(kept):
        raise ArtifactInvalid("trees: a node is the child of two")
    place = np.full(tree.nodes, LEAF)
    place[kept] = np.arange(len(kept))
    left, right = (np.where(side[kept] == LEAF, LEAF, place[side[kept]]) for side in (tree.left, tree.right))
    sets = {int(place[n]): codes for n, codes in tree.categories.items() if place[n] != LEAF}
    arrays = (tree.feature[kept], tree.threshold[kept], left, right, tree.default_left[kept], tree.value[kept])
    return Tree(*arrays, tree.target, sets)


def _categories(booster: dict[str, Any], n_features: int) -> dict[int, tuple[str | int, ...]]:
    """Return the values of categorical features, which files carry since version 3.1."""
    holder = booster.get("gbtree", booster)
    cats = get(get(holder, "model", dict), "cats", dict, {}) if isinstance(holder, dict) else {}
    found = get(cats, "enc", list, [])
    if len(found) not in (0, n_features) or not all(isinstance(f, dict) for f in found):
        raise ArtifactInvalid(f'"cats": got {len(found)} features, expected {n_features}')
    values = ((index, _values(entry)) for index, entry in enumerate(found))
    return {index: known for index, known in values if known is not None}


def _values(entry: dict[str, Any]) -> tuple[str | int, ...] | None:
    if "offsets" not in entry:
        return tuple(integers(entry, "values").tolist())
    text = (integers(entry, "values") & 0xFF).astype(np.uint8).tobytes()
    offsets = integers(entry, "offsets")
    if len(offsets) < 2:
        return None
    if offsets[0] != 0 or offsets[-1] != len(text) or (np.diff(offsets) < 0).any():
        raise ArtifactInvalid('"cats": offsets outside the values')
    if not text.isascii():
        return ()
    known = tuple(text[a:b].decode("ascii") for a, b in pairwise(offsets))
    if len(set(known)) != len(known):
        raise ArtifactInvalid('"cats": a value occurs twice')
    return known

"""CatBoost's JSON files: bytes to what is in them. The library is not needed.

A row goes right where its float32 is above the border. In an oblivious tree all nodes of a level ask the
same, and the answers are the bits of the leaf's index. Models that use categories or text keep statistics
and hashes that only the library evaluates. Knows no signature and no task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid
from foretell.model.trees.ensemble import LEAF, MAX_NODES, Ensemble, Link, Tree
from foretell.model.trees.untrusted import MAX_FEATURES, floats, get, load_json, number, singles, whole
from foretell.signature import Label

__all__ = ["CatBoostFile", "Feature", "read"]

_CLASSES: dict[str, Link] = {
    "Logloss": "logistic",
    "CrossEntropy": "logistic",
    "MultiClass": "softmax",
    "MultiClassOneVsAll": "logistic_each",
    "MultiLogloss": "logistic_each",
    "MultiCrossEntropy": "logistic_each",
}
_EXP = ("Poisson", "Tweedie")


@dataclass(frozen=True)
class Feature:
    """One column of a CatBoost model."""

    name: str
    """Empty where the model has no names."""
    kind: Literal["number", "category", "text"]
    nan_goes_left: bool = True


@dataclass(frozen=True, eq=False)
class CatBoostFile:
    """What a CatBoost file says."""

    model: Ensemble | None
    """None: the model uses categories or text, or its loss is one that only the library turns into answers."""
    features: tuple[Feature, ...]
    loss: str
    classes: tuple[Label, ...]
    """Labels of a classifier with exclusive classes; empty for other tasks."""
    targets: int
    """Columns of the answer: classes, targets, or 1."""
    trees: int
    threshold: float | None
    """Probability above which a binary classifier says the second class, where that is not one half."""


def read(content: bytes) -> CatBoostFile:
    """Read a model that CatBoost saved as JSON.

    Raises:
        ArtifactInvalid: It is damaged, or not a model of CatBoost.
    """
    document = load_json(content)
    features = _features(get(document, "features_info", dict))
    info = get(document, "model_info", dict)
    loss = get(get(get(info, "params", dict, {}), "loss_function", dict, {}), "type", str, "")
    scale, bias = _scale_and_bias(document)
    key = "oblivious_trees" if "oblivious_trees" in document else "trees"
    found = get(document, key, list)
    if not all(isinstance(tree, dict) for tree in found):
        raise ArtifactInvalid(f'"{key}": expected objects')
    plain = all(f.kind == "number" for f in features) and loss != "RMSEWithUncertainty"
    model = _ensemble(found, features, scale, bias, _CLASSES.get(loss, "exp" if loss in _EXP else "identity"))
    classes = _classes(info, loss, len(bias))
    threshold = info.get("binclass_probability_threshold")
    return CatBoostFile(
        model=model.check() if plain and model is not None else None,
        features=features,
        loss=loss,
        classes=classes,
        targets=len(classes) or len(bias),
        trees=len(found),
        threshold=None if threshold is None else number(threshold, "binclass_probability_threshold"),
    )


def _features(info: dict[str, Any]) -> tuple[Feature, ...]:
    if get(info, "embedding_features", list, []):
        raise ArtifactInvalid("the model takes embeddings, which are not columns: expected numbers, categories or text")
    kinds: dict[str, Literal["number", "category", "text"]] = {
        "float_features": "number",
        "categorical_features": "category",
        "text_features": "text",
    }
    found: dict[int, Feature] = {}
    for key, kind in kinds.items():
        for entry in get(info, key, list, []):
            if not isinstance(entry, dict):
                raise ArtifactInvalid(f'"{key}": expected objects')
            goes_left = entry.get("nan_value_treatment") != "AsTrue"
            found[whole(entry, "flat_feature_index", most=MAX_FEATURES)] = Feature(_name(entry), kind, goes_left)
    if not found or sorted(found) != list(range(len(found))):
        raise ArtifactInvalid(f'"flat_feature_index": expected 0 to {len(found) - 1}, each once')
    _check_order(get(info, "float_features", list, []))
    return tuple(found[i] for i in range(len(found)))


def _name(entry: dict[str, Any]) -> str:
    return get(entry, "feature_id", str, "") or get(entry, "feature_name", str, "")


def _check_order(entries: list[dict[str, Any]]) -> None:
    """Splits name float features by their place among the float features."""
    if [whole(e, "feature_index") for e in entries] != list(range(len(entries))):
        raise ArtifactInvalid(f'"feature_index" of float features: expected 0 to {len(entries) - 1} in order')


def _scale_and_bias(document: dict[str, Any]) -> tuple[float, NDArray[np.float64]]:
    found = get(document, "scale_and_bias", list)
    if len(found) != 2:
        raise ArtifactInvalid('"scale_and_bias": expected a scale and a bias')
    bias = found[1] if isinstance(found[1], list) else [found[1]]
    if not 1 <= len(bias) <= 10_000:
        raise ArtifactInvalid(f'"scale_and_bias": {len(bias)} biases')
    return number(found[0], "scale"), np.array([number(b, "bias") for b in bias])


def _classes(info: dict[str, Any], loss: str, dimensions: int) -> tuple[Label, ...]:
    if loss not in _CLASSES or loss.startswith(("MultiLogloss", "MultiCross")):
        return ()
    parameters = get(info, "class_params", dict, {})
    labels = get(parameters, "class_names", list, []) or get(parameters, "class_to_label", list, [])
    count = 2 if dimensions == 1 else dimensions
    labels = labels or list(range(count))
    if len(labels) != count or not all(isinstance(v, (str, int, float)) for v in labels):
        raise ArtifactInvalid(f'"class_params": got {len(labels)} classes, expected {count}')
    as_type = {"Float": float, "Integer": int, "Boolean": bool}.get(str(parameters.get("class_label_type")))
    try:
        return tuple(labels if as_type is None else map(as_type, labels))
    except (ValueError, OverflowError) as error:
        raise ArtifactInvalid('"class_params": labels that are not of their type') from error


def _ensemble(
    found: list[dict[str, Any]], features: tuple[Feature, ...], scale: float, bias: NDArray[np.float64], link: Link
) -> Ensemble | None:
    if any(f.kind != "number" for f in features):
        return None
    trees = tuple(
        _oblivious(t, features, scale, len(bias)) if "leaf_values" in t else _free(t, features, scale, len(bias))
        for t in found
    )
    return Ensemble(trees, len(features), "<=", "FP64", len(bias), bias, link=link)


def _split(entry: Any, features: tuple[Feature, ...]) -> tuple[int, float, bool]:
    """Return feature, border, and whether NaN goes left."""
    if not isinstance(entry, dict) or entry.get("split_type", "FloatFeature") != "FloatFeature":
        raise ArtifactInvalid('"splits": expected tests of float features')
    feature = whole(entry, "float_feature_index", most=len(features) - 1)
    return feature, float(singles(np.array(number(entry.get("border"), "border")))), features[feature].nan_goes_left


def _oblivious(tree: dict[str, Any], features: tuple[Feature, ...], scale: float, dimensions: int) -> Tree:
    """Unfold a tree level by level: node k has children 2k + 1 (bit 0) and 2k + 2 (bit 1)."""
    splits = [_split(s, features) for s in get(tree, "splits", list, []) or []]
    values = _scaled(floats(tree, "leaf_values"), scale)
    depth = len(splits)
    if depth > 24 or len(values) != dimensions << depth:
        raise ArtifactInvalid(
            f'"leaf_values": got {len(values)}, expected {dimensions} for each leaf of {depth} levels'
        )
    inner, leaves = (1 << depth) - 1, 1 << depth
    level = np.repeat(np.arange(depth), 1 << np.arange(depth))
    at = np.arange(inner)
    none = np.full(leaves, LEAF)
    # The path to a leaf gives its bits from the first split to the last; its index has the first as lowest bit.
    path = np.arange(leaves)
    index = sum(((path >> (depth - 1 - bit)) & 1) << bit for bit in range(depth)) + np.zeros(leaves, np.int64)
    value = np.zeros((inner + leaves, dimensions))
    value[inner:] = values.reshape(leaves, dimensions)[index]
    feature, border, left = (np.array(column)[level] if depth else np.zeros(0) for column in _columns(splits))
    return Tree(
        np.concatenate([feature.astype(np.int64), np.zeros(leaves, np.int64)]),
        np.concatenate([border, np.zeros(leaves)]),
        np.concatenate([2 * at + 1, none]),
        np.concatenate([2 * at + 2, none]),
        np.concatenate([left.astype(np.bool_), np.zeros(leaves, np.bool_)]),
        value[:, 0] if dimensions == 1 else value,
    )


def _scaled(values: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # What is not finite is refused with its tree and node.
        return values * scale


def _columns(splits: list[tuple[int, float, bool]]) -> list[list[Any]]:
    return [[split[column] for split in splits] for column in range(3)]


def _free(tree: dict[str, Any], features: tuple[Feature, ...], scale: float, dimensions: int) -> Tree:
    """Read a tree of nested nodes, as policies other than SymmetricTree grow it."""
    splits, children, values = [], [], []
    queue = [tree]
    for node in queue:
        if len(queue) > MAX_NODES:
            raise ArtifactInvalid(f"trees: more than {MAX_NODES} nodes")
        if "split" in node:
            splits.append(_split(node["split"], features))
            children.append((len(queue), len(queue) + 1))
            queue += [get(node, "left", dict), get(node, "right", dict)]
            values.append([0.0] * dimensions)
        else:
            splits.append((0, 0.0, False))
            children.append((LEAF, LEAF))
            values.append(_leaf(node, dimensions))
    feature, border, goes_left = (np.array(column) for column in _columns(splits))
    left, right = np.array(children).T
    value = _scaled(np.array(values), scale)
    return Tree(feature, border, left, right, goes_left, value[:, 0] if dimensions == 1 else value)


def _leaf(node: dict[str, Any], dimensions: int) -> list[float]:
    found = node.get("value")
    value = [number(v, "value") for v in (found if isinstance(found, list) else [found])]
    if len(value) != dimensions:
        raise ArtifactInvalid(f'"value": got {len(value)} numbers, expected {dimensions}')
    return value

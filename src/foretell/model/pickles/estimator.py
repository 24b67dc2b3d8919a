"""What estimator a pickle holds, found without running it: for `foretell inspect`.

Reads class names, pipeline steps, feature names, classes and versions from the inert nodes of `opcodes`.
Everything here is what the file says of itself; nothing is a promise that it is safe to open.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.model.pickles.inert import Array, Call, GlobalRef, Large, Table, UnreadablePickle, printable, walk
from foretell.model.pickles.opcodes import Pickle, read_pickle

__all__ = ["describe_estimator", "plain"]

_LIBRARIES = {
    "sklearn", "numpy", "scipy", "xgboost", "lightgbm", "catboost", "_catboost", "pandas", "pyarrow", "imblearn",
    "category_encoders", "feature_engine", "sksurv", "skops", "statsmodels", "polars",
}  # fmt: skip
_HARMLESS = {
    "builtins": {"object", "list", "dict", "set", "frozenset", "tuple", "slice", "range", "int", "float", "str", "bool",
                 "bytes", "bytearray", "complex", "type", "Ellipsis", "NoneType", "NotImplemented"},
    "collections": {"OrderedDict", "defaultdict", "deque", "Counter"},
    "copyreg": {"_reconstructor", "__newobj__", "__newobj_ex__"},
    "_codecs": {"encode"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "functools": {"partial"},
    "_operator": {"itemgetter"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath"},
    "uuid": {"UUID"},
    "random": {"Random"},
    "joblib.numpy_pickle": {"NumpyArrayWrapper"},
}  # fmt: skip
_RENAMED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "sklearn.externals.joblib.numpy_pickle": "joblib.numpy_pickle",
}
_GADGETS = (
    *("numpy.testing", "numpy.f2py", "numpy.distutils", "numpy.ctypeslib", "numpy.lib", "pandas.io"),
    *("pandas.core.computation", "sklearn.datasets", "sklearn.utils._testing", "scipy.io", "scipy._lib"),
)
_FUNCTIONS = {"numpy": {"load", "fromfile", "memmap", "save", "savez", "savetxt"}, "pandas": {"eval", "read_pickle"}}
_SHOWN = 10_000


def describe_estimator(content: bytes) -> dict[str, Any]:
    """Say what a pickle holds, without running it.

    Args:
        content: The file: a pickle of any protocol, or joblib's, plain or compressed.

    Returns:
        Plain values, each where it is known: `protocol`, `compression`; `class`; `steps`, a list of
        `{"name", "class"}` with names as scikit-learn's parameters have them (`prep__num`); `features`,
        `feature_names`, `classes`, `trees`; `versions` of libraries; `globals`, every name it would import;
        `strange`, those outside the well-known libraries; `unreadable`, why it could not be read to the end.
    """
    try:
        found = read_pickle(content)
    except UnreadablePickle as error:
        return {"unreadable": str(error), "globals": list(error.imports), "strange": _strange(error.imports)}
    about: dict[str, Any] = {"protocol": found.protocol}
    if found.compression:
        about["compression"] = found.compression
    if isinstance(found.root, Call):
        about |= _estimator(found.root)
    else:
        about["class"] = type_name(found.root)
    versions = _versions(found)
    if versions:
        about["versions"] = versions
    return about | {"globals": found.globals[:_SHOWN], "strange": _strange(found.globals)}


def plain(node: Any) -> Any:
    """Return a node as plain values: numbers, texts, lists of them, arrays of them as lists; None where it is none."""
    if isinstance(node, (list, tuple)):
        return [_element(item) for item in node[:_SHOWN]]
    if isinstance(node, Array):
        return _decoded(node.dtype, node.shape, node.raw, node.order)
    found = _numpy(node) if isinstance(node, Call) else None
    return _element(node) if found is None else found


def _element(node: Any) -> Any:
    """Return a number or a text, also one of numpy's; None for anything else: nothing is followed in circles."""
    if isinstance(node, str):
        return printable(node)
    if isinstance(node, (int, float, bool)):
        return node
    arguments = node.arguments if isinstance(node, Call) else None
    if not isinstance(arguments, tuple) or len(arguments) != 2 or not _is_named(node.function, "scalar"):
        return None
    decoded = _decoded(_type_string(arguments[0]), (1,), _raw(arguments[1]), "C")
    return decoded[0] if decoded else None


def class_of(node: Any) -> str | None:
    """Return the class an object would have, `module.name`, or None."""
    if not isinstance(node, Call):
        return None
    function = node.function
    if isinstance(function, GlobalRef) and function.name in ("_reconstructor", "__newobj__", "__newobj_ex__"):
        function = node.arguments[0] if isinstance(node.arguments, tuple) and node.arguments else None
    return str(function) if isinstance(function, GlobalRef) else None


def type_name(node: Any) -> str:
    """Return what a node is, in words."""
    return class_of(node) or {Table: "a dict", Array: "an array", Large: "a large string"}.get(
        type(node), f"a {type(node).__name__}"
    )


def _estimator(root: Call) -> dict[str, Any]:
    about: dict[str, Any] = {"class": type_name(root)}
    steps = list(_steps(root, "", 0))
    if steps:
        about["steps"] = [{"name": printable(name), "class": type_name(node)} for name, node in steps]
    # A pipeline keeps none of these itself: its first step knows the features, its last the classes.
    nodes = [root, *(node for _, node in steps)]
    for name, attributes in (
        ("feature_names", ("feature_names_in_", "_feature_name", "feature_names")),
        ("features", ("n_features_in_", "_n_features")),
    ):
        _first(about, name, nodes, attributes)
    _first(about, "classes", nodes[::-1], ("classes_", "_classes"))
    trees = sum(_trees(node) for node in nodes[:100])
    if trees:
        about["trees"] = trees
    return about


def _first(about: dict[str, Any], name: str, nodes: list[Call], attributes: tuple[str, ...]) -> None:
    for node in nodes:
        for attribute in attributes:
            value = plain(_state(node).get(attribute))
            if value is not None and value != []:
                about[name] = value
                return


def _state(node: Any) -> Table:
    state = node.state if isinstance(node, Call) else None
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], Table):
        state = state[0]
    return state if isinstance(state, Table) else Table()


def _steps(node: Call, prefix: str, depth: int) -> list[tuple[str, Call]]:
    """Return the parts of a composed estimator, the outer before the inner."""
    state = _state(node)
    parts: Any = next(
        (state.get(k) for k in ("steps", "transformers_", "transformer_list", "transformers") if state.get(k)), None
    )
    if parts is None and state.get("estimators_") is None:
        inner = next((state.get(k) for k in ("estimator", "regressor", "base_estimator", "final_estimator")
                      if class_of(state.get(k)) and _state(state.get(k)).pairs), None)  # fmt: skip
        parts = [("estimator", inner)] if inner is not None else []
    found: list[tuple[str, Call]] = []
    for part in (parts if isinstance(parts, list) else [])[:200]:
        if depth > 8 or not (isinstance(part, tuple) and len(part) >= 2 and isinstance(part[0], str)):
            continue
        if isinstance(part[1], Call) and len(found) < 500:
            name = prefix + part[0]
            found += [(name, part[1]), *_steps(part[1], name + "__", depth + 1)]
    return found


def _trees(node: Call) -> int:
    """Return how many trees an estimator has; 0 where it has none."""
    state = _state(node)
    name = (class_of(node) or "").rsplit(".", 1)[-1]
    if name.startswith("HistGradientBoosting") and isinstance(state.get("_predictors"), list):
        return sum(len(r) for r in state.get("_predictors")[:100_000] if isinstance(r, list))
    if name in ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"):
        return 1
    booster = _state(state.get("_Booster"))
    for value in (state.get("handle"), booster.get("handle"), booster.get("_handle"), state.get("_handle")):
        count = _trees_of_booster(value)
        if count:
            return count
    members = state.get("estimators_")
    members = _objects(members) if isinstance(members, Call) else members
    if not isinstance(members, list):
        return 0
    return sum(1 for m in members[:20_000] if "Tree" in (class_of(m) or "").rsplit(".", 1)[-1])


def _trees_of_booster(value: Any) -> int:
    """Count the trees of a booster that is kept as XGBoost's UBJSON or LightGBM's text."""
    if isinstance(value, Call) and isinstance(value.arguments, tuple) and value.arguments:
        value = value.arguments[0]
    head = value.head if isinstance(value, Large) else value
    if isinstance(head, bytes):
        head = head[:65536].decode("latin-1")
    if not isinstance(head, str):
        return 0
    xgboost = re.search(r"num_treesSL.{8}(\d{1,9})", head, re.DOTALL)
    lightgbm = re.search(r"^tree_sizes=([0-9 ]+)$", head[:10_000_000], re.MULTILINE)
    return int(xgboost[1]) if xgboost else len(lightgbm[1].split()) if lightgbm else 0


def _objects(node: Call) -> list[Any] | None:
    """Return the elements of an array of objects."""
    state = node.state
    found = state[4] if isinstance(state, tuple) and len(state) == 5 else None
    return found if isinstance(found, list) else None


def _numpy(node: Call) -> Any:
    """Return the elements of an array that numpy's own functions would make."""
    arguments = node.arguments if isinstance(node.arguments, tuple) else ()
    if _is_named(node.function, "_frombuffer") and len(arguments) == 4:
        return _decoded(_type_string(arguments[1]), arguments[2], _raw(arguments[0]), arguments[3])
    if _is_named(node.function, "_reconstruct") and isinstance(node.state, tuple) and len(node.state) == 5:
        _, shape, dtype, fortran, raw = node.state
        if isinstance(raw, list):
            return [_element(item) for item in raw[:_SHOWN]]
        return _decoded(_type_string(dtype), shape, _raw(raw), "F" if fortran is True else "C")
    return None


def _is_named(function: Any, name: str) -> bool:
    # Never a node's own text: a few nested tuples would make an endless one.
    return isinstance(function, GlobalRef) and function.name == name


def _type_string(dtype: Any) -> str:
    arguments = dtype.arguments if isinstance(dtype, Call) else ()
    text = arguments[0] if isinstance(arguments, tuple) and arguments and isinstance(arguments[0], str) else ""
    state = dtype.state if isinstance(dtype, Call) and isinstance(dtype.state, tuple) else ()
    order = state[1] if len(state) > 1 and state[1] in ("<", ">") else "<"
    return order + text.lstrip("<>|=")


def _raw(node: Any) -> bytes | None:
    if isinstance(node, bytes):
        return node
    # Before protocol 3 bytes are written as _codecs.encode(text, "latin1"); a bytearray wraps either.
    if isinstance(node, Call) and isinstance(node.arguments, tuple) and node.arguments:
        inner = node.arguments[0]
        if isinstance(inner, str) and len(node.arguments) == 2:
            return inner.encode("latin-1", "replace")
        return inner if isinstance(inner, bytes) else None
    return node.encode("latin-1", "replace") if isinstance(node, str) else None


def _decoded(dtype: str, shape: Any, raw: bytes | None, order: Any) -> list[Any] | None:
    """Return the elements of an array of plain numbers or strings as a list, or None."""
    if raw is None or not re.fullmatch(r"[<>][biufUS]\d{1,6}", dtype) or not isinstance(shape, tuple):
        return None
    try:
        elements: NDArray[Any] = np.frombuffer(raw, np.dtype(dtype))
        if len(shape) == 1 and elements.size == shape[0]:
            return list(elements[:_SHOWN].tolist())
        if elements.size > _SHOWN:
            return None
        return list(elements.reshape(shape, order="F" if order == "F" else "C").tolist())
    except (ValueError, TypeError, IndexError, UnicodeDecodeError, MemoryError, OverflowError):
        return None


def _versions(found: Pickle) -> dict[str, str]:
    """Return the versions that estimators wrote into their own state."""
    versions: dict[str, str] = {}
    for node in walk(found.root):
        if not isinstance(node, Call):
            continue
        version = _state(node).get("_sklearn_version")
        if isinstance(version, str):
            versions["scikit-learn"] = printable(version[:40])
            break
    return versions


def _strange(names: list[str]) -> list[str]:
    """Return the names that no trained model of a well-known library needs."""
    return [name for name in names if not _is_known(name)][:_SHOWN]


def _is_known(full: str) -> bool:
    module, _, name = full.rpartition(".")
    module = _RENAMED.get(module, module)
    if module in _HARMLESS:
        return name in _HARMLESS[module]
    if any(module == g or module.startswith(g + ".") for g in _GADGETS) or name in _FUNCTIONS.get(module, ()):
        return False
    return module.split(".", 1)[0] in _LIBRARIES

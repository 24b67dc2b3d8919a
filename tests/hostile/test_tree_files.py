"""Boosters' files that are cut short, altered or made up: refused in one line."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import catboost
import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.datasets import load_wine

from foretell.errors import ArtifactInvalid
from foretell.model.formats.proven import prove_runner
from foretell.model.runtimes import Runner
from foretell.model.trees import catboost as catboost_file
from foretell.model.trees import lightgbm as lightgbm_file
from foretell.model.trees import xgboost as xgboost_file

X, Y = load_wine(return_X_y=True)
FRAME = pd.DataFrame(X[:, :3], columns=["a", "b", "c"]).assign(word=pd.Categorical(np.array(["u", "v", "w"])[Y]))


def xgboost_bytes(form: str) -> bytes:
    options: dict[str, Any] = {"n_estimators": 2, "max_depth": 2, "n_jobs": 1, "enable_categorical": True}
    model = xgboost.XGBRegressor(**options, max_cat_to_onehot=1).fit(FRAME, Y)
    return bytes(model.get_booster().save_raw(form))


def lightgbm_bytes() -> bytes:
    options: dict[str, Any] = {"n_estimators": 2, "num_leaves": 4, "n_jobs": 1, "verbose": -1}
    model = lightgbm.LGBMRegressor(**options, min_data_per_group=1, cat_smooth=1).fit(FRAME, Y + (FRAME.word == "u"))
    return model.booster_.model_to_string().encode()


def catboost_bytes(tmp: Any) -> bytes:
    options: dict[str, Any] = {"iterations": 2, "depth": 2, "verbose": 0, "allow_writing_files": False}
    catboost.CatBoostClassifier(**options, thread_count=1).fit(X, Y).save_model(str(tmp / "m"), format="json")
    return (tmp / "m").read_bytes()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Callable[[bytes], Any], bytes]]:
    return {
        "xgboost json": (xgboost_file.read, xgboost_bytes("json")),
        "xgboost ubj": (xgboost_file.read, xgboost_bytes("ubj")),
        "lightgbm": (lightgbm_file.read, lightgbm_bytes()),
        "catboost": (catboost_file.read, catboost_bytes(tmp_path_factory.mktemp("catboost"))),
    }


NAMES = ["xgboost json", "xgboost ubj", "lightgbm", "catboost"]


def refused(read: Callable[[bytes], Any], content: bytes) -> bool:
    """Say whether the content is refused; anything but ArtifactInvalid in one line fails the test."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(content)
    except ArtifactInvalid as error:
        said = str(error)
    else:
        return False
    assert "\n" not in said
    assert len(said) < 600
    return True


@pytest.mark.parametrize("name", NAMES)
def test_cut_short(name: str, files: dict[str, Any]) -> None:
    read, content = files[name]
    read(content)
    step = max(1, len(content) // 400)
    # LightGBM's text is whole without the line that its Python package adds at the end.
    whole = content.find(b"end of parameters") + len(b"end of parameters\n") if name == "lightgbm" else len(content)
    for end in [*range(0, len(content), step), *range(len(content) - 60, len(content))]:
        assert refused(read, content[:end]) or content[end:].strip() == b"" or end in range(whole - 1, whole + 2), end


@pytest.mark.parametrize("name", NAMES)
def test_bytes_altered(name: str, files: dict[str, Any]) -> None:
    """Whatever is still accepted has passed the proof that trees are trees."""
    read, content = files[name]
    chance, noticed = random.Random(7), 0
    for _ in range(400):
        altered = bytearray(content)
        for _ in range(chance.randint(1, 5)):
            altered[chance.randrange(len(altered))] = chance.choice([chance.randrange(256), *b"0123456789-]}[{,"])
        noticed += refused(read, bytes(altered))
    assert noticed > 0
    assert not refused(read, content)


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


STRANGE = [
    None,
    -1,
    10**9,
    2**40,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    [],
    [[]],
    {},
    True,
    [0] * 40,
    ["x"],
]


@pytest.mark.parametrize("name", ["xgboost json", "catboost"])
def test_values_replaced(name: str, files: dict[str, Any]) -> None:
    read, content = files[name]
    chance = random.Random(11)
    every = list(places(json.loads(content)))
    for path in chance.sample(every, min(len(every), 500)):
        document = json.loads(content)
        at = document
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = chance.choice(STRANGE)
        refused(read, json.dumps(document).encode())


def test_lines_replaced_in_lightgbm(files: dict[str, Any]) -> None:
    read, content = files["lightgbm"]
    lines = content.decode().split("\n")
    words = ["", "-1", "99999999999999999999", "1e400", "nan", "x", "0 0 0", "1 2 3 4 5", "-99", "3 3 3", "2147483647"]
    for index, line in enumerate(lines[: lines.index("end of trees")]):
        if "=" in line:
            for word in words:
                altered = [*lines[:index], f"{line.partition('=')[0]}={word}", *lines[index + 1 :]]
                refused(read, "\n".join(altered).encode())


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (b"left_child=", b"left_child=0 ", "left_child: got"),
        (b"num_leaves=", b"num_leaves=20000000", "leaf_value: got"),
        (b"max_feature_idx=3", b"max_feature_idx=2000000000", '"max_feature_idx"'),
        (b"num_tree_per_iteration=1", b"num_tree_per_iteration=3", "expected a multiple of 3"),
        (b"cat_threshold=", b"cat_threshold=1 ", "cat_boundaries: outside"),
        (b"objective=regression", b"objective=quick", 'objective "quick"'),
    ],
)
def test_lightgbm_says_what_is_wrong(before: bytes, after: bytes, says: str, files: dict[str, Any]) -> None:
    read, content = files["lightgbm"]
    assert before in content
    with pytest.raises(ArtifactInvalid, match=says):
        read(content.replace(before, after))


def test_a_cycle_in_xgboost(files: dict[str, Any]) -> None:
    document = json.loads(files["xgboost json"][1])
    tree = document["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["left_children"][1] = 0
    tree["right_children"][1] = 2
    with pytest.raises(ArtifactInvalid, match="tree 0"):
        xgboost_file.read(json.dumps(document).encode())


@pytest.mark.parametrize("name", NAMES)
def test_of_another_format(name: str, files: dict[str, Any]) -> None:
    for other, (_, content) in files.items():
        if other.split()[0] != name.split()[0]:
            assert refused(files[name][0], content)
    for content in (
        b"",
        b"\x80\x04K\x01.",
        b"PK\x03\x04" + bytes(40),
        b"{",
        b"[]",
        b"{}",
        b"null",
        b"tree\n",
        b"\xff" * 99,
    ):
        assert refused(files[name][0], content)


def test_deep_json_is_refused() -> None:
    for read in (xgboost_file.read, catboost_file.read):
        assert refused(read, b'{"learner":' + b"[" * 200_000)
        assert refused(read, b'{"learner":' + b"[" * 200_000 + b"]" * 200_000 + b"}")


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_a_bundle_is_proven_before_its_library_reads_it(name: str, files: dict[str, Any]) -> None:
    _, content = files[name]
    prove_runner(Runner(name.split()[0], "m", content))
    with pytest.raises(ArtifactInvalid, match=r"^m: "):
        prove_runner(Runner(name.split()[0], "m", content[: len(content) // 2]))
    prove_runner(Runner("onnxruntime", "m", b"judged elsewhere"))

"""Real pickles are described without running them; hostile ones end soon, in little memory, and run nothing."""

import builtins
import io
import pickle
import resource
import struct
import time
import zlib
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from foretell.model.pickles import UnreadablePickle, describe_estimator, pickle_protocol, read_pickle

IRIS = load_iris(as_frame=True)
NAMES = list(IRIS.data.columns)
SPECIES = np.array(["setosa", "versicolor", "virginica"], dtype=object)[IRIS.target]
WAYS = [
    *({"protocol": p} for p in range(6)),
    *({"compress": c} for c in (("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3))),
    {},
]


def dumped(what: Any, way: dict[str, Any]) -> bytes:
    if "protocol" in way:
        return pickle.dumps(what, **way)
    buffer = io.BytesIO()
    joblib.dump(what, buffer, **way)
    return buffer.getvalue()


@pytest.fixture
def nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if reading makes Python import or evaluate anything that the pickle names."""
    real = builtins.__import__

    def watched(name: str, *rest: Any, **named: Any) -> Any:
        assert not name.startswith(("os", "subprocess", "evil", "shutil")), f"imported {name}"
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", watched)


@pytest.fixture(scope="module")
def forest() -> Pipeline:
    model = RandomForestClassifier(7, max_depth=3, random_state=0)
    return Pipeline([("scale", StandardScaler()), ("model", model)]).fit(IRIS.data, SPECIES)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_pipeline(forest: Pipeline, way: dict[str, Any]) -> None:
    about = describe_estimator(dumped(forest, way))
    assert about["class"] == "sklearn.pipeline.Pipeline"
    assert [s["name"] for s in about["steps"]] == ["scale", "model"]
    assert about["steps"][1]["class"].endswith(".RandomForestClassifier")
    assert about["feature_names"] == NAMES
    assert about["features"] == 4
    assert about["classes"] == ["setosa", "versicolor", "virginica"]
    assert about["trees"] == 7
    assert about["versions"]["scikit-learn"].count(".") >= 1
    assert about["strange"] == []
    assert about.get("protocol") == way.get("protocol", 4) or way.get("protocol") == 1


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_nested_steps_and_integer_classes(way: dict[str, Any]) -> None:
    prep = ColumnTransformer([("num", StandardScaler(), NAMES[:2]), ("cat", OneHotEncoder(), NAMES[2:])])
    model = Pipeline([("prep", prep), ("model", LogisticRegression(max_iter=500))]).fit(IRIS.data, IRIS.target)
    about = describe_estimator(dumped(model, way))
    assert [s["name"] for s in about["steps"]] == ["prep", "prep__num", "prep__cat", "model"]
    assert about["classes"] == [0, 1, 2]
    assert "trees" not in about


@pytest.fixture(scope="module")
def boosted() -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(max_iter=6).fit(IRIS.data, IRIS.target)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_structured_arrays_are_stepped_over(boosted: HistGradientBoostingRegressor, way: dict[str, Any]) -> None:
    about = describe_estimator(dumped(boosted, way))
    assert (about["trees"], about["features"], about["feature_names"]) == (6, 4, NAMES)


def test_large_arrays_are_not_kept() -> None:
    content = dumped({"big": np.zeros(1 << 19), "after": "it"}, {"compress": 3})
    root = read_pickle(content).root
    assert root.get("big").raw is None
    assert root.get("big").shape == (1 << 19,)
    assert root.get("after") == "it"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", "<i4", ">f4", "<U7", "|b1", "<u2", "S3"])
def test_arrays_of_joblib(dtype: str, order: Any) -> None:
    array = np.asarray(np.arange(6).reshape(2, 3), dtype=dtype, order=order)
    estimator = LogisticRegression()
    estimator.classes_ = array
    expected = array.tolist()
    about = describe_estimator(dumped(estimator, {}))
    assert [[v.decode() if isinstance(v, bytes) else v for v in r] for r in about["classes"]] == [
        [v.decode() if isinstance(v, bytes) else v for v in r] for r in expected
    ]


def test_xgboost_lightgbm_catboost() -> None:
    xgboost, lightgbm, catboost = (pytest.importorskip(n) for n in ("xgboost", "lightgbm", "catboost"))
    x, y = IRIS.data.to_numpy(), IRIS.target.to_numpy()
    found = describe_estimator(dumped(xgboost.XGBClassifier(n_estimators=4).fit(x, y), {}))
    assert (found["class"], found["trees"], found["strange"]) == ("xgboost.sklearn.XGBClassifier", 12, [])
    found = describe_estimator(dumped(lightgbm.LGBMClassifier(n_estimators=4, verbose=-1).fit(x, y), {}))
    assert (found["trees"], found["classes"], found["features"]) == (12, [0, 1, 2], 4)
    cat = catboost.CatBoostClassifier(iterations=3, verbose=0, allow_writing_files=False).fit(x, y)
    found = describe_estimator(dumped(cat, {}))
    assert (found["class"], found["strange"]) == ("catboost.core.CatBoostClassifier", [])


ATTACKS = {
    "os.system": b"cos\nsystem\n(S'touch /tmp/foretell-was-here'\ntR.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "eval": b"c__builtin__\neval\n(S'1'\ntR.",
    "inst": b"(S'true'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'true'\no.",
    "newobj": b"\x80\x02csubprocess\nPopen\nU\x04true\x85\x81.",
    "build": b"\x80\x02cevil\nThing\n)\x81}U\x0c__setstate__cos\nsystem\nsb.",
    "computed name": b"\x80\x04\x8c\x02os}\x93.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent": b"Pevil\n.",
    "in an sklearn module": b"cnumpy.testing._private.utils\nrunstring\n(S'1'\nN}tR.",
    "stopped early": b"cos\nsystem\n(S'true'\ntRgarbage",
}


@pytest.mark.usefixtures("nothing_is_imported")
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_are_named_and_not_run(name: str) -> None:
    about = describe_estimator(ATTACKS[name])
    if name != "persistent":
        assert about["strange"], about
    assert pickle_protocol(ATTACKS[name]) is not None or name == "persistent"


def text(n: int) -> bytes:
    return b"\x8c" + bytes([n]) + b"a" * n


def bomb(name: str) -> bytes:
    head = b"\x80\x04"
    if name == "laughs":  # each tuple holds the one before twice: 2^600 leaves
        return head + text(3) + b"\x94" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(600)) + b"."
    if name == "laughs as a class":
        inner = text(3) + b"q\x00" + b"h\x00h\x00\x86q\x00" * 600
        return head + inner + b"h\x00)\x81}X\x08\x00\x00\x00classes_h\x00sb."
    if name == "laughs as a dtype":
        inner = text(3) + b"q\x00" + b"h\x00h\x00\x86q\x00" * 600 + b"0"
        wrapper = b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(X\x05\x00\x00\x00shapeK\x02\x85"
        return head + inner + wrapper + b"X\x05\x00\x00\x00dtypecnumpy\ndtype\nh\x00\x85Rub."
    if name == "nested tuples":
        return head + b"N" + b"\x85" * 500_000 + b"."
    if name == "nested lists":
        return head + b"]" * 300_000 + b"a" * 299_999 + b"."
    if name == "a list in itself":
        return head + b"]q\x00h\x00a."
    if name == "an object array in itself":
        array = b"cnumpy.core.multiarray\n_reconstruct\n)Rq\x00"
        return head + array + b"(K\x01K\x01\x85Nh\x05]h\x00atb.".replace(b"Nh\x05", b"NN")
    if name == "steps in steps":
        step = b"cp\nPipeline\n)\x81q\x00}(X\x05\x00\x00\x00steps](" + (text(1) + b"h\x00\x86") * 200 + b"eub."
        return head + step
    if name == "memo numbers":
        return head + b"N" + b"".join(b"r" + struct.pack("<I", i * 65537 % (1 << 32)) for i in range(100_000)) + b"."
    if name == "colliding keys":
        modulus = (1 << 61) - 1
        keys = b"".join(b"\x8a\x0c" + (modulus * (i + 1)).to_bytes(12, "little") + b"N" for i in range(40_000))
        return head + b"}(" + keys + b"u."
    if name == "endless opcodes":
        return head + b"N0" * 3_000_000 + b"."
    if name == "endless marks":
        return head + b"(" * 3_000_000
    lengths = {"BINBYTES8": b"\x8e", "BINUNICODE8": b"\x8d", "BYTEARRAY8": b"\x96"}
    if name in lengths:
        return head + lengths[name] + b"\xff" * 7 + b"\x7f" + b"."
    if name == "LONG4":
        return head + b"\x8b\xff\xff\xff\x7f" + b"\xff" * 100_000
    if name == "LONG of digits":
        return b"L" + b"9" * 900_000 + b"L\n."
    if name == "huge memo":
        return b"Np99999999999999999999999999\n."
    if name == "huge array":
        wrapper = (
            b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(X\x05\x00\x00\x00shape\x8a\x06"
            + b"\xff" * 5
            + b"\x00\x85"
        )
        return head + wrapper + b"X\x05\x00\x00\x00dtypecnumpy\ndtype\nX\x02\x00\x00\x00f8\x85Rub."
    if name == "zlib bomb":
        squeeze = zlib.compressobj(9)
        pieces = [squeeze.compress(head + b"\x8d" + (1 << 33).to_bytes(8, "little"))]
        pieces += [squeeze.compress(bytes(1 << 20)) for _ in range(128)]
        return b"".join([*pieces, squeeze.flush()])
    if name == "zlib bomb of lines":
        line = b"V" + b"a" * 900_000 + b"\n0"
        return zlib.compress(head + line * 300 + b"N.", 9)
    if name == "lzma dictionary":
        return b"\x5d\x00\x00\x00\xf0" + b"\xff" * 8 + bytes(64)
    raise AssertionError(name)


BOMBS = [
    "laughs", "laughs as a class", "laughs as a dtype", "nested tuples", "nested lists", "a list in itself",
    "an object array in itself", "steps in steps", "memo numbers", "colliding keys", "endless opcodes", "endless marks",
    "BINBYTES8", "BINUNICODE8", "BYTEARRAY8", "LONG4", "LONG of digits", "huge memo", "huge array", "zlib bomb",
    "zlib bomb of lines", "lzma dictionary",
]  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end(name: str) -> None:
    content = bomb(name)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    about = describe_estimator(content)
    assert isinstance(about, dict)
    # Not a measurement: without the caps these take hours, or all memory.
    assert time.monotonic() - start < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000


def test_every_truncation_is_unreadable(forest: Pipeline) -> None:
    content = dumped(forest, {})
    for length in range(0, len(content) - 1, 97):
        with pytest.raises(UnreadablePickle):
            read_pickle(content[:length])


def test_bit_flips_are_read_or_unreadable(forest: Pipeline) -> None:
    random = np.random.default_rng(0)
    original = dumped(forest, {})
    for _ in range(300):
        content = bytearray(original)
        for _ in range(3):
            content[random.integers(len(content))] ^= 1 << int(random.integers(8))
        assert isinstance(describe_estimator(bytes(content)), dict)


TEXTS = [
    b"",
    b"\n",
    b"id,price\n1,2\n",
    b"city,price\nParis,1\nLima,2\n",
    b"tree\nversion=v4\n",
    b"{}",
    b"hello",
    b"None\n",
]


@pytest.mark.parametrize("content", TEXTS)
def test_text_is_no_pickle(content: bytes) -> None:
    assert pickle_protocol(content) is None

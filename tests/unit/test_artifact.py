"""A file is judged by its bytes; the name only helps the message."""

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import socket
import zipfile
import zlib
from pathlib import Path

import joblib
import numpy as np
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression

from foretell.errors import ArtifactInvalid, ArtifactUntrusted, ConfigError, ForetellError, MachineError
from foretell.model.artifact import judge, refuse_pickle

XGBOOST = json.dumps({"learner": {"attributes": {}, "name": 'a "quoted" {'}, "version": [3, 2, 0]}).encode()
LIGHTGBM = b"tree\nversion=v4\nnum_class=1\n\nTree=0\n\nend of trees\n\nparameters:\n[x: 1]\nend of parameters\n"
CATBOOST = b"CBM1" + (8).to_bytes(4, "little") + bytes(8)


def ubj(keys: dict[str, bytes]) -> bytes:
    return b"{" + b"".join(b"L" + len(k).to_bytes(8, "big") + k.encode() + v for k, v in keys.items()) + b"}"


UBJ = ubj(
    {"learner": b"{}", "trees": b"[$d#L" + (3).to_bytes(8, "big") + bytes(12), "version": b"[#i\x03i\x03i\x02i\x00"}
)


def onnx_bytes() -> bytes:
    node = helper.make_node("Identity", ["x"], ["y"])
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 2]) for n in "xy")
    graph = helper.make_graph([node], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return buffer.getvalue()


def dumped(**options: object) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(LinearRegression().fit(np.eye(3), [1.0, 2.0, 3.0]), buffer, **options)
    return buffer.getvalue()


PICKLE = pickle.dumps({"a": [1, 2.5, ("x", None)]})
PICKLES = {
    **{f"protocol{p}": pickle.dumps(LinearRegression(), protocol=p) for p in range(6)},
    "joblib": dumped(),
    **{c: dumped(compress=(c, 3)) for c in ("zlib", "gzip", "bz2", "xz", "lzma")},
    "gzip by hand": gzip.compress(PICKLE),
    "bz2 by hand": bz2.compress(PICKLE),
    "xz by hand": lzma.compress(PICKLE),
    "zlib by hand": zlib.compress(PICKLE),
    "lz4": b"\x04\x22\x4d\x18" + bytes(40),
    "old joblib": b"ZF0x12" + bytes(40),
    "attack": b"cos\nsystem\n(S'true'\ntR.",
    "attack, protocol 1": b"(cos\nsystem\nU\x04trueo.",
    "truncated": pickle.dumps(list(range(99)), protocol=4)[:40],
}


@pytest.mark.parametrize(
    ("content", "format_"),
    [(onnx_bytes(), "onnx"), (XGBOOST, "xgboost"), (UBJ, "xgboost"), (LIGHTGBM, "lightgbm"), (CATBOOST, "catboost"),
     (b'{"features_info": {}, "oblivious_trees": [], "model_info": {}}', "catboost"),
     (zipped("schema.json", "1.npy"), "skops"), *((p, "pickle") for p in PICKLES.values())],
)  # fmt: skip
@pytest.mark.parametrize("name", ["model.bin", "model.onnx", "model.json", "model.pkl"])
def test_judged_by_bytes(tmp_path: Path, content: bytes, format_: str, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    found = judge(path)
    assert (found.format, found.content, found.size) == (format_, content, len(content))
    says_both = found.why.startswith(f"named {path.suffix}, but it is ")
    agrees = {"model.bin": True, "model.onnx": format_ == "onnx", "model.pkl": format_ == "pickle"}
    assert says_both != agrees.get(name, format_ in ("xgboost", "catboost"))


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(PICKLES[kind])
    error = refuse_pickle(judge(path))
    assert isinstance(error, ArtifactUntrusted)
    assert str(error).startswith('"model.onnx": named .onnx, but it is a')
    assert "--trust" in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.onnx", b"hello\n", "named .onnx, but it looks like text ('hello')"),
        ("a.onnx", b"", "an empty file"),
        ("a.onnx", b"\n\n", "blank text"),
        ("a.pkl", b"id,price\n1,2\n2,3\n", "named .pkl, but it looks like a CSV table; that is data, not a model"),
        ("a.bin", b"city,price\nParis,3\nLima,4\n", "looks like a CSV table"),
        ("a.onnx", b"PAR1" + bytes(40), "a Parquet file"),
        ("a.bin", b"\x93NUMPY\x01\x00", "a numpy array"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5"),
        ("a.keras", zipped("config.json", "model.weights.h5"), "a Keras file"),
        ("a.npz", zipped("a.npy", "b.npy"), "numpy arrays"),
        ("a.zip", zipped("readme.txt"), "a zip file of 1 files"),
        ("a.zip", zipped("readme.txt")[:-9], "zip file, but it is damaged"),
        ("a.safetensors", (40).to_bytes(8, "little") + b'{"w":{"data_offsets":[0,4]},"xxxxxxxxx":1}', "safetensors"),
        ("a.gguf", b"GGUF\x03\x00\x00\x00", "GGUF"),
        ("a.ort", b"\x10\x00\x00\x00ORTM" + bytes(40), ".ort"),
        ("a.tflite", b"\x10\x00\x00\x00TFL3" + bytes(40), "TensorFlow Lite"),
        ("a.model", b"binf" + bytes(40), "XGBoost before 3.1"),
        ("a.onnx", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.pmml", b"<?xml version='1.0'?><PMML/>", "PMML"),
        ("a.csv.gz", gzip.compress(b"a,b\n1,2\n"), "gzip-compressed file without a pickle"),
        ("a.json", b'{"a": 1}', "keys: a"),
        ("a.json", b'{"learner": {"a": [1, 2', "brackets are still open"),
        ("a.json", b'{"learner": {]}', "unexpected ]"),
        ("a.json", b'{"learner": 1} x', "text after its end"),
        ("a.json", b'{"learner": "', "does not end"),
        ("a.json", b'{"learner":' + b"[" * 999, "nested deeper"),
        ("a.json", b'{"name": "tree", "tree_info": []}', "save_model('model.txt')"),
        ("a.ubj", UBJ[:-4], "damaged"),
        ("a.txt", LIGHTGBM[:40], "cut off after 40 bytes"),
        ("a.txt", LIGHTGBM[:-10], "cut off"),
        ("a.cbm", CATBOOST[:-1], "cut off: 16 bytes expected, 15 found"),
        ("a.onnx", onnx_bytes()[:-30], "begins like ONNX, but it is damaged"),
        ("a.bin", bytes(range(256)), "an unknown binary file"),
    ],
)  # fmt: skip
def test_what_is_no_model_says_so(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ArtifactInvalid) as caught:
        judge(path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f'"{name}": ')
    assert "\n" not in str(caught.value)


def test_a_torch_file_is_untrusted(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(zipped("net/data.pkl", "net/version"))
    with pytest.raises(ArtifactUntrusted, match=r"torch\.export\.save"):
        judge(path)


def test_paths(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        judge(tmp_path / "missing.onnx")
    (tmp_path / "real.onnx").write_bytes(onnx_bytes())
    (tmp_path / "link.onnx").symlink_to("real.onnx")
    assert judge(tmp_path / "link.onnx").format == "onnx"
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ArtifactInvalid, match="is a pipe"):
        judge(tmp_path / "pipe.onnx")
    with pytest.raises(ArtifactInvalid, match="is a device"):
        judge(Path("/dev/null"))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(MachineError, match="symbolic links"):
        judge(tmp_path / "loop")


def test_a_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(ArtifactInvalid, match="is a socket"):
            judge(tmp_path / "s")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.onnx"
    path.write_bytes(onnx_bytes())
    path.chmod(0)
    with pytest.raises(MachineError, match="Permission denied"):
        judge(path)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found: nothing"):
        judge(tmp_path)
    (tmp_path / "README.md").write_text("a model")
    (tmp_path / "model.onnx").write_bytes(onnx_bytes())
    assert judge(tmp_path).path == tmp_path / "model.onnx"
    (tmp_path / "other.cbm").write_bytes(CATBOOST)
    with pytest.raises(ConfigError, match=r"holds 2 models: model.onnx \(onnx\), other.cbm \(catboost\)"):
        judge(tmp_path)
    (tmp_path / "model.toml").write_text("")
    assert judge(tmp_path).format == "bundle"


def test_a_folder_with_one_broken_model_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ArtifactInvalid, match=r"named \.onnx, but"):
        judge(tmp_path)


def test_a_saved_model_folder(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(ArtifactInvalid, match="SavedModel"):
        judge(tmp_path)


@pytest.mark.parametrize("content", [XGBOOST, UBJ, LIGHTGBM, CATBOOST], ids=["json", "ubj", "lightgbm", "catboost"])
def test_every_truncation_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model"
    # What LightGBM writes after its trees is for people, and not all of its writers write it.
    whole = content.find(b"end of trees") if content is LIGHTGBM else len(content) - 1
    for length in range(whole):
        path.write_bytes(content[:length])
        with pytest.raises(ForetellError):
            judge(path)

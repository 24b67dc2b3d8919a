"""Which format a file is, and whether it may be opened: judged before anything in it is constructed.

1 find     the file, or the one artifact in a folder; only a regular file is opened
2 read     once: the bytes that are judged here are the bytes that are loaded
3 judge    by the whole structure of the bytes; the name only helps the message

A format is accepted positively; whatever is no known model is refused with what it looks like. Nothing here
unpickles, and no loader is tried in turn. Knows no ML framework.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from foretell.errors import ArtifactInvalid, ArtifactUntrusted, ConfigError, MachineError
from foretell.model.containers import COMPRESSIONS, Damaged, Inflated, json_keys, protobuf_fields, ubj_keys, zip_members
from foretell.model.pickles import pickle_protocol
from foretell.model.programs import is_old_torch_pickle, kind_of_torch_file, refuse_torch
from foretell.model.strangers import stranger

__all__ = ["Artifact", "Format", "judge", "judge_bytes", "read_bytes", "refuse_pickle"]

Format = Literal["onnx", "xgboost", "lightgbm", "catboost", "skops", "pickle", "torch", "torchscript", "bundle"]

_EXPECTED = (
    "an ONNX, XGBoost (.json, .ubj), LightGBM (.txt), CatBoost (.cbm, .json), PyTorch (.pt2) or skops file, a joblib "
    "or pickle file, or a bundle"
)
_SUFFIXES: dict[str, tuple[Format, ...]] = {
    ".onnx": ("onnx",),
    ".json": ("xgboost", "catboost"),
    ".ubj": ("xgboost",),
    ".txt": ("lightgbm",),
    ".cbm": ("catboost",),
    ".skops": ("skops",),
    ".joblib": ("pickle",),
    ".pkl": ("pickle",),
    ".pickle": ("pickle",),
    ".pt2": ("torch",),
    ".pt": ("torch", "torchscript"),
    ".pth": ("torch", "torchscript"),
}
_NOT_MODELS = {".csv", ".parquet", ".arrow", ".jsonl", ".md", ".py", ".toml", ".yaml", ".yml", ".png", ".data", ".log"}
_FOLDER_FILES = 256
_ONNX_WIRES = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
_ONNX_GRAPH = 7


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file, read and judged; or a bundle, which is a folder."""

    path: Path
    format: Format
    content: bytes = field(repr=False)
    """All of the file; empty for a bundle."""
    size: int
    """Bytes of the file; 0 for a bundle."""
    why: str
    """What it was recognised by, in words; names the disagreement where the file name says something else."""


def judge(path: Path) -> Artifact:
    """Find out which format a file or folder is.

    Args:
        path: A file; a bundle (it has a `model.toml`); or a folder that holds exactly one artifact.

    Raises:
        ConfigError: Nothing is there, or it is a folder with none or several artifacts.
        ArtifactInvalid: It is no model that Foretell opens, or it is damaged.
        ArtifactUntrusted: It is a file that runs code when opened and that no option opens, such as a `.pt`.
        MachineError: It cannot be read.
    """
    if not path.is_dir():
        return judge_bytes(path, read_bytes(path))
    if (path / "model.toml").exists():
        return Artifact(path, "bundle", b"", 0, "a folder with a model.toml")
    return _judge_folder(path)


def read_bytes(path: Path) -> bytes:
    """Read a regular file, or one that a symbolic link names, in one go.

    Raises:
        ConfigError: Nothing is there.
        ArtifactInvalid: A pipe, a socket or a device.
        MachineError: It cannot be read.
    """
    try:
        # Opening a device or a pipe can have effects, so look first; and look again at what was opened.
        _require_regular(path, os.stat(path).st_mode)
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as file:
            _require_regular(path, os.fstat(handle).st_mode)
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f'"{path}": no such file or folder; give the path of a model file or a bundle') from None
    except (OSError, MemoryError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "not enough memory"
        raise MachineError(f'"{path}": cannot be read: {reason}') from error


def judge_bytes(path: Path, content: bytes) -> Artifact:
    """Judge bytes that were read from `path`, as `judge` does. The path is for messages; it is not opened."""
    if not content:
        raise ArtifactInvalid(f'"{path.name}": an empty file; expected {_EXPECTED}')
    for look in (_onnx, _json, _ubj, _lightgbm, _catboost, _zip, _pickle):
        found = look(path, content)
        if found is not None:
            return _artifact(path, content, *found)
    what, advice = stranger(content)
    named = path.suffix.lower() in _SUFFIXES
    but = f"named {path.suffix}, but it looks like {what}" if named else f"looks like {what}"
    raise ArtifactInvalid(f'"{path.name}": {but}; {advice or "expected " + _EXPECTED}')


def refuse_pickle(artifact: Artifact) -> ArtifactUntrusted:
    """Return the error for a pickle that was given without trust: what it is, why not, what to do."""
    return ArtifactUntrusted(
        f'"{artifact.path.name}": {artifact.why}; opening it runs whatever code is in it, so it is refused. '
        "If you made it yourself, pass --trust (trust=True in Python), or convert it once: "
        f"foretell convert {artifact.path.name} --trust -o BUNDLE"
    )


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        kind = kinds.get(stat.S_IFMT(mode), "a folder")
        raise ArtifactInvalid(f'"{path}": is {kind}; expected a regular file')


def _artifact(path: Path, content: bytes, format_: Format, why: str) -> Artifact:
    claimed = _SUFFIXES.get(path.suffix.lower())
    if claimed is not None and format_ not in claimed:
        why = f"named {path.suffix}, but it is {why}"
    return Artifact(path, format_, content, len(content), why)


def _judge_folder(path: Path) -> Artifact:
    try:
        entries = sorted(e for e in path.iterdir() if not e.name.startswith("."))
    except OSError as error:
        raise MachineError(f'"{path}": cannot be listed: {error.strerror}') from error
    if (path / "saved_model.pb").exists():
        raise ArtifactInvalid(f'"{path}": a TensorFlow SavedModel; export it to ONNX (python -m tf2onnx.convert)')
    files = [e for e in entries if e.is_file() and e.suffix.lower() not in _NOT_MODELS]
    if len(files) > _FOLDER_FILES:
        raise ConfigError(f'"{path}": a folder with {len(files)} files; give the path of one model file')
    found, failures = [], []
    for file in files:
        try:
            found.append(judge_bytes(file, read_bytes(file)))
        except (ArtifactInvalid, ArtifactUntrusted) as error:
            if file.suffix.lower() in _SUFFIXES:
                failures.append(error)
    if len(found) == 1:
        return found[0]
    if not found and len(failures) == 1:
        raise failures[0]
    if found:
        listed = ", ".join(f"{a.path.name} ({a.format})" for a in found[:8])
        raise ConfigError(f'"{path}": holds {len(found)} models: {listed}; give the path of one of them')
    names = ", ".join(e.name for e in entries[:8]) or "nothing"
    raise ConfigError(f'"{path}": a folder without a model in it (found: {names}); expected {_EXPECTED}')


Found = tuple[Format, str]


def _whole(path: Path, what: str, walk: Callable[[bytes], list[str]], content: bytes) -> list[str]:
    """Walk a structure whose beginning was recognised; what does not hold then is damage."""
    try:
        return walk(content)
    except Damaged as error:
        raise ArtifactInvalid(
            f'"{path.name}": begins like {what}, but it is damaged: {error}; copy it again'
        ) from error


def _onnx(path: Path, content: bytes) -> Found | None:
    """Recognise a ModelProto (onnx.proto): known fields with their wire types to the last byte, and a graph."""
    seen: list[int] = []
    try:
        for number, wire, _, _ in protobuf_fields(content):
            if _ONNX_WIRES.get(number, wire) != wire or number > 1000:
                raise Damaged(f"field {number} has the wrong kind")
            seen.append(number)
    except Damaged as error:
        # Every exporter writes the version first: 08, then a number below 128.
        if seen[:1] == [1] and content[1] < 0x20 and set(seen) <= set(_ONNX_WIRES):
            raise ArtifactInvalid(
                f'"{path.name}": begins like ONNX, but it is damaged: {error}; copy it again'
            ) from error
        return None
    if 1 in seen and _ONNX_GRAPH in seen:
        return "onnx", "an ONNX model"
    if seen[0] == 1 and content[1] < 0x20 and set(seen) <= set(_ONNX_WIRES):
        raise ArtifactInvalid(
            f'"{path.name}": begins like ONNX, but it has no graph; copy it again, or export it again'
        )
    return None


def _json(path: Path, content: bytes) -> Found | None:
    if content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{" or content[1:2] in (b"L", b"i", b"U", b"l", b"I", b"#", b"$"):
        return None
    keys = set(_whole(path, "JSON", json_keys, content))
    if "learner" in keys:
        return "xgboost", "an XGBoost model in JSON"
    if keys & {"oblivious_trees", "trees"} and keys & {"features_info", "model_info"}:
        return "catboost", "a CatBoost model in JSON"
    if "tree_info" in keys:
        raise ArtifactInvalid(
            f'"{path.name}": a dump of a LightGBM model in JSON, which LightGBM cannot load; '
            "save it with booster.save_model('model.txt')"
        )
    shown = ", ".join(sorted(keys)[:5]) or "none"
    raise ArtifactInvalid(
        f'"{path.name}": JSON that is no model (keys: {shown}); expected XGBoost\'s "learner" or CatBoost\'s '
        '"oblivious_trees"; a tree dump cannot be loaded, save with save_model'
    )


def _ubj(path: Path, content: bytes) -> Found | None:
    if content[:1] != b"{":
        return None
    if "learner" in _whole(path, "UBJSON", ubj_keys, content):
        return "xgboost", "an XGBoost model in UBJSON"
    raise ArtifactInvalid(f'"{path.name}": UBJSON that is no model; expected XGBoost\'s "learner"')


def _lightgbm(path: Path, content: bytes) -> Found | None:
    if not content.startswith((b"tree\nversion=", b"tree\r\nversion=")):
        return None
    has_parameters = content.find(b"\nparameters:") >= 0
    if content.find(b"end of trees") < 0 or (has_parameters and content.find(b"end of parameters") < 0):
        raise ArtifactInvalid(
            f'"{path.name}": begins like a LightGBM model, but it is cut off after {len(content)} bytes; copy it again'
        )
    return "lightgbm", "a LightGBM model in text"


def _catboost(path: Path, content: bytes) -> Found | None:
    if not content.startswith(b"CBM1"):
        return None
    # catboost/libs/model/model.cpp: magic, bytes of the core as a 32-bit number, the core, then parts of models
    # with categories.
    core = int.from_bytes(content[4:8], "little")
    if len(content) < 8 or core > len(content) - 8:
        raise ArtifactInvalid(
            f'"{path.name}": begins like a CatBoost model, but it is cut off: {core + 8} bytes expected, '
            f"{len(content)} found; copy it again"
        )
    return "catboost", "a CatBoost model"


def _zip(path: Path, content: bytes) -> Found | None:
    if not content.startswith(b"PK\x03\x04"):
        return None
    names = _whole(path, "a zip file", zip_members, content)
    if "schema.json" in names:
        return "skops", "a skops file"
    kind = kind_of_torch_file(names)
    if kind == "program":
        return "torch", "a PyTorch program"
    if kind == "torchscript":
        return "torchscript", "a TorchScript file"
    if kind is not None:
        raise refuse_torch(path.name, kind, content)
    return None


def _pickle(path: Path, content: bytes) -> Found | None:
    if is_old_torch_pickle(content):
        raise refuse_torch(path.name, "pickle", content)
    protocol = pickle_protocol(content)
    if protocol is not None:
        return "pickle", f"a pickle (protocol {protocol})"
    if content.startswith(b"ZF0x"):
        return "pickle", "a compressed pickle of an old joblib"
    compression = next((name for name, heads in COMPRESSIONS.items() if content.startswith(heads)), None)
    if compression is None:
        return None
    if compression == "lz4":
        # Python has no lz4 of its own to look inside; joblib is what writes models this way.
        return "pickle", "a joblib file (lz4)"
    head = b""
    try:
        stream = Inflated(content, compression)
        while len(head) < 4096 and (piece := stream.piece(4096)):
            head += piece
    except Damaged:
        pass
    protocol = pickle_protocol(head)
    return None if protocol is None else ("pickle", f"a pickle (protocol {protocol}, {compression}-compressed)")

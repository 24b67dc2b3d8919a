"""A bundle: a folder with only what inference needs, and a digest of every byte.

    model.toml      name, signature, task, runners, facts, tolerance
    model.onnx ...  the file of each runner
    golden.jsonl    rows with the answers the original gave
    proof.json      what the conversion was held against, and found
    SHA256SUMS      `sha256sum -c` reads it

Writing goes to a folder beside and is renamed whole: there is no half-written bundle under the final name.
Reading checks every digest before anything is parsed, and hands on the bytes that were checked.
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretell.errors import ArtifactInvalid, ConfigError, MachineError
from foretell.model.describe import read_signature, read_task, write_signature, write_task
from foretell.model.formats.base import Opened
from foretell.model.runtimes import Runner

__all__ = ["Bundle", "Golden", "read_bundle", "write_bundle"]

MANIFEST = "model.toml"
_SUMS = "SHA256SUMS"
_GOLDEN = "golden.jsonl"
_PROOF = "proof.json"
_VERSION = 1


@dataclass(frozen=True)
class Golden:
    """Rows, and the answers they had when the model was converted."""

    rows: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    """`{"value": ...}`, or `{"label": ..., "probabilities": [...]}`."""


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds."""

    name: str
    opened: Opened
    golden: Golden
    tolerance: float
    proof: Mapping[str, Any]


def write_bundle(folder: Path, bundle: Bundle) -> None:
    """Write a bundle at a path where nothing is yet.

    Raises:
        ConfigError: Something is there already.
        MachineError: The disk is full, or may not be written.
    """
    if folder.exists():
        raise ConfigError(f'"{folder}": exists already; name a folder that does not, or remove it first')
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    try:
        aside.mkdir(parents=True)
        for name, content in _files(bundle).items():
            _write(aside / name, content)
        os.rename(aside, folder)
    except OSError as error:
        raise MachineError(f'"{folder}": cannot be written: {error.strerror}; nothing was left there') from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def read_bundle(folder: Path, *, trust: bool = False) -> Bundle:
    """Read a bundle, every digest checked.

    Args:
        folder: Of the bundle.
        trust: Whether a runner whose file may run code may be opened, later.

    Raises:
        ArtifactInvalid: A file is missing, changed, not listed, or does not say what it must.
    """
    files = _checked(folder)
    manifest = _parsed(folder, files, MANIFEST, tomllib.loads)
    version = manifest.get("foretell")
    if version != _VERSION:
        raise ArtifactInvalid(
            f'bundle "{folder}": made for version {version} of bundles, this reads {_VERSION}; convert it again'
        )
    try:
        opened = Opened(
            format=manifest["format"],
            signature=read_signature(manifest["signature"]),
            task=read_task(manifest["task"]),
            runners=tuple(_runner(table, files, trust) for table in manifest["runner"]),
            about=manifest.get("about", {}),
            notes=tuple(manifest.get("notes", ())),
        )
        name, tolerance = str(manifest["name"]), float(manifest["tolerance"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactInvalid(
            f'bundle "{folder}": {MANIFEST} lacks or garbles {error}; convert the model again'
        ) from None
    if not opened.runners:
        raise _broken(folder, f"{MANIFEST} names no runner")
    golden = _parsed(folder, files, _GOLDEN, _read_golden)
    return Bundle(name, opened, golden, tolerance, _parsed(folder, files, _PROOF, json.loads))


def _files(bundle: Bundle) -> dict[str, bytes]:
    import tomli_w

    opened = bundle.opened
    manifest = {
        "foretell": _VERSION,
        "name": bundle.name,
        "format": opened.format,
        "tolerance": bundle.tolerance,
        "notes": list(opened.notes),
        "about": dict(opened.about),
        "task": write_task(opened.task),
        "runner": [_runner_table(r) for r in opened.runners],
        "signature": write_signature(opened.signature),
    }
    lines = [
        json.dumps({"row": row, "answer": answer}, ensure_ascii=False, default=str)
        for row, answer in zip(bundle.golden.rows, bundle.golden.answers, strict=True)
    ]
    files = {
        MANIFEST: tomli_w.dumps(manifest).encode(),
        _GOLDEN: "".join(f"{line}\n" for line in lines).encode(),
        _PROOF: json.dumps(bundle.proof, indent=2).encode(),
        **{r.file: r.content for r in opened.runners},
    }
    sums = "".join(f"{_sha256(content)}  {name}\n" for name, content in sorted(files.items()))
    return files | {_SUMS: sums.encode()}


def _runner_table(runner: Runner) -> dict[str, Any]:
    table = {"kind": runner.kind, "file": runner.file, "rows_from": runner.rows_from, "chunk_rows": runner.chunk_rows}
    return table | ({"options": dict(runner.options)} if runner.options else {})


def _runner(table: Mapping[str, Any], files: Mapping[str, bytes], trust: bool) -> Runner:
    return Runner(
        kind=table["kind"],
        file=table["file"],
        content=files[table["file"]],
        rows_from=int(table["rows_from"]),
        chunk_rows=int(table["chunk_rows"]),
        options=table.get("options", {}),
        trusted=trust,
    )


def _checked(folder: Path) -> dict[str, bytes]:
    """Read the files that the list names, each against its digest; a file it does not name is refused."""
    listed = _sums(folder)
    there = {p.name for p in folder.iterdir() if not p.name.startswith(".")} - {_SUMS}
    strange = sorted(there - set(listed))
    if strange:
        raise ArtifactInvalid(
            f'bundle "{folder}": "{strange[0]}" is not listed in {_SUMS}; remove it, or convert again'
        )
    files = {}
    for name, digest in listed.items():
        files[name] = _read(folder / name, folder)
        if _sha256(files[name]) != digest:
            raise ArtifactInvalid(
                f'bundle "{folder}": "{name}" was changed after the proof; restore it, or convert again'
            )
    return files


def _sums(folder: Path) -> dict[str, str]:
    listed = {}
    for line in _read(folder / _SUMS, folder).decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise ArtifactInvalid(
                f'bundle "{folder}": {_SUMS} has the line {line[:60]!r}; expected "<sha256>  <file name>"'
            )
        listed[name] = digest
    return listed


def _read(path: Path, folder: Path) -> bytes:
    try:
        if path.is_symlink() or not path.is_file():
            raise _broken(folder, f'"{path.name}" is missing, or not a plain file')
        return path.read_bytes()
    except OSError as error:
        raise MachineError(f'"{path}": cannot be read: {error.strerror}') from error


def _parsed(folder: Path, files: Mapping[str, bytes], name: str, parse: Any) -> Any:
    try:
        return parse(files[name].decode())
    except KeyError:
        raise _broken(folder, f'"{name}" is not listed in {_SUMS}') from None
    except (ValueError, TypeError) as error:
        raise _broken(folder, f'"{name}" cannot be read: {error}') from None


def _broken(folder: Path, what: str, mend: str = "") -> ArtifactInvalid:
    return ArtifactInvalid(f'bundle "{folder}": {what}; {mend}convert the model again')


def _read_golden(text: str) -> Golden:
    entries = [json.loads(line) for line in text.splitlines() if line]
    return Golden([e["row"] for e in entries], [e["answer"] for e in entries])


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sha256(content: bytes) -> str:
    import hashlib  # it brings OpenSSL: memory that the worker of a bare file need not hold

    return hashlib.sha256(content).hexdigest()

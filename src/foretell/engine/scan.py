"""Which models and versions lie under a path. Looks at names only: what a file is, its worker finds out.

model.onnx  ames/ (a bundle)          one model, named by its stem or its folder
models/ames.onnx  models/ames/...     a folder of models: bare files, bundles, folders with one artifact
models/ames/1/  models/ames/2/        versions of one model
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from foretell.errors import ConfigError, MachineError

__all__ = ["Found", "scan"]

Found = dict[str, dict[str, Path]]
"""Name -> version -> path, versions in rising order."""

_SUFFIXES = {".onnx", ".json", ".ubj", ".txt", ".cbm", ".skops", ".joblib", ".pkl", ".pickle"}
_BUNDLE = "model.toml"
_ONLY = "1"


def scan(paths: Iterable[Path]) -> Found:
    """Find the models under each path.

    Raises:
        ConfigError: A path is not there, holds no model, or two models have one name.
        MachineError: A folder cannot be read.
    """
    found: Found = {}
    for path in paths:
        try:
            models = _under(path)
        except OSError as error:
            raise MachineError(f'"{path}": cannot be read: {error.strerror}') from error
        if not models:
            raise ConfigError(f'"{path}": no model in it; expected an artifact, a bundle, or a folder of them')
        for name, versions in models:
            if name in found:
                raise ConfigError(f'model "{name}": found twice, the second time in "{path}"; rename one')
            found[name] = dict(sorted(versions.items(), key=lambda v: int(v[0])))
    return found


def _under(path: Path) -> list[tuple[str, dict[str, Path]]]:
    if not path.exists():
        raise ConfigError(f'"{path}": no such file or folder; give the path of a model file, a bundle or a folder')
    name = path.resolve().name
    if not path.is_dir():
        return [(Path(name).stem, {_ONLY: path})]
    if (path / _BUNDLE).is_file():
        return [(name, {_ONLY: path})]
    versions = _versions(path)
    if versions:
        return [(name, versions)]
    return [model for child in sorted(path.iterdir()) if (model := _child(child)) is not None]


def _child(path: Path) -> tuple[str, dict[str, Path]] | None:
    if path.name.startswith("."):
        return None
    if path.is_file():
        return (path.stem, {_ONLY: path}) if path.suffix.lower() in _SUFFIXES else None
    if not path.is_dir():
        return None
    versions = _versions(path) or ({_ONLY: path} if _holds_model(path) else {})
    return (path.name, versions) if versions else None


def _versions(path: Path) -> dict[str, Path]:
    """Return the version folders: whole numbers without leading zeros, that hold a model."""
    return {
        child.name: child
        for child in path.iterdir()
        if child.name.isascii() and child.name.isdigit() and child.name == str(int(child.name))
        if child.is_dir() and _holds_model(child)
    }


def _holds_model(path: Path) -> bool:
    return (path / _BUNDLE).is_file() or any(
        child.suffix.lower() in _SUFFIXES and not child.name.startswith(".") for child in path.iterdir()
    )

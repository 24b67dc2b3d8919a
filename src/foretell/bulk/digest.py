"""Which model this is, by its bytes: a job goes on with the model it was begun with, or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

from foretell.model.artifact import judge

__all__ = ["model_digest"]


def model_digest(path: str) -> str:
    """Return the sha256 of a model's files and of their names.

    Args:
        path: A bundle, an artifact, or a folder that holds one, as `load` takes it.

    Raises:
        ConfigError: Nothing is there.
        LoadError: It is a folder, and no model.
    """
    given = Path(path)
    model = given if given.is_file() else judge(given).path
    files = sorted(p for p in model.rglob("*") if p.is_file()) if model.is_dir() else [model]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{content}  {file.relative_to(model).as_posix()}\n".encode())
    return digest.hexdigest()

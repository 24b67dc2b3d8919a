"""A network of PyTorch that takes pictures: the tables that say how, put to what the program says of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from foretell.model.formats.base import Opened
from foretell.model.formats.onnx_vision import sight_of

__all__ = ["with_sight"]


def with_sight(opened: Opened, tables: Mapping[str, Any]) -> Opened:
    """Return a program as one that takes pictures, if with the tables everything is known of it.

    Args:
        opened: As `formats.torch` or `formats.torchscript` opened it.
        tables: `task` and `signature.image`, as in model.toml.

    Returns:
        With the signature and the task of a network of pictures; or as it was, with notes of what is missing.

    Raises:
        ArtifactInvalid: What the tables say cannot be, or does not fit the network.
    """
    signature = opened.signature
    sight = sight_of(signature.inputs, signature.outputs, {}, {}, tables)
    if sight is None:
        return opened
    notes = (*opened.notes, *sight.notes)
    if sight.signature is None or sight.task is None:
        return replace(opened, notes=notes)
    return replace(opened, signature=sight.signature, task=sight.task, notes=notes)

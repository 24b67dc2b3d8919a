"""What runs a model: one framework a file, imported when a model needs it."""

from __future__ import annotations

from foretell.model.runtimes.base import LONG_CHUNK_ROWS, Runner, Runtime, open_runtime

__all__ = ["LONG_CHUNK_ROWS", "Runner", "Runtime", "open_runtime"]

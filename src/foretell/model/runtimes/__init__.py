"""What runs a model: one framework a file, imported when a model needs it."""

from __future__ import annotations

from foretell.model.runtimes.base import Runner, Runtime, open_runtime

__all__ = ["Runner", "Runtime", "open_runtime"]

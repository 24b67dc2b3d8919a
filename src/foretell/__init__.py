"""Foretell: give it a trained model and new data, it gives predictions.

model = foretell.load("ames/")
model.predict({"Gr_Liv_Area": 1500, ...})
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from foretell.errors import (
    ArtifactInvalid,
    ArtifactUntrusted,
    ConfigError,
    ForetellError,
    InferenceFailed,
    InternalError,
    InvalidInput,
    InvalidOutput,
    LoadError,
    MachineError,
    ModelError,
    ProofFailed,
    RequestError,
    RuntimeMissing,
)

if TYPE_CHECKING:
    from foretell.model.load import load
    from foretell.model.model import Model
    from foretell.model.tasks.predictions import Predictions

__all__ = [
    "ArtifactInvalid",
    "ArtifactUntrusted",
    "ConfigError",
    "ForetellError",
    "InferenceFailed",
    "InternalError",
    "InvalidInput",
    "InvalidOutput",
    "LoadError",
    "MachineError",
    "Model",
    "ModelError",
    "Predictions",
    "ProofFailed",
    "RequestError",
    "RuntimeMissing",
    "load",
]

__version__ = "0.1.0"

_LATER = {
    "load": "foretell.model.load",
    "Model": "foretell.model.model",
    "Predictions": "foretell.model.tasks.predictions",
}


def __getattr__(name: str) -> Any:
    """Import what does work only when it is asked for: `import foretell` alone loads no numpy."""
    if name not in _LATER:
        raise AttributeError(f"module 'foretell' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATER[name]), name)

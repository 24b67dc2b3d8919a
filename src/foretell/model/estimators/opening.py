"""Construct the estimator that a file holds. Runs its code: only ever inside the box.

Knows joblib, pickle and skops, and how their failures read.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

from foretell.errors import ArtifactInvalid, ArtifactUntrusted, LoadError, RuntimeMissing

__all__ = ["Held", "hold"]


@dataclass(frozen=True)
class Held:
    """An estimator, and what was noticed while it was constructed."""

    estimator: Any
    notes: tuple[str, ...]
    trained_with: str
    """Version of scikit-learn it was trained with."""


def hold(content: bytes, kind: str, *, trust: bool) -> Held:
    """Construct the estimator.

    Args:
        content: The file.
        kind: `pickle` (joblib's too) or `skops`.
        trust: Whether it may run code. A skops file needs no trust if it names nothing unknown.

    Raises:
        ArtifactUntrusted: It may run code, and is not trusted.
        ArtifactInvalid: It is damaged, or holds no estimator.
        RuntimeMissing: A module it needs is not installed.
        LoadError: It cannot be constructed.
    """
    import sklearn

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made_with = ""
        try:
            estimator = _skops(content, trust) if kind == "skops" else _joblib(content, trust)
        finally:
            versions = {getattr(w.message, "original_sklearn_version", "") for w in caught} - {""}
            made_with = ", ".join(sorted(map(str, versions)))
    if not any(hasattr(estimator, name) for name in ("predict", "transform", "best_estimator_")):
        raise ArtifactInvalid(f"it holds a {type(estimator).__name__}, which has no predict; expected an estimator")
    notes: tuple[str, ...] = ()
    if made_with:
        notes = (
            f"trained with scikit-learn {made_with}, opened with {sklearn.__version__}: "
            "the proof is against what it answers here",
        )
    return Held(estimator, notes, made_with or sklearn.__version__)


def _joblib(content: bytes, trust: bool) -> Any:
    import joblib

    if not trust:
        raise ArtifactUntrusted("a pickle, and it is not trusted")
    try:
        return joblib.load(io.BytesIO(content))
    except ModuleNotFoundError as error:
        raise RuntimeMissing(
            f'it needs the module "{error.name}", which is not installed or not on the path; '
            "install it, or start where it can be imported"
        ) from error
    except AttributeError as error:
        raise LoadError(_attribute(error)) from error
    except Exception as error:
        raise LoadError(_said(error)) from error


def _attribute(error: AttributeError) -> str:
    if "__main__" in str(error):
        return (
            f"{error}: it was defined in a script or a notebook, not in a module; move it into a module that can be "
            "imported, and save the estimator again"
        )
    return _said(error)


def _said(error: Exception) -> str:
    import sklearn

    return (
        f"it cannot be constructed ({type(error).__name__}: {error}); here are Python's own box and scikit-learn "
        f"{sklearn.__version__}: a file of another version, or one that reaches outside, fails like this"
    )


def _skops(content: bytes, trust: bool) -> Any:
    try:
        import skops.io
    except ModuleNotFoundError:
        raise RuntimeMissing('skops is not installed; pip install "foretell[sklearn]"') from None
    try:
        unknown = sorted(skops.io.get_untrusted_types(data=content))
        if unknown and not trust:
            names = ", ".join(unknown[:5]) + (" ..." if len(unknown) > 5 else "")
            raise ArtifactUntrusted(
                f"a skops file that names types which may run code ({names}); "
                "if you made it yourself, pass --trust (trust=True in Python)"
            )
        return skops.io.loads(content, trusted=unknown)
    except ArtifactUntrusted:
        raise
    except ModuleNotFoundError as error:
        raise RuntimeMissing(f'it needs the module "{error.name}", which is not installed') from error
    except Exception as error:
        raise ArtifactInvalid(f"a skops file that cannot be read ({type(error).__name__}: {error})") from error

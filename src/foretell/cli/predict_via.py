"""`foretell predict --via URL`: what predicts is loaded here, or is the model of a running server."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foretell.errors import ConfigError, RuntimeMissing

__all__ = ["add_via", "digest_for", "opened"]


def add_via(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--via",
        metavar="URL",
        help="let a running server predict, after its other callers; MODEL is the name it has there",
    )


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Any]:
    """Give what predicts.

    Raises:
        ConfigError: The options do not fit together, or the server has no such model, or another one.
        MachineError: The server does not answer.
        LoadError: The model cannot be opened.
    """
    from foretell.model.load import load

    if args.via is None:
        with load(args.model, trust=args.trust) as model:
            yield model
        return
    if args.on is not None:
        raise ConfigError("--via: the server predicts, --on ray does not; leave one of them out")
    from foretell.bulk.via import via

    with via(args.via, _name(args.model)) as model:
        if os.path.exists(args.model):
            _compare(args, model)
        yield model


def digest_for(args: argparse.Namespace, model: Any) -> str:
    """Return the digest of the model of a job."""
    if args.via is not None:
        return f"via {model.digest}"
    from foretell.bulk.digest import model_digest

    return model_digest(args.model)


def _name(model: str) -> str:
    """Return the name under which a server has a model: that of its folder, or of its file without the ending."""
    path = Path(model)
    return path.stem if path.is_file() else Path(os.path.abspath(path)).name


def _compare(args: argparse.Namespace, model: Any) -> None:
    from foretell.model.load import load

    try:
        with load(args.model, trust=args.trust) as local:
            digest = local.info()["digest"]
    except RuntimeMissing:
        return  # it is the server that runs it
    if digest != model.digest:
        raise ConfigError(
            f'--via "{args.via}": "{model.name}" is another model there than "{args.model}" is here; '
            "load this one there, or give its name alone from another folder"
        )

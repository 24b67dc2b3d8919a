"""The command `foretell`: parse, run one command, turn an error into one line and an exit code.

Exit codes: 0 done, 2 wrong use, 3 the input data is at fault, 4 the model is at fault or refused,
5 the machine is (disk, memory). Imports no more than the parser needs until a command is chosen.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from foretell.errors import ConfigError, ForetellError, LoadError, MachineError, ModelError, RequestError

__all__ = ["main"]

_COMMANDS = ("predict", "serve", "convert", "inspect", "check", "bench")
_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (ConfigError, 2),
    (RequestError, 3),
    (LoadError, 4),
    (ModelError, 4),
    (MachineError, 5),
    (MemoryError, 5),
    (OSError, 5),
)
_INTERRUPTED = 130
_PIPE_CLOSED = 141


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong with the command line, and exit 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    args = _parser().parse_args(argv)
    if getattr(args, "device", None):
        os.environ["FORETELL_DEVICE"] = args.device  # which processes of models inherit
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return _PIPE_CLOSED
    except Exception as error:
        if args.debug:
            raise
        if isinstance(error, OSError):
            _drop_output()
        return _told(error)
    return code


def _drop_output() -> None:
    """Send what is still buffered for a stdout that takes no more to nowhere, or it would raise again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    from foretell import __version__

    parser = _Parser(prog="foretell", description="Give it a trained model and new data, it gives predictions.")
    parser.add_argument("--version", action="version", version=f"foretell {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--debug", action="store_true", help="on an error, show where in the code it happened")
    running = argparse.ArgumentParser(add_help=False, parents=[shared])
    running.add_argument("--device", metavar="DEVICE", help="where PyTorch runs: auto, cpu, cuda or cuda:N")
    for name in _COMMANDS:
        import_module(f"foretell.cli.{name}").add(commands, shared if name == "inspect" else running)
    return parser


def _told(error: Exception) -> int:
    code = next((code for kind, code in _CODES if isinstance(error, kind)), None)
    if code is None:
        text = f"{type(error).__name__}: {error}. This is a bug; run again with --debug and report it"
        code = 4
    elif isinstance(error, MemoryError) and not isinstance(error, ForetellError):
        text = "out of memory: the machine has too little for this model and these rows; free some, or give fewer rows"
    elif isinstance(error, OSError):
        text = f"{error.filename or 'output'}: {error.strerror or error}; free what is missing, then run again"
    else:
        text = str(error)
    sys.stderr.write(f"foretell: {' '.join(text.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())

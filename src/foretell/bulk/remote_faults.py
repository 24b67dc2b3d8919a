"""What object stores and the network raise, in Foretell's words.

Their libraries are not imported: if none is loaded, none has raised.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from foretell.errors import ConfigError, MachineError

__all__ = ["exists_already", "remote"]

_ROOTS = {
    "botocore.exceptions": ("BotoCoreError", "ClientError", "HTTPClientError"),
    "aiohttp": ("ClientError",),
    "requests": ("RequestException",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "gcsfs.retry": ("HttpError",),
    "azure.core.exceptions": ("AzureError",),
    "paramiko": ("SSHException",),
}
_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
                "ProfileNotFound", "DefaultCredentialsError", "RefreshError", "ClientAuthenticationError")  # fmt: skip
_CONFLICTS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def _foreign() -> tuple[type[BaseException], ...]:
    found = [
        getattr(sys.modules[module], name)
        for module, names in _ROOTS.items()
        if module in sys.modules
        for name in names
        if hasattr(sys.modules[module], name)
    ]
    return (OSError, TimeoutError, *found)


@contextmanager
def remote(path: str, doing: str) -> Iterator[None]:
    """Translate what goes wrong with a path.

    Args:
        path: As the user gave it.
        doing: "read" or "written".

    Raises:
        ConfigError: There is no such file, or it was changed while it was read.
        MachineError: Not permitted, not reached, or the connection was lost.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except NotImplementedError as e:
        raise ConfigError(f'"{path}": cannot be {doing}, this kind of place does not allow it; name another') from e
    except Exception as e:
        if not isinstance(e, _foreign()) and not _is_wrapped(e):
            raise
        raise _translated(path, doing, e) from e


def exists_already(fault: BaseException) -> bool:
    """Whether a name was to be made and is there: stores say so in several ways."""
    if isinstance(fault, FileExistsError):
        return True
    response = getattr(fault.__cause__, "response", None) or getattr(fault, "response", None)
    return isinstance(response, dict) and str(response.get("Error", {}).get("Code")) in _CONFLICTS


def _is_wrapped(fault: Exception) -> bool:
    """Whether a library put a fault of the network into one of no kind: adlfs raises RuntimeError."""
    return isinstance(fault, RuntimeError) and isinstance(fault.__cause__, _foreign())


def _translated(path: str, doing: str, fault: Exception) -> ConfigError | MachineError:
    if isinstance(fault, (FileNotFoundError, NotADirectoryError)):
        return ConfigError(f'"{path}": there is no such file or folder, or no such bucket; check the URL')
    said = (str(fault) or type(fault).__name__).splitlines()[0][:200]
    if type(fault).__name__ == "FileExpired":
        return ConfigError(f'"{path}": was changed while it was read; leave it alone, and begin anew with --overwrite')
    if isinstance(fault, PermissionError) or type(fault).__name__ in _CREDENTIALS:
        return MachineError(f'"{path}": may not be {doing} ({said}); check the credentials and what they permit')
    if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(f'"{path}": cannot be {doing} ({said}); make room, then run the same command again')
    return MachineError(f'"{path}": cannot be {doing} ({said}); check the connection, then run the same command again')

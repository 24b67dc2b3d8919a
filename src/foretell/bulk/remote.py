"""Files in an object store or on another machine, by whatever file system `fsspec` has for the URL.

A store has no rename and no append. A file is uploaded and appears when the upload is completed; a line is an object of
its own, made only if there is none of its number, so that of two jobs on one journal the second is told.

Knows fsspec; not what files hold, nor which clouds there are.
"""

from __future__ import annotations

import importlib.util
import io
import posixpath
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, cast

from foretell.bulk.lease import leased
from foretell.bulk.ranged import RangedFile
from foretell.bulk.remote_faults import exists_already, remote
from foretell.errors import ConfigError, InternalError

__all__ = ["RemoteStorage", "remote_storage"]

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "azure", "abfs": "azure", "abfss": "azure"}
"""Stores whose uploads appear when they are completed; and what is installed for them."""
_STAMPS = ("ETag", "etag", "generation", "LastModified", "last_modified", "mtime", "created")
_UPLOAD_BYTES = 1 << 24
"""Of one part of an upload: S3 takes 10,000 of them, so a file may have 160 GB; and so much memory is needed."""


class RemoteStorage:
    """One kind of place, such as all of S3. Safe to call from several threads."""

    def __init__(self, fs: Any, prefix: str) -> None:
        """Wrap a file system.

        Args:
            fs: An `fsspec.AbstractFileSystem`.
            prefix: What URLs have before a path of `fs`.
        """
        self._fs = fs
        self._prefix = prefix
        self._is_store = not _EXTRAS.keys().isdisjoint(_protocols(fs))
        self._listed: dict[str, dict[str, Any]] = {}
        self._next: dict[str, int] = {}
        self._made: set[str] = set()
        """Files, for sure: what is removed else may be a folder, which takes a look."""
        self._lock = threading.Lock()

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading: fetched in ranges, ahead of where it is read.

        Raises:
            ConfigError: There is no such file; while it is read: it was changed.
            MachineError: It may not be read, or the connection is lost.
        """
        with remote(path, "read"):
            handle = self._fs.open(self._fs._strip_protocol(path), "rb", cache_type="none")
        fetch = getattr(handle, "_fetch_range", None)
        if fetch is None:  # a file of another kind, read by one thread
            return cast("BinaryIO", io.BufferedReader(_Plain(handle, path), 1 << 20))

        # Requests to S3 say which version they want. To others they do not, so it is looked at after each.
        looked = {} if "IfMatch" in getattr(handle, "read_kw", {}) else handle.details

        def fetched(begin: int, end: int) -> bytes:
            with remote(path, "read"):
                content: bytes = fetch(begin, end)
                is_same = not self._is_store or not looked or _stamp(self._fs.info(path)) == _stamp(looked)
            if len(content) != end - begin or not is_same:
                raise ConfigError(
                    f'"{path}": was changed while it was read; leave it alone, and begin anew with --overwrite'
                )
            return content

        return cast("BinaryIO", RangedFile(fetched, handle.size, on_close=handle.close))

    def size_bytes(self, path: str) -> int:
        """Return the length of a file in bytes; raises as `open`."""
        return int(self._info(path)["size"])

    def stamp(self, path: str) -> str:
        """Return the ETag, or where there is none the time of the last change; raises as `open`."""
        return _stamp(self._info(path))

    def exists(self, path: str) -> bool:
        """Whether there is a file or a folder of this name; raises as `open`."""
        with remote(path, "read"):
            return bool(self._fs.exists(path))

    def is_file(self, path: str) -> bool:
        """Whether this is a file; raises as `open`."""
        with remote(path, "read"):
            return not path.endswith("/") and bool(self._fs.isfile(path))

    def files_in(self, folder: str) -> list[str]:
        """Return the URLs of all files in a folder and below, sorted name by name; raises as `open`."""
        with remote(folder, "read"):
            found: dict[str, dict[str, Any]] = self._fs.find(folder, detail=True)
            if not found and not self._fs.exists(folder):
                raise FileNotFoundError(folder)
        return self._seen(found)

    def matching(self, pattern: str) -> list[str]:
        """Return the URLs of all files that a glob matches, sorted name by name; raises as `open`."""
        with remote(pattern, "read"):
            return self._seen(self._fs.glob(pattern, detail=True))

    def _seen(self, found: dict[str, dict[str, Any]]) -> list[str]:
        listed = {self._url(name): info for name, info in found.items() if info.get("type") == "file"}
        # An empty object named "folder/" is what some tools make for a folder.
        listed = {url: info for url, info in listed.items() if not url.endswith("/")}
        self._listed |= listed
        return sorted(listed, key=lambda url: url.split("/"))

    @contextmanager
    def creating(self, path: str) -> Iterator[BinaryIO]:
        """Upload a file: it appears when the block ends well, else what was uploaded is let go.

        Raises:
            MachineError: It may not be written, or the connection is lost.
        """
        name = self._fs._strip_protocol(path)
        aside = name if self._is_store else posixpath.join(posixpath.dirname(name), f".{posixpath.basename(name)}.part")
        with remote(path, "written"):
            if not self._is_store:
                self._fs.makedirs(posixpath.dirname(name), exist_ok=True)
            file = self._fs.open(aside, "wb", block_size=_UPLOAD_BYTES)
            try:
                yield file
                file.close()
            except BaseException:
                self._abandon(file, aside)
                raise
            if aside != name:
                self._fs.mv(aside, name)
        self._listed.pop(path, None)
        self._made.add(path)

    def _abandon(self, file: Any, aside: str) -> None:
        """Let go of an upload. What closes an fsspec file completes it, so this one may never be closed."""
        with suppress(Exception):
            if self._is_store:
                file.discard()
        if self._is_store:
            file.closed = True
            return
        with suppress(Exception):
            file.close()
            self._fs.rm_file(aside)

    def add_line(self, path: str, line: str) -> None:
        """Add one line: an object `PATH/00000001`, and so on.

        Raises:
            ConfigError: Another job has written this line.
            MachineError: It may not be written, or the connection is lost.
        """
        if "\n" in line:
            raise InternalError(f'"{path}": a line with a newline in it. This is a bug.')
        with self._lock:
            number = self._next.get(path) or len(self._numbered(path)) + 1
            name = f"{self._fs._strip_protocol(path)}/{number:08d}"
            with remote(path, "written"):
                self._make(path, name, line.encode() + b"\n")
            self._next[path] = number + 1

    def _make(self, path: str, name: str, content: bytes) -> None:
        if not self._is_store:
            self._fs.makedirs(posixpath.dirname(name), exist_ok=True)
        try:
            self._fs.pipe_file(name, content, mode="create")
        except Exception as e:
            if not exists_already(e):
                raise
            # A lost answer makes the library ask again; then it is this very line that is there.
            if self._fs.cat_file(name) != content:
                raise ConfigError(
                    f'"{path}": another job writes here too; end it, then run the same command again'
                ) from e

    def lines(self, path: str) -> list[str]:
        """Return the lines of a journal, none if there is none; raises as `open`."""
        names = self._numbered(path)
        with remote(path, "read"):
            found: dict[str, bytes] = self._fs.cat(names) if names else {}
        with self._lock:
            self._next[path] = len(names) + 1
        return [found[name].decode().rstrip("\n") for name in names]

    def _numbered(self, path: str) -> list[str]:
        """Return the objects of a journal up to the first number that is missing."""
        folder = self._fs._strip_protocol(path)
        with remote(path, "read"):
            have = set(self._fs.find(folder))
        names: list[str] = []
        while (name := f"{folder}/{len(names) + 1:08d}") in have:
            names.append(name)
        return names

    def remove(self, path: str) -> None:
        """Remove a file, or all whose names begin with `PATH/`; raises as `open`."""
        with remote(path, "removed"), suppress(FileNotFoundError):
            if path in self._made:
                self._fs.rm_file(path)
                self._made.discard(path)
            else:
                self._fs.rm(path, recursive=True)
        with self._lock:
            self._next = {known: n for known, n in self._next.items() if not f"{known}/".startswith(f"{path}/")}

    @contextmanager
    def holding(self, path: str) -> Iterator[None]:
        """Hold a name by a lease: an object that is renewed, and may be taken over when it no longer is.

        Raises:
            ConfigError: Another process holds it; it is named.
            MachineError: It may not be written, or the connection is lost.
        """
        with leased(self._fs, self._fs._strip_protocol(path), path):
            yield

    def _info(self, path: str) -> dict[str, Any]:
        info = self._listed.get(path)
        if info is None:
            with remote(path, "read"):
                info = self._fs.info(path)
                if info.get("type") != "file":
                    raise FileNotFoundError(path)
        return info

    def _url(self, name: str) -> str:
        return self._prefix + name


class _Plain(io.RawIOBase):
    """A file that has no ranges, with its faults translated."""

    def __init__(self, file: Any, path: str) -> None:
        self._file = file
        self._path = path

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with remote(self._path, "read"):
            return int(self._file.seek(offset, whence))

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        with remote(self._path, "read"):
            found = self._file.read(len(view))
        view[: len(found)] = found
        return len(found)

    def close(self) -> None:
        self._file.close()
        super().close()


def remote_storage(url: str) -> RemoteStorage:
    """Return the place of a URL.

    Raises:
        ConfigError: No such kind of place is known, or its library is not installed.
    """
    scheme = url.partition("://")[0].lower()
    extra = _EXTRAS.get(scheme)
    install = f"pip install 'foretell[{extra}]'" if extra else "pip install fsspec and what it needs for it"
    if importlib.util.find_spec("fsspec") is None:
        raise ConfigError(f'"{url}": reading {scheme}:// needs a library that is not installed; {install}')
    from fsspec.core import url_to_fs

    options = {"use_listings_cache": False} if extra else {}
    try:
        fs, name = url_to_fs(url, **options)
    except ImportError as e:
        raise ConfigError(f'"{url}": {scheme}:// needs a library that is not installed ({e}); {install}') from e
    except ValueError as e:
        raise ConfigError(f'"{url}": {scheme}:// cannot be read ({e}); check the URL') from e
    bare = url.rstrip("/")
    return RemoteStorage(fs, bare.removesuffix(name) if bare.endswith(name) else f"{scheme}://")


def _stamp(info: dict[str, Any]) -> str:
    return next((str(info[key]).strip('"') for key in _STAMPS if info.get(key)), "")


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)

"""Names and versions on disk -> versions that answer. A version that answers goes on until its successor is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from foretell.engine.lifecycle import State
from foretell.engine.scan import scan
from foretell.engine.served import House, Served
from foretell.errors import ForetellError, ModelNotFound

__all__ = ["Repository"]


class Repository:
    """Every version known, loaded or not.

    Attributes:
        routes: (name, version) -> the version that answers; (name, "") is the default one. Nothing that is not READY
            is in it, so the way of a request is one look-up.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._paths: tuple[Path, ...] = ()
        self._models: dict[str, dict[str, Served]] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._leaving: set[asyncio.Task[bool]] = set()
        self.routes: dict[tuple[str, str], Served] = {}

    async def start(self, paths: Sequence[Path]) -> None:
        """Find the models under `paths` and load the newest version of each, all at the same time.

        A model that cannot be loaded becomes FAILED; the others live on.

        Raises:
            ConfigError: A path is not there or holds no model.
        """
        self._paths = tuple(paths)
        self._rescan()
        self._house.versions = len(self._models)
        loads = (self._bring(self._newest(name)) for name in self._models)
        for result in await asyncio.gather(*loads, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, ForetellError):
                raise result

    def find(self, name: str, version: str = "") -> Served:
        """Return a version in whatever state; without `version` the default one, or the newest.

        Raises:
            ModelNotFound: There is none.
        """
        versions = self._models.get(name)
        if versions is None:
            raise ModelNotFound(f'model "{name[:128]}": not found')
        if not version:
            return self.routes.get((name, "")) or self._newest(name)
        if version not in versions:
            raise ModelNotFound(f'model "{name}": version "{version[:32]}" not found; there is {", ".join(versions)}')
        return versions[version]

    def index(self) -> list[Served]:
        """Return every version known, by name and version."""
        return [served for name in sorted(self._models) for served in self._models[name].values()]

    async def load(self, name: str, version: str = "") -> Served:
        """Load a version, or load it anew from what is on disk now.

        Raises:
            ModelNotFound: Nothing of this name or version is under the paths.
            ForetellError: It cannot be loaded; what answered before still does.
        """
        self._rescan()
        if name not in self._models:
            raise ModelNotFound(f'model "{name[:128]}": not found')
        async with self._locks.setdefault(name, asyncio.Lock()):
            served = self.find(name, version) if version else self._newest(name)
            others = {other for other in self.routes.values() if other is not served}
            self._house.versions = len(others) + 1
            if served.state in _GONE:
                return await self._bring(served)
            fresh = Served(served.name, served.version, served.path, self._house)
            await self._bring(fresh)
            self._leave(served)
            return fresh

    async def unload(self, name: str, version: str = "") -> None:
        """Answer what is in flight, then give everything back; without `version` every version.

        Raises:
            ModelNotFound: There is none.
        """
        self.find(name, version)
        async with self._locks.setdefault(name, asyncio.Lock()):
            versions = self._models[name]
            leaving = [versions[version]] if version else list(versions.values())
            self.routes = {key: s for key, s in self.routes.items() if s not in leaving}
            self._choose_default(name)
            timeout_s = self._house.limits.drain_s
            await asyncio.gather(*(s.unload(timeout_s) for s in leaving if s.state is State.READY))

    async def close(self) -> None:
        """Unload everything at once; whatever is pending gets an error."""
        self.routes = {}
        for served in self.index():
            if served.state is State.READY:
                await served.unload(0.0)
        for task in list(self._leaving):
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _bring(self, served: Served) -> Served:
        """Load a version and let it answer in the place of whichever had its name and version."""
        await served.load()
        self._models[served.name][served.version] = served
        self.routes[served.name, served.version] = served
        self._choose_default(served.name)
        return served

    def _leave(self, served: Served) -> None:
        """Unload, in the background, a version that has been replaced."""
        task = asyncio.get_running_loop().create_task(served.unload(self._house.limits.drain_s))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _choose_default(self, name: str) -> None:
        """Make the newest version that answers the default."""
        self.routes.pop((name, ""), None)
        for served in self._models[name].values():
            served.is_default = False
            if self.routes.get((name, served.version)) is served:
                self.routes[name, ""] = served
        if (chosen := self.routes.get((name, ""))) is not None:
            chosen.is_default = True

    def _newest(self, name: str) -> Served:
        return next(reversed(self._models[name].values()))

    def _rescan(self) -> None:
        """Enter what is new on disk; forget what is gone from it and not loaded."""
        found = scan(self._paths)
        for name, versions in found.items():
            known = self._models.get(name, {})
            entries = {v: known.get(v) or Served(name, v, path, self._house) for v, path in versions.items()}
            kept = {v: s for v, s in known.items() if v not in entries and s.state not in _GONE}
            self._models[name] = dict(sorted((entries | kept).items(), key=lambda entry: int(entry[0])))
        for name in [n for n in self._models if n not in found]:
            self._models[name] = {v: s for v, s in self._models[name].items() if s.state not in _GONE}
            if not self._models[name]:
                del self._models[name]


_GONE = (State.NEW, State.UNLOADED, State.FAILED)

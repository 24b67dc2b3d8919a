"""The calls that say what is here and how it is doing: health, metadata, statistics, metrics, the repository."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from foretell.engine.engine import Engine
from foretell.engine.lifecycle import State
from foretell.engine.served import Served
from foretell.errors import ConfigError, ForetellError, InternalError
from foretell.protocol.about import (
    EXTENSIONS,
    config_of,
    index_entry,
    model_metadata,
    statistics_of,
    status_entry,
)
from foretell.protocol.status import Refused
from foretell.protocol.strict_json import read_json
from foretell.server.call import Call
from foretell.server.doors import Doors
from foretell.server.openapi import openapi
from foretell.server.pages import Shown, docs_page, start_page
from foretell.server.settings import ServerSettings

__all__ = ["Information"]

_LOG = logging.getLogger("foretell.server")
_TEXT = b"text/plain; version=0.0.4; charset=utf-8"
_HTML = b"text/html; charset=utf-8"
_PAGE_HEADERS = (
    b"x-content-type-options: nosniff\r\nx-frame-options: DENY\r\nreferrer-policy: no-referrer\r\n"
    b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'; script-src 'self' 'unsafe-inline'; "
    b"connect-src 'self'\r\n"
)

Handler = Callable[[Call, str, str], None]


class Information:
    """Answers everything that runs no model."""

    def __init__(self, engine: Engine, settings: ServerSettings, doors: Doors) -> None:
        self._engine = engine
        self._settings = settings
        self._needs_key = settings.api_key_file is not None
        self._doors = doors
        self._tasks: set[asyncio.Task[None]] = set()

    def handlers(self) -> dict[str, Handler]:
        """Return what answers each route, by its label."""
        return {
            "live": lambda call, _m, _v: _json(call, {"live": True}),
            "ready": self._ready,
            "ping": self._ready,
            "server": self._server,
            "models": lambda call, _m, _v: _json(call, {"models": self._names()}),
            "model": self._model,
            "model_ready": self._model_ready,
            "config": self._config,
            "statistics": lambda call, _m, _v: _json(call, statistics_of(self._loaded())),
            "model_statistics": self._model_statistics,
            "index": self._index,
            "load": self._load,
            "unload": self._unload,
            "states": self._states,
            "state": self._state,
            "metrics": self._metrics,
            "openapi": lambda call, _m, _v: _json(call, openapi(self._described(), needs_key=self._needs_key)),
            "docs": lambda call, _m, _v: call.reply(200, docs_page(), _HTML, _PAGE_HEADERS),
            "page": self._page,
        }

    def only_model(self) -> str:
        """Return the name of the only model.

        Raises:
            Refused: There are several, or none.
        """
        names = self._names()
        if len(names) != 1:
            raise Refused(
                f"invocations: {len(names)} models are served; call /v1/models/NAME:predict",
                code="not_found",
                status=404,
            )
        return names[0]

    def _ready(self, call: Call, _model: str, _version: str) -> None:
        ready = self._doors.ready
        _json(call, {"ready": ready}, 200 if ready else 503)

    def _server(self, call: Call, _model: str, _version: str) -> None:
        from foretell import __version__

        _json(call, {"name": "foretell", "version": __version__, "extensions": list(EXTENSIONS)})

    def _model(self, call: Call, model: str, version: str) -> None:
        served = self._engine.find(model, version)
        _json(call, model_metadata(served.name, self._versions(model), served.hello))

    def _model_ready(self, call: Call, model: str, version: str) -> None:
        served = self._engine.find(model, version)
        ready = served.is_ready and not self._engine.draining
        told: dict[str, Any] = {"name": model, "ready": ready}
        if not ready:
            told |= {"error": _reason(served), "code": "model_not_ready", "id": call.id.decode("ascii")}
        _json(call, told, 200 if ready else 503)

    def _config(self, call: Call, model: str, version: str) -> None:
        served = self._engine.find(model, version)
        _json(call, config_of(served.name, served.hello, self._engine.limits.max_batch_size))

    def _model_statistics(self, call: Call, model: str, version: str) -> None:
        served = self._engine.find(model, version)
        chosen = [served] if version else [s for s in self._loaded() if s.name == model]
        _json(call, statistics_of(chosen))

    def _index(self, call: Call, _model: str, _version: str) -> None:
        document = read_json(call.body) if call.body else {}
        if type(document) is not dict or not document.keys() <= {"ready", "repository_name"}:
            raise Refused('body: expected {} or {"ready": true}', code="unknown_field")
        only_ready = document.get("ready", False)
        if type(only_ready) is not bool:
            raise Refused('"ready": expected true or false', code="bad_parameter")
        _json(call, [index_entry(s) for s in self._engine.index() if s.state is State.READY or not only_ready])

    def _load(self, call: Call, model: str, _version: str) -> None:
        self._administer(call)
        parameters = self._repository_parameters(call)
        if any(key == "config" or key.startswith("file:") for key in parameters):
            raise Refused("load: files and configurations do not come by request; put them under the given paths")
        self._do(call, self._engine.load(model))

    def _unload(self, call: Call, model: str, _version: str) -> None:
        self._administer(call)
        self._repository_parameters(call)
        self._do(call, self._engine.unload(model))

    def _states(self, call: Call, _model: str, _version: str) -> None:
        _json(call, {"models": [{"name": n, "model_version_status": self._status(n)} for n in self._names()]})

    def _state(self, call: Call, model: str, version: str) -> None:
        served = self._engine.find(model, version)
        status = [status_entry(served)] if version else self._status(model)
        _json(call, {"name": model, "model_version_status": status})

    def _status(self, model: str) -> list[dict[str, Any]]:
        return [status_entry(s) for s in self._engine.index() if s.name == model]

    def _metrics(self, call: Call, _model: str, _version: str) -> None:
        call.reply(200, self._engine.metrics.render().encode(), _TEXT)

    def _names(self) -> list[str]:
        return list(dict.fromkeys(s.name for s in self._engine.index()))

    def _versions(self, model: str) -> list[str]:
        return [s.version for s in self._engine.index() if s.name == model and s.state is State.READY]

    def _loaded(self) -> list[Served]:
        return [s for s in self._engine.index() if s.state is State.READY]

    def _page(self, call: Call, _model: str, _version: str) -> None:
        shown = [
            Shown(s.name, s.version, s.state.value.lower(), s.trouble, s.hello if s.is_ready and s.is_default else None)
            for s in self._engine.index()
        ]
        scheme = "https" if self._settings.tls_cert is not None else "http"
        host = call.headers.get(b"host", b"localhost").decode("latin-1")
        page = start_page(shown, f"{scheme}://{host}", needs_key=self._needs_key)
        call.reply(200, page, _HTML, _PAGE_HEADERS)

    def _described(self) -> list[tuple[str, Any]]:
        """Return the name and the hello of the default version of every model that answers."""
        found = []
        for name in self._names():
            served = self._engine.find(name)
            if served.state is State.READY:
                found.append((name, served.hello))
        return found

    def _administer(self, call: Call) -> None:
        if not self._settings.admin:
            raise Refused(f"{call.label}: off; start the server with --admin", code="admin_disabled", status=403)

    def _repository_parameters(self, call: Call) -> dict[str, Any]:
        document = read_json(call.body) if call.body else {}
        parameters = document.get("parameters") or {} if type(document) is dict else None
        if type(parameters) is not dict or not document.keys() <= {"parameters"}:
            raise Refused('body: expected {} or {"parameters": {...}}', code="unknown_field")
        return parameters

    def _do(self, call: Call, work: Coroutine[Any, Any, Any]) -> None:
        """Answer when the work is done; it goes on if the client does not wait."""
        task = asyncio.ensure_future(_done(call, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _done(call: Call, work: Coroutine[Any, Any, Any]) -> None:
    try:
        await work
        call.reply(200, b"")
    except ConfigError as error:
        call.fail(Refused(str(error)))
    except ForetellError as error:
        call.fail(error)
    except Exception:  # noqa: BLE001 - whatever it is, the server lives on
        _LOG.exception("request %s: failed", call.id.decode("ascii"))
        call.fail(InternalError("the repository could not be changed. This is a bug."))


def _reason(served: Served) -> str:
    state = served.state.value.lower()
    if served.state is State.READY:
        state = "draining" if served.is_ready else "not ready"
    return f'model "{served.name}": {state}{": " + served.trouble if served.trouble else ""}'[:300]


def _json(call: Call, document: Any, status: int = 200) -> None:
    call.reply(status, orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))

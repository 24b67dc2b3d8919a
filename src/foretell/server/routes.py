"""From a path to what is asked there: the only table of routes. Knows neither sockets nor the engine."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from foretell.protocol.status import Refused

__all__ = ["ROUTES", "Match", "Route", "match"]


class Route(NamedTuple):
    """One thing that can be asked."""

    label: str
    method: str
    pattern: re.Pattern[str]
    path: str
    """As OpenAPI writes it."""
    about: str


class Match(NamedTuple):
    """What a path asks for."""

    label: str
    model: str
    version: str


_VERSIONS = "(?:/versions/([^/]+))?"
_V2, _V1 = "/v2/models/([^/]+)", "/v1/models/([^/:]+)"


def _route(label: str, method: str, pattern: str, path: str, about: str) -> Route:
    return Route(label, method, re.compile(pattern), path, about)


ROUTES: tuple[Route, ...] = (
    _route("infer", "POST", f"{_V2}{_VERSIONS}/infer", "/v2/models/{model}/infer", "Infer: tensors in, tensors out"),
    _route("predict", "POST", f"{_V1}{_VERSIONS}:predict", "/v1/models/{model}:predict", "Predict rows"),
    _route("invocations", "POST", "/invocations", "/invocations", "Predict rows with the only model"),
    _route("live", "GET", "/v2/health/live", "/v2/health/live", "Whether the server answers"),
    _route("ready", "GET", "/v2/health/ready", "/v2/health/ready", "Whether every model answers"),
    _route("ping", "GET", "/ping", "/ping", "Whether every model answers"),
    _route("server", "GET", "/v2/?", "/v2", "Name, version and extensions of the server"),
    _route("models", "GET", "/v2/models", "/v2/models", "Names of the models"),
    _route("statistics", "GET", "/v2/models/stats", "/v2/models/stats", "Statistics of every model"),
    _route("model", "GET", f"{_V2}{_VERSIONS}", "/v2/models/{model}", "What a model takes and gives"),
    _route("model_ready", "GET", f"{_V2}{_VERSIONS}/ready", "/v2/models/{model}/ready", "Whether a model answers"),
    _route("model_statistics", "GET", f"{_V2}{_VERSIONS}/stats", "/v2/models/{model}/stats", "Statistics of a model"),
    _route("config", "GET", f"{_V2}{_VERSIONS}/config", "/v2/models/{model}/config", "How a model is run"),
    _route("index", "POST", "/v2/repository/index", "/v2/repository/index", "Every model and its state"),
    _route(
        "load", "POST", "/v2/repository/models/([^/]+)/load", "/v2/repository/models/{model}/load",
        "Load a model, or load it anew (with --admin)",
    ),
    _route(
        "unload", "POST", "/v2/repository/models/([^/]+)/unload", "/v2/repository/models/{model}/unload",
        "Unload a model (with --admin)",
    ),
    _route(
        "stream", "GET", f"{_V1}{_VERSIONS}:stream", "/v1/models/{model}:stream",
        "A WebSocket: frames in, predictions out",
    ),
    _route(
        "camera", "GET", f"{_V1}{_VERSIONS}:camera", "/v1/models/{model}:camera",
        "A page that shows what a model sees through your camera",
    ),
    _route("states", "GET", "/v1/models", "/v1/models", "Every model and its state"),
    _route("state", "GET", f"{_V1}{_VERSIONS}", "/v1/models/{model}", "The state of a model"),
    _route("metrics", "GET", "/metrics", "/metrics", "Metrics, as Prometheus reads them"),
    _route("openapi", "GET", r"/openapi\.json", "/openapi.json", "This description"),
    _route("docs", "GET", "/docs", "/docs", "This description, to read and to try"),
    _route("page", "GET", "/", "/", "What is served here"),
)  # fmt: skip
"""The first that fits is taken."""


def match(method: bytes, target: bytes) -> Match:
    """Return what a request asks for.

    Args:
        method: As it came; HEAD asks what GET does.
        target: Path and query as they came; the query means nothing.

    Raises:
        Refused: Nothing is there (404), or not with this method (405).
    """
    path = target.partition(b"?")[0].decode("latin-1")
    wanted = "GET" if method == b"HEAD" else method.decode("ascii")
    allowed = set()
    for route in ROUTES:
        found = route.pattern.fullmatch(path)
        if found is None:
            continue
        if route.method != wanted:
            allowed.add(route.method)
            continue
        names = [_name(name) for name in found.groups()]
        return Match(route.label, *[*names, "", ""][:2])
    if allowed:
        methods = sorted(allowed | {"HEAD"} if "GET" in allowed else allowed)
        expected = " or ".join(methods)
        raise Refused(f"method: expected {expected} here", code="method_not_allowed", status=405, allow=tuple(methods))
    raise Refused("path: nothing is here; GET / lists what is", code="not_found", status=404)


def _name(quoted: str | None) -> str:
    if quoted is None:
        return ""
    try:
        return unquote_to_bytes(quoted.encode("latin-1")).decode()
    except UnicodeDecodeError:
        raise Refused("path: the name in it is not UTF-8", code="model_not_found", status=404) from None

"""What to ask a server that is only known by its URL: its models, what they take, and a request they can answer.

First the example in its `/openapi.json`, if it has one: it knows which values a model can take. Else numbers drawn
for the tensors in the metadata of the Open Inference Protocol, which any server of that protocol has.
"""

from __future__ import annotations

import http.client
import json
import math
import random
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from foretell.bench.answers import Answer, code_of
from foretell.bench.lines import Target
from foretell.errors import ConfigError, InvalidInput

__all__ = ["Question", "question_of"]

_JSON = "application/json"
_BODIES = 16
_TIMEOUT_S = 20.0
_MOST_VALUES = 10_000_000


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, of whom."""

    url: str
    rows: int
    source: str
    """Where the values come from."""
    body_bytes: int
    target: Target


class _Server:
    """A server, asked one thing at a time."""

    def __init__(self, url: str, headers: Sequence[tuple[str, str]]) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigError(f'"{url}": it is no URL; expected http://host:port[/v2/models/NAME]') from None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(f'"{url}": expected http://host:port[/v2/models/NAME]')
        self.host, self.path = parts.hostname, parts.path.rstrip("/")
        self.tls = ssl.create_default_context() if parts.scheme == "https" else None
        self.port = port or (443 if self.tls else 80)
        self.root = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self.headers = {"host": parts.netloc.rpartition("@")[2], **dict(headers)}

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = _JSON) -> Answer:
        """Ask once.

        Raises:
            ConfigError: Nobody answers there.
        """
        connection = (
            http.client.HTTPConnection(self.host, self.port, timeout=_TIMEOUT_S)
            if self.tls is None
            else http.client.HTTPSConnection(self.host, self.port, timeout=_TIMEOUT_S, context=self.tls)
        )
        try:
            connection.request(method, path, body, {**self.headers, "content-type": kind})
            reply = connection.getresponse()
            return Answer(reply.status, b"", reply.read(), False)
        except (OSError, http.client.HTTPException) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigError(f'"{self.root}": no answer: {said}; is a server there?') from None
        finally:
            connection.close()

    def document(self, method: str, path: str, body: bytes | None = None) -> Any:
        """Return a JSON answer, or None where there is none."""
        answer = self.ask(method, path, body)
        if answer.status in (401, 403):
            raise ConfigError(f'"{self.root}": {_line(answer)}; give --header "authorization: Bearer KEY"')
        try:
            return json.loads(answer.body) if answer.status == 200 else None
        except ValueError:
            return None


def question_of(url: str, *, rows: int, headers: Sequence[tuple[str, str]], pictures: Sequence[bytes] = ()) -> Question:
    """Return what to ask a server, after it was asked once.

    Args:
        url: Of the server, of a model under `/v2/models/` or of any path of its `/openapi.json`.
        rows: Of each request.
        headers: Sent with each request.
        pictures: Encoded: each is the body of a request for a model of pictures.

    Raises:
        ConfigError: Nobody answers, or it is not said which model.
        InvalidInput: The model refuses what is asked.
    """
    server = _Server(url, headers)
    path = _path(server)
    if pictures:
        path = _rows_path(path)
        bodies, source, kinds = list(pictures), f"{len(pictures)} pictures", [kind_of(p) for p in pictures]
    else:
        bodies, source = _bodies(server, path, rows)
        kinds = [_JSON] * len(bodies)
    messages = [_message(server, path, body, kind) for body, kind in zip(bodies, kinds, strict=True)]
    answer = server.ask("POST", path, bodies[0], kinds[0])
    if answer.status != 200:
        raise InvalidInput(f'"{server.root}{path}": refuses a request made from {source}: {_line(answer)}')
    target = Target(server.host, server.port, messages, server.tls)
    return Question(server.root + path, rows, source, len(bodies[0]), target)


def _path(server: _Server) -> str:
    """Return the path to ask, of the only model where none is named."""
    if server.path.startswith("/v2/models/"):
        return server.path if server.path.endswith("/infer") else f"{server.path}/infer"
    if server.path not in ("", "/v2", "/v2/models"):
        return server.path
    names = _names(server)
    if len(names) != 1:
        told = (
            f"it has {len(names)} models: {', '.join(names[:10])}" if names else "it does not say which models it has"
        )
        raise ConfigError(f'"{server.root}": {told}; name one: {server.root}/v2/models/{names[0] if names else "NAME"}')
    return f"/v2/models/{quote(names[0], safe='')}/infer"


def _rows_path(path: str) -> str:
    """Return the path that takes bare pictures: `/v1/models/NAME:predict`."""
    if not path.startswith("/v2/models/"):
        return path
    model = path.removeprefix("/v2/models/").removesuffix("/infer")
    return f"/v1/models/{model}:predict"


def kind_of(picture: bytes) -> str:
    """Return the media type of an encoded picture."""
    from foretell.model.data.image_probe import probe

    return f"image/{probe(picture).format.lower()}"


def _names(server: _Server) -> list[str]:
    index = server.document("POST", "/v2/repository/index", b"{}")
    if isinstance(index, list):
        ready = [m["name"] for m in index if isinstance(m, dict) and m.get("state", "READY") == "READY" and "name" in m]
        return list(dict.fromkeys(ready))
    models = server.document("GET", "/v2/models")
    return [str(name) for name in models.get("models", [])] if isinstance(models, dict) else []


def _bodies(server: _Server, path: str, rows: int) -> tuple[list[bytes], str]:
    described = server.document("GET", "/openapi.json")
    example = _example(described, path) if isinstance(described, dict) else None
    if example is not None:
        return [json.dumps(_with_rows(example, rows)).encode()], "the example in its /openapi.json"
    if not path.endswith("/infer"):
        raise ConfigError(f'"{server.root}{path}": its /openapi.json has no example; name a model under /v2/models/')
    metadata = server.document("GET", path.removesuffix("/infer"))
    inputs = metadata.get("inputs") if isinstance(metadata, dict) else None
    if not inputs:
        name = unquote(path.split("/")[3])
        raise ConfigError(f'"{server.root}": it says of no model "{name}" what it takes; is the name right?')
    draw = random.Random(0)
    return [json.dumps({"inputs": [_tensor(i, rows, draw) for i in inputs]}).encode() for _ in range(_BODIES)], (
        "numbers drawn for its metadata"
    )


def _example(described: dict[str, Any], path: str) -> dict[str, Any] | None:
    """Return the example of a path in an OpenAPI document; a path with a version has that of its model."""
    head, found, tail = path.partition("/versions/")
    plain = head + "/infer" if found and tail.endswith("/infer") else path
    try:
        example = described["paths"][plain]["post"]["requestBody"]["content"]["application/json"]["example"]
    except (KeyError, TypeError):
        return None
    return example if isinstance(example, dict) else None


def _with_rows(example: dict[str, Any], rows: int) -> dict[str, Any]:
    """Return an example of one row with so many of them."""
    if isinstance(example.get("instances"), list):
        return {**example, "instances": example["instances"][:1] * rows}
    if not isinstance(example.get("inputs"), list):
        return example
    inputs = [{**i, "shape": [rows, *i["shape"][1:]], "data": i["data"] * rows} for i in example["inputs"]]
    return {**example, "inputs": inputs}


def _tensor(told: Mapping[str, Any], rows: int, draw: random.Random) -> dict[str, Any]:
    first, *rest = [int(size) for size in told["shape"]] or [-1]
    shape = [rows if first < 0 else first, *(1 if size < 0 else size for size in rest)]
    count = math.prod(shape)
    if count > _MOST_VALUES:
        raise ConfigError(f'input "{told["name"]}": {count:,} values in each request; give fewer --rows')
    return {
        "name": told["name"],
        "datatype": told["datatype"],
        "shape": shape,
        "data": [_value(told["datatype"], draw) for _ in range(count)],
    }


def _value(datatype: str, draw: random.Random) -> Any:
    if datatype == "BOOL":
        return draw.random() < 0.5
    if datatype == "BYTES":
        return "a"
    return round(draw.random(), 4) if datatype.startswith(("FP", "BF")) else draw.randrange(2)


def _message(server: _Server, path: str, body: bytes, kind: str) -> bytes:
    given = {**server.headers, "content-type": kind, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def _line(answer: Answer) -> str:
    """Return what an answer that is an error says."""
    try:
        said = json.loads(answer.body)["error"]
    except (ValueError, TypeError, KeyError):
        said = answer.body[:200].decode("utf-8", "replace")
    return f"{code_of(answer)}: {' '.join(str(said).split())[:300]}"

"""Settings that are not safe are refused before anything listens."""

import pytest

from foretell.errors import ConfigError
from foretell.protocol.status import Refused
from foretell.server.guard import Guard, Keys
from foretell.server.routes import ROUTES, match
from foretell.server.settings import ServerSettings


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_a_public_address_needs_keys(host, tmp_path):
    with pytest.raises(ConfigError, match="--api-key-file"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, insecure_no_auth=True).host == host
    assert not ServerSettings(host=host, api_key_file=tmp_path).is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_loopback_needs_none(host):
    assert ServerSettings(host=host).is_local


def test_tls_needs_both(tmp_path):
    with pytest.raises(ConfigError, match="--tls-key"):
        ServerSettings(tls_cert=tmp_path)
    with pytest.raises(ConfigError, match="--tls-client-ca"):
        ServerSettings(tls_client_ca=tmp_path)


@pytest.mark.parametrize(("text", "mode"), [("", 0o600), ("short\n", 0o600), ("0123456789abcdef", 0o644), (None, 0)])
def test_key_files_that_are_none(tmp_path, text, mode):
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(ConfigError):
        Keys(path)


def test_a_public_server_goes_by_any_name_but_keeps_to_those_it_is_given():
    free = Guard(ServerSettings(host="0.0.0.0", insecure_no_auth=True))
    free.check(b"GET", b"/", {b"host": b"anything.org"})
    named = Guard(ServerSettings(host="0.0.0.0", insecure_no_auth=True, allowed_hosts=("api.org",)))
    named.check(b"GET", b"/", {b"host": b"api.org:8000"})
    named.check(b"GET", b"/", {b"host": b"[::1]:8000"})
    with pytest.raises(Refused) as caught:
        named.check(b"GET", b"/", {b"host": b"other.org"})
    assert caught.value.status == 421


def test_pages_that_are_allowed():
    guard = Guard(ServerSettings(allowed_origins=("https://app.org",)))
    guard.check(b"GET", b"/", {b"host": b"localhost", b"origin": b"https://app.org", b"sec-fetch-site": b"cross-site"})
    with pytest.raises(Refused):
        guard.check(b"GET", b"/", {b"host": b"localhost", b"origin": b"https://app.org.evil"})


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        (b"POST", b"/v2/models/a/infer", ("infer", "a", "")),
        (b"POST", b"/v2/models/a/versions/2/infer", ("infer", "a", "2")),
        (b"POST", b"/v1/models/a:predict", ("predict", "a", "")),
        (b"POST", b"/v1/models/a%20b/versions/1:predict?x", ("predict", "a b", "1")),
        (b"GET", b"/v2/models/stats", ("statistics", "", "")),
        (b"GET", b"/v2/models/stats/ready", ("model_ready", "stats", "")),
        (b"HEAD", b"/v2", ("server", "", "")),
        (b"GET", b"/v2/", ("server", "", "")),
        (b"GET", b"/v1/models/a", ("state", "a", "")),
        (b"POST", b"/v2/repository/models/a/load", ("load", "a", "")),
    ],
)
def test_routes(method, path, expected):
    assert tuple(match(method, path)) == expected


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        (b"GET", b"/v2/models/a/infer", 405),
        (b"POST", b"/v2", 405),
        (b"DELETE", b"/v1/models/a", 405),
        (b"GET", b"/v3", 404),
        (b"GET", b"//v2", 404),
        (b"GET", b"/v2/models/a/b/c", 404),
        (b"GET", b"/v2/models/%ff", 404),
        (b"POST", b"/v1/models/:predict", 404),
        (b"GET", b"*", 404),
    ],
)
def test_what_is_no_route(method, path, status):
    with pytest.raises(Refused) as caught:
        match(method, path)
    assert caught.value.status == status


def test_every_route_is_told_once():
    told = [(r.method, r.path) for r in ROUTES]
    assert len(told) == len(set(told))

"""docs/protocols.md and the code say the same."""

import re
from pathlib import Path

import pytest

from foretell.server.routes import ROUTES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocols.md").read_text()
SOURCES = [*(ROOT / "src/foretell/server").glob("*.py"), *(ROOT / "src/foretell/protocol").glob("*.py")]


@pytest.mark.parametrize("route", [r for r in ROUTES if r.label != "page"], ids=lambda r: r.label)
def test_every_route_is_told(route):
    path = route.path.replace("{model}", "NAME")
    told = TEXT.replace("[/versions/V]", "")
    assert path in told


def test_every_header_is_told():
    code = "".join(path.read_text() for path in SOURCES)
    for name in ("x-request-timeout-ms", "x-request-priority", "x-request-id", "authorization", "retry-after"):
        assert name in code
        assert f"`{name}" in TEXT


def test_every_option_is_one_of_the_command():
    command = (ROOT / "src/foretell/cli/serve.py").read_text()
    for option in set(re.findall(r"--[a-z][a-z-]+", TEXT)) - {"--data-binary"}:  # curl's
        assert f'"{option}"' in command, option

"""docs/protocols.md and the code say the same."""

import ast
import re
from pathlib import Path

import pytest

from foretell.protocol.status import STATUSES
from foretell.server.routes import ROUTES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocols.md").read_text()
SOURCES = [*(ROOT / "src/foretell/server").glob("*.py"), *(ROOT / "src/foretell/protocol").glob("*.py")]


def codes():
    """Every code of an error that a door makes, and of the errors it tells of."""
    found = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                found.add(node.value.value)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                target = node.targets[0]
                if isinstance(target, ast.Attribute) and target.attr == "code":
                    found.add(node.value.value)

    def below(kind):
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    kinds = {k for root in STATUSES for k in below(root)}
    return found | {k.code for k in kinds if "code" in vars(k)}


ROOTS = {"error", "bad_request", "unavailable", "config_error"}


@pytest.mark.parametrize("code", sorted(codes() - ROOTS))
def test_every_code_is_explained(code):
    assert f"`{code}`" in TEXT


def test_no_code_is_explained_that_is_not_there():
    table = TEXT.split("| code |")[1].split("\n\n")[0]
    told = {c for line in table.splitlines()[2:] for c in re.findall(r"`([a-z]+_[a-z_]+)`", line.split("|")[1])}
    assert told <= codes()


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
    for option in set(re.findall(r"--[a-z][a-z-]+", TEXT)):
        assert f'"{option}"' in command, option

"""docs/errors.md has every code, with the status it has on the wire, and no other."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.tables import names, rows

from foretell import errors
from foretell.errors import DeadlineExceeded, ForetellError, LoadError, MachineError, ModelError, Unavailable
from foretell.protocol.status import Refused, retry_after_s, status_of

SOURCE = Path(__file__).parents[2] / "src" / "foretell"
NEVER_SENT = {"error", "bad_request", "unavailable"}
"""Codes of classes that are raised by the classes below them alone."""
ALTERED = {"shape_mismatch": errors.InvalidInput("x"), "body_too_large": errors.RequestTooLarge("x")}
"""Codes that are given to an error of another class."""


def below(kind: type[ForetellError]) -> Iterator[type[ForetellError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from below(child)


def trees() -> Iterator[ast.AST]:
    for folder in ("server", "protocol"):
        for path in sorted((SOURCE / folder).rglob("*.py")):
            yield from ast.walk(ast.parse(path.read_text()))


def refusals() -> Iterator[Refused]:
    """Give every refusal of a door, as the code makes it."""
    for node in trees():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refused":
            given = {k.arg: k.value for k in node.keywords if k.arg in ("code", "status")}
            yield Refused("x", **{str(name): ast.literal_eval(value) for name, value in given.items()})


def sent() -> dict[str, list[ForetellError]]:
    """Return every code that can come over the wire, with errors that have it."""
    found = defaultdict(list)
    for kind in below(ForetellError):
        found[kind.code].append(kind("x"))
    for refused in refusals():
        found[refused.code].append(refused)
    for code, error in ALTERED.items():
        found[code].append(error)
    return {code: made for code, made in found.items() if code not in NEVER_SENT}


SENT = sent()
TOLD = {names(code)[0]: rest for code, *rest in rows("errors.md", "code")}


def test_every_code_is_told_once() -> None:
    assert sorted(TOLD) == sorted(SENT)
    assert len(rows("errors.md", "code")) == len(TOLD)


def test_codes_that_are_given_later_are_known() -> None:
    given = {
        node.value.value
        for node in trees()
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.targets[0], ast.Attribute)
        and node.targets[0].attr == "code"
        and isinstance(node.value.value, str)
    }
    assert given == set(ALTERED)


@pytest.mark.parametrize("code", SENT)
def test_its_status(code: str) -> None:
    statuses = [status_of(error) for error in SENT[code]]
    http, grpc = (set(cell.split(", ")) for cell in TOLD[code][:2])
    assert http == {str(status.http) for status in statuses}
    assert grpc == {"-"} or grpc <= {status.grpc for status in statuses}
    if not all(isinstance(error, Refused) for error in SENT[code]):
        assert grpc == {status.grpc for status in statuses}


@pytest.mark.parametrize("code", SENT)
def test_whose_fault_and_retry(code: str) -> None:
    whose, retry = TOLD[code][2:4]
    error = SENT[code][0]
    assert (retry == "yes") == (retry_after_s(error) is not None)
    assert (whose == "nobody") == (isinstance(error, Unavailable) or retry == "yes")
    assert (whose == "model") == isinstance(error, (ModelError, LoadError))
    assert (whose == "machine") == isinstance(error, MachineError)
    assert (whose == "server") == (code == "internal_error")
    assert (retry == "with more time") == isinstance(error, DeadlineExceeded)

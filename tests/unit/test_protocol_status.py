"""Every error has a status, and says no more than it may."""

import inspect
import json

import pytest

from foretell import errors
from foretell.protocol.status import Refused, error_body, error_text, status_of

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.ForetellError)]
CODES = {
    "ModelNotFound": (404, "NOT_FOUND"),
    "MalformedRequest": (400, "INVALID_ARGUMENT"),
    "InvalidInput": (400, "INVALID_ARGUMENT"),
    "RequestTooLarge": (413, "RESOURCE_EXHAUSTED"),
    "Quarantined": (422, "FAILED_PRECONDITION"),
    "QueueFull": (429, "RESOURCE_EXHAUSTED"),
    "Overloaded": (503, "UNAVAILABLE"),
    "ModelNotReady": (503, "UNAVAILABLE"),
    "ServerDraining": (503, "UNAVAILABLE"),
    "DeadlineExceeded": (504, "DEADLINE_EXCEEDED"),
    "InferenceFailed": (500, "INTERNAL"),
    "WorkerCrashed": (500, "INTERNAL"),
    "ArtifactInvalid": (422, "FAILED_PRECONDITION"),
    "InternalError": (500, "INTERNAL"),
}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
def test_every_class_has_a_status(kind):
    status = status_of(kind("what"))
    assert status == CODES.get(kind.__name__, status)
    assert status.http >= 500 or not issubclass(kind, errors.Unavailable) or status.http == 429
    if issubclass(kind, errors.RequestError):
        assert 400 <= status.http < 500


def test_a_refusal_has_its_own():
    assert status_of(Refused("no", status=403)) == (403, "PERMISSION_DENIED")
    assert status_of(Refused("no")) == (400, "INVALID_ARGUMENT")


def test_the_line_is_one_line_and_short():
    text = error_text(errors.InvalidInput("a\nb\x1b[31m\u2028c " + "x" * 1000))
    assert len(text) <= 300
    assert text.isprintable()
    assert text.startswith("a b")


@pytest.mark.parametrize(
    "kind", [errors.InferenceFailed, errors.InternalError, errors.MachineError, errors.WorkerCrashed]
)
def test_what_is_not_the_callers_is_not_told(kind):
    assert "/secret" not in error_text(kind("/secret/model at 0x7f00"))


def test_body():
    told = json.loads(error_body(errors.ModelNotFound('model "x": not found'), "id-1"))
    assert told == {"error": 'model "x": not found', "code": "model_not_found", "id": "id-1"}

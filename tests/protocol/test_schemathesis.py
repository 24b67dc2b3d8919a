"""Our own OpenAPI document against the server it describes, by schemathesis: what it allows is answered, what it
forbids is refused, and both as it says.
"""

import pytest

schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance  # noqa: E402

EXAMPLES = settings(
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LOOSE = {
    # A schema cannot say that data has as many values as its shape.
    "/infer": positive_data_acceptance,
    # Rows take what means the same: true for 1.
    ":predict": negative_data_rejection,
    # To a schema 5.0 is an integer; to a tensor of integers it is not.
    "kinds:predict": positive_data_acceptance,
}
"""By the end of a path: what is not held there."""


@pytest.fixture(scope="module")
def document(serve):
    running = serve(only=("echo", "house", "pets", "kinds"))
    return schemathesis.openapi.from_url(f"{running.url}/openapi.json")


@pytest.fixture(scope="module")
def operations(document):
    found = [result.ok() for result in document.get_all_operations()]
    assert len(found) > 35
    return found


@pytest.mark.parametrize("examples", [6, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("mode", GenerationMode)
def test_what_is_described_is_what_is_done(operations, mode, examples):
    refused = []
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # nothing to break
        try:
            ask(operation, mode, examples)
        except* Exception as group:  # noqa: BLE001 - told at the end, with those of the other operations
            refused.append(f"{operation.label}: {group.exceptions}")
    assert not refused, "\n\n".join(refused)


def ask(operation, mode, examples):
    excluded = [check for ending, check in LOOSE.items() if operation.path.endswith(ending)]

    @seed(1)
    @settings(EXAMPLES, max_examples=examples)
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case):
        case.call_and_validate(excluded_checks=excluded)

    run()

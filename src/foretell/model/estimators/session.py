"""The commands that the child process answers.

open      construct the estimator of a file, and say all about it, with graphs
host      construct the estimator of a file, to answer tensors
predict   the estimator's own answers to a table
time      seconds of one such prediction
infer     the estimator's own answers to tensors, one per field

Knows no stream and no process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foretell.errors import ArtifactInvalid, LoadError
from foretell.model.describe import write_signature, write_task
from foretell.model.estimators.inputs import Inputs
from foretell.model.estimators.native import native_model
from foretell.model.estimators.opening import Held, hold
from foretell.model.estimators.outcome import Outcome, final, unwrap
from foretell.model.estimators.reading import Reading, host, read
from foretell.model.estimators.rows import frame_of_table, frame_of_tensors
from foretell.model.estimators.torchscript import Script
from foretell.model.formats.base import Answers
from foretell.model.runtimes.frames import pack_array, unpack_array, unpack_table
from foretell.model.tasks.classification import Classification
from foretell.signature import Field, TensorSpec

__all__ = ["Session"]

Answer = tuple[dict[str, Any], list[bytes]]
_LEAST_S = 0.15
_MOST_CALLS = 50


class Session:
    """One estimator, and what is asked of it."""

    def __init__(self, in_force: dict[str, str]) -> None:
        self._in_force = in_force
        self._held: Held | None = None
        self._estimator: Any = None
        self._inputs: Inputs | None = None
        self._outcome: Outcome | None = None
        self._fields: tuple[Field, ...] = ()
        self._script: Script | None = None

    def answer(self, header: dict[str, Any], payloads: list[bytes]) -> Answer:
        """Answer one command.

        Raises:
            LoadError: The command is not one, or the estimator does not do what it should.
        """
        commands: dict[str, Callable[[dict[str, Any], list[bytes]], Answer]] = {
            "open": self._open,
            "host": self._host,
            "predict": self._predict,
            "time": self._time,
            "infer": self._infer,
        }
        command = commands.get(str(header.get("command")))
        if command is None:
            raise LoadError(f'command "{header.get("command")}": expected one of {", ".join(commands)}')
        return command(header, payloads)

    def _open(self, header: dict[str, Any], payloads: list[bytes]) -> Answer:
        if header["kind"] == "torchscript":
            return self._open_script(header, payloads)
        self._held = hold(payloads[0], str(header["kind"]), trust=header["trust"] is True)
        self._estimator = unwrap(self._held.estimator)
        sample = unpack_table(payloads[1]) if len(payloads) > 1 else None
        found = native_model(self._estimator)
        if found is not None:
            library, content, classes = found
            return {"native": library, "classes": classes, **self._about()}, [content]
        reading = read(self._estimator, sample)
        self._inputs, self._outcome = reading.inputs, reading.outcome
        return self._description(reading), list(reading.graphs.values())

    def _open_script(self, header: dict[str, Any], payloads: list[bytes]) -> Answer:
        script = Script(payloads[0], trust=header["trust"] is True)
        inputs = [TensorSpec(s["name"], s["datatype"], tuple(s["shape"])) for s in header["inputs"]]
        outputs = script.outputs(inputs)
        graph, why = script.graph(inputs, outputs)
        return {"outputs": [asdict(s) for s in outputs], "why": why}, [graph] if graph else []

    def _host(self, header: dict[str, Any], payloads: list[bytes]) -> Answer:
        if header["kind"] == "torchscript":
            self._script = Script(payloads[0], trust=header["trust"] is True)
            return {}, []
        self._estimator = unwrap(hold(payloads[0], str(header["kind"]), trust=header["trust"] is True).estimator)
        self._fields = tuple(Field(**{**f, "categories": tuple(f["categories"])}) for f in header["fields"])
        self._inputs, self._outcome = host(self._estimator, self._fields, header["named"] is True)
        return {}, []

    def _description(self, reading: Reading) -> dict[str, Any]:
        return {
            "signature": write_signature(reading.signature),
            "task": write_task(reading.task),
            "graphs": list(reading.graphs),
            "notes": [*(self._held.notes if self._held else ()), *reading.notes],
            **self._about(),
        }

    def _about(self) -> dict[str, Any]:
        import sklearn

        assert self._held is not None
        return {
            "about": {
                "library": f"scikit-learn {sklearn.__version__}",
                "trained_with": f"scikit-learn {self._held.trained_with}",
                "estimator": _title(self._held.estimator),
                "box": self._in_force,
            }
        }

    def _predict(self, header: dict[str, Any], payloads: list[bytes]) -> Answer:
        inputs, outcome = self._opened()
        answers = outcome.answers(self._estimator, frame_of_table(unpack_table(payloads[0]), inputs))
        return {}, _packed(answers)

    def _time(self, header: dict[str, Any], payloads: list[bytes]) -> Answer:
        inputs, _ = self._opened()
        frame = frame_of_table(unpack_table(payloads[0]), inputs)
        method = "predict_proba" if hasattr(self._estimator, "predict_proba") else "predict"
        return {"seconds": _median_s(lambda: getattr(self._estimator, method)(frame))}, []

    def _infer(self, header: dict[str, Any], payloads: list[bytes]) -> Answer:
        arrays = [unpack_array(p) for p in payloads]
        if self._script is not None:
            return {}, [pack_array(a) for a in self._script.infer(arrays)]
        inputs, outcome = self._opened()
        if len(arrays) != len(self._fields):
            raise LoadError(f"{len(arrays)} tensors, expected one for each of {len(self._fields)} fields")
        frame = frame_of_tensors(arrays, self._fields, inputs)
        answers = outcome.answers(self._estimator, frame)
        if isinstance(outcome.task, Classification):
            answers = answers._replace(values=outcome.positions(answers.values))
        else:
            answers = answers._replace(values=np.asarray(answers.values, np.float64))
        return {}, _packed(answers)

    def _opened(self) -> tuple[Inputs, Outcome]:
        if self._inputs is None or self._outcome is None:
            raise LoadError("asked before it was opened")
        return self._inputs, self._outcome


def _packed(answers: Answers) -> list[bytes]:
    parts: list[NDArray[Any]] = [_without_objects(answers.values)]
    if answers.probabilities is not None:
        parts.append(np.asarray(answers.probabilities, np.float64))
    return [pack_array(p) for p in parts]


def _without_objects(values: NDArray[Any]) -> NDArray[Any]:
    """Return labels that came as objects as an array of strings, numbers or truths."""
    if values.dtype != object:
        return values
    plain = np.array(values.tolist())
    if plain.dtype == object:
        raise ArtifactInvalid("it predicts objects; expected strings, numbers or booleans")
    return plain


def _median_s(call: Callable[[], Any]) -> float:
    """Return the median seconds of calls, after a warm-up."""
    call()
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < _LEAST_S and len(seconds) < _MOST_CALLS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _title(estimator: Any) -> str:
    """Return the classes of an estimator in one line: the search, the steps, the last step."""
    names = [type(estimator).__name__]
    inner = unwrap(estimator)
    if inner is not estimator:
        names.append(_title(inner))
    elif hasattr(inner, "steps"):
        names = [_title(s) if not isinstance(s, str) else s for _, s in inner.steps if s is not None]
        return "Pipeline(" + " > ".join(names) + ")"
    elif final(inner) is not inner:
        names.append(type(final(inner)).__name__)
    return " of ".join(names)

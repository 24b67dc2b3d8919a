"""What a loaded version needs at the doors, made once: codecs, preparation, counters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from foretell.dtypes import dtype_of
from foretell.engine.engine import Engine
from foretell.engine.instance import Hello
from foretell.engine.served import Served
from foretell.engine.ticket import Sink
from foretell.model.data.table import TablePreparation, TensorPreparation
from foretell.model.tasks.answered import Answered
from foretell.protocol.columns import Columns
from foretell.protocol.openinference_json import OpenInferenceJson
from foretell.protocol.picture_bodies import PictureBodies
from foretell.protocol.plain_json import PlainAnswers, PlainBodies
from foretell.request import InferResponse, Timing
from foretell.server.streams.gate import Gate

if TYPE_CHECKING:
    from foretell.protocol.openinference_proto import OpenInferenceProto

__all__ = ["Door", "Doors"]


class Door:
    """One loaded version, as its callers see it."""

    def __init__(self, served: Served, engine: Engine) -> None:
        self.served = served
        self.hello: Hello = served.hello
        signature = self.hello.signature
        self.signature = signature
        self.task = self.hello.task
        self.pictures = self.hello.pictures
        """What it takes and gives where its rows are encoded pictures; None: it takes none."""
        self.takes_pictures = self.pictures is not None
        self.reader = self.task if self.pictures is None else Answered.of(self.task, signature.outputs).reader
        """Reads the answers to rows."""
        labels = tuple(str(c) for c in self.task.classes)
        self.proto: OpenInferenceProto | None = None
        """Made by the gRPC door, whose library a server without it does not load."""
        self.labels = labels
        self.preparation: TablePreparation | TensorPreparation = (
            TablePreparation(signature) if signature.fields else TensorPreparation(signature)
        )
        self.columns = Columns(signature, self.preparation.prepare) if signature.fields else None
        self.plain_bodies = PlainBodies.of(signature)
        self.plain_answers = PlainAnswers(signature)
        self.sink: Sink | None = None
        """Takes the answers to its plain calls over HTTP."""
        self.json = (
            OpenInferenceJson(served.name, signature, labels, self.columns)
            if self.pictures is None
            else PictureBodies(served.name, signature, self.pictures, labels)
        )
        stages, of = engine.metrics.stage_seconds, (served.name, served.version)
        self.prepared = stages.child(*of, "prepare")
        self.answered = stages.child(*of, "answer")

    def nothing(self, request_id: str, *, pictures: bool = False) -> InferResponse:
        """Return the answer to a request of no rows, or of no pictures."""
        signature = self.pictures if pictures and self.pictures is not None else self.signature
        outputs: list[Any] = [
            np.empty((0, *(max(d, 0) for d in spec.shape[1:])), dtype_of(spec.datatype)) for spec in signature.outputs
        ]
        return InferResponse.of(self.served.name, self.served.version, request_id, outputs, Timing(0, 0, 0))


class Doors:
    """The door of each version, made when it is first asked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.started = False
        """Whether the models were looked for: an engine that knows of none yet would say that all are ready."""
        self.draining = False
        """Whether the server is about to stop."""
        self.gates: dict[tuple[str, str], Gate] = {}
        """By name and version: where live streams take turns."""
        self._doors: dict[Served, Door] = {}

    @property
    def ready(self) -> bool:
        """Whether every model answers."""
        return self.started and not self.draining and self._engine.ready

    def of(self, model: str, version: str = "") -> Door:
        """Return the door of a version that answers.

        Raises:
            ModelNotFound: There is none of this name or version.
            Unavailable: It does not answer now.
        """
        served = self._engine.model(model, version)
        door = self._doors.get(served)
        return door if door is not None and door.hello is served.hello else self.to(served)

    def to(self, served: Served) -> Door:
        """Return the door to a version that was loaded."""
        door = self._doors.get(served)
        if door is None or door.hello is not served.hello:
            known = set(self._engine.index())
            self._doors = {s: d for s, d in self._doors.items() if s in known}
            door = self._doors[served] = Door(served, self._engine)
        return door

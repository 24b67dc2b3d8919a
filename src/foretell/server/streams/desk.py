"""Opens streams: from a request for one to a WebSocket with its options, its model and its gate."""

from __future__ import annotations

from functools import partial
from time import perf_counter

from foretell.engine.engine import Engine
from foretell.errors import ServerDraining
from foretell.model.tasks.detection import Detection
from foretell.protocol.status import Refused, status_of
from foretell.request import InferResponse
from foretell.server.call import Call
from foretell.server.connection import Desk
from foretell.server.doors import Door, Doors
from foretell.server.observer import Account, Observer
from foretell.server.streams.asking import Asking
from foretell.server.streams.freshest import Frame
from foretell.server.streams.gate import Gate
from foretell.server.streams.handshake import accept, is_offered, say_upgrade
from foretell.server.streams.options import Options, options_of
from foretell.server.streams.page import PAGE_HEADERS, camera_page
from foretell.server.streams.stream import Seen, Stream
from foretell.server.streams.websocket import WebSocket
from foretell.server.urgency import urgency_of

__all__ = ["Streams"]


class Streams:
    """The streams of one server."""

    def __init__(self, engine: Engine, doors: Doors, desk: Desk, observer: Observer | None) -> None:
        self._engine = engine
        self._doors = doors
        self._desk = desk
        self._observer = observer

    def open(self, call: Call, model: str, version: str) -> None:
        """Answer a request for a stream: the connection goes on as a WebSocket.

        Raises:
            ForetellError: There is no such model, or the request is not understood.
        """
        door = self._doors.of(model, version)
        options = options_of(call.target, "latest" if door.takes_pictures else "every")
        if options.track and not isinstance(door.task, Detection):
            raise Refused("query: track=1, but this model finds no objects; leave it out", code="bad_parameter")
        if not is_offered(call):
            say_upgrade(call)
            return
        if self._desk.draining:
            raise ServerDraining("server: draining, it takes no more streams; ask another")
        socket = WebSocket(self._desk)
        socket.listener = self._stream(call, socket, door, version, options)
        call.connection.hand_over(call, accept(call), socket)

    def show(self, call: Call, model: str, version: str) -> None:
        """Answer with the page that opens a stream of this computer's camera.

        Raises:
            ForetellError: There is no such model, or it takes no pictures.
        """
        door = self._doors.of(model, version)
        if door.pictures is None:
            raise Refused("camera: this model takes no pictures", code="not_found", status=404)
        page = camera_page(door.served.name, finds_objects=isinstance(door.task, Detection))
        call.reply(200, page, b"text/html; charset=utf-8", PAGE_HEADERS)

    def _stream(self, call: Call, socket: WebSocket, door: Door, version: str, options: Options) -> Stream:
        names = door.served.name, door.served.version
        asking = Asking(self._engine, self._doors, names, version, urgency_of(call.headers))
        gate = self._doors.gates.setdefault(names, Gate())
        request, stream_id = f"GET {call.target.decode('latin-1')}", call.id.decode("ascii")
        observe = None if self._observer is None else partial(_tell, self._observer, request, stream_id)
        return Stream(socket, asking, gate, options, stream_id, self._engine.metrics, observe)


def _tell(observer: Observer, request: str, stream_id: str, frame: Frame[Seen], settled: float) -> None:
    """Tell the log of a frame."""
    seen = frame.item
    result = seen.result
    status = 200 if result is None or isinstance(result, InferResponse) else status_of(result).http
    observer.told(
        Account(
            door="http", route="stream", request=request, id=f"{stream_id}-{frame.number}", status=status,
            started=seen.arrived, ended=perf_counter(), settled=settled, result=result,
        )
    )  # fmt: skip

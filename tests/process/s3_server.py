"""A server of the S3 protocol on this machine, for a test's length; it counts what is asked of it."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator

import pytest


class Lake:
    """A bucket `lake` on a server."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.asked: list[str] = []
        """Method and path of each request."""
        self.sent_bytes = 0
        """Of bodies, to those who asked for objects."""
        self._lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """What makes the AWS libraries go there."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def forget(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.asked, self.sent_bytes = [], 0

    def note(self, method: str, path: str, sent_bytes: int) -> None:
        """Count a request."""
        with self._lock:
            self.asked.append(f"{method} {path}")
            self.sent_bytes += sent_bytes

    def objects(self, prefix: str = "") -> list[str]:
        """Return the keys of the bucket."""
        return sorted(k for k in list(self._backend()) if k.startswith(prefix))

    def get(self, key: str) -> bytes:
        """Return the content of an object."""
        return self._backend()[key].value

    def put(self, key: str, content: bytes) -> None:
        """Make an object."""
        self._s3().put_object("lake", key, content)

    def uploads(self) -> int:
        """Return how many uploads are neither completed nor let go."""
        return len(self._s3().get_bucket("lake").multiparts)

    def _backend(self):
        return self._s3().get_bucket("lake").keys

    def _s3(self):
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


@contextlib.contextmanager
def s3_lake(patch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """Run a server, with an empty bucket; this process and its children go there."""
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    run = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    run.start()
    try:
        host, port = run.get_host_and_port()
        lake = Lake(f"http://{host}:{port}")
        for name, value in lake.environment.items():
            patch.setenv(name, value)
        lake._s3().reset()  # the backend is one for all servers of this process
        lake._s3().create_bucket("lake", "us-east-1")
        counted(run, lake)
        yield lake
    finally:
        from foretell.bulk import places

        places._remote.cache_clear()
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        run.stop()


def counted(run, lake: Lake) -> None:
    """Count the requests of a server."""
    app = run._server.app

    def wrapped(environ, start_response):
        sent = 0

        def started(status, headers, *rest):
            nonlocal sent
            found = dict((k.lower(), v) for k, v in headers)
            if environ["REQUEST_METHOD"] == "GET" and re.fullmatch(r"/lake/.+", environ["PATH_INFO"]):
                sent = int(found.get("content-length", 0))
            lake.note(environ["REQUEST_METHOD"], environ["PATH_INFO"], sent)
            return start_response(status, headers, *rest)

        return app(environ, started)

    run._server.app = wrapped

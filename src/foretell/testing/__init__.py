"""A client for tests: the doors and the engine as they are, without a socket and without a process.

    with foretell.testing.client("ames/") as client:
        client.predict("ames", [{"Gr_Liv_Area": 1500, ...}])
        client.post("/v1/models/ames:predict", json={"instances": [...]}).status

Every request goes as bytes through the connection, the routes, the engine and back, so what passes here passes on a
server. The models run in this process, as with `--isolation none`; a `FakeModel` stands in for one.
"""

from foretell.errors import ConfigError

try:
    from foretell.testing.caller import Client, Reply, client
except ModuleNotFoundError as _missing:
    raise ConfigError(f'testing: {_missing.name} is not installed; pip install "foretell[serve]"') from None
from foretell.testing.fakes import FakeModel

__all__ = ["Client", "FakeModel", "Reply", "client"]

"""What the benchmark must know of a server: how it is installed, started, asked and read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rivals.venvs import VENVS, python_of

SERVERS = Path(__file__).with_name("servers")


@dataclass(frozen=True)
class Place:
    """Where one start of a server happens."""

    model: Path
    port: int
    """Of HTTP."""
    other_port: int
    """For whatever else it insists on opening."""
    third_port: int
    folder: Path
    """Its own, for its files and its log."""


@dataclass(frozen=True)
class Server:
    """One line of a table."""

    name: str
    settings: str
    """The choices made for it, in words, for the table's notes."""
    command: Callable[[Place], Sequence[str | Path]]
    path: str
    question: Callable[[Any], object]
    """A row as the JSON document to post."""
    answer: Callable[[Any], Sequence[float]]
    """The JSON document that came back as numbers; raises KeyError, IndexError or TypeError if it is another."""
    environment: Mapping[str, str] = field(default_factory=dict)
    is_ours: bool = False
    is_floor: bool = False
    """Answers without a model, so its answers are not checked."""
    model: Path | None = None
    """Its own file, where it is not the one all share."""


@dataclass(frozen=True)
class Installed:
    """A rival's environment."""

    name: str
    requirements: tuple[str, ...]

    def script(self, file: str, *options: str) -> Callable[[Place], list[str | Path]]:
        """Return how to run one of the files in `servers`."""
        return lambda place: [python_of(self.name, *self.requirements), SERVERS / file, *options]

    @property
    def folder(self) -> Path:
        return VENVS / self.name

    def program(self, name: str) -> Path:
        """Return a program of the environment."""
        return python_of(self.name, *self.requirements).with_name(name)

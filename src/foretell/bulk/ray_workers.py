"""The actors of one job: asked for, opened, replaced when they die. Knows no chunk, and not what is asked of them."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from foretell.bulk.ray_actor import facts_of, new_actor
from foretell.bulk.ray_cluster import last_line
from foretell.bulk.shipped import Shipped
from foretell.errors import ConfigError, ForetellError, MachineError
from foretell.model.model import Model

__all__ = ["Workers"]

_MOST_FAILED_STARTS = 4
"""For each actor that is wanted, one after the other."""
_START_S = 600.0
"""Longest time without any actor: a cluster that grows needs minutes to get a machine."""


class Workers:
    """Actors with the model. Those that Ray has no place for yet get nothing to do."""

    def __init__(self, model: Model, shipped: Shipped, count: int) -> None:
        self.count = count
        self._facts = facts_of(model)
        self._model = shipped
        self._shipped: Any = None
        self._starting: dict[Any, Any] = {}
        self._running: dict[Any, Any] = {}
        """Actors by what they were asked for last."""
        self._idle: deque[Any] = deque()
        self._failed_starts = 0
        self._seen_at = time.monotonic()

    def begin(self) -> None:
        """Ask for all of them."""
        import ray

        self._shipped = ray.put(self._model)
        for _ in range(self.count):
            self._start()

    def end(self) -> None:
        """End all of them, whatever they do."""
        import ray

        for actor in (*self._starting.values(), *self._running.values(), *self._idle):
            ray.kill(actor)

    @property
    def has_idle(self) -> bool:
        """Whether one has nothing to do."""
        return bool(self._idle)

    def hand(self, how: Any, data: Any) -> Any:
        """Give an idle one something to do; return the reference of its answer."""
        actor = self._idle.popleft()
        ref = actor.answer.remote(how, data)
        self._running[ref] = actor
        return ref

    def freed(self, ref: Any) -> None:
        """Take back the one that has answered."""
        self._idle.append(self._running.pop(ref))

    def lost(self, ref: Any) -> None:
        """Give up the one that was to answer, and ask for another."""
        import ray

        ray.kill(self._running.pop(ref))  # it may only be out of reach
        self._start()

    def wait(self, timeout_s: float) -> Any:
        """Wait until an answer is there, or one has started, or it is time; return the reference of the answer or None.

        Raises:
            ConfigError: One is not like the driver.
            ForetellError: One cannot load the model.
            MachineError: They die before they have, or there is none for too long.
        """
        import ray

        ready, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=timeout_s)
        if self._running or self._idle:
            self._seen_at = time.monotonic()
        elif time.monotonic() - self._seen_at > _START_S:
            raise MachineError(
                f"--on: no worker started within {_START_S:.0f} s, expected {self.count}; "
                "look at `ray status`: is a processor free, is there a machine with Foretell?"
            )
        if ready and ready[0] in self._starting:
            self._started(ready[0])
            return None
        return ready[0] if ready else None

    def _start(self) -> None:
        actor = new_actor()
        self._starting[actor.open.remote(self._shipped)] = actor

    def _started(self, ref: Any) -> None:
        import ray

        actor = self._starting.pop(ref)
        try:
            self._check(ray.get(ref))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ForetellError):
                raise error.cause from error
            raise ConfigError(
                f"--on: a worker cannot load the model ({last_line(error)}); install there what is installed here"
            ) from error
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            if self._failed_starts > _MOST_FAILED_STARTS * self.count:
                raise MachineError(
                    f"--on: {self._failed_starts} workers died while they started ({last_line(error)}); "
                    "is Foretell installed on the cluster's machines?"
                ) from error
            self._start()
        else:
            self._failed_starts = 0
            self._idle.append(actor)

    def _check(self, facts: dict[str, str]) -> None:
        for name, here in self._facts.items():
            if (there := facts.get(name, "none")) != here:
                raise ConfigError(
                    f"--on: a worker has {name} {there}, expected {here} as it is here, for the same answers; "
                    "install that there"
                )

"""A Ray of one process, for tests: what is asked of actors is run when somebody waits for it, and they die as told."""

import itertools
import pickle
import sys
from types import ModuleType, SimpleNamespace


class RayError(Exception):
    """As Ray's: the machinery failed."""


class RayTaskError(RayError):
    """As Ray's: what was asked for raised `cause`."""

    def __init__(self, cause):
        super().__init__(f"a long trace\n{type(cause).__name__}: {cause}")
        self.cause = cause


class Ref:
    def __init__(self, run):
        self.run = run
        self.found = None

    def settle(self):
        if self.found is None:
            try:
                self.found = (pickle.dumps(self.run()), None)
            except RayError as error:
                self.found = (None, error)
            except Exception as error:  # noqa: BLE001 - as Ray does
                self.found = (None, RayTaskError(error))


class FakeRay(ModuleType):
    """Stands in for the module `ray`."""

    def __init__(self, processors=2, deaths=lambda call: False):
        super().__init__("ray")
        self.exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.processors, self.deaths = processors, deaths
        self.actors, self.most_put = [], 0
        self.calls = itertools.count()
        self.order = lambda refs: refs[0]

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": self.processors}

    def put(self, value):
        data = pickle.dumps(value)
        return Ref(lambda: pickle.loads(data))

    def get(self, ref):
        ref.settle()
        data, error = ref.found
        if error is not None:
            raise error
        return pickle.loads(data)

    def wait(self, refs, num_returns, timeout):
        if not refs:
            return [], []
        chosen = self.order(refs)
        chosen.settle()
        return [chosen], [r for r in refs if r is not chosen]

    def kill(self, actor):
        actor.killed = True

    def remote(self, kind):
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda: self.started(kind)))

    def started(self, kind):
        actor = FakeActor(self, kind())
        self.actors.append(actor)
        return actor


class FakeActor:
    def __init__(self, ray, inner):
        self.ray, self.inner, self.killed, self.dead = ray, inner, False, False
        self.open = SimpleNamespace(remote=self.asking("open"))
        self.answer = SimpleNamespace(remote=self.asking("answer"))

    def asking(self, name):
        def ask(*given):
            def run():
                call = (name, next(self.ray.calls) if name == "answer" else None)
                if self.dead or self.ray.deaths(call):
                    self.dead = True
                    raise RayError("The actor died\nits node was lost")
                values = [self.ray.get(g) if isinstance(g, Ref) else pickle.loads(pickle.dumps(g)) for g in given]
                return getattr(self.inner, name)(*values)

            return Ref(run)

        return ask


def install(monkeypatch, **options):
    """Let `import ray` give a fake one, and return it."""
    fake = FakeRay(**options)
    monkeypatch.setitem(sys.modules, "ray", fake)
    return fake

"""Imports go down the ladder, and modules on one rung do not import each other."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "foretell"

LADDER = [  # lowest first; a package stands for its files, which may import each other
    {"errors"},
    {"machine", "box", "clock", "metrics"},
    {"dtypes"},
    {"signature", "request"},
    {"model.containers"},
    {"model.pickles", "model.strangers"},
    {"model.programs"},
    {"model.artifact", "model.picture", "model.tracking"},
    {"model.tasks", "model.runtimes", "model.data", "model.trees", "model.draw", "model.pace"},
    {"model.describe", "model.seeing", "model.skew", "model.watching"},
    {"model.formats"},
    {"model.bundle", "model.proof", "model.sample"},
    {"model.estimators", "model.model", "model.relabel"},
    {"model.picture_golden"},
    {"model.load", "model.tensor_proof"},
    {"model.proving"},
    {"model.convert"},
    {"engine.instance", "engine.limits", "engine.lifecycle", "engine.batch", "engine.scan"},
    {"engine.statistics", "engine.loop", "engine.ticket"},
    {"engine.pace", "engine.queue", "engine.worker", "engine.fakes"},
    {"engine.scheduling", "engine.suspects", "engine.pieces", "engine.ledger"},
    {"engine.crew", "engine.seats"},
    {"engine.settling", "engine.admission"},
    {"engine.recovery"},
    {"engine.watch"},
    {"engine.dispatch"},
    {"engine.batcher"},
    {"engine.served"},
    {"engine.repository"},
    {"engine.engine"},
    {"protocol"},
    {"bulk", "bench"},
    {"server", "ray"},
    {"cli", "testing"},
]
WINGS = ("model", "engine")
"""Packages whose rooms are their parts."""
RUNG = {room: rung for rung, rooms in enumerate(LADDER) for room in rooms}


def room_of(module: str) -> str:
    """Return the room of a module such as `foretell.model.data.cells`: `model.data`."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2] if parts and parts[0] in WINGS else parts[:1])


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("foretell"):
            names = {node.module} if node.module.count(".") > 1 else set()
            if node.module == "foretell" or node.module in {f"foretell.{wing}" for wing in WINGS}:
                names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("foretell.")}
    return found


MODULES = sorted(
    p
    for p in ROOT.rglob("*.py")
    if p.relative_to(ROOT).as_posix() not in ("__init__.py", *(f"{wing}/__init__.py" for wing in WINGS))
)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_imports_go_down(path: Path) -> None:
    own = room_of(
        "foretell." + path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    )
    assert own in RUNG, f"{own} has no rung: put it on the ladder"
    for module in imports_of(path):
        room = room_of(module)
        if room in (own, "", "__version__"):
            continue
        assert room in RUNG, f"{path.name} imports {module}, which has no rung"
        assert RUNG[room] < RUNG[own], f"{own} (rung {RUNG[own]}) imports {module} (rung {RUNG[room]})"


def test_an_upward_import_is_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "errors.py"
    wrong.write_text("from foretell.model.model import Model\n")
    (module,) = imports_of(wrong)
    assert RUNG[room_of(module)] > RUNG["errors"]

"""No code path unpickles or evaluates anything, but for the child process that opens what the user trusts."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "src" / "foretell"

BANNED_MODULES = {"pickle", "_pickle", "cPickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"}
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
ALLOWED = {
    "model/estimators/opening.py": {"joblib"},  # opens a trusted pickle, in the boxed-in child
    "model/estimators/outcome.py": {"joblib"},  # its thread pool, in the same child
}
"""File -> the banned modules it may import, and why."""


def faults(tree: ast.AST) -> set[str]:
    """Return the banned things a module does: names of modules, of functions, or `np.load`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names} & BANNED_MODULES
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module.split(".")[0]} & BANNED_MODULES
        elif isinstance(node, ast.Call):
            found |= called(node)
    return found


def called(node: ast.Call) -> set[str]:
    function = node.func
    if isinstance(function, ast.Name) and function.id in BANNED_CALLS:
        return {function.id}
    texts = {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    if isinstance(function, (ast.Name, ast.Attribute)) and ast.unparse(function).endswith("import_module"):
        return {t.split(".")[0] for t in texts} & BANNED_MODULES
    if isinstance(function, ast.Attribute) and ast.unparse(function) in ("np.load", "numpy.load", "format.read_array"):
        return set() if forbids_pickle(node) else {"np.load"}
    return set()


def forbids_pickle(node: ast.Call) -> bool:
    return any(
        k.arg == "allow_pickle" and isinstance(k.value, ast.Constant) and k.value.value is False for k in node.keywords
    )


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_module_unpickles(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    assert faults(ast.parse(path.read_text(encoding="utf-8"))) <= allowed


@pytest.mark.parametrize("name", ALLOWED)
def test_every_exception_is_needed(name: str) -> None:
    assert faults(ast.parse((ROOT / name).read_text(encoding="utf-8"))) == ALLOWED[name]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "def f():\n    from joblib import load",
        "import cloudpickle.compat as c",
        "eval('1')",
        "np.load('x.npy')",
        "np.load('x.npy', allow_pickle=True)",
        "importlib.import_module('marshal')",
    ],
)
def test_a_fault_is_seen(code: str) -> None:
    assert faults(ast.parse(code))


def test_a_safe_load_is_no_fault() -> None:
    assert not faults(ast.parse("np.load('x.npy', allow_pickle=False)\nimport numpy\nmodel.eval()"))

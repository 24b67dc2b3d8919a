"""What `import foretell` and the commands pull in, counted in modules."""

import json
import subprocess
import sys

import pytest

import foretell

HEAVY = {
    "torch", "onnx", "onnxruntime", "sklearn", "skl2onnx", "xgboost", "lightgbm", "catboost", "pandas", "polars",
    "pyarrow", "scipy", "joblib", "skops", "matplotlib", "PIL", "simplejpeg", "cykooz_resizer",
}  # fmt: skip


def modules_after(code: str) -> set[str]:
    """Return the top-level modules loaded by a fresh interpreter that ran `code`."""
    script = f"import sys, json\n{code}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_is_light() -> None:
    loaded = modules_after("import foretell")
    assert not loaded & (HEAVY | {"numpy"})


def test_loading_names_pull_in_no_framework() -> None:
    loaded = modules_after("import foretell; foretell.load, foretell.Model, foretell.Predictions")
    assert not loaded & HEAVY


def test_a_model_of_tables_loads_no_decoder_of_pictures() -> None:
    code = "import foretell.model.load, foretell.model.model, foretell.engine.worker.child, foretell.server.run"
    assert not modules_after(code) & {"PIL", "simplejpeg", "cykooz_resizer"}


def test_help_is_light() -> None:
    code = "from foretell.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit: pass"
    assert not modules_after(code) & (HEAVY | {"numpy"})


@pytest.mark.parametrize("name", foretell.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(foretell, name).__doc__


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        foretell.lod  # noqa: B018

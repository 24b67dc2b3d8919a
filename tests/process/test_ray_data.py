"""A model in a pipeline of Ray Data: the answers of `foretell predict`, whatever the form of the batches."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

ray = pytest.importorskip("ray", reason="needs Ray: scripts/test --ray")
data = pytest.importorskip("ray.data")
pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:ray"),
]

from tests.process.homes import make_homes, prices  # noqa: E402

import foretell.ray  # noqa: E402
from foretell.errors import ArtifactUntrusted, ConfigError  # noqa: E402


@pytest.fixture(scope="module")
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, log_to_driver=False)
    data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def ames(tmp_path_factory):
    return make_homes(tmp_path_factory.mktemp("homes"))


def predicted(ds, model, batch_format, **options):
    made = foretell.ray.predictor(model, **options)
    two = data.ActorPoolStrategy(size=2)
    return ds.map_batches(made, compute=two, num_cpus=0.5, batch_format=batch_format, batch_size=100)


@pytest.mark.parametrize("batch_format", ["pyarrow", "pandas", "numpy"])
def test_the_answers_are_those_of_the_command(cluster, ames, batch_format):
    homes = data.read_csv(str(ames / "homes.csv"))
    found = predicted(homes, ames / "ames", batch_format, keep=["Id"]).to_pandas()
    assert list(found.columns) == ["Id", "prediction"]
    assert dict(zip(found["Id"], found["prediction"], strict=True)) == prices(ames)


def test_a_bad_row_ends_the_pipeline_with_its_reason(cluster, ames):
    homes = pa.csv.read_csv(ames / "homes.csv")
    area = homes["Gr_Liv_Area"].to_numpy().astype(float)
    area[7] = np.inf
    at = homes.schema.get_field_index("Gr_Liv_Area")
    ds = data.from_arrow(homes.set_column(at, "Gr_Liv_Area", pa.array(area)))
    with pytest.raises(Exception, match=r'InvalidInput: batch: column "Gr_Liv_Area", row 7: got inf'):
        predicted(ds, ames / "ames", "pyarrow").materialize()


def test_bad_rows_are_marked(cluster, ames):
    homes = pa.csv.read_csv(ames / "homes.csv")
    area = homes["Gr_Liv_Area"].to_numpy().astype(float)
    area[[7, 2000]] = np.inf
    at = homes.schema.get_field_index("Gr_Liv_Area")
    ds = data.from_arrow(homes.set_column(at, "Gr_Liv_Area", pa.array(area)))
    found = predicted(ds, ames / "ames", "pyarrow", keep=["Id"], on_error="mark").to_pandas()
    bad = found[found["error"].notna()]
    assert sorted(bad["Id"]) == sorted(homes["Id"].take([7, 2000]).to_pylist())
    assert bad["prediction"].isna().all()
    assert all(why.startswith('column "Gr_Liv_Area": got inf') for why in bad["error"])
    good = found[found["error"].isna()]
    expected = prices(ames)
    assert dict(zip(good["Id"], good["prediction"], strict=True)) == {
        n: p for n, p in expected.items() if n not in set(bad["Id"])
    }


def test_a_large_model_goes_by_the_object_store(cluster, ames, monkeypatch):
    monkeypatch.setattr(foretell.ray, "_MOST_IN_CLASS_BYTES", 0)
    ds = data.read_csv(str(ames / "homes.csv"))
    assert predicted(ds, ames / "ames", "pyarrow").count() == 2930


def test_a_wrong_model_is_told_of_before_anything_runs(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        foretell.ray.predictor(tmp_path / "none")
    (tmp_path / "m.pkl").write_bytes(b"\x80\x04}\x94.")
    with pytest.raises(ArtifactUntrusted, match="trust"):
        foretell.ray.predictor(tmp_path / "m.pkl")

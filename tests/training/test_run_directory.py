import pytest

from mpnn_arch import InputError
from mpnn_arch.training.config import RunConfig
from mpnn_arch.training.run_directory import MetricsRow, RunDirectory

CONFIG = RunConfig(model="mlp", dataset="digits", graphs=("ring:8", "ring-8"), seeds=(0, 1))
ROWS = [
    MetricsRow(
        graph="ws_flex:64,8.5,0.1,0",
        seed=1,
        epoch=epoch,
        learning_rate=0.1 / 3,
        train_loss=1 / 7 * epoch,
        train_error=12.5,
        test_loss=1e-17,
        test_error=3.3,
        seconds=0.125,
    )
    for epoch in (1, 2)
]


def test_it_is_created_once_and_opened_again(tmp_path):
    created = RunDirectory.create(tmp_path / "a" / "run", CONFIG, ["h1", "h2"])
    found = RunDirectory.open(tmp_path / "a" / "run")
    assert (found.config, found.graph_hashes) == (CONFIG, ("h1", "h2"))
    assert sorted(p.name for p in created.path.iterdir()) == [
        "checkpoints",
        "config.json",
        "weights",
    ]
    assert [p.name for p in created.path.parent.iterdir()] == ["run"]
    with pytest.raises(InputError, match="--resume"):
        RunDirectory.create(created.path, CONFIG, [])


def test_one_that_cannot_be_created_leaves_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be created"):
        RunDirectory.create(tmp_path / "file" / "run", CONFIG, [])
    with pytest.raises(TypeError):
        RunDirectory.create(tmp_path / "run", CONFIG, [object()])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"run": {"model": 1}, "graph_hashes": []}'])
def test_an_invalid_configuration_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError):
        RunDirectory.open(tmp_path)
    with pytest.raises(InputError, match="not a run directory"):
        RunDirectory.open(tmp_path / "nothing")


def test_every_training_has_its_own_file(tmp_path):
    run = RunDirectory.create(tmp_path / "run", CONFIG, [])
    files = {run.weights(g, s) for g in (0, 1) for s in (0, 1)}
    assert len(files) == 4
    assert run.weights(0, 1).name == "0-ring-8-seed1.safetensors"


def test_metrics_round_trip_bit_for_bit(tmp_path):
    run = RunDirectory.create(tmp_path / "run", CONFIG, [])
    assert run.read_metrics() == []
    run.write_metrics(ROWS)
    assert run.read_metrics() == ROWS
    run.metrics.write_text(run.metrics.read_text()[:-20])
    with pytest.raises(InputError, match="line 3"):
        run.read_metrics()


def test_results_are_written_as_table_and_as_json(tmp_path):
    run = RunDirectory.create(tmp_path / "run", CONFIG, [])
    run.write_results([{"graph": "ring:8", "test_error_mean": 1.5}])
    assert (run.path / "results.csv").read_text() == "graph,test_error_mean\nring:8,1.5\n"
    assert '"test_error_mean": 1.5' in (run.path / "results.json").read_text()

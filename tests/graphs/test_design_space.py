import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mpnn_arch import InputError
from mpnn_arch.analysis.exact_csv import read_csv
from mpnn_arch.graphs import (
    design_space,
    generate,
    measure,
    published_parameters,
    sample,
    sample_parameters,
)
from mpnn_arch.graphs.bins import PAPER_BINS, Bins, coverage, subsample
from mpnn_arch.graphs.design_space import paper_grid, sweep_design_space

PUBLISHED = Path(__file__).parents[2].parent / "shared" / "published"
GRID = {"average_degree": [4.0, 5.5, 7.0], "rewiring_probability": [0.0, 0.1, 0.5, 1.0]}


def read(folder):
    return pd.read_parquet(sorted(Path(folder).glob("part-*.parquet")))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sweep_measures_every_graph_of_the_grid(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(design_space, "PART", 7)
    done = []
    sweep_design_space(
        "ws_flex", 20, GRID, 2, workers, out=tmp_path, progress=lambda *at: done.append(at)
    )
    table = read(tmp_path)
    assert len(table) == 24
    assert done == [(i, 4) for i in range(5)]
    expected = [
        (d, p, s)
        for s in range(2)
        for d in GRID["average_degree"]
        for p in GRID["rewiring_probability"]
    ]
    assert (
        list(
            table[["average_degree", "rewiring_probability", "seed"]].itertuples(
                index=False, name=None
            )
        )
        == expected
    )
    graphs = [generate("ws_flex", 20, *params) for params in expected]
    assert table["density"].tolist() == [graph.density for graph in graphs]
    pd.testing.assert_frame_equal(table[list(measure(graphs))], measure(graphs), check_exact=True)


def test_an_interrupted_sweep_is_resumed_with_the_same_settings(tmp_path, monkeypatch):
    monkeypatch.setattr(design_space, "PART", 7)
    sweep_design_space("ws_flex", 20, GRID, 1, out=tmp_path)
    once = read(tmp_path)
    (tmp_path / "part-00000.parquet").unlink()
    kept = (tmp_path / "part-00001.parquet").stat().st_mtime_ns
    sweep_design_space("ws_flex", 20, GRID, 1, out=tmp_path)
    assert read(tmp_path).equals(once)
    assert (tmp_path / "part-00001.parquet").stat().st_mtime_ns == kept

    sweep_design_space("ws_flex", 20, GRID, 3, out=tmp_path)  # more repeats
    whole = read(tmp_path)
    assert len(whole) == 36
    assert whole.iloc[:12].equals(once)
    assert not list(tmp_path.glob("*.tmp"))

    with pytest.raises(InputError, match=r"another sweep \(it differs in num_nodes\)"):
        sweep_design_space("ws_flex", 21, GRID, 3, out=tmp_path)
    with pytest.raises(InputError, match="differs in repeats"):
        sweep_design_space("ws_flex", 20, GRID, 2, out=tmp_path)


def test_a_sweep_that_fails_leaves_only_complete_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(design_space, "PART", 5)
    real = design_space.ws_flex_words
    calls = []

    def breaks(*args, **params):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **params)

    monkeypatch.setattr(design_space, "ws_flex_words", breaks)
    with pytest.raises(KeyboardInterrupt):
        sweep_design_space("ws_flex", 20, GRID, 1, out=tmp_path)
    assert [p.name for p in tmp_path.glob("*.parquet")] == ["part-00000.parquet"]
    sweep_design_space("ws_flex", 20, GRID, 1, out=tmp_path)
    assert len(read(tmp_path)) == 12


def test_a_sweep_of_any_family_leaves_out_invalid_graphs(tmp_path):
    grid = {"num_edges": [5.0, 20.0, 40.0]}  # 5 are too few for 10 nodes
    sweep_design_space("er", 10, grid, 2, out=tmp_path / "er", measures=["diameter"])
    table = read(tmp_path / "er")
    assert table["num_edges"].tolist() == [20, 40] * 2
    assert table["diameter"].between(1, 9).all()
    sweep_design_space("star", 10, {}, out=tmp_path / "star")
    assert read(tmp_path / "star")["average_path_length"].tolist() == [1.8]
    with pytest.raises(InputError, match="no graph of part 0 of the sweep can be made: num_edges"):
        sweep_design_space("er", 10, {"num_edges": [5.0]}, 1, out=tmp_path / "none")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("ws_flexx", 20, GRID, 1), "did you mean 'ws_flex'"),
        (("ws_flex", 20, {"average_degree": []}, 1), "no value for average_degree"),
        (("ws_flex", 20, GRID, 0), "repeats is between 1 and 1000000"),
        (("star", 20, {}, 2), "repeats is between 1 and 1"),
        (("ws_flex", 20, GRID, 1, 0), "workers is between 1 and 1024"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, args, sentence):
    with pytest.raises(InputError, match=sentence):
        sweep_design_space(*args, out=tmp_path / "sweep")
    with pytest.raises(InputError, match="no measure"):
        sweep_design_space("star", 20, {}, out=tmp_path / "sweep", measures=["colour"])
    assert not (tmp_path / "sweep").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="something else"):
        sweep_design_space("star", 20, {}, out=tmp_path)


def test_subsample_takes_the_graph_nearest_the_centre_of_each_bin():
    table = pd.DataFrame(
        {
            "clustering_coefficient": [0.1, 0.24, 0.26, 0.9, 0.9],
            "average_path_length": [1.5, 1.5, 1.4, 2.5, 9.0],
            "seed": range(5),
        }
    )
    bins = Bins(2, (1, 3))
    assert subsample(table, bins)["seed"].tolist() == [1, 3]
    assert subsample(table.iloc[::-1], bins)["seed"].tolist() == [1, 3]
    assert coverage(table.iloc[:3], table, bins) == 0.5
    with pytest.raises(InputError, match=r"none of the 5 graphs .* L from 4 to 5"):
        coverage(table, table, Bins(2, (4, 5)))
    with pytest.raises(InputError, match="average_path_length"):
        subsample(table[["clustering_coefficient"]], bins)


@pytest.mark.parametrize("num_nodes", [16, 64])
def test_the_published_lists_lie_on_the_grid_and_fill_a_bin_each(num_nodes):
    if not PUBLISHED.exists():
        pytest.skip(f"the published lists {PUBLISHED} are missing")
    grid = paper_grid(num_nodes)
    finest, bins = max(PAPER_BINS[num_nodes].items())
    listed = published_parameters(num_nodes, finest, PUBLISHED, download=False)
    degrees = np.array([one.average_degree for one in listed])
    p = np.array([one.rewiring_probability for one in listed])
    assert np.abs(degrees[:, None] - grid["average_degree"]).min(axis=1).max() < 1e-9
    assert np.abs(p[:, None] - grid["rewiring_probability"]).min(axis=1).max() < 1e-12
    assert {one.seed for one in listed} == set(range(30))
    path = PUBLISHED / f"graphs_n{num_nodes}_{finest}.csv"
    table = read_csv(path)
    number, inside = bins.place(table)
    assert inside.all()
    assert len(set(number)) == finest


@pytest.mark.parametrize("num_nodes", [16, 64])
def test_our_samples_have_the_published_sizes_and_fill_the_published_bins(num_nodes):
    sizes = sorted(PAPER_BINS[num_nodes])
    lists = [sample_parameters(num_nodes, size) for size in sizes]
    assert [len(one) for one in lists] == sizes
    assert set(lists[0]) < set(lists[1]) < set(lists[2])  # nested
    finest, bins = sizes[-1], PAPER_BINS[num_nodes][sizes[-1]]
    ours = measure(sample(num_nodes, finest))
    number, inside = bins.place(ours)
    assert inside.all()
    assert len(set(number)) == finest  # one graph a bin
    path = PUBLISHED / f"graphs_n{num_nodes}_{finest}.csv"
    if path.exists():
        assert coverage(ours, pd.read_csv(path), bins) >= 0.99


def test_samples_are_small_and_hold_parameters_alone():
    folder = Path(design_space.__file__).parent / "samples"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 2**19
    with (folder / "ws_flex_n64.csv").open() as file:
        assert next(csv.reader(file)) == [
            "average_degree",
            "rewiring_probability",
            "seed",
            "smallest_list",
        ]


def test_a_sweep_records_its_settings(tmp_path):
    sweep_design_space("ws_flex", 20, GRID, 1, out=tmp_path)
    note = json.loads((tmp_path / "_sweep.json").read_text())
    assert note["generator"] == "ws_flex"
    assert note["grid"] == {"average_degree": 3, "rewiring_probability": 4}

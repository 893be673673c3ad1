"""Every public name says what it is, and its example runs and gives what it says."""

import csv
import doctest
import inspect
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from mpnn_arch import graphs
from mpnn_arch.registry import Registry

sys.path.insert(0, str(Path(__file__).parents[2] / "notebooks" / "_ext"))
from public import homes

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# No example yet. A name that gets one has to leave this list.
WITHOUT_EXAMPLE: set[str] = {
    # It measures matrices that are not shipped, and downloads them.
    "mpnn_arch.graphs.connectome_measures",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """``results.csv`` of the examples: 52 graphs and the complete one, a bowl plus noise."""
    path = tmp_path_factory.mktemp("results") / "results.csv"
    random = np.random.default_rng(0)
    listed = graphs.sample_parameters(64, 52)
    rows = [
        ("ws_flex", one.average_degree / 64, one.rewiring_probability, one.seed, one.make())
        for one in listed
    ]
    rows.append(("complete", 1.0, 0.0, 1, graphs.complete(64)))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["graph", "num_nodes", "density", "rewiring_probability", "graph_seed", "train_seed"]
            + [f"epoch{epoch}" for epoch in (1, 2, 3)]
        )
        for name, density, p, seed, graph in rows:
            c, length = graph.clustering_coefficient, graph.average_path_length
            bowl = 32 + 6 * (c - 0.4) ** 2 + (length - 2.2) ** 2
            for train_seed in range(5):
                errors = [bowl + 20 / epoch + 0.2 * random.standard_normal() for epoch in (1, 2, 3)]
                writer.writerow([name, 64, density, p, seed, train_seed, *errors])
    return path


DESCRIBED = {
    name: value for name, value in homes().items() if inspect.isclass(value) or callable(value)
}
DATA = {name: value for name, value in homes().items() if name not in DESCRIBED}


@pytest.mark.parametrize("name", DESCRIBED)
def test_the_example_runs(name, results, tmp_path, monkeypatch):
    said = inspect.getdoc(DESCRIBED[name]) or ""
    assert said, f"{name} has no docstring"
    example = doctest.DocTestParser().get_doctest(said, {}, name, None, None)
    if name in WITHOUT_EXAMPLE:
        assert not example.examples, f"{name} has an example: take it from the list"
        return
    assert example.examples, f"{name} has no example"
    shutil.copy(results, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.delenv("MPNN_ARCH_DATA", raising=False)
    output: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = doctest.DocTestRunner(optionflags=FLAGS).run(example, out=output.append)
    assert result.failed == 0, "".join(output)


def test_the_list_names_what_exists():
    assert set(DESCRIBED) >= WITHOUT_EXAMPLE


def test_data_is_a_registry_or_a_table():
    assert DATA
    for name, value in DATA.items():
        assert isinstance(value, Registry | dict | slice), name

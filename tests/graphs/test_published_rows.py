"""Every graph of the paper is reproduced from its parameters, with its published measures."""

import csv
from pathlib import Path

import numpy as np
import pytest

from mpnn_arch.graphs import GraphBatch, generate
from mpnn_arch.graphs.measures import average_path_length, clustering_coefficient

ROWS = Path(__file__).parents[1] / "published_rows"
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "published"
LISTS = ["n64_3942", "n64_449", "n64_52", "n16_2698", "n16_326", "n16_48"]


def check(path, count):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count
    batch = GraphBatch.of(
        [
            generate(
                "ws_flex",
                num_nodes=int(row["num_nodes"]),
                average_degree=int(row["num_nodes"]) * float(row["density"]),
                rewiring_probability=float(row["rewiring_probability"]),
                seed=int(row["seed"]),
            )
            for row in rows
        ]
    )
    listed_c = np.array([float(row["clustering_coefficient"]) for row in rows])
    listed_l = np.array([float(row["average_path_length"]) for row in rows])
    np.testing.assert_allclose(clustering_coefficient(batch), listed_c, rtol=0, atol=1e-9)
    np.testing.assert_allclose(average_path_length(batch), listed_l, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", LISTS)
def test_twenty_rows_of_a_published_list(name):
    check(ROWS / f"graphs_{name}.csv", 20)


@pytest.mark.parametrize("name", LISTS)
def test_all_rows_of_a_published_list(name):
    path = PUBLISHED / f"graphs_{name}.csv"
    if not path.exists():
        pytest.skip(f"the published list {path} is not there")
    check(path, int(name.partition("_")[2]))


@pytest.mark.parametrize("path", sorted(ROWS.glob("*.csv")), ids=lambda path: path.stem)
def test_the_twenty_rows_are_the_published_ones(path):
    if not PUBLISHED.is_dir():
        pytest.skip(f"the published tables are not at {PUBLISHED}")
    whole = (PUBLISHED / path.name).read_text().splitlines()
    rows = path.read_text().splitlines()
    assert rows[0] == whole[0]
    assert set(rows) <= set(whole)

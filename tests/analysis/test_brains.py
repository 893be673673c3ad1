"""The cortices beside artificial graphs, in a landscape and against graphs of equal degrees."""

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from mpnn_arch import InputError
from mpnn_arch.analysis import connectomes, sweet_spot
from mpnn_arch.analysis.landscape import landscape
from mpnn_arch.analysis.tidy_results import Results
from mpnn_arch.graphs import connectome, rewired

SHARED = Path(__file__).parents[3] / "shared"
needs_connectomes = pytest.mark.skipif(
    not (SHARED / "connectomes" / "cat_cortex.txt").is_file(),
    reason="the connectomes are not in ../shared/connectomes",
)
# C and L of the paper's Table 2.
PAPER = {
    "cat_cortex": (0.55, 1.81),
    "macaque_visual_cortex": (0.53, 1.73),
    "macaque_whole_cortex": (0.46, 2.38),
}


@pytest.fixture(scope="module")
def table(bowl_table):
    return connectomes(SHARED, [Results("bowl", bowl_table)], nulls=2)


@needs_connectomes
def test_c_and_l_are_close_to_the_papers(table):
    rows = table.set_index("network")
    for name, (c, length) in PAPER.items():
        assert rows.loc[name, "C"] == pytest.approx(c, abs=0.006)
        assert rows.loc[name, "L"] == pytest.approx(length, abs=0.06)
    assert rows["num_nodes"].tolist() == [52, 30, 71, 64]


@needs_connectomes
def test_nulls_are_graphs_of_equal_degrees(table):
    row = table.set_index("network").loc["macaque_visual_cortex"]
    graph = connectome("macaque_visual_cortex", SHARED)
    lengths = []
    for seed in (0, 1):
        drawn = rewired(graph, seed).to_networkx()
        drawn.remove_edges_from(list(nx.selfloop_edges(drawn)))
        hops = [d for v, to in nx.shortest_path_length(drawn) for u, d in to.items() if u != v]
        lengths.append(np.mean(hops))
    assert row["null_L"] == pytest.approx(np.mean(lengths))
    assert row["null_L_std"] == pytest.approx(np.std(lengths, ddof=1))
    # Cortices are more clustered than their degrees require.
    assert (table["C"] > table["null_C"]).all()


@needs_connectomes
def test_each_lies_in_a_bin_of_the_landscape(table, bowl_table):
    bins = landscape(bowl_table)
    spot = sweet_spot(bowl_table)
    for row in table.to_dict("records"):
        c, length = int(np.ceil(row["C"] * 15)) - 1, int((row["L"] - 1) / 3.5 * 15)
        here = bins[(bins["c_bin"] == c) & (bins["l_bin"] == length)]
        expected = here["mean"].iloc[0] if len(here) else np.nan
        assert row["bin_error bowl"] == pytest.approx(expected, nan_ok=True)
        inside = spot.clustering_coefficient[0] <= row["C"] <= spot.clustering_coefficient[1]
        inside &= spot.average_path_length[0] <= row["L"] <= spot.average_path_length[1]
        assert row["in_sweet_spot bowl"] == inside
    assert np.isfinite(table["bin_error bowl"].iloc[-1])
    assert table["error"].notna().tolist() == [False, False, False, True]


@needs_connectomes
def test_without_results_and_nulls():
    table = connectomes(SHARED, nulls=0)
    assert len(table) == 3
    assert table["null_C"].isna().all()
    assert table["error"].isna().all()


def test_bad_input_is_one_sentence():
    with pytest.raises(InputError, match="nulls is between 0"):
        connectomes(SHARED, nulls=-1)

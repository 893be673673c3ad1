"""The landscape's bins, and the rules for a sweet spot, against scipy and planted landscapes."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mpnn_arch import InputError, analysis
from mpnn_arch.analysis.corrected import adjusted
from mpnn_arch.analysis.landscape import binned, plane_of
from mpnn_arch.analysis.per_graph import per_graph
from mpnn_arch.analysis.sweet_spot import SweetSpot, intersection


def test_edges_of_the_papers_bins():
    plane = analysis.paper_plane(64)
    np.testing.assert_array_equal(plane.c_edges, np.linspace(0, 1, 16))
    np.testing.assert_array_equal(plane.l_edges, np.linspace(1, 4.5, 16))
    small = analysis.paper_plane(16)
    np.testing.assert_array_equal(small.c_edges, np.linspace(0, 1, 13))
    np.testing.assert_array_equal(small.l_edges, np.linspace(1, 2.5, 13))
    assert analysis.paper_plane(64, "fine").shape == (135, 135)
    edge_c, edge_l = plane.c_edges[6], plane.l_edges[6]
    # C closed on the right, L on the left; the corners lie inside; beyond is outside.
    c = [edge_c, np.nextafter(edge_c, 1), 0.0, 1.0, 0.5]
    length = [edge_l, np.nextafter(edge_l, 0), 4.5, 1.0, 4.6]
    c_bin, l_bin = plane.place(c, length)
    assert c_bin.tolist() == [5, 6, 0, 14, -1]
    assert l_bin.tolist() == [6, 5, 14, 0, -1]
    # Closed on the left, the complete graph is a bin of its own.
    left = analysis.paper_plane(64, c_closed="left")
    assert left.place([edge_c, 1.0], [1.0, 1.0])[0].tolist() == [6, 15]
    assert left.centres(np.array([15]), np.array([0]))[0] == 1.0


def test_other_sizes_need_a_longest_path():
    with pytest.raises(InputError, match="64 and 16"):
        analysis.paper_plane(32)
    assert analysis.paper_plane(32, longest=2.7).l_edges[-1] == 3.0
    with pytest.raises(InputError, match="no resolution 'rough'"):
        analysis.paper_plane(64, "rough")


def test_bins_hold_the_moments_of_their_errors(bowl_table):
    bins = analysis.landscape(bowl_table)
    rows = binned(bowl_table, plane_of(bowl_table)).groupby("bin")["error"]
    np.testing.assert_allclose(bins["mean"], rows.mean())
    np.testing.assert_allclose(bins["std"], rows.std(), rtol=1e-6)
    assert bins["rows"].tolist() == rows.size().tolist()


@pytest.mark.parametrize("unit", ["bin", "graph"])
def test_p_values_are_those_of_scipy(bowl_table, unit):
    spot = analysis.sweet_spot(bowl_table, unit)
    rows = binned(bowl_table, plane_of(bowl_table)) if unit == "bin" else bowl_table
    groups = dict(iter(rows.groupby(unit if unit == "graph" else "bin")["error"]))
    means = {name: errors.mean() for name, errors in groups.items()}
    best = min(means, key=means.get)
    for row in spot.candidates.itertuples():
        if row.name == best:
            assert row.kept
            continue
        p = stats.ttest_ind(groups[row.name], groups[best], alternative="greater").pvalue
        assert row.p_value == pytest.approx(p, abs=1e-9)
        assert row.kept == (p > 0.05)


def test_two_graphs_of_the_lowest_mean_are_both_the_best(made_up):
    table = made_up("bowl", count=52, seeds=3, noise=0.1)
    names = table["graph"].unique()
    wide, narrow = names[:2]
    table.loc[table["graph"] == wide, "error"] = [29.7, 30.0, 30.3]
    table.loc[table["graph"] == narrow, "error"] = [29.99, 30.0, 30.01 + 1e-13]
    table.loc[table["graph"] == names[2], "error"] = [30.2, 30.3, 30.4]
    for rule in (analysis.sweet_spot, analysis.corrected_sweet_spot, analysis.paired_sweet_spot):
        rows = rule(table).candidates.set_index("name")
        assert rows.loc[[wide, narrow], "p_value"].tolist() == [1.0, 1.0]
    # Worse than the one of little deviation alone.
    rows = analysis.sweet_spot(table).candidates.set_index("name")
    values = [[30.2, 30.3, 30.4], [29.7, 30.0, 30.3], [29.99, 30.0, 30.01]]
    p = [stats.ttest_ind(values[0], one, alternative="greater").pvalue for one in values[1:]]
    assert p[1] < 0.05 < p[0]
    assert rows.loc[names[2], "p_value"] == pytest.approx(p[0])
    assert rows.loc[names[2], "kept"]


def test_one_value_in_a_bin_takes_the_others_deviation(made_up):
    table = made_up("bowl", count=52, seeds=1)
    with pytest.raises(InputError, match="every graph has one error"):
        analysis.sweet_spot(table)
    many = made_up("bowl", count=449, seeds=1)
    spot = analysis.sweet_spot(many)
    lone = spot.candidates[spot.candidates["count"] == 1]
    assert len(lone)
    assert np.isfinite(spot.candidates["p_value"]).all()


def test_corrections_are_those_of_statsmodels():
    p = np.random.default_rng(0).random(40) ** 3
    for method in ("holm", "fdr_bh"):
        np.testing.assert_allclose(adjusted(p, method), multipletests(p, 0.05, method)[1])
    with pytest.raises(InputError, match="no correction 'none'"):
        adjusted(p, "none")


def test_corrected_regions_contain_the_papers(bowl_table):
    plain = analysis.sweet_spot(bowl_table)
    for method in ("holm", "fdr_bh"):
        wider = analysis.corrected_sweet_spot(bowl_table, method)
        assert wider.candidates["kept"][plain.candidates["kept"]].all()


def test_a_planted_sweet_spot_is_found(bowl_table):
    found = analysis.simultaneous_sweet_spot(bowl_table)
    assert found.exists
    assert found.flat_p < 1e-6
    for spot in (found.spot, analysis.sweet_spot(bowl_table)):
        (c_low, c_high), (l_low, l_high) = spot.clustering_coefficient, spot.average_path_length
        assert c_low < 0.4 < c_high
        assert l_low < 2.4 < l_high
        assert c_high < 0.8


def test_a_flat_landscape_is_given_none(flat_table):
    found = analysis.simultaneous_sweet_spot(flat_table)
    assert not found.exists
    assert found.spot.candidates["kept"].all()
    assert "no sweet spot" in found.reason
    by_graph = analysis.simultaneous_sweet_spot(flat_table, "graph", draws=10).spot.candidates
    assert (by_graph["graphs"] == 1).all()
    assert (by_graph["count"] > 1).all()
    # The paper's rule calls a part of it a sweet spot.
    assert not analysis.sweet_spot(flat_table).candidates["kept"].all()


def test_flatness_is_the_analysis_of_variance(bowl_table):
    graphs = per_graph(bowl_table)
    groups = [g["mean"] for _, g in binned(graphs, plane_of(graphs)).groupby("bin")]
    assert analysis.simultaneous_sweet_spot(bowl_table).flat_p == pytest.approx(
        stats.f_oneway(*groups).pvalue, rel=1e-6
    )


def test_the_best_set_has_dunnetts_p_value_for_two_candidates():
    from mpnn_arch.analysis.corrected import BestSet

    random = np.random.default_rng(0)
    a, b = random.standard_normal(8) + 0.8, random.standard_normal(8)
    within = np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    found = BestSet(np.array([8.0, 8.0]), 14, draws=20_000).p_values(
        np.array([a.mean(), b.mean()]), within
    )
    expected = stats.ttest_ind(a, b, alternative="greater").pvalue
    assert found[0] == pytest.approx(expected, abs=0.01)


def test_bootstrap_region(bowl_table, made_up):
    region = analysis.bootstrap_region(bowl_table, draws=100)
    shares = region.candidates
    assert shares["best_share"].sum() == pytest.approx(1)
    near = shares[
        shares["clustering_coefficient"].between(0.3, 0.5)
        & shares["average_path_length"].between(2.0, 2.8)
    ]
    far = shares[shares["clustering_coefficient"] > 0.8]
    assert near["kept_share"].mean() > 0.5
    assert far["kept_share"].max() < 0.05
    (low, high), _ = region.clustering_coefficient
    assert low <= high < 0.4
    single = analysis.bootstrap_region(made_up("bowl", count=52, seeds=3), draws=50)
    assert single.candidates["best_share"].sum() == pytest.approx(1)


def test_bootstrap_region_of_equal_errors(made_up):
    """Of graphs that share the lowest mean each is as good as the other, as in the rule itself."""
    table = made_up("flat", count=52, seeds=3, noise=0.0)
    lowest = table["graph"].isin(sorted(set(table["graph"]))[5:7])
    table = table.assign(error=np.where(lowest, 30.0, 31.0))
    found = analysis.bootstrap_region(table, unit="graph", draws=10).candidates
    best = found["mean"] == 30
    assert found.loc[best, "best_share"].tolist() == [0.5, 0.5]
    assert found["kept_share"].tolist() == best.astype(float).tolist()
    spot = analysis.sweet_spot(table, unit="graph").candidates
    assert spot["kept"].tolist() == best.tolist()


def test_intersection():
    spots = [
        SweetSpot("bin", (0.1, 0.5), (1.8, 2.7), None),
        SweetSpot("graph", (0.43, 0.6), (1.5, 2.28), None),
    ]
    assert intersection(spots) == ((0.43, 0.5), (1.8, 2.28))
    assert intersection([spots[0], SweetSpot("bin", (0.6, 0.7), (1, 2), None)]) is None
    assert intersection([]) is None


def test_refusals(bowl_table):
    with pytest.raises(InputError, match="choose one of auto, bin, graph"):
        analysis.sweet_spot(bowl_table, "edge")
    one = bowl_table[bowl_table["graph"] == bowl_table["graph"].iloc[0]]
    with pytest.raises(InputError, match="one bin only"):
        analysis.sweet_spot(one, "bin")
    with pytest.raises(InputError, match="no result to analyse"):
        analysis.sweet_spot(bowl_table.iloc[:0])

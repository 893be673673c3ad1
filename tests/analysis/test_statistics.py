"""Each statistic against scipy or statsmodels, or against a known answer."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.linear_model import LinearRegression
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from mpnn_arch import InputError, analysis
from mpnn_arch.analysis.calibration import RULES, planted
from mpnn_arch.analysis.cross_validation import explained, held_out
from mpnn_arch.analysis.density_curve import DensityCurve
from mpnn_arch.analysis.density_null import _strata
from mpnn_arch.analysis.nested_regressions import (
    gain_interval,
    independent_columns,
    p_of_more,
    resampled_r2,
)
from mpnn_arch.analysis.paired import Shares
from mpnn_arch.analysis.per_graph import per_graph
from mpnn_arch.analysis.report.analyses import analyse
from mpnn_arch.analysis.report.charts import agreement_charts, charts_of, few_epochs_chart
from mpnn_arch.analysis.report.readings import agreement_readings, readings
from mpnn_arch.analysis.tidy_results import Results


def test_correlations():
    random = np.random.default_rng(0)
    x = random.standard_normal(40)
    y = x + random.standard_normal(40)
    found = analysis.correlate(x, y)
    pearson, spearman = stats.pearsonr(x, y), stats.spearmanr(x, y)
    assert found.pearson == pytest.approx(pearson.statistic)
    assert found.pearson_p == pytest.approx(pearson.pvalue)
    assert found.pearson_interval == pytest.approx(tuple(pearson.confidence_interval(0.95)))
    assert found.spearman == pytest.approx(spearman.statistic)
    assert found.spearman_interval[0] < found.spearman < found.spearman_interval[1]
    with pytest.raises(InputError, match="constant"):
        analysis.correlate(x, np.ones(40))
    with pytest.raises(InputError, match="four or more"):
        analysis.correlate(x[:3], y[:3])


def test_effect():
    random = np.random.default_rng(1)
    a, b = random.normal(32, 0.3, 200), random.normal(33, 0.5, 150)
    found = analysis.effect(a, b)
    low, high = sm.stats.CompareMeans.from_data(b, a).tconfint_diff(usevar="unequal")
    assert found.interval == pytest.approx((low, high))
    assert found.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    assert found.hedges_interval[0] < 2.5 < found.hedges_interval[1]
    for wrong in ([1.0], np.ones(3)):
        with pytest.raises(InputError):
            analysis.effect(wrong, np.ones(3))


def test_the_best_of_many_is_no_better_by_chance_than_the_level_says():
    random = np.random.default_rng(3)
    naive = corrected = 0
    for _ in range(200):  # landscapes without any difference
        errors, dense = random.normal(32, 0.4, (30, 5)), random.normal(32, 0.4, 5)
        best = errors[errors.mean(axis=1).argmin()]
        alone = analysis.effect(best, dense)
        chosen = analysis.effect(best, dense, chosen_from=errors)
        naive += alone.interval[0] > 0
        corrected += chosen.interval[0] > 0
        assert (chosen.interval[0] > 0) == (chosen.p_value < 0.05 and chosen.difference > 0)
        assert chosen.difference == alone.difference
    assert naive > 30
    assert corrected <= 10
    # Where it is better it is found, also by few runs: their variance is that of all graphs.
    found = analysis.effect(errors[0, :3] - 2, dense[:3], chosen_from=errors[:, :3])
    squares = sum(values.var() * 3 for values in (*errors[:, :3], dense[:3]))
    free = 31 * 2
    half = stats.t.ppf(1 - 0.05 / 60, free) * np.sqrt(squares / free * 2 / 3)
    assert found.interval == pytest.approx((found.difference - half, found.difference + half))
    assert found.p_value < 0.05
    with pytest.raises(InputError, match="chosen_from"):
        analysis.effect([1.0, 2.0], [1.0, 3.0], chosen_from=["few", "many"])


def test_an_effect_of_means_against_runs_is_in_deviations_of_runs():
    random = np.random.default_rng(2)
    runs, dense = random.normal(32, 0.4, (60, 5)), random.normal(33, 0.4, 40)
    means = runs.mean(axis=1)
    found = analysis.effect(means, dense, first_runs=runs.ravel())
    every = analysis.effect(runs.ravel(), dense)
    assert found.hedges_g == pytest.approx(every.hedges_g)
    assert found.hedges_interval == pytest.approx(every.hedges_interval)
    # The means of a graph's runs are independent, its runs are not: the interval is theirs.
    assert found.interval == analysis.effect(means, dense).interval


def test_an_effect_on_a_group_of_equal_errors():
    equal, varied = np.full(3, 0.1), [0.2, 0.3, 0.25]
    assert equal.std() > 0  # by rounding
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning of scipy's would be printed by `mpnn-arch sweep`
        found = analysis.effect(equal, varied)
    low, high = stats.ttest_1samp(varied, 0.1).confidence_interval(0.95)
    assert found.interval == pytest.approx((low - 0.1, high - 0.1))
    with pytest.raises(InputError, match="neither group varies"):
        analysis.effect(equal, np.full(3, 0.7))


def test_what_differs_by_rounding_is_equal(made_up):
    """The mean of three errors depends in its last digit on their order."""
    table, random = made_up("flat", count=52, seeds=3), np.random.default_rng(0)
    orders = table.groupby("graph")["error"].transform(
        lambda errors: random.permutation([33.1, 33.3, 33.2])
    )
    table = table.assign(error=orders)
    means = per_graph(table)["mean"]
    assert means.nunique() > 1
    for refuses in (
        lambda: analysis.density_null(table),
        lambda: analysis.surfaces(table),
        lambda: analysis.slice_of(table, "average_path_length", (0, 1)),
        lambda: analysis.variance_ladder(table),
        lambda: analysis.correlate(means, np.arange(len(means))),
        lambda: analysis.effect(means[:20], means[20:]),
    ):
        with pytest.raises(InputError, match=r"one error|1 error|constant|neither"):
            refuses()


def test_variance_shares_are_those_of_the_two_way_analysis(made_up):
    table = made_up("bowl", count=52, seeds=4, noise=0.2)
    shifted = table.assign(error=table["error"] + table["train_seed"] * 0.3)
    shares = analysis.variance_shares(shifted)
    fit = anova_lm(ols("error ~ C(graph) + C(train_seed)", shifted).fit())
    assert shares.seed_p == pytest.approx(fit.loc["C(train_seed)", "PR(>F)"], rel=1e-6)
    rest = fit.loc["Residual", "mean_sq"]
    seed = (fit.loc["C(train_seed)", "mean_sq"] - rest) / 53
    graph = (fit.loc["C(graph)", "mean_sq"] - rest) / 4
    whole = seed + graph + rest
    assert (shares.graph, shares.seed) == pytest.approx((graph / whole, seed / whole))
    alike = table.assign(error=table.groupby("graph")["error"].transform("first"))
    assert analysis.variance_shares(alike) == Shares(1.0, 0.0, 0.0, 1.0)
    shifted = alike.assign(error=alike["error"] + table["train_seed"] * 0.3)
    assert analysis.variance_shares(shifted).seed_p == 0.0


def test_the_order_of_rows_changes_no_bit(made_up):
    """Trials end in any order, and graphs of equal mean and deviation have one of their own."""
    table = made_up("bowl", count=52, seeds=3)
    table = table.assign(error=table["error"].round(1))
    graphs = per_graph(table)
    assert graphs[["mean", "std"]].round(9).duplicated().any()
    other = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(per_graph(other), graphs, check_exact=True)


def test_pairing_removes_what_the_seed_does_to_all(made_up):
    table = made_up("bowl", count=52, seeds=3, noise=0.02)
    shifted = table.assign(error=table["error"] + table["train_seed"] * 2.0)
    plain, paired = analysis.sweet_spot(shifted), analysis.paired_sweet_spot(shifted)
    assert len(paired.kept) < len(plain.kept) / 2
    errors = shifted.pivot(index="graph", columns="train_seed", values="error")
    best = errors.mean(axis=1).idxmin()
    row = paired.candidates.set_index("name").drop(index=best).iloc[5]
    expected = stats.ttest_rel(errors.loc[row.name], errors.loc[best], alternative="greater")
    assert row["p_value"] == pytest.approx(expected.pvalue)
    by_bin = analysis.paired_sweet_spot(made_up("bowl", count=449, seeds=3), "bin")
    assert by_bin.unit == "bin"
    assert not by_bin.candidates["kept"].all()


def test_the_best_of_equals_is_luck(made_up):
    table = made_up(lambda c, length, d: 32 + 0 * c, seeds=4, noise=0.5, baseline=32.0)
    bias = analysis.selection_bias(table)
    assert bias.best < 31.5
    assert bias.splits["held_out"].to_numpy() == pytest.approx(32.0, abs=0.5)
    assert bias.expected == pytest.approx(32.0, abs=0.15)
    # Without luck there is no bias.
    sure = analysis.selection_bias(made_up("bowl", seeds=3, noise=0.0))
    assert sure.splits["bias"].to_numpy() == pytest.approx(0, abs=1e-9)
    assert sure.expected == pytest.approx(sure.best)
    with pytest.raises(InputError, match="two seeds"):
        analysis.selection_bias(made_up("bowl", seeds=1))


def test_the_best_of_a_bowl_is_not_taken_for_better_than_it_is(made_up):
    """Its bottom is wide: the best of many good graphs is mostly the luckiest of them."""
    truth = per_graph(made_up("bowl", count=52, seeds=1, noise=0)).set_index("graph")["mean"]
    off, luck = [], []
    for seed in range(12):
        table = made_up("bowl", count=52, seeds=3, noise=0.3, seed=seed)
        bias, chosen = analysis.selection_bias(table), per_graph(table).iloc[0]["graph"]
        off.append(bias.expected - truth[chosen])
        luck.append(bias.best - truth[chosen])
    assert np.mean(luck) < -0.25
    assert np.mean(off) == pytest.approx(0, abs=0.08)


@pytest.mark.filterwarnings("error")
def test_pairs_that_differ_alike_in_every_seed_are_told_apart(made_up):
    spot = analysis.paired_sweet_spot(made_up("bowl", count=52, seeds=3, noise=0.0))
    assert len(spot.kept) == 1


def test_what_a_seed_does_to_all_graphs_is_no_luck_of_one(made_up):
    table = made_up("bowl", count=52, seeds=4, noise=0.2)
    shift = np.array([-2.0, 0.5, 3.0, -1.5])
    moved = table.assign(error=table["error"] + shift[table["train_seed"]])
    plain, same = (analysis.selection_bias(one) for one in (table, moved))
    assert same.expected == pytest.approx(plain.expected, abs=1e-9)
    ceilings = [
        analysis.surfaces(one).set_index("function").loc["ceiling", "r2"] for one in (table, moved)
    ]
    assert ceilings[1] == pytest.approx(ceilings[0], abs=1e-9)
    # Graphs that have no seed in common still have a ceiling.
    own = table["graph"].rank(method="dense").astype(int) * 10 + table["train_seed"]
    alone = analysis.surfaces(table.assign(train_seed=own)).set_index("function")
    assert alone.loc["ceiling", "r2"] == pytest.approx(ceilings[0], abs=0.1)


def test_the_interval_of_the_ceiling_is_that_of_an_intraclass_correlation(made_up):
    table = made_up("bowl", count=52, seeds=3)
    row = analysis.surfaces(table).set_index("function").loc["ceiling"]
    graphs = table[~table["graph"].str.startswith("complete")]
    anova = anova_lm(ols("error ~ C(graph) + C(train_seed)", graphs).fit())
    f = anova.loc["C(graph)", "F"]
    low, high = (f / stats.f.ppf(q, 51, 102) for q in (0.975, 0.025))
    assert row["r2"] == pytest.approx(1 - 1 / f)  # Shrout and Fleiss, ICC(3, k)
    assert (row["r2_low"], row["r2_high"]) == pytest.approx((1 - 1 / low, 1 - 1 / high))
    one = analyse(Results("one", table[table["train_seed"] == 0]), {}, repeats=1)
    assert np.isnan(one.surfaces.set_index("function").loc["ceiling", "r2"])


def test_what_is_not_known_is_not_said_to_be_nan(made_up):
    table = made_up("bowl", count=52, seeds=1)
    table = pd.concat([table.assign(epoch=1, error=table["error"] + 5), table.assign(epoch=2)])
    one = analyse(Results("one", table), {}, repeats=1)
    assert np.isnan(one.few_epochs["pearson_other_seeds"]).all()
    other = analyse(Results("other", table.assign(density=0.5)), {}, repeats=1)  # of one density
    pairs, _ = analysis.consistency({"one": table, "other": other.table})
    assert np.isnan(pairs["pearson_beyond_density"]).all()
    said = [*readings(one), *readings(other), *agreement_readings(pairs)]
    assert len(said) > 3
    assert not any("nan" in reading.evidence for reading in said)
    early = few_epochs_chart(one)
    assert [line.label for line in early.layers] == ["Pearson, 95 %", "Spearman"]
    charts = [early, *charts_of(one), *agreement_charts([one, other], pairs)]
    assert not any("nan" in f"{chart.title} {chart.caption}" for chart in charts)


def test_density_alone_is_not_taken_for_structure(density_table, bowl_table):
    nothing = analysis.density_null(density_table, draws=200)
    assert nothing.density_r2 > 0.7
    assert nothing.gain < 0.02
    assert nothing.permutation_p > 0.05
    assert nothing.best_bin_p > 0.01
    assert nothing.gain_interval[0] < 0 < nothing.gain_interval[1]
    something = analysis.density_null(bowl_table, draws=200)
    assert something.gain > 0.2
    assert something.gain_interval[0] > 0.1
    assert something.permutation_p < 0.01
    assert something.f_p < 1e-6
    with pytest.raises(InputError, match="12 graphs or more"):
        analysis.density_null(bowl_table.head(5))


def test_graphs_that_exchange_with_none_are_as_they_would_be_by_chance(made_up):
    """The mean of a bin that holds a whole class differs among exchanges by rounding only."""
    table = made_up("flat", count=52, seeds=3, baseline=None)
    place = table["graph"].rank(method="dense").astype(int)
    whole = table.assign(
        density=place / 60,
        clustering_coefficient=0.5 + place * 1e-4,
        average_path_length=np.where(place <= 26, 1.6, 2.5) + place * 1e-3,
    )
    found = analysis.density_null(whole, draws=50, strata=2)
    assert (found.bins["p_value"] == 1).all()
    assert found.best_bin_p == 1.0
    alone = analysis.density_null(whole, draws=50, strata=52)
    assert (alone.permutation_p, alone.best_bin_p) == (1.0, 1.0)


def of_two_densities(made_up):
    """40 graphs of two densities, whose logarithm has no square or cube of its own."""
    table = made_up("flat", count=449, seeds=2, noise=0.0, baseline=None)
    degree = np.where(np.arange(449) < 225, 0.25, 0.5)
    density = table["graph"].map(dict(zip(table["graph"].unique(), degree, strict=True)))
    table = table.assign(density=density)[density.groupby(table["graph"]).ngroup() % 11 == 0]
    chance = np.random.default_rng(3).normal(0, 0.5, len(table) // 2)
    luck = table["graph"].map(dict(zip(table["graph"].unique(), chance, strict=True)))
    return table.assign(error=30 + luck)


def test_features_that_depend_on_others_count_once(made_up):
    table = of_two_densities(made_up)
    graphs = per_graph(table)
    assert len(graphs) == 41
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # statsmodels warns of a design that is singular
        found = analysis.density_null(table, draws=400)
        steps = analysis.variance_ladder(table, draws=50).set_index("step")
    c, length = (graphs[name] for name in ("clustering_coefficient", "average_path_length"))
    few = sm.add_constant((graphs["density"] == 0.5).astype(float).to_numpy())
    plane = np.stack([c, length, c**2, c * length, length**2], axis=1)
    fits = [sm.OLS(graphs["mean"].to_numpy(), x).fit() for x in (few, np.hstack([few, plane]))]
    expected = fits[1].compare_f_test(fits[0])[1]
    assert found.f_p == pytest.approx(expected)
    assert found.permutation_p == pytest.approx(expected, abs=0.1)
    assert steps["r2"]["density"] == pytest.approx(fits[0].rsquared)
    low, high = found.gain_interval
    assert low < 0 < high


def test_graphs_of_one_density_are_in_one_class():
    """They come in the order of their errors, which are to be exchanged among all of them."""
    assert _strata(np.repeat([0.25, 0.5], 20), None).tolist() == [0] * 20 + [2] * 20
    assert _strata(np.array([0.1 + 0.2, 0.1, 0.3, 0.3]), 4).tolist() == [1, 0, 1, 1]
    assert np.bincount(_strata(np.arange(50.0) + 1, None)).tolist() == [10] * 5


def test_what_adds_no_feature_adds_nothing():
    x = np.random.default_rng(0).normal(size=(20, 2))
    both = np.column_stack([x, x @ [1, -2], x[:, 0] ** 2, np.zeros(20)])
    np.testing.assert_array_equal(independent_columns(both), both[:, [0, 1, 3]])
    one, same = (sm.OLS(x[:, 0] ** 3, independent_columns(part)).fit() for part in (x, both[:, :3]))
    assert p_of_more(same, one) == 1.0


def test_the_ladder_adds_up(bowl_table, density_table):
    steps = analysis.variance_ladder(bowl_table, draws=100).set_index("step")
    assert list(steps.index) == ["density", "degrees", "C and L"]
    assert steps["added"].sum() == pytest.approx(steps["r2"].iloc[-1])
    assert steps.loc["C and L", "added_low"] > 0.1
    nothing = analysis.variance_ladder(density_table, draws=100).set_index("step")
    assert nothing.loc["density", "added"] > 0.7
    assert nothing.loc["C and L", "added"] < 0.02
    assert nothing.loc["C and L", "p_value"] > 0.01
    assert (nothing["added_low"] < 0).tolist() == [False, True, True]
    null = analysis.density_null(bowl_table, draws=20)
    assert steps.loc["density", "r2"] == pytest.approx(null.density_r2)
    with pytest.raises(InputError, match="20 graphs"):
        analysis.variance_ladder(bowl_table.head(10))
    with pytest.raises(InputError, match="one density"):
        analysis.variance_ladder(bowl_table.assign(density=0.25))


def test_density_curve_is_least_squares(density_table):
    graphs = per_graph(density_table).query("graph != 'complete:64'")
    log = np.log(graphs["density"].to_numpy())
    expected = np.polyval(np.polyfit(log, graphs["mean"], 3), log)
    np.testing.assert_allclose(DensityCurve.fit(graphs).predict(graphs["density"]), expected)
    with pytest.raises(InputError, match="one density"):
        DensityCurve.fit(graphs.assign(density=0.5))
    with pytest.raises(InputError, match="no density"):
        DensityCurve.fit(graphs.assign(density=np.nan))


def test_a_slice_is_the_quadratic_that_was_planted(made_up):
    table = made_up(lambda c, length, d: 32 + 0.5 * (length - 2.4) ** 2, noise=0.05)
    along = analysis.slice_of(table, "average_path_length")
    assert along.points["clustering_coefficient"].between(0.4, 0.6).all()
    low, high = along.curvature_interval
    assert low < 0.5 < high
    assert along.lowest == pytest.approx(2.4, abs=0.1)
    fit = np.polyfit(along.points["average_path_length"], along.points["mean"], 2)
    at = along.curve["average_path_length"]
    np.testing.assert_allclose(along.curve["error"], np.polyval(fit, at), rtol=1e-9)
    assert (along.curve["low"] < along.curve["error"]).all()
    assert along.r2 > 0.9
    with pytest.raises(InputError, match="slice along"):
        analysis.slice_of(table, "density")
    with pytest.raises(InputError, match="widen"):
        analysis.slice_of(table, "average_path_length", (0.99, 1.0))
    with pytest.raises(InputError, match=r"449 graphs with clustering_coefficient .* have 1;"):
        analysis.slice_of(table.assign(average_path_length=2.0), "average_path_length", (0, 1))


def test_surfaces_beat_density_only_where_they_should(bowl_table, density_table):
    planted_bowl = analysis.surfaces(bowl_table).set_index("function")
    assert planted_bowl.loc["quadratic", "gain_low"] > 0.2
    assert planted_bowl.loc["gaussian process", "r2"] > planted_bowl.loc["density", "r2"] + 0.2
    by_density = analysis.surfaces(density_table).set_index("function")
    assert by_density.loc["quadratic and density", "gain"] < 0.02
    ceiling = by_density.loc["ceiling", "r2"]
    assert by_density.loc["density", "r2"] == pytest.approx(ceiling, abs=0.1)


def test_cross_validation_predicts_what_was_not_seen():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((60, 20)), random.standard_normal(60)
    seen = LinearRegression().fit(x, y).predict(x)
    assert explained(seen, y) > 0.1 > explained(held_out(x, y), y)
    with pytest.raises(InputError, match="take 10 graphs or more, not 5"):
        held_out(x[:5], y[:5])


def test_measures_are_ranked_by_what_they_add(density_table, made_up):
    table = made_up(lambda c, length, d: 32 + 3 * (c - 0.4) ** 2 + np.log(d) ** 2, noise=0.05)
    names = ["clustering_coefficient", "density", "degree_mean", "assortativity"]
    ranked, notes = analysis.rank_measures(table, names, most=200)
    assert not notes
    beyond = ranked.set_index("measure")["beyond_density"]
    assert beyond.idxmax() == "clustering_coefficient"
    assert beyond["density"] < 0.01
    assert ranked["alone"].is_monotonic_decreasing
    nothing, _ = analysis.rank_measures(density_table, names, most=200)
    assert nothing["beyond_density"].max() < 0.05
    with pytest.raises(InputError, match="no measure"):
        analysis.rank_measures(table, ["beauty"])


def test_a_measure_that_cannot_be_had_is_left_out(bowl_table):
    table = bowl_table[bowl_table["graph"].isin(bowl_table["graph"].unique()[:40])]
    unknown = table.assign(graph=table["graph"].where(table["train_seed"] >= 0, "x") + "")
    lost = table["graph"].iloc[0]
    unknown["graph"] = unknown["graph"].replace(lost, "my_brain")
    ranked, notes = analysis.rank_measures(unknown, ["clustering_coefficient"])
    assert ranked["graphs"].iloc[0] == 39
    assert "1 graph cannot be made" in notes[0]


def test_agreement_and_its_limits(bowl_table, density_table, made_up):
    other = made_up("bowl", seed=9)
    assert analysis.agreement(bowl_table, other).pearson > 0.9
    # Two architectures that share no more than a best density agree, but not beyond it.
    twin = made_up("by_density", seed=5)
    assert analysis.agreement(density_table, twin).pearson > 0.9
    assert analysis.agreement_beyond_density(density_table, twin).pearson < 0.5
    small = made_up("bowl", count=52).assign(num_nodes=16)
    pairs, notes = analysis.consistency({"a": bowl_table, "b": other, "c": small})
    assert len(pairs) == 1
    assert sum("planes of C and L differ" in note for note in notes) == 2


def test_few_graphs_by_count(bowl_table):
    found = analysis.few_graphs_by_count(bowl_table, (26, 52, 200, 10_000), draws=20)
    assert found["graphs"].tolist() == [26, 52, 200]
    assert found["pearson"].is_monotonic_increasing
    every = bowl_table["graph"].unique()
    assert analysis.few_graphs(bowl_table, every).pearson == pytest.approx(1)
    with pytest.raises(InputError, match=r"four bins .* are needed to correlate, not 1; give"):
        analysis.few_graphs_by_count(bowl_table[bowl_table["graph"].isin(every[:1])])
    with pytest.raises(InputError, match="none of the chosen"):
        analysis.few_graphs(bowl_table, ["ring:64,4"])


def by_epochs(made_up):
    """Errors that begin as chance and end as the truth."""
    last = made_up("bowl", count=52, seeds=3, noise=0.02)
    noise = np.random.default_rng(3).standard_normal(len(last))
    parts = [last.assign(epoch=t, error=last["error"] + noise / t**2) for t in range(1, 17)]
    return pd.concat(parts, ignore_index=True)


def test_few_epochs_and_racing(made_up):
    table = by_epochs(made_up)
    found = analysis.few_epochs(table)
    assert found["epoch"].tolist() == list(range(1, 16))
    wide = table.groupby(["graph", "epoch"])["error"].mean().unstack()
    assert found["pearson"].iloc[3] == pytest.approx(wide[4].corr(wide[16]))
    assert found["spearman"].iloc[3] == pytest.approx(wide[4].corr(wide[16], method="spearman"))
    race = analysis.racing(table, (4,)).iloc[0]
    # 53 graphs to epoch 4, 27 to 8, 14 to 16.
    assert race["saved"] == pytest.approx(1 - (53 * 4 + 27 * 4 + 14 * 8) / (53 * 16))
    assert race["error"] - race["lost"] == pytest.approx(wide[16].min())
    with pytest.raises(InputError, match="a first epoch is at least 1, 0 was given"):
        analysis.racing(table, (0,))
    with pytest.raises(InputError, match="one epoch only"):
        analysis.few_epochs(table[table["epoch"] == 1])


def test_an_early_epoch_at_which_all_graphs_err_alike_ranks_none(made_up):
    table = by_epochs(made_up)
    alike = table.assign(error=table["error"].where(table["epoch"] != 3, 90.0))
    found, before = (analysis.few_epochs(one).set_index("epoch") for one in (alike, table))
    assert found.loc[3].isna().all()
    pd.testing.assert_frame_equal(found.drop(index=3), before.drop(index=3))
    (said,) = [
        one
        for one in readings(analyse(Results("one", alike), {}, repeats=1))
        if "epochs" in one.claim
    ]
    assert (said.verdict, said.evidence) == (
        "does not survive",
        "after epoch 3 all graphs have one error",
    )
    last = table.assign(error=table["error"].where(table["epoch"] != 16, 90.0))
    with pytest.raises(InputError, match="one error after the last epoch, 16"):
        analysis.few_epochs(last)


def test_what_a_seed_does_to_all_graphs_is_not_taken_for_the_noise_of_a_run(bowl_table):
    alone = analysis.design_of(bowl_table)
    seeds = bowl_table["train_seed"]
    effect = seeds.map(dict(zip(sorted(seeds.unique()), range(seeds.nunique()), strict=True)))
    moved = analysis.design_of(bowl_table.assign(error=bowl_table["error"] + 5.0 * effect))
    assert moved.seed_deviation == pytest.approx(alone.seed_deviation)
    assert moved.graph_deviation == pytest.approx(alone.graph_deviation)
    assert alone.common_deviation < 0.1
    expected = 5.0 * np.std(range(seeds.nunique()), ddof=1)
    assert moved.common_deviation == pytest.approx(expected, rel=0.05)


def test_false_alarms_and_power(bowl_table, made_up):
    design = analysis.design_of(bowl_table)
    assert design.seed_deviation == pytest.approx(0.3, abs=0.03)
    assert planted(design, 0.5).max() == 0.5
    found = analysis.calibrate(design, depths=(1.0,), repeats=60).set_index(["rule", "depth"])
    assert set(found.index.get_level_values(0)) == set(RULES)
    # The paper's rule nearly always claims a sweet spot on a flat landscape; ours at its level.
    assert found.loc[("paper", 0.0), "claimed"] > 0.8
    assert found.loc[("simultaneous", 0.0), "claimed"] <= 0.15
    assert found.loc[("simultaneous", 1.0), "found"] > 0.9
    assert found.loc[("simultaneous", 1.0), "lost"] < 0.1 < found.loc[("paper", 1.0), "lost"]
    single = analysis.calibrate(analysis.design_of(made_up("bowl", count=52, seeds=3)), (1.0,), 20)
    assert len(single) == 6
    with pytest.raises(InputError, match="one training seed"):
        analysis.design_of(made_up("bowl", count=52, seeds=1))


@pytest.mark.parametrize("graphs", [12, 200])
def test_resampled_shares_are_those_of_a_regression_on_each_resample(graphs):
    random = np.random.default_rng(2)
    features = np.column_stack([np.ones(graphs), random.standard_normal((graphs, 6)) * 100 + 30])
    errors = features[:, 1] / 100 + random.standard_normal(graphs)
    found = resampled_r2(features, [1, 3, 7], errors, 5, np.random.default_rng(3))
    again = np.random.default_rng(3)
    for shares in found:
        rows = again.integers(graphs, size=graphs)
        assert shares[0] == pytest.approx(0, abs=1e-9)
        for share, size in zip(shares[1:], (3, 7), strict=True):
            fit = sm.OLS(errors[rows], features[rows, :size]).fit()
            assert share == pytest.approx(fit.rsquared, abs=1e-9)
    assert not resampled_r2(features, [3], np.ones(graphs), 2, again).any()


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_the_interval_of_what_features_add_holds_what_they_add(slope):
    # Four features, of which the first explains slope^2 / (slope^2 + 1) of the variance.
    random = np.random.default_rng(5)
    covered, share = 0, slope**2 / (slope**2 + 1)
    for _ in range(100):
        features = np.column_stack([np.ones(50), random.standard_normal((50, 4))])
        errors = slope * features[:, 1] + random.standard_normal(50)
        gain = sm.OLS(errors, features).fit().rsquared
        resampled = resampled_r2(features, [5], errors, 100, random)[:, 0]
        low, high = gain_interval(gain, resampled)
        covered += low <= share <= high
    assert covered >= 88

"""Error against the distance of C and L from the nulls': planted slopes, false alarms, power."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols

from mpnn_arch import InputError
from mpnn_arch.analysis import detectable_slope, structure_slopes
from mpnn_arch.analysis.structure_slopes import differences


def made_up(random, slopes=(0.0, 0.0), families=20, nulls=2, seeds=4, noise=0.5):
    """Families whose C and L are those of their nulls and a bit; density shifts all alike."""
    rows = []
    for family in range(families):
        c, length, level = random.uniform([0.1, 1.5, 30], [0.3, 2.0, 40])
        more = random.uniform(0, [0.4, 1.0])
        for graph in range(nulls + 1):
            excess = more if graph == 0 else random.normal(0, 0.01, 2)
            mean = level + excess @ slopes
            rows += [
                (family, graph, graph > 0, seed, c + excess[0], length + excess[1], error)
                for seed, error in enumerate(mean + noise * random.standard_normal(seeds))
            ]
    columns = ["family", "graph", "is_null", "train_seed", "clustering_coefficient"]
    return pd.DataFrame(rows, columns=[*columns, "average_path_length", "error"])


def test_it_is_the_regression_of_statsmodels_on_differences():
    table = made_up(np.random.default_rng(0), (-3.0, 2.0))
    found = structure_slopes(table.sample(frac=1, random_state=0))
    means = table.groupby(["family", "is_null"])[
        ["error", "clustering_coefficient", "average_path_length"]
    ].mean()
    excess = (means.xs(False, level=1) - means.xs(True, level=1)).set_axis(["d", "c", "l"], axis=1)
    fit = ols("d ~ c + l - 1", excess).fit()
    assert found.clustering_slope == pytest.approx(fit.params["c"])
    assert found.path_length_p == pytest.approx(fit.pvalues["l"])
    assert found.p_value == pytest.approx(fit.f_pvalue)
    assert found.r2 == pytest.approx(fit.rsquared)
    assert found.families == 20
    low, high = found.path_length_interval
    assert low < 2.0 < high
    assert found.p_value < 1e-3


def test_false_alarms_and_power_are_those_promised():
    random = np.random.default_rng(1)
    flat = [structure_slopes(made_up(random)).p_value for _ in range(150)]
    assert np.mean(np.array(flat) < 0.05) == pytest.approx(0.05, abs=0.06)
    excess = differences(made_up(random))[1]
    deviation = np.sqrt(0.5**2 / 4 * (1 + 1 / 2))
    for place, slope in enumerate(detectable_slope(excess, deviation)):
        slopes = np.zeros(2)
        slopes[place] = slope
        found = [structure_slopes(made_up(random, slopes)).p_value for _ in range(150)]
        # The graphs of each draw differ, and with them the power.
        assert np.mean(np.array(found) < 0.05) == pytest.approx(0.8, abs=0.14)


def test_more_seeds_find_less():
    excess = np.random.default_rng(0).uniform(0, 1, (30, 2))
    coarse, fine = detectable_slope(excess, 1.0), detectable_slope(excess, 0.5)
    assert np.allclose(np.array(coarse), 2 * np.array(fine))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.drop(columns="average_path_length"), "no column 'average_path_length'"),
        (lambda t: t.assign(clustering_coefficient=np.nan), "no finite C or L"),
        (lambda t: t.assign(average_path_length=2.0), "not 5 that differ in 1"),
        (lambda t: t[t["family"] < 3], "not 3 that differ"),
        (lambda t: t.assign(is_null=True), "one graph that is no null"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    with pytest.raises(InputError, match=sentence):
        structure_slopes(change(made_up(np.random.default_rng(0), families=5)))


def test_bad_designs_are_refused():
    with pytest.raises(InputError, match="4 graphs or more"):
        detectable_slope(np.ones((3, 2)), 1.0)
    with pytest.raises(InputError, match="deviation lies between"):
        detectable_slope(np.ones((9, 2)), 0.0)
    for out_of_reach in ({"power": 0.05}, {"alpha": 1e-12}):
        with pytest.raises(InputError, match="no slope is found with power"):
            detectable_slope(np.eye(4, 2), 1.0, **out_of_reach)

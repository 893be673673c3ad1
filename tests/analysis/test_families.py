"""Graphs against their nulls: statsmodels, planted answers, and the power promised."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from statsmodels.formula.api import ols

from mpnn_arch import InputError
from mpnn_arch.analysis import compare_families, family_power


def made_up(random, families=12, nulls=3, seeds=4, difference=0.0, within=0.0, noise=0.4):
    members = nulls + 1
    graph = within * random.standard_normal((families, members, 1))
    graph[:, 0] += difference
    errors = 30 + random.standard_normal((families, 1, 1)) + graph
    errors = errors + random.standard_normal((families, 1, seeds))  # seeds shift all alike
    errors = errors + noise * random.standard_normal((families, members, seeds))
    f, g, s = (axis.ravel() for axis in np.indices(errors.shape))
    return pd.DataFrame(
        {"family": f, "graph": g, "is_null": g > 0, "train_seed": s, "error": errors.ravel()}
    )


def test_it_is_the_analysis_of_variance_of_statsmodels():
    table = made_up(np.random.default_rng(0), families=5, within=0.3)
    found = compare_families(table.sample(frac=1, random_state=0))
    fit = ols("error ~ C(family) / (C(graph) + C(train_seed))", table).fit()
    rows = sm.stats.anova_lm(fit)
    assert found.within_p == pytest.approx(rows.loc["C(family):C(graph)", "PR(>F)"])
    assert found.seed_deviation == pytest.approx(np.sqrt(rows.loc["Residual", "mean_sq"]))
    means = table.groupby(["family", "is_null"])["error"].mean().unstack()
    assert found.difference == pytest.approx((means[False] - means[True]).mean())
    assert found.difference_interval[0] < found.difference < found.difference_interval[1]
    assert (found.families, found.nulls, found.seeds) == (5, 3, 4)


@pytest.mark.parametrize(("difference", "within"), [(0.0, 0.0), (0.2, 0.0), (0.25, 0.2)])
def test_false_alarms_and_power_are_those_promised(difference, within):
    random = np.random.default_rng(1)
    found = [
        compare_families(made_up(random, difference=difference, within=within)) for _ in range(150)
    ]
    promised = family_power(
        12, 3, 4, seed_deviation=0.4, within_deviation=within, difference=difference
    )
    by_difference = np.mean([each.difference_p < 0.05 for each in found])
    assert by_difference == pytest.approx(promised[0], abs=0.12)
    if difference == 0:
        assert np.mean([each.within_p < 0.05 for each in found]) == pytest.approx(0.05, abs=0.06)
        assert promised == pytest.approx((0.05, 0.05))


def test_a_planted_deviation_is_estimated():
    random = np.random.default_rng(2)
    found = compare_families(made_up(random, families=200, within=0.3))
    assert found.within_deviation == pytest.approx(0.3, abs=0.03)
    assert found.seed_deviation == pytest.approx(0.4, abs=0.02)
    assert found.within_p < 1e-6
    design = {"seed_deviation": 0.45, "difference": 0.12}  # of structure_or_chance.py
    assert family_power(52, 3, 5, within_deviation=0.15, **design) == pytest.approx(
        (0.83, 0.97), abs=0.005
    )
    power = family_power(200, 3, 4, seed_deviation=0.4, within_deviation=0.3, difference=0.0)
    assert power[1] > 0.999


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.drop(columns="is_null"), "no column 'is_null'"),
        (lambda t: t.assign(error=t["error"].mask(t.index == 3)), "not finite"),
        (lambda t: t[t.index != 5], "as many nulls as the others and every"),
        (lambda t: t.assign(is_null=True), "one graph that is no null"),
        (lambda t: t[t["family"] == 0], "1 families"),
        (lambda t: t[t["train_seed"] == 0], "with 1 seeds"),
        (lambda t: pd.concat([t, t]), "two errors with one seed"),
        (lambda t: t.assign(error=1.0), "no chance to test against"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    table = made_up(np.random.default_rng(0), families=3)
    with pytest.raises(InputError, match=sentence):
        compare_families(change(table))

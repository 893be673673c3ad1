"""The fixed analysis of structure or chance, on made-up trainings with a known answer."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "structure_or_chance.py"
RESULTS = SCRIPT.parent / "results"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("structure_or_chance", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPT.parent))  # it imports another of the scripts
        spec.loader.exec_module(module)
        yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def made(script):
    return script.with_nulls("sample:16/48/0:8", {"degrees": 2, "clustering": 0, "density": 1})


def trained(made, effect=0.0, seeds=4, noise=0.3, shift=0.0):
    """What Study.table() would give: errors by L, and ``shift`` for graphs that are no null."""
    members, graphs = made
    random = np.random.default_rng(0)
    rows = [
        {
            "graph_spec": name,
            "train_seed": seed,
            "top1_error": 40
            + effect * graph.average_path_length
            + shift * (members[name].number == 0)
            + noise * random.standard_normal(),
            "clustering_coefficient": graph.clustering_coefficient,
            "average_path_length": graph.average_path_length,
            "average_degree": graph.degrees.mean(),
        }
        for seed in range(seeds)
        for name, graph in graphs.items()
    ]
    return pd.DataFrame(rows)


def test_nulls_keep_what_they_shall(made):
    members, graphs = made
    own = {one.family: graphs[name] for name, one in members.items() if one.number == 0}
    kinds = [one.kind for one in members.values()]
    assert [kinds.count(kind) for kind in ("graph", "degrees", "density")] == [8, 16, 8]
    for name, one in members.items():
        assert graphs[name].num_edges == own[one.family].num_edges
        if one.kind == "degrees":
            assert (graphs[name].degrees == own[one.family].degrees).all()
            assert graphs[name] != own[one.family]


def test_a_planted_slope_and_a_planted_difference_are_found(script, made):
    for kind in ("degrees", "density"):
        found = script.analyse(script.rows(trained(made, effect=8.0), made[0]), kind)
        assert found["p_holm"]["slopes"] < 0.01
        low, high = found["slopes"]["path_length_interval"]
        assert low < 8.0 < high
        found = script.analyse(script.rows(trained(made, shift=1.5), made[0]), kind)
        assert found["p_holm"]["difference"] < 0.01
        assert found["structure_matters"]
        assert found["difference"] == pytest.approx(1.5, abs=0.3)


def test_where_rewiring_hardly_changes_c_counts_changes_up_and_down(script):
    gap = np.array([1.0, 3.0, 9.0, -2.0, -4.0, 7.0])
    taken = np.array([0.01, -0.02, -0.05, 0.3, 0.4, 0.1])
    found = script.split(gap, taken)
    near, far = found["C_within_0.02_of_the_nulls"], found["0.3_of_C_or_more_taken"]
    assert (near["graphs"], near["difference"], near["standard_error"]) == (2, 2.0, 1.0)
    assert (far["graphs"], far["difference"], far["standard_error"]) == (2, -3.0, 1.0)


def test_a_shift_of_all_graphs_is_the_drift_and_no_slope(script, made):
    table = script.rows(trained(made, effect=8.0, shift=1.5, noise=0.05), made[0])
    found = script.analyse(table, "degrees")["drift"]
    assert found["intercept"]["points"] == pytest.approx(1.5, abs=0.2)
    assert found["path_length"]["95%"][0] < 8.0 < found["path_length"]["95%"][1]


def test_the_kept_results_are_those_of_the_kept_rows(script):
    rows = pd.read_csv(RESULTS / "mnist1d_structure_or_chance.csv")
    kept = json.loads((RESULTS / "mnist1d_structure_or_chance.json").read_text())["degrees"]
    found = json.loads(json.dumps(script.analyse(rows, "degrees")))
    for key in ("difference", "within_deviation", "seed_deviation"):
        assert kept[key] == pytest.approx(found[key])
    for name, part in kept["split"].items():
        assert part == pytest.approx(found["split"][name])
    for name, part in kept["drift"].items():
        assert part["points"] == pytest.approx(found["drift"][name]["points"])
        assert part["95%"] == pytest.approx(found["drift"][name]["95%"])


def test_a_failed_training_costs_its_family_and_a_begun_seed_itself(script, made):
    table = trained(made)
    names = list(made[0])
    failed = (table["graph_spec"] == names[3]) & (table["train_seed"] == 1)
    begun = (table["train_seed"] == 3) & (table["graph_spec"].isin(names[:9]))
    some = table[~failed & ((table["train_seed"] < 3) | begun)]
    found = script.analyse(script.rows(some, made[0]), "degrees")
    assert (found["families"], found["seeds"], found["nulls"]) == (7, 3, 2)
    assert found["left_out_families"] == [names[3]]
    nothing = script.analyse(script.rows(table[table["train_seed"] < 1], made[0]), "degrees")
    assert "two or more" in nothing["left_out"]


def test_holms_correction_is_that_of_statsmodels(script):
    from statsmodels.stats.multitest import multipletests

    for p_values in ([0.01, 0.04, 0.03], [0.5, 0.6, 0.001], [0.2, 0.2, 0.9]):
        found = script.holm(dict(zip("abc", p_values, strict=True)))
        expected = multipletests(p_values, method="holm")[1]
        np.testing.assert_allclose([found[name] for name in "abc"], expected)

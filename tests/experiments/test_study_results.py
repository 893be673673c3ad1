"""The numbers that the results' README reads, against the rows of the same study."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RESULTS = EXPERIMENTS / "results"


@pytest.mark.parametrize("name", ["mnist1d_mlp_epoch15", "mnist1d_mlp_epoch80"])
def test_the_sweet_spot_less_the_baseline_has_the_sign_of_its_name(name, monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    script = importlib.import_module("study_results")
    rows = pd.read_csv(RESULTS / f"{name}.csv")
    found = script.statistics(rows, rows, None, SimpleNamespace(path=RESULTS))
    spot = found["sweet_spot"]
    errors = rows.groupby("graph_spec")["top1_error"].mean()
    means = rows.drop_duplicates("graph_spec").set_index("graph_spec")
    means = means.assign(error=errors).rename(columns={"clustering_coefficient": "c"})
    dense = means.loc["complete:64", "error"]
    means = means.drop("complete:64")
    inside = means["c"].between(*spot["clustering_coefficient"])
    inside &= means["average_path_length"].between(*spot["average_path_length"])
    difference = means.loc[inside, "error"].mean() - dense
    assert found["sweet_spot_less_baseline"]["mean"] == pytest.approx(difference)
    low, high = found["sweet_spot_less_baseline"]["95%"]
    assert low < difference < high
    kept = json.loads((RESULTS / f"{name}.json").read_text())["statistics"]
    assert kept["sweet_spot_less_baseline"]["mean"] == pytest.approx(difference)
    assert kept["sweet_spot_less_baseline"]["95%"] == pytest.approx([low, high])
    for key in ("lowest", "highest", "F", "share_of_seed", "density_r2", "C_and_L_add"):
        assert kept[key] == pytest.approx(found[key], rel=1e-6), key

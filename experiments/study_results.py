"""A study as files to keep: its export, and a summary of its ledger with what it shows.

    python experiments/study_results.py runs/e15 --name mnist1d_mlp_epoch15
    python experiments/study_results.py runs/e80 --name mnist1d_mlp_epoch80 --against runs/e15

Writes ``NAME.csv``, a row a training after its last epoch in the columns of ``mpnn-arch export``,
and ``NAME.json``: the command, versions, seconds a training, and the numbers that
``experiments/results/README.md`` reads. Of a study that is under way the seeds are taken that every
graph has. ``--against`` another study correlates the graphs' means of the two.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from length_and_size import correlations, published, variance
from statsmodels.regression.linear_model import OLS

from mpnn_arch import InputError
from mpnn_arch.analysis import few_epochs, per_graph, simultaneous_sweet_spot, sweet_spot
from mpnn_arch.analysis.density_curve import density_features, with_density
from mpnn_arch.analysis.effect_size import effect
from mpnn_arch.analysis.per_graph import baseline, without_baseline
from mpnn_arch.analysis.tidy_results import tidy
from mpnn_arch.cli.failures import run_script
from mpnn_arch.graphs.design_space import C_AND_L
from mpnn_arch.io.files import write_text
from mpnn_arch.io.json_text import format_json
from mpnn_arch.studies import Study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--name", required=True, help="of the two files")
    parser.add_argument("--against", type=Path, help="another study of the same graphs")
    parser.add_argument("--note", help="what else a reader must know of the run")
    parser.add_argument("--out", type=Path, default=Path("experiments/results"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    study = Study.open(args.study)
    every = whole_seeds(study.table(all_epochs=True), study)
    last = every[every["epoch"] == every["epoch"].max()]
    found = ledger_summary(study, last) | {"note": args.note}
    other = None
    if args.against:
        against = Study.open(args.against)
        rows = tidy(whole_seeds(against.table(), against), "other", args.against)[0].table
        other = per_graph(without_baseline(rows)).set_index("graph")["mean"]
    found["statistics"] = statistics(every, last, other, study)
    last.to_csv(args.out / f"{args.name}.csv", index=False)
    text = format_json(found, indent=2) + "\n"
    write_text(args.out / f"{args.name}.json", text)
    print(text)


def slopes(graphs: pd.DataFrame) -> dict[str, Any]:
    """Points of error by unit of C and of L at equal density, in one regression, with 95 %."""
    known = with_density(graphs).dropna(subset=["mean", *C_AND_L])
    ones = np.ones(len(known))
    features = np.column_stack([ones, density_features(known), known[list(C_AND_L)]])
    fit = OLS(known["mean"].to_numpy(), features).fit()
    slope, bounds = fit.params[-2:], fit.conf_int()[-2:]
    return {
        f"slope_{name}": {"points": points, "95%": list(within)}
        for name, points, within in zip(("C", "L"), slope, bounds, strict=True)
    }


def whole_seeds(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The trainings that are done with seeds that every graph has.

    Raises:
        InputError: there is no such seed.
    """
    done = table[(table["state"] == "done")]
    graphs = done.groupby("train_seed")["graph_spec"].nunique()
    with study.ledger() as ledger:
        (asked,) = ledger.query("SELECT count(DISTINCT graph) AS graphs FROM trial")
    seeds = graphs.index[graphs == asked["graphs"]]
    if seeds.empty:
        raise InputError(f"no seed of the study {study.path} is done for every graph; run it")
    whole: pd.DataFrame = done[done["train_seed"].isin(seeds)]
    return whole


def ledger_summary(study: Study, last: pd.DataFrame) -> dict[str, Any]:
    """What was run, where, and how long a training took."""
    config = study.config
    with study.ledger() as ledger:
        rows = [
            row
            for row in ledger.query("SELECT hash, seconds, machine, threads FROM trial")
            if row["hash"] in set(last["trial"])
        ]
    seconds = np.array([row["seconds"] for row in rows])
    counts = study.counts()
    graphs = " ".join(f"--graphs {spec}" for spec in config.graphs if "/" in spec or ":" in spec)
    return {
        "command": f"mpnn-arch sweep --model {config.model} --dataset {config.dataset} {graphs} "
        f"--seeds {','.join(map(str, config.seeds))} --epochs {config.training.epochs}",
        "trainings": len(last),
        "trainings_asked": counts.trials,
        "seeds": sorted(map(int, last["train_seed"].unique())),
        "seconds_a_training": dict(
            zip(("lowest", "median", "highest"), np.quantile(seconds, [0, 0.5, 1]), strict=True)
        ),
        "seconds_together": seconds.sum(),
        "machines": sorted({_machine(row["machine"]) for row in rows}),
        "threads_a_training": sorted({row["threads"] for row in rows}),
    }


def _machine(text: str) -> str:
    known = json.loads(text)
    return ", ".join(f"{key} {value}" for key, value in sorted(known.items()) if key != "host")


def statistics(
    every: pd.DataFrame, last: pd.DataFrame, other: pd.Series | None, study: Study
) -> dict[str, Any]:
    """Sweet spot, variance, correlations."""
    table = tidy(last, "study", study.path)[0].table
    graphs = per_graph(table)
    others = per_graph(without_baseline(table)).set_index("graph")
    spot, simultaneous = sweet_spot(table), simultaneous_sweet_spot(table)
    found: dict[str, Any] = {
        "graphs": len(others),
        "lowest": others["mean"].min(),
        "highest": others["mean"].max(),
        "best": graphs.iloc[0][["graph", "density", "mean", "std"]].to_dict(),
        "sweet_spot": {
            "clustering_coefficient": spot.clustering_coefficient,
            "average_path_length": spot.average_path_length,
            "kept": len(spot.kept),
            "may_be_best": len(simultaneous.spot.kept),
            "of": len(spot.candidates),
        },
        **variance(table),
        **correlations(others, published(last), other),
        **slopes(others),
    }
    dense = baseline(table)
    if dense is not None:
        found["baseline"] = dense[["mean", "std"]].to_dict()
        inside = others[np.asarray(spot.contains(others))]["mean"]
        errors = table[table["graph"] == dense["graph"]]["error"]
        if len(inside) > 1 and len(errors) > 1:
            more = effect(errors, inside)  # the second less the first
            found["sweet_spot_less_baseline"] = {"mean": more.difference, "95%": more.interval}
    if every["epoch"].nunique() > 1:
        early = few_epochs(tidy(every, "study", study.path)[0].table)
        found["few_epochs"] = early[early["epoch"].isin([1, 3, 5, 10, 20, 40])].to_dict("records")
    return found


if __name__ == "__main__":
    run_script(main)

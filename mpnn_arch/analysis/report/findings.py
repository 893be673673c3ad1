"""``findings.json``: every number of a report, for programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.analysis.report.readings import Reading
from mpnn_arch.analysis.sweet_spot import SweetSpot, intersection
from mpnn_arch.graphs.design_space import C_AND_L

TOP = 10
_GRAPH = ("graph", "density", "rewiring_probability", "graph_seed", *C_AND_L, "mean", "std")


def findings(
    analyses: Sequence[Analysis], pairs: pd.DataFrame, readings: Sequence[Reading]
) -> dict[str, Any]:
    """A key for every results file, ``correlations``, and what holds over all of them."""
    common = intersection([one.spot for one in analyses if one.spot is not None])
    values: dict[str, Any] = {one.name: _of_results(one) for one in analyses}
    for one in analyses:
        values |= {twin: {**values[one.name], "same_runs_as": one.name} for twin in one.twins}
    values["correlations"] = {
        "architectures": pairs.to_dict("records"),
        "few_graphs": [row for one in analyses for row in _few_graphs(one)],
        "few_epochs": [row for one in analyses for row in _few_epochs(one)],
    }
    values["sweet_spot_intersection"] = (
        None if common is None else dict(zip(C_AND_L, common, strict=True))
    )
    values["readings"] = [dataclasses.asdict(one) for one in readings]
    plain: dict[str, Any] = _plain(values)
    return plain


def _of_results(one: Analysis) -> dict[str, Any]:
    last = one.table["epoch"].max()
    return {
        "num_nodes": one.num_nodes,
        "graphs": len(one.graphs),
        "train_seeds": one.table["train_seed"].nunique(),
        "epoch": last,
        "baseline": None if one.baseline is None else _graph(one.baseline),
        "best": _graph(one.graphs.iloc[0]),
        "sweet_spot": None if one.spot is None else _spot(one.spot),
        "top": [_graph(row) for _, row in one.graphs.head(TOP).iterrows()],
        "tests": _tests(one),
        "smooth": {
            "slices": {along: _without(a, "points", "curve") for along, a in one.slices.items()},
            "surfaces": one.surfaces,
            "measures": one.measures,
        },
        "racing": one.racing,
        "notes": one.notes,
    }


def _tests(one: Analysis) -> dict[str, Any]:
    simultaneous = None
    if one.simultaneous is not None:
        simultaneous = _spot(one.simultaneous.spot) | _without(one.simultaneous, "spot")
    return {
        "corrected": {method: _spot(spot) for method, spot in one.corrected.items()},
        "simultaneous": simultaneous,
        "paired": None if one.paired is None else _spot(one.paired),
        "variance_shares": one.shares,
        "bootstrap": None if one.bootstrap is None else _without(one.bootstrap, "candidates"),
        "effects": one.effects,
        "selection_bias": one.bias,
        "density_null": None if one.null is None else _without(one.null, "bins"),
        "variance_ladder": one.ladder,
        "false_alarms_and_power": one.calibration,
    }


def _without(found: Any, *fields: str) -> dict[str, Any]:
    """The fields of a dataclass but these, which are tables of their own."""
    return {name: value for name, value in vars(found).items() if name not in fields}


def _graph(row: pd.Series) -> dict[str, Any]:
    return {name: row[name] for name in _GRAPH}


def _spot(spot: SweetSpot) -> dict[str, Any]:
    return {
        "clustering_coefficient": spot.clustering_coefficient,
        "average_path_length": spot.average_path_length,
        "unit": spot.unit,
        "kept": len(spot.kept),
        "of": len(spot.candidates),
    }


def _few_graphs(one: Analysis) -> list[dict[str, Any]]:
    listed = [
        {"results": one.name, "graphs": count, "chosen": "listed", **c.to_dict()}
        for count, c in one.few_graphs.items()
    ]
    by_count = one.few_graphs_by_count
    rows = [] if by_count is None else by_count.to_dict("records")
    return listed + [{"results": one.name, "chosen": "at random", **row} for row in rows]


def _few_epochs(one: Analysis) -> list[dict[str, Any]]:
    if one.few_epochs is None:
        return []
    return [{"results": one.name, **row} for row in one.few_epochs.to_dict("records")]


def _plain(value: Any) -> Any:
    """For JSON: plain numbers, None for what is not one."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, pd.DataFrame):
        return _plain(value.to_dict("records"))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(vars(value))
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value

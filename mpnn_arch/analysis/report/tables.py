"""The tables of a report, for CSV files and the page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.analysis.report.readings import Reading
from mpnn_arch.analysis.sweet_spot import SweetSpot


def tables_of(found: Analysis) -> dict[str, pd.DataFrame]:
    """Tables of one results file by name, those that it allows."""
    graphs = found.graphs.drop(columns=["sum", "squares"])
    made: dict[str, pd.DataFrame | None] = {
        "top": graphs.head(10),
        "graphs": graphs,
        "bins_coarse": found.coarse,
        "bins_fine": found.fine,
        "sweet_spots": _spots(found),
        "sweet_spot": None if found.spot is None else found.spot.candidates,
        "bootstrap": None if found.bootstrap is None else found.bootstrap.candidates,
        "effects": _effects(found),
        "selection": None if found.bias is None else found.bias.splits,
        "beyond_density": None if found.null is None else found.null.bins,
        "ladder": found.ladder,
        "slices": _slices(found),
        "surfaces": found.surfaces,
        "measures": found.measures,
        "few_graphs": found.few_graphs_by_count,
        "few_epochs": found.few_epochs,
        "racing": found.racing,
        "calibration": found.calibration,
    }
    return {name: table for name, table in made.items() if table is not None and len(table)}


def readings_table(readings: Sequence[Reading]) -> pd.DataFrame:
    """The claims and what became of them."""
    return pd.DataFrame([vars(one) for one in readings])


def _spots(found: Analysis) -> pd.DataFrame | None:
    """Every rule's region."""
    rules: dict[str, SweetSpot | None] = {
        "paper": found.spot,
        "paper, Holm": found.corrected.get("holm"),
        "paper, Benjamini-Hochberg": found.corrected.get("fdr_bh"),
        "paper, paired seeds": found.paired,
        "simultaneous": found.simultaneous.spot if found.simultaneous else None,
    }
    rows = [
        (rule, *spot.clustering_coefficient, *spot.average_path_length, len(spot.kept), spot.unit)
        for rule, spot in rules.items()
        if spot is not None
    ]
    columns = ["rule", "c_low", "c_high", "l_low", "l_high", "kept", "unit"]
    return pd.DataFrame(rows, columns=columns)


def _effects(found: Analysis) -> pd.DataFrame:
    rows = []
    for what, one in found.effects.items():
        row = {"comparison": what, **vars(one)}
        for name in ("interval", "hedges_interval"):
            low, high = row.pop(name)
            row |= {name.replace("interval", "low"): low, name.replace("interval", "high"): high}
        rows.append(row)
    return pd.DataFrame(rows)


def _slices(found: Analysis) -> pd.DataFrame:
    rows = [
        {
            "along": one.along,
            "across": one.across,
            "across_low": one.within[0],
            "across_high": one.within[1],
            "graphs": len(one.points),
            "r2": one.r2,
            "curvature": one.curvature,
            "curvature_low": one.curvature_interval[0],
            "curvature_high": one.curvature_interval[1],
            "curvature_p": one.curvature_p,
            "lowest": one.lowest,
        }
        for one in found.slices.values()
    ]
    return pd.DataFrame(rows)

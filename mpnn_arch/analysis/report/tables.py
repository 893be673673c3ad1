"""The tables of a report, for CSV files and the page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mpnn_arch.analysis.report.analyses import Analysis
from mpnn_arch.analysis.report.readings import Reading
from mpnn_arch.analysis.sweet_spot import SweetSpot


def tables_of(analysis: Analysis) -> dict[str, pd.DataFrame]:
    """Tables of one results file by name, those that it allows."""
    graphs = analysis.graphs.drop(columns=["sum", "squares"])
    tables: dict[str, pd.DataFrame | None] = {
        "top": graphs.head(10),
        "graphs": graphs,
        "bins_coarse": analysis.coarse,
        "bins_fine": analysis.fine,
        "sweet_spots": _spots(analysis),
        "sweet_spot": None if analysis.spot is None else analysis.spot.candidates,
        "bootstrap": None if analysis.bootstrap is None else analysis.bootstrap.candidates,
        "effects": _effects(analysis),
        "selection": None if analysis.bias is None else analysis.bias.splits,
        "beyond_density": None if analysis.null is None else analysis.null.bins,
        "ladder": analysis.ladder,
        "slices": _slices(analysis),
        "surfaces": analysis.surfaces,
        "measures": analysis.measures,
        "few_graphs": analysis.few_graphs_by_count,
        "few_epochs": analysis.few_epochs,
        "racing": analysis.racing,
        "calibration": analysis.calibration,
    }
    return {name: table for name, table in tables.items() if table is not None and len(table)}


def readings_table(readings: Sequence[Reading]) -> pd.DataFrame:
    """A row a claim: the fields of its reading."""
    return pd.DataFrame([vars(one) for one in readings])


def _spots(analysis: Analysis) -> pd.DataFrame | None:
    """Every rule's region."""
    rules: dict[str, SweetSpot | None] = {
        "paper": analysis.spot,
        "paper, Holm": analysis.corrected.get("holm"),
        "paper, Benjamini-Hochberg": analysis.corrected.get("fdr_bh"),
        "paper, paired seeds": analysis.paired,
        "simultaneous": analysis.simultaneous.spot if analysis.simultaneous else None,
    }
    rows = [
        (rule, *spot.clustering_coefficient, *spot.average_path_length, len(spot.kept), spot.unit)
        for rule, spot in rules.items()
        if spot is not None
    ]
    columns = ["rule", "c_low", "c_high", "l_low", "l_high", "kept", "unit"]
    return pd.DataFrame(rows, columns=columns)


def _effects(analysis: Analysis) -> pd.DataFrame:
    rows = []
    for what, one in analysis.effects.items():
        row = {"comparison": what, **vars(one)}
        for name in ("interval", "hedges_interval"):
            low, high = row.pop(name)
            row |= {name.replace("interval", "low"): low, name.replace("interval", "high"): high}
        rows.append(row)
    return pd.DataFrame(rows)


def _slices(analysis: Analysis) -> pd.DataFrame:
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
        for one in analysis.slices.values()
    ]
    return pd.DataFrame(rows)

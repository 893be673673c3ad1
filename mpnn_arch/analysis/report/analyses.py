"""Everything that is found in one results file; what cannot be had is a sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pandas as pd

from mpnn_arch.analysis.bootstrap_region import BootstrapRegion, bootstrap_region
from mpnn_arch.analysis.calibration import calibrate, design_of
from mpnn_arch.analysis.corrected import (
    SimultaneousSpot,
    corrected_sweet_spot,
    simultaneous_sweet_spot,
)
from mpnn_arch.analysis.correlation import Correlation
from mpnn_arch.analysis.density_null import DensityNull, density_null
from mpnn_arch.analysis.effect_size import Effect, effect
from mpnn_arch.analysis.few_epochs import few_epochs, racing
from mpnn_arch.analysis.few_graphs import few_graphs, few_graphs_by_count
from mpnn_arch.analysis.graph_rows import rebuild
from mpnn_arch.analysis.landscape import landscape
from mpnn_arch.analysis.measure_ranking import rank_measures
from mpnn_arch.analysis.paired import Shares, paired_sweet_spot, variance_shares
from mpnn_arch.analysis.per_graph import baseline, per_graph
from mpnn_arch.analysis.results_table import final, has_epochs, is_baseline
from mpnn_arch.analysis.selection_bias import SelectionBias, selection_bias
from mpnn_arch.analysis.slices import PAPER_SLICES, Slice, slice_of
from mpnn_arch.analysis.surface import surfaces
from mpnn_arch.analysis.sweet_spot import SweetSpot, sweet_spot
from mpnn_arch.analysis.tidy_results import Results
from mpnn_arch.analysis.variance_ladder import variance_ladder
from mpnn_arch.checks import counted
from mpnn_arch.errors import InputError
from mpnn_arch.graphs import RelationalGraph

T = TypeVar("T")


@dataclass
class Analysis:
    """What the functions of ``mpnn_arch.analysis`` find in one results file.

    A field is None where the results do not allow it; ``notes`` says why.

    Example:
        >>> from mpnn_arch.analysis import load_results, per_graph
        >>> from mpnn_arch.analysis.report import Analysis
        >>> table = load_results("results.csv")
        >>> found = Analysis("mine", table, notes=[], graphs=per_graph(table), baseline=None)
        >>> found.spot is None  # nothing was analysed yet
        True
    """

    name: str
    table: pd.DataFrame
    notes: list[str]
    graphs: pd.DataFrame
    baseline: pd.Series | None
    twins: tuple[str, ...] = ()
    coarse: pd.DataFrame | None = None
    fine: pd.DataFrame | None = None
    spot: SweetSpot | None = None
    corrected: dict[str, SweetSpot] = field(default_factory=dict)
    simultaneous: SimultaneousSpot | None = None
    shares: Shares | None = None
    paired: SweetSpot | None = None
    bootstrap: BootstrapRegion | None = None
    effects: dict[str, Effect] = field(default_factory=dict)
    bias: SelectionBias | None = None
    null: DensityNull | None = None
    ladder: pd.DataFrame | None = None
    calibration: pd.DataFrame | None = None
    slices: dict[str, Slice] = field(default_factory=dict)
    surfaces: pd.DataFrame | None = None
    measures: pd.DataFrame | None = None
    few_graphs: dict[int, Correlation] = field(default_factory=dict)
    few_graphs_by_count: pd.DataFrame | None = None
    few_epochs: pd.DataFrame | None = None
    racing: pd.DataFrame | None = None
    relational: dict[str, RelationalGraph] = field(default_factory=dict)

    @property
    def num_nodes(self) -> int:
        """N of its graphs."""
        return int(self.table["num_nodes"].iloc[0])


def analyse(results: Results, subsets: Mapping[int, Sequence[str]], repeats: int = 60) -> Analysis:
    """Run every analysis that the results allow.

    Args:
        results: of one file.
        subsets: names of some of its graphs, by their number, for few graphs against all.
        repeats: made-up results for every planted landscape.

    Raises:
        InputError: results without any graph.
    """
    table = results.table
    analysis = Analysis(
        results.name, table, list(results.notes), per_graph(table), baseline(table), results.twins
    )
    relational, unknown = rebuild(analysis.graphs, results.graphs)
    analysis.relational = relational
    if unknown:
        analysis.notes.append(
            f"{counted(len(unknown), 'graph')} cannot be drawn, as {unknown[0]!r} names none, or "
            "another by now"
        )
    attempt = _Attempts(analysis.notes)

    analysis.coarse = attempt("the landscape", lambda: landscape(table))
    analysis.fine = attempt("the fine landscape", lambda: landscape(table, "fine"))
    analysis.spot = attempt("the sweet spot", lambda: sweet_spot(table))
    if analysis.spot is not None:
        for method in ("holm", "fdr_bh"):
            analysis.corrected[method] = corrected_sweet_spot(table, method)  # type: ignore[arg-type]
        analysis.simultaneous = attempt(
            "the simultaneous sweet spot", lambda: simultaneous_sweet_spot(table)
        )
        analysis.bootstrap = attempt("the bootstrap region", lambda: bootstrap_region(table))
        analysis.calibration = attempt(
            "false alarms and power", lambda: calibrate(design_of(table), repeats=repeats)
        )
    analysis.shares = attempt("shares of variance", lambda: variance_shares(table))
    analysis.paired = attempt("paired seeds", lambda: paired_sweet_spot(table))
    analysis.bias = attempt("selection bias", lambda: selection_bias(table))
    analysis.effects = _effects(analysis, attempt)
    analysis.null = attempt("structure against density", lambda: density_null(table))
    analysis.ladder = attempt(
        "density, degrees, C and L", lambda: variance_ladder(table, relational)
    )
    for along in PAPER_SLICES:
        one = attempt(f"the slice along {along}", partial(slice_of, table, along))
        if one is not None:
            analysis.slices[along] = one
    analysis.surfaces = attempt("surfaces", lambda: surfaces(table))
    ranked = attempt("the ranking of measures", lambda: rank_measures(table, graphs=relational))
    if ranked is not None:
        analysis.measures, notes = ranked
        analysis.notes += notes
    for count, names in subsets.items():
        one_list = attempt(f"{count} graphs", partial(few_graphs, table, names))
        if one_list is not None:
            analysis.few_graphs[count] = one_list
    analysis.few_graphs_by_count = attempt("few graphs", lambda: few_graphs_by_count(table))
    if has_epochs(table):
        analysis.few_epochs = attempt("few epochs", lambda: few_epochs(table))
        analysis.racing = attempt("racing", lambda: racing(table))
    analysis.notes = list(dict.fromkeys(analysis.notes))
    return analysis


class _Attempts:
    """Runs an analysis; one that the results do not allow becomes a sentence."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def __call__(self, what: str, run: Callable[[], T]) -> T | None:
        try:
            return run()
        except InputError as error:
            self.notes.append(f"{what}: left out, as {error}")
            return None


def _effects(analysis: Analysis, attempt: _Attempts) -> dict[str, Effect]:
    """Differences from the complete graph.

    The best graph is chosen by its errors, which its interval allows for. So are the graphs in the
    sweet spot, but where there is none its rectangle holds most graphs: of 709 made-up results
    without any difference (6 to 3,942 graphs, 3 or 5 seeds) the interval lay above 0 in 3 %, of
    2.5 that are due. Against the graphs outside, which the same errors put there, p was below 0.05
    in a quarter, so that they are not compared.
    """
    last = final(analysis.table)
    errors = dict(iter(last.groupby("graph", sort=False)["error"]))
    means = analysis.graphs[~is_baseline(analysis.graphs)]
    pairs: dict[str, tuple[Any, ...]] = {}
    spot = analysis.spot
    if spot is not None and (flat := _without_extent(spot)):
        analysis.notes.append(f"graphs in the sweet spot: not compared, as {flat}")
        spot = None
    if analysis.baseline is not None and not means.empty:
        dense = errors[analysis.baseline["graph"]]
        best = errors[means.iloc[0]["graph"]]
        every = [errors[graph] for graph in means["graph"]]
        pairs["best graph against baseline"] = (best, dense, None, every)
        if spot is not None:
            inside = means[spot.contains(means)]
            runs = last[last["graph"].isin(inside["graph"])]["error"]
            pairs["graphs in the sweet spot against baseline"] = (inside["mean"], dense, runs)
    done = {what: attempt(what, partial(effect, *pair)) for what, pair in pairs.items()}
    return {what: one for what, one in done.items() if one is not None}


def _without_extent(spot: SweetSpot) -> str:
    """Why no graphs lie in a sweet spot: a bin stands for its middle. Empty where some do."""
    (c_low, c_high), (l_low, l_high) = spot.clustering_coefficient, spot.average_path_length
    where = f"C {c_low:.3f} to {c_high:.3f}, L {l_low:.3f} to {l_high:.3f}"
    if len(spot.kept) == 1:
        return f"it is one {spot.unit} (C {c_low:.3f}, L {l_low:.3f}), which is no range of C and L"
    if spot.unit == "bin" and (c_low == c_high or l_low == l_high):
        axis = "C" if c_low == c_high else "L"
        return f"all its bins are one row ({where}), which is no range of {axis}"
    return ""

"""The paper's findings as functions, on its published results and on your own, and their tests."""

from typing import Any

from mpnn_arch.errors import InputError

try:
    from mpnn_arch.analysis.architectures import (
        agreement,
        agreement_beyond_density,
        bin_pairs,
        consistency,
    )
    from mpnn_arch.analysis.bootstrap_region import bootstrap_region
    from mpnn_arch.analysis.brains import connectomes
    from mpnn_arch.analysis.calibration import calibrate, design_of
    from mpnn_arch.analysis.corrected import corrected_sweet_spot, simultaneous_sweet_spot
    from mpnn_arch.analysis.correlation import correlate
    from mpnn_arch.analysis.density_null import density_null
    from mpnn_arch.analysis.effect_size import effect
    from mpnn_arch.analysis.families import compare_families, family_power
    from mpnn_arch.analysis.few_epochs import few_epochs, racing
    from mpnn_arch.analysis.few_graphs import few_graphs, few_graphs_by_count
    from mpnn_arch.analysis.landscape import landscape, paper_plane
    from mpnn_arch.analysis.measure_ranking import rank_measures
    from mpnn_arch.analysis.paired import paired_sweet_spot, variance_shares
    from mpnn_arch.analysis.per_graph import per_graph
    from mpnn_arch.analysis.report import draw_landscape, write_report
    from mpnn_arch.analysis.results import load_results, published, published_results, read_many
    from mpnn_arch.analysis.selection_bias import selection_bias
    from mpnn_arch.analysis.slices import slice_of
    from mpnn_arch.analysis.structure_slopes import detectable_slope, structure_slopes
    from mpnn_arch.analysis.surface import surfaces
    from mpnn_arch.analysis.sweet_spot import intersection, sweet_spot
    from mpnn_arch.analysis.variance_ladder import variance_ladder
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("mpnn_arch"):
        raise
    raise InputError(
        f"the analysis needs {error.name}, which is not installed: "
        'pip install "mpnn-arch[analysis]"'
    ) from None

__all__ = [
    "LearnedGraphTracker",
    "agreement",
    "agreement_beyond_density",
    "bin_pairs",
    "bootstrap_region",
    "calibrate",
    "compare_families",
    "connectomes",
    "consistency",
    "corrected_sweet_spot",
    "correlate",
    "density_null",
    "design_of",
    "detectable_slope",
    "draw_landscape",
    "effect",
    "family_power",
    "few_epochs",
    "few_graphs",
    "few_graphs_by_count",
    "intersection",
    "landscape",
    "learned_graph",
    "learned_graph_sweep",
    "load_results",
    "paired_sweet_spot",
    "paper_plane",
    "per_graph",
    "predict_from_graphs",
    "published",
    "published_results",
    "racing",
    "rank_measures",
    "read_many",
    "selection_bias",
    "simultaneous_sweet_spot",
    "slice_of",
    "structure_slopes",
    "surfaces",
    "sweet_spot",
    "variance_ladder",
    "variance_shares",
    "write_report",
]


# What reads or trains a network: the others need no torch.
_WITH_TORCH = {
    "LearnedGraphTracker": "graph_of_weights",
    "learned_graph": "graph_of_weights",
    "learned_graph_sweep": "graph_of_weights",
    "predict_from_graphs": "graph_predictor",
}


def __getattr__(name: str) -> Any:
    if name in _WITH_TORCH:
        from importlib import import_module

        return getattr(import_module(f"mpnn_arch.analysis.{_WITH_TORCH[name]}"), name)
    raise AttributeError(f"module 'mpnn_arch.analysis' has no attribute {name!r}")

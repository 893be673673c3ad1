"""The registry of measures: each maps a batch of graphs to one number per graph."""

from __future__ import annotations

from collections.abc import Callable

from mpnn_arch.graphs.measures.batch import Array
from mpnn_arch.registry import Registry

Measure = Callable[..., Array]

MEASURES: Registry[Measure] = Registry("measure")


def list_measures() -> list[str]:
    """Names of all measures, sorted.

    Example:
        >>> from mpnn_arch import graphs
        >>> "average_path_length" in graphs.list_measures()
        True
    """
    return MEASURES.names()

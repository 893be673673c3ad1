"""Nested regressions whose features may depend on each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpnn_arch.analysis.per_graph import Array

# A column's part beyond those before it, as a share of its length, that is more than rounding.
_LEAST = 1e-8


def independent(features: Array) -> Array:
    """The columns that are no linear combination of those before them.

    Graphs of two densities have one power of it, whichever are asked for. The others would count as
    degrees of freedom, and an orthonormal basis would have made-up directions in their places.

    Args:
        features: (n, k).

    Returns:
        (n, rank): these columns in their order.
    """
    basis, kept = np.empty((len(features), 0)), []
    for place, column in enumerate(features.T):
        rest = column
        for _ in range(2):  # once more for what rounding left
            rest = rest - basis @ (basis.T @ rest)
        length = np.linalg.norm(rest)
        if length > _LEAST * np.linalg.norm(column):
            basis = np.column_stack([basis, rest / length])
            kept.append(place)
    return features[:, kept]


def p_of_more(more: Any, less: Any) -> float:
    """p-value that the features which one fit has beyond another explain nothing (F-test).

    1 where it has none: they were combinations of the others'.

    Args:
        more, less: results of statsmodels' OLS on independent features.
    """
    if more.df_resid == less.df_resid:
        return 1.0
    return float(more.compare_f_test(less)[1])

"""Error as a function of density alone: what structure has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mpnn_arch.analysis.per_graph import Array
from mpnn_arch.errors import InputError

# A cubic in log density: flexible enough to have a minimum and to level off beyond it.
DEGREE = 3


@dataclass(frozen=True)
class DensityCurve:
    """A cubic of the logarithm of density, by least squares.

    Args:
        centre: mean log density of the graphs it was fitted to.
        coefficients: of powers 0, 1, 2, ... of log density less ``centre``.
    """

    centre: float
    coefficients: Array

    @classmethod
    def fit(cls, graphs: pd.DataFrame) -> DensityCurve:
        """The curve of ``mean`` against ``density``; fewer powers where there are few densities.

        Raises:
            InputError: graphs of one density, or of unknown density.
        """
        density = graphs["density"].to_numpy(dtype=np.float64)
        if not np.isfinite(density).all() or (density <= 0).any():
            raise InputError("some graphs have no density above 0; give the column density")
        values = len(np.unique(density.round(9)))
        if values < 2:
            raise InputError("all graphs have one density, so density explains nothing")
        log = np.log(density)
        degree = min(DEGREE, values - 1)
        powers = np.vander(log - log.mean(), degree + 1, increasing=True)
        solution = np.linalg.lstsq(powers, graphs["mean"].to_numpy(dtype=np.float64), rcond=None)
        return cls(float(log.mean()), solution[0])

    def predict(self, density: npt.ArrayLike) -> Array:
        """The error at these densities."""
        log = np.log(np.asarray(density, dtype=np.float64))
        powers = np.vander(log - self.centre, len(self.coefficients), increasing=True)
        predicted: Array = powers @ self.coefficients
        return predicted


def with_density(graphs: pd.DataFrame) -> pd.DataFrame:
    """The graphs whose density is known and above 0.

    Raises:
        InputError: there are none.
    """
    known: pd.DataFrame = graphs[graphs["density"] > 0]
    if known.empty:
        raise InputError("no graph has a density above 0; give the column density")
    return known


def density_features(graphs: pd.DataFrame) -> Array:
    """(graphs, DEGREE): the powers of log density without the constant, for regressions."""
    log = np.log(graphs["density"].to_numpy(dtype=np.float64))
    spread = log.std() or 1.0
    return np.vander((log - log.mean()) / spread, DEGREE + 1, increasing=True)[:, 1:]


def plane_features(graphs: pd.DataFrame) -> Array:
    """(graphs, 5): C, L, C^2, C L, L^2, standardised, for regressions."""
    columns = [
        graphs[name].to_numpy(dtype=np.float64)
        for name in ("clustering_coefficient", "average_path_length")
    ]
    c, length = ((values - values.mean()) / (values.std() or 1.0) for values in columns)
    return np.stack([c, length, c**2, c * length, length**2], axis=1)

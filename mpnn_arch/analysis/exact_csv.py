"""CSV files, read to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

# From 3.1 on it is pandas's own way, and asking for it a warning.
_READS_EXACTLY = tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1)


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """As ``pandas.read_csv``, every number being the one that its digits are nearest to."""
    exactly = {} if _READS_EXACTLY else {"float_precision": "round_trip"}
    return pd.read_csv(path, **exactly, **options)

"""A matplotlib figure that a notebook shows, whether or not pyplot is in use."""

from __future__ import annotations

from io import BytesIO

from matplotlib.figure import Figure


class Picture(Figure):
    """A figure with a picture of its own.

    Jupyter learns how to show figures when pyplot makes its first one; before that, a figure made
    without pyplot would be the text "<Figure size ...>".
    """

    def _repr_png_(self) -> bytes:
        made = BytesIO()
        self.savefig(made, format="png", dpi=100)
        return made.getvalue()

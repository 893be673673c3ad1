"""Matplotlib figures without pyplot: no window opens and no global state changes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from mpnn_arch.errors import InputError
from mpnn_arch.io.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, distinguishable by colour-blind readers.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, which notebooks show.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        from mpnn_arch.io.picture import Picture
    except ImportError:
        raise InputError(
            'figures need matplotlib, which is not installed: pip install "mpnn-arch[demo]"'
        ) from None
    return Picture(figsize=(width, height), layout="constrained", dpi=150)


def plain(text: str) -> str:
    """``text`` for a figure as it is: matplotlib reads what stands between two $ as a formula.

    Names of files and folders may hold them, and what is no formula raises when it is drawn.
    """
    return text.replace("$", r"\$")


def lay_out(figure: Figure) -> None:
    """Place everything in ``figure`` now, for one that is saved several times.

    Otherwise each save computes the layout again, which draws the figure once more.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
        figure.set_layout_engine(None)


def as_png(figure: Figure, dpi: int = 100) -> bytes:
    """``figure`` as the bytes of a PNG file."""
    made = BytesIO()
    figure.savefig(made, format="png", dpi=dpi)
    return made.getvalue()


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write ``figure`` atomically, in the format given by the path's suffix."""
    write_whole(path, lambda temporary: figure.savefig(temporary))

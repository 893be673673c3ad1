"""See a round and touch it: the graph, the weight matrix and the equation, linked."""

from typing import TYPE_CHECKING, Any

from mpnn_arch import pyg as _quiet  # noqa: F401
from mpnn_arch.errors import InputError
from mpnn_arch.widget.recording import Recording, record
from mpnn_arch.widget.rewire import rewire
from mpnn_arch.widget.still import draw_round

if TYPE_CHECKING:
    from mpnn_arch.widget.round_widget import RoundWidget

__all__ = ["Recording", "RoundWidget", "draw_round", "record", "rewire"]


def __getattr__(name: str) -> Any:
    if name != "RoundWidget":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        import anywidget  # noqa: F401
    except ImportError:
        raise InputError(
            'RoundWidget needs anywidget, which is not installed: pip install "mpnn-arch[explorer]"'
        ) from None
    from mpnn_arch.widget.round_widget import RoundWidget

    return RoundWidget

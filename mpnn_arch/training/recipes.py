"""What a model is trained on and how, where the user does not say."""

from __future__ import annotations

from mpnn_arch import graphs
from mpnn_arch.models.registry import MODELS
from mpnn_arch.training.config import TrainingConfig

# Inside the paper's sweet spot for the 5-layer MLP, C in [0.43, 0.50] and L in [1.82, 2.28]
# (section 5.2); C = 0.476, L = 2.106.
_GRAPHS = {"mlp": "ws_flex:64,12,0.15,0"}

_RECIPES: dict[str, TrainingConfig] = {}


def recipe(model: str) -> TrainingConfig:
    """The recipe of the model called ``model``; :class:`TrainingConfig`'s own where none is."""
    return _RECIPES.get(model, TrainingConfig())


def default_graphs(model: str) -> tuple[str, str]:
    """The model's own graph, and the complete graph of as many nodes.

    Raises:
        InputError: no such model.
    """
    own = _GRAPHS.get(model) or MODELS.get(model).default_graph
    (graph,) = graphs.parse(own)
    return own, f"complete:{graph.num_nodes}"

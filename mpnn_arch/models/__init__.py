"""The paper's architectures and others, with widths matched to the cost of their dense form."""

from mpnn_arch import pyg as _quiet  # noqa: F401  before PyG's own imports
from mpnn_arch.models import architectures
from mpnn_arch.models.budget import match_budget, match_widths
from mpnn_arch.models.build import build, mlp
from mpnn_arch.models.complexity import Complexity, LayerCost, complexity
from mpnn_arch.models.config import ModelConfig
from mpnn_arch.models.diagram import diagram
from mpnn_arch.models.init import initialise
from mpnn_arch.models.layers import Layers
from mpnn_arch.models.meter import Meter
from mpnn_arch.models.registry import MODELS, list_models, make_config
from mpnn_arch.models.relationalize import RelationalizeReport, erdos_renyi_kernel, relationalize
from mpnn_arch.models.to_dense import to_dense

__all__ = [
    "MODELS",
    "Complexity",
    "LayerCost",
    "Layers",
    "Meter",
    "ModelConfig",
    "RelationalizeReport",
    "architectures",
    "build",
    "complexity",
    "diagram",
    "erdos_renyi_kernel",
    "initialise",
    "list_models",
    "make_config",
    "match_budget",
    "match_widths",
    "mlp",
    "relationalize",
    "to_dense",
]

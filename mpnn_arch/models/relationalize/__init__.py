"""The dense layers of any torch module turned into rounds."""

from mpnn_arch.models.relationalize.attention import RelationalAttention
from mpnn_arch.models.relationalize.conv1d import RelationalConv1d
from mpnn_arch.models.relationalize.convert import relationalize
from mpnn_arch.models.relationalize.densities import (
    WeightShape,
    erdos_renyi_kernel,
    erdos_renyi_kernel_densities,
)
from mpnn_arch.models.relationalize.experts import RelationalExperts
from mpnn_arch.models.relationalize.pretrained import from_pretrained, save_pretrained
from mpnn_arch.models.relationalize.report import LayerOutcome, RelationalizeReport

__all__ = [
    "LayerOutcome",
    "RelationalAttention",
    "RelationalConv1d",
    "RelationalExperts",
    "RelationalizeReport",
    "WeightShape",
    "erdos_renyi_kernel",
    "erdos_renyi_kernel_densities",
    "from_pretrained",
    "relationalize",
    "save_pretrained",
]

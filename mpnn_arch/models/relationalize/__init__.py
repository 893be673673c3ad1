"""The dense layers of any torch module turned into rounds."""

from mpnn_arch.models.relationalize.attention import RelationalAttention
from mpnn_arch.models.relationalize.conv1d import RelationalConv1d
from mpnn_arch.models.relationalize.convert import relationalize
from mpnn_arch.models.relationalize.report import LayerOutcome, RelationalizeReport

__all__ = [
    "LayerOutcome",
    "RelationalAttention",
    "RelationalConv1d",
    "RelationalizeReport",
    "relationalize",
]

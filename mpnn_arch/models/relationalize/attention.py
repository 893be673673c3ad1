"""``nn.MultiheadAttention`` whose four projections are rounds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mpnn_arch.errors import InputError
from mpnn_arch.graphs.given import GivenGraph
from mpnn_arch.rounds import MessageRound, RelationalLinear


class RelationalAttention(nn.Module):
    r"""Multi-head attention whose projections of query, key, value and output are rounds.

    .. math::
        \mathrm{softmax}(Q_h K_h^T / \sqrt{d} + M) V_h \quad \text{for each head } h

    Arguments and results are those of ``nn.MultiheadAttention``, and on the complete graph so are
    the values. torch's fused kernels for inference take dense weights, so they are not used: layers
    such as ``nn.TransformerEncoderLayer`` see a module without packed projections and take their
    ordinary path. That path fills positions masked as padding with finite values, where the
    fused one of ``nn.TransformerEncoder`` leaves zeros. Nested tensors are not taken.

    Args:
        graph: along whose edges the messages of the projections flow, or its specification.
        embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first:
            as for ``nn.MultiheadAttention``.
        device, dtype: of the parameters.
        **kwargs: of the rounds; see :class:`~mpnn_arch.rounds.RelationalLinear`.

    Shapes:
        - **query:** (T, B, C), (B, T, C) if ``batch_first``, or (T, C)
        - **output:** likewise, and the weights (B, T, S), (B, heads, T, S) or None

    Raises:
        InputError: a width below the number of nodes.

    Source: Vaswani et al., *Attention Is All You Need*, 2017, section 3.2.2.

    Example:
        >>> import torch
        >>> from mpnn_arch import graphs
        >>> from mpnn_arch.models.relationalize import RelationalAttention
        >>> attention = RelationalAttention(graphs.ring(4, 2), 8, num_heads=2, batch_first=True)
        >>> x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))
        >>> out, weights = attention(x, x, x)
        >>> out.shape, weights.shape
        (torch.Size([3, 5, 8]), torch.Size([3, 5, 5]))
    """

    def __init__(
        self,
        graph: GivenGraph,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise InputError(
                f"{embed_dim} channels cannot be split among {num_heads} heads; use a multiple"
            )
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.head_dim = embed_dim // num_heads
        self.batch_first, self.add_zero_attn = batch_first, add_zero_attn
        # What torch's layers read to decide on their fused path: there are no packed weights.
        self._qkv_same_embed_dim = False
        self.in_proj_weight = self.in_proj_bias = None
        where: dict[str, Any] = {"device": device, "dtype": dtype}

        def project(width: int) -> RelationalLinear:
            return RelationalLinear(graph, width, embed_dim, bias=bias, **where, **kwargs)

        self.q_proj, self.k_proj = project(embed_dim), project(self.kdim)
        self.v_proj, self.out_proj = project(self.vdim), project(embed_dim)
        self.bias_k: nn.Parameter | None = None
        self.bias_v: nn.Parameter | None = None
        if add_bias_kv:
            self.bias_k = nn.Parameter(torch.zeros(1, 1, embed_dim, **where))
            self.bias_v = nn.Parameter(torch.zeros(1, 1, embed_dim, **where))

        self.register_load_state_dict_pre_hook(_take_packed)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As ``nn.MultiheadAttention.forward``; ``is_causal`` is a hint that needs the mask too."""
        if is_causal and attn_mask is None:
            raise InputError("is_causal=True is a hint on attn_mask, which is None; give the mask")
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self.q_proj(query), self.k_proj(key), self.v_proj(value)  # (B, T or S, C)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(len(k), -1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.expand(len(v), -1, -1)], dim=1)
        if self.add_zero_attn:
            k, v = (functional.pad(x, (0, 0, 0, 1)) for x in (k, v))
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        mask = self._mask(attn_mask, key_padding_mask, q, k.shape[-2])
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q * self.head_dim**-0.5 @ k.transpose(-2, -1)  # (B, heads, T, S)
            weights = (scores if mask is None else scores + mask).softmax(dim=-1)
            weights = functional.dropout(weights, p)
            out = weights @ v
        else:
            out = functional.scaled_dot_product_attention(q, k, v, mask, p)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, num_sources: int
    ) -> Tensor | None:
        """What is added to the scores: (1 or B, 1 or heads, 1 or T, S); None for nothing."""
        total: Tensor | None = None
        if attn_mask is not None:
            shape = (1, 1) if attn_mask.dim() == 2 else (-1, self.num_heads)
            total = _additive(attn_mask, q.dtype).reshape(*shape, *attn_mask.shape[-2:])
        if padding is not None:
            columns = _additive(padding, q.dtype).reshape(-1, 1, 1, padding.shape[-1])
            total = columns if total is None else total + columns
        if total is None:
            return None
        # Sources that attention itself appends are never masked.
        return functional.pad(total, (0, num_sources - total.shape[-1]))


def _take_packed(layer: RelationalAttention, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Take the state dict of an ``nn.MultiheadAttention``, packed or not.

    On the complete graph a round accepts a dense weight; on another it is refused by its name.
    """
    names = ("q_proj", "k_proj", "v_proj")
    packed, bias = (state.pop(f"{prefix}in_proj_{kind}", None) for kind in ("weight", "bias"))
    for i, name in enumerate(names):
        if packed is not None:
            state[f"{prefix}{name}.weight"] = packed.chunk(3)[i]
        elif f"{prefix}{name}_weight" in state:
            state[f"{prefix}{name}.weight"] = state.pop(f"{prefix}{name}_weight")
        if bias is not None:
            state[f"{prefix}{name}.bias"] = bias.chunk(3)[i]


def use_ordinary_path(module: nn.Module) -> None:
    """Keep torch's encoders around rounds from their fused path for inference.

    It takes dense weights, and an ``nn.TransformerEncoder`` hands on nested tensors for it, with a
    padding mask.
    """
    for part in module.modules():
        if not any(isinstance(inner, MessageRound) for inner in part.modules()):
            continue
        if isinstance(part, nn.TransformerEncoderLayer):
            part.activation_relu_or_gelu = 0  # read for nothing else
        elif isinstance(part, nn.TransformerEncoder):
            part.use_nested_tensor = False


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
    return mask.to(dtype)
